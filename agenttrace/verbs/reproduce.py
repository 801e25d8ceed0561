"""`agenttrace reproduce`: a released data set, made again."""

import argparse
from pathlib import Path

from agenttrace.verbs import asked


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("file", type=Path, nargs="?", help="a record file (default: those of the newest release)")
    parser.add_argument("--live", action="store_true", help="with the model instead of the cassette")
    parser.add_argument("--anyway", action="store_true", help="go on although inputs are not those of the run spec")
    parser.add_argument("--workers", type=int, metavar="W", help="tasks at a time (default: one per core, at most 4)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was found")
    asked.add_checkouts(parser)


def run(arguments: argparse.Namespace) -> int:
    """Make one file again, or those of the newest release."""
    from agenttrace.host.replay import reproduce  # noqa: PLC0415

    asked.check_json(arguments.json)
    return reproduce(
        arguments.file,
        live=arguments.live,
        anyway=arguments.anyway,
        workers=asked.default_workers() if arguments.workers is None else arguments.workers,
        json=arguments.json,
        places=asked.places(arguments),
    )
