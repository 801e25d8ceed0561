"""`agenttrace stats`: the figures of a run of rollouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from agenttrace.analysis.rollouts.runs import Wanted


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("run", type=Path, metavar="RUN", help="rollouts (.jsonl, .jsonl.zst)")
    add_common(parser)


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add what `stats` and `compare` share."""
    parser.add_argument("--format", choices=["markdown", "json"], default="markdown", help="default: %(default)s")
    parser.add_argument("--json", dest="format", action="store_const", const="json", help="the same as --format json")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there instead of printing")
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


def wanted(arguments: argparse.Namespace) -> Wanted:
    """Return what the arguments ask for."""
    from agenttrace.analysis.rollouts.runs import Wanted  # noqa: PLC0415

    scratch = None if arguments.outdir is None else str(arguments.outdir)
    return Wanted(diversity=not arguments.no_diversity, upstream=arguments.upstream, scratch=scratch)


def run(arguments: argparse.Namespace) -> int:
    """Print or write the figures."""
    from agenttrace.analysis.rollouts.render import statistics_text  # noqa: PLC0415
    from agenttrace.analysis.rollouts.runs import figures  # noqa: PLC0415
    from agenttrace.analysis.rollouts.statistics import as_json  # noqa: PLC0415
    from agenttrace.verbs.reading import deliver  # noqa: PLC0415

    tally, diversity = figures(arguments.run, wanted(arguments))
    found = tally.statistics()
    if arguments.format == "json":
        values = {"statistics": as_json(found), "diversity": diversity and as_json(diversity)}
        deliver(json.dumps(values, indent=2) + "\n", arguments.output)
    else:
        deliver(statistics_text(found, diversity), arguments.output)
    return 0
