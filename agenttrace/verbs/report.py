"""`agenttrace report`: record files as one page for a browser."""

import argparse
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from agenttrace.errors import UsageError
from agenttrace.show import counted, say, tell
from agenttrace.verbs.output import add_json, write_json
from agenttrace.verbs.reading import Complaints, add_files, add_prices, paths_of, records_only, spare_inputs

_MB = 1e6


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    add_files(parser)
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("report.html"), metavar="PAGE", help="default: %(default)s"
    )
    add_json(parser)
    add_prices(parser)
    parser.add_argument(
        "--watch",
        action="store_true",
        help="write no file: serve the page to this machine alone, with the traces that come, until Ctrl-C",
    )
    parser.add_argument("--port", type=int, metavar="N", help="of --watch (default: one that is free)")
    parser.add_argument("--title", help="shown at the top (default: the names of the files)")


def run(arguments: argparse.Namespace) -> int:
    """Write the page and say where it is; or follow what is written."""
    if arguments.watch:
        return _watch(arguments)
    if arguments.port is not None:
        raise UsageError("--port is of --watch, which serves the page: give both, or neither")
    import msgspec  # noqa: PLC0415

    from agenttrace.formats.prices import read_prices  # noqa: PLC0415
    from agenttrace.report import write_report  # noqa: PLC0415

    complaints = Complaints()
    prices = read_prices(arguments.prices)
    files = records_only(arguments.files)
    done = write_report(files, arguments.output, title=arguments.title, on_problem=complaints, prices=prices)
    partial = complaints.close(done.sources)
    beside = f" and {done.sidecars} data files beside it, {done.sidecar_bytes / _MB:.1f} MB" if done.sidecars else ""
    tell(f"{arguments.output}: {done.traces:,} traces, {done.page_bytes / _MB:.1f} MB{beside}")
    write_json(arguments.json, {"page": arguments.output, **msgspec.structs.asdict(done)})
    return 1 if arguments.strict and partial else 0


def on_host(name: str, arguments: argparse.Namespace, words: list[str]) -> int:
    """Run right here, without a container; but for Parquet, which only the analysis image reads then."""
    if not arguments.watch and find_spec("pyarrow") is None and any(map(_has_parquet, arguments.files)):
        from agenttrace.host import analysis  # noqa: PLC0415

        read, written = paths_of(arguments)
        return analysis.run(name, words, read=read, written=written)
    spare_inputs(arguments, replaces=True)
    return run(arguments)


def _has_parquet(path: Path) -> bool:
    # A published folder has its tables beside its records, which alone are read.
    return path.suffix == ".parquet" or (
        not (path / "records").is_dir() and next(path.rglob("*.parquet"), None) is not None
    )


def _watch(arguments: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C, which is how it ends well."""
    from agenttrace.formats.prices import read_prices  # noqa: PLC0415
    from agenttrace.report.follow import Followed  # noqa: PLC0415
    from agenttrace.report.serve import follow  # noqa: PLC0415

    if arguments.json:
        raise UsageError("--watch writes nothing: leave --json out")
    title = arguments.title or ", ".join(path.name for path in arguments.files)
    with Followed(lambda: _found(arguments.files), say, read_prices(arguments.prices)) as followed:
        followed.look()

        def started(address: str) -> None:
            tell(f"following {title}, {counted(followed.traces, 'trace')} so far: {address}")
            say("open that address in a browser on this machine; Ctrl-C ends it")

        follow(followed, title, port=arguments.port or 0, started=started)
    return 0


def _found(named: list[Path]) -> list[Path]:
    """Return the files to follow that are there now."""
    from agenttrace.formats.folders import files  # noqa: PLC0415
    from agenttrace.store.opening import is_failures  # noqa: PLC0415

    found: list[Path] = []
    for path in named:
        with suppress(UsageError):  # a folder in which there is no file yet
            found += files([path], lambda _: None)
    return [path for path in found if not is_failures(path)]
