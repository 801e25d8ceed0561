"""`agenttrace replay`: a record file, run again from its cassette."""

import argparse
from pathlib import Path

from agenttrace.errors import UsageError
from agenttrace.show import say
from agenttrace.verbs import asked, output


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        "file", type=Path, nargs="?", help="a record file, its cassette beside it, or a release (default: the newest)"
    )
    parser.add_argument("--repeat", type=int, default=1, metavar="R", help="replay every trace R times (default: 1)")
    asked.add_again(parser)


def run(arguments: argparse.Namespace) -> int:
    """Replay one file, or those of a release."""
    from agenttrace.host import replay as again  # noqa: PLC0415

    output.check_json(arguments.json)
    files = again.record_files(arguments.file)
    if arguments.json is not None and len(files) > 1:
        raise UsageError(f"--json {arguments.json}: the release holds {len(files)} record files, name one of them")
    statuses = []
    for file in files:
        if file != arguments.file:
            say(f"replaying {file}")
        status, found = again.replay(
            file, workers=arguments.workers, repeats=arguments.repeat, places=asked.places(arguments)
        )
        output.write_json(arguments.json, found)
        statuses.append(status)
    return max(statuses)
