"""`agenttrace plots`: figures of record files, ready for print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="record files (.jsonl, .jsonl.gz, .jsonl.zst)"
    )
    parser.add_argument("--outdir", type=Path, default=Path("figures"), metavar="FOLDER", help="default: %(default)s")
    parser.add_argument(
        "--by",
        choices=["file", "model", "dataset", "run_id"],
        default="file",
        help="what gets a colour of its own (default: %(default)s)",
    )
    parser.add_argument(
        "--trace", metavar="ID", help="start of the trace id drawn as a timeline (default: a typical one)"
    )
    parser.add_argument(
        "--formats", nargs="+", choices=["pdf", "svg", "png"], default=["pdf", "svg", "png"], help="default: all"
    )


def run(arguments: argparse.Namespace) -> int:
    """Draw the figures and name those that cannot be drawn."""
    from agenttrace.analysis.plots import draw  # noqa: PLC0415
    from agenttrace.verbs.reading import load_or_stop, say  # noqa: PLC0415

    tables = load_or_stop(arguments.files)
    drawn = draw(tables, arguments.outdir, by=arguments.by, trace=arguments.trace, formats=arguments.formats)
    for name, reason in drawn.left_out.items():
        say(f"{name}: not drawn: {reason}")
    say(f"{len(drawn.paths)} files in {arguments.outdir}")
    return 0
