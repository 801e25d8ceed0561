"""`agenttrace stats`: the figures of a run."""

import argparse
from pathlib import Path
from typing import Any

from agenttrace.verbs.reading import add_file, add_format, add_prices, deliver, records_only


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    add_file(parser, "run", metavar="RUN")
    add_common(parser)


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add what `stats` and `compare` share."""
    add_format(parser)
    add_prices(parser)
    parser.add_argument("--no-diversity", action="store_true", help="leave out diversity, which takes longest")
    parser.add_argument(
        "--upstream",
        action="store_true",
        default=None,
        help="compute upstream's diversity metric however many rollouts there are (default: up to 2,000)",
    )
    parser.add_argument(
        "--scratch", dest="outdir", type=Path, metavar="FOLDER", help="for temporary files, a few KB a rollout"
    )


def options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what the arguments ask of `figures`; raises `DataError` where their table of prices is none."""
    from agenttrace.formats.prices import read_prices  # noqa: PLC0415

    diversity = {"diversity": not arguments.no_diversity, "upstream": arguments.upstream, "scratch": arguments.outdir}
    return {**diversity, "prices": read_prices(arguments.prices)}


def run(arguments: argparse.Namespace) -> int:
    """Print or write the figures."""
    from agenttrace.analysis.runs import figures  # noqa: PLC0415
    from agenttrace.analysis.sections import statistics_sections  # noqa: PLC0415

    tally, diversity = figures(*records_only([arguments.run]), **options(arguments))
    found = tally.statistics()
    deliver(arguments, {"statistics": found, "diversity": diversity}, statistics_sections(found, diversity))
    return 0
