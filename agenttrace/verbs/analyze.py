"""`agenttrace analyze`: outcomes, time, tokens, cost per tool and command of record files, and how files compare."""

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
    parser.add_argument(
        "--by",
        choices=["file", "model", "dataset", "run_id"],
        default="file",
        help="what makes a group; the first is compared with each other one (default: %(default)s)",
    )
    parser.add_argument(
        "--format", choices=["text", "markdown", "json"], default="text", help="what is printed (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there instead of printing")
    parser.add_argument("--strict", action="store_true", help="exit status 1 when some lines could not be read")


def run(arguments: argparse.Namespace) -> int:
    """Print or write the analysis."""
    from agenttrace.analysis import render  # noqa: PLC0415
    from agenttrace.analysis.summary import report  # noqa: PLC0415
    from agenttrace.verbs.reading import deliver, load_or_stop  # noqa: PLC0415

    tables = load_or_stop(arguments.files)
    forms = {"text": render.as_text, "markdown": render.as_markdown, "json": render.as_json}
    deliver(forms[arguments.format](report(tables, by=arguments.by)), arguments.output)
    return 1 if arguments.strict and tables.partial else 0
