"""`agenttrace reproduce`: a released data set, made again."""

import argparse
from pathlib import Path

from agenttrace.verbs import asked, output


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("file", type=Path, nargs="?", help="a record file, or a release (default: the newest)")
    parser.add_argument("--live", action="store_true", help="with the model instead of the cassette")
    parser.add_argument("--anyway", action="store_true", help="go on although inputs are not those of the run spec")
    asked.add_again(parser)


def run(arguments: argparse.Namespace) -> int:
    """Make one file again, or those of a release."""
    from agenttrace.host.replay import reproduce  # noqa: PLC0415

    output.check_json(arguments.json)
    status, found = reproduce(
        arguments.file,
        live=arguments.live,
        anyway=arguments.anyway,
        workers=arguments.workers,
        places=asked.places(arguments),
    )
    output.write_json(arguments.json, found)
    return status
