"""`agenttrace report`: record files as one page for a browser."""

import argparse
from pathlib import Path

from agenttrace.show import tell
from agenttrace.verbs.output import add_json, write_json
from agenttrace.verbs.reading import Complaints, add_files, records_only

_MB = 1e6


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    add_files(parser)
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("report.html"), metavar="PAGE", help="default: %(default)s"
    )
    add_json(parser)
    parser.add_argument("--title", help="shown at the top (default: the names of the files)")


def run(arguments: argparse.Namespace) -> int:
    """Write the page and say where it is."""
    import msgspec  # noqa: PLC0415

    from agenttrace.report import write_report  # noqa: PLC0415

    complaints = Complaints()
    files = records_only(arguments.files)
    done = write_report(files, arguments.output, title=arguments.title, on_problem=complaints)
    partial = complaints.close(done.sources)
    beside = f" and {done.sidecars} data files beside it, {done.sidecar_bytes / _MB:.1f} MB" if done.sidecars else ""
    tell(f"{arguments.output}: {done.traces:,} traces, {done.page_bytes / _MB:.1f} MB{beside}")
    write_json(arguments.json, {"page": arguments.output, **msgspec.structs.asdict(done)})
    return 1 if arguments.strict and partial else 0
