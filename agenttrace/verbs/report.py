"""`agenttrace report`: record files as one page for a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

_MB = 1e6


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="record files (.jsonl, also .gz or .zst; .json)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("report.html"), metavar="PAGE", help="default: %(default)s"
    )
    parser.add_argument("--title", help="shown at the top (default: the names of the files)")
    parser.add_argument("--strict", action="store_true", help="exit status 1 when some lines could not be read")


def run(arguments: argparse.Namespace) -> int:
    """Write the page and say where it is."""
    from agenttrace.report import write_report  # noqa: PLC0415
    from agenttrace.verbs.reading import Complaints, records_only, tell  # noqa: PLC0415

    complaints = Complaints()
    files = records_only(arguments.files)
    done = write_report(files, arguments.output, title=arguments.title, on_problem=complaints)
    complaints.close(done.sources)
    beside = f" and {done.sidecars} data files beside it, {done.sidecar_bytes / _MB:.1f} MB" if done.sidecars else ""
    tell(f"{arguments.output}: {done.traces:,} traces, {done.page_bytes / _MB:.1f} MB{beside}")
    return 1 if arguments.strict and any(source.partial for source in done.sources) else 0
