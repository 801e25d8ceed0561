"""`agenttrace tables`: record files as three Parquet files."""

import argparse

from agenttrace.show import say
from agenttrace.verbs.output import add_json, write_json
from agenttrace.verbs.reading import Complaints, add_files, add_folder, add_prices, records_only


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    add_files(parser)
    add_folder(parser, "tables")
    add_json(parser)
    add_prices(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the tables and say what they hold."""
    from agenttrace.analysis.tables import write_parquet  # noqa: PLC0415
    from agenttrace.formats.prices import read_prices  # noqa: PLC0415

    prices, complaints = read_prices(arguments.prices), Complaints()
    files = records_only(arguments.files)
    sources = write_parquet(files, arguments.output, on_problem=complaints, prices=prices)
    partial = complaints.close(sources)
    for source in sources:
        say(f"{source.file}: {source.rows} traces" + (" (PARTIAL)" if source.partial else ""))
    say(f"3 tables in {arguments.output}")
    write_json(arguments.json, {"folder": arguments.output, "sources": sources})
    return 1 if arguments.strict and partial else 0
