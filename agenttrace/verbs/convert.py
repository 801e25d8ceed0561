"""`agenttrace convert`: records in other formats."""

import argparse
from pathlib import Path

from agenttrace.formats import FORMATS
from agenttrace.show import tell


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="files of traces, of any readable format; folders of them"
    )
    parser.add_argument("--to", required=True, choices=list(FORMATS), metavar="FORMAT", help=_about())
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT", help="a new file, or a new folder")


def _about() -> str:
    return "; ".join(f"{name}: {found.about}" for name, found in FORMATS.items())


def run(arguments: argparse.Namespace) -> int:
    """Convert and say what was written."""
    from agenttrace.formats.convert import convert  # noqa: PLC0415
    from agenttrace.verbs.reading import records_only  # noqa: PLC0415

    for name, count in convert(records_only(arguments.files), arguments.to, arguments.output).items():
        tell(f"{arguments.output}: {name}: {count} rows")
    return 0
