"""`agenttrace judge`: the verdicts of a record file, computed again."""

import argparse
from pathlib import Path

from agenttrace.verbs import asked, output


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("file", type=Path, help="a record file (.jsonl), its run spec beside it")
    parser.add_argument("--check", action="store_true", help="only compare; exit status 1 when a verdict differs")
    asked.add_checkouts(parser)
    asked.add_tasks(parser)
    output.add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Judge the file in a collector with one sandbox."""
    from agenttrace.host.replay import over_file  # noqa: PLC0415
    from agenttrace.store.opening import the_file  # noqa: PLC0415

    words = ["--check"] if arguments.check else []
    status, found = over_file(the_file(arguments.file), "judge", words, workers=1, places=asked.places(arguments))
    output.write_json(arguments.json, found)
    return status
