"""`agenttrace tables`: record files as three Parquet files."""

import argparse
from pathlib import Path

from agenttrace.show import say
from agenttrace.verbs.reading import Complaints, add_files, records_only


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    add_files(parser)
    parser.add_argument("--outdir", type=Path, required=True, metavar="FOLDER", help="where the tables go")


def run(arguments: argparse.Namespace) -> int:
    """Write the tables and say what they hold."""
    from agenttrace.analysis.tables import write_parquet  # noqa: PLC0415

    complaints = Complaints()
    sources = write_parquet(records_only(arguments.files), arguments.outdir, on_problem=complaints)
    partial = complaints.close(sources)
    for source in sources:
        say(f"{source.file}: {source.rows} traces" + (" (PARTIAL)" if source.partial else ""))
    return 1 if arguments.strict and partial else 0
