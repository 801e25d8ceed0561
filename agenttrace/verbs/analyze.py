"""`agenttrace analyze`: outcomes, time, tokens, cost per tool and command of record files, and how files compare."""

import argparse

from agenttrace.verbs.reading import add_files, add_format, add_groups, add_prices, deliver, load_or_stop


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    add_files(parser)
    add_groups(parser, "what makes a group; the first is compared with each other one")
    add_format(parser)
    add_prices(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print or write the analysis."""
    from agenttrace.analysis.sections import sections  # noqa: PLC0415
    from agenttrace.analysis.summary import report  # noqa: PLC0415

    tables = load_or_stop(arguments.files, arguments.prices)
    found = report(tables, by=arguments.by)
    deliver(arguments, found, sections(found))
    return 1 if arguments.strict and tables.partial else 0
