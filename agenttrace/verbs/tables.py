"""`agenttrace tables`: record files as three Parquet files."""

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
    parser.add_argument("--outdir", type=Path, required=True, metavar="FOLDER", help="where the tables go")
    parser.add_argument("--strict", action="store_true", help="exit status 1 when some lines could not be read")


def run(arguments: argparse.Namespace) -> int:
    """Write the tables and say what they hold."""
    from agenttrace.analysis.tables import write_parquet  # noqa: PLC0415
    from agenttrace.verbs.reading import Complaints, records_only, say  # noqa: PLC0415

    complaints = Complaints()
    sources = write_parquet(records_only(arguments.files), arguments.outdir, on_problem=complaints)
    complaints.close(sources)
    for source in sources:
        say(f"{source.file}: {source.rows} traces" + (" (PARTIAL)" if source.partial else ""))
    return 1 if arguments.strict and any(source.partial for source in sources) else 0
