"""`agenttrace convert`: records in other formats."""

import argparse
from pathlib import Path

from agenttrace.errors import UsageError
from agenttrace.formats import FORMATS
from agenttrace.show import counted, tell
from agenttrace.verbs.output import add_json, write_json


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="files of traces, of any readable format; folders, patterns"
    )
    add_json(parser)
    parser.add_argument("--to", required=True, choices=list(FORMATS), metavar="FORMAT", help=_about())
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", help="a new file, or a new folder")
    parser.add_argument(
        "--endpoint",
        metavar="URL",
        help="with --to otlp, instead of -o: send the spans there by OTLP/HTTP, such as http://localhost:4318; headers "
        "are those of OTEL_EXPORTER_OTLP_HEADERS",
    )


def _about() -> str:
    return "; ".join(f"{name}: {found.about}" for name, found in FORMATS.items())


def on_host(verb: str, arguments: argparse.Namespace, words: list[str]) -> int:
    """Convert in the analysis image, which has no network."""
    from agenttrace.host import analysis  # noqa: PLC0415
    from agenttrace.verbs.reading import paths_of  # noqa: PLC0415

    _check(arguments)
    if arguments.endpoint is not None:
        raise UsageError(
            "--endpoint: a session reads files without a network; install the kit (pip install .), then agenttrace "
            f"convert ... --to otlp --endpoint {arguments.endpoint}"
        )
    read, written = paths_of(arguments)
    return analysis.run(verb, words, read=read, written=written)


def _check(arguments: argparse.Namespace) -> None:
    if (arguments.output is None) == (arguments.endpoint is None):
        raise UsageError("convert needs a place for what it writes: -o OUT, or --endpoint URL with --to otlp")
    if arguments.endpoint is not None and arguments.to not in {"otlp", "otlp-protobuf"}:
        raise UsageError(f"--endpoint takes spans: expected --to otlp, got --to {arguments.to}")


def run(arguments: argparse.Namespace) -> int:
    """Convert and say what was written, or sent."""
    from agenttrace.formats import otlp_protobuf  # noqa: PLC0415
    from agenttrace.formats.convert import convert, read  # noqa: PLC0415
    from agenttrace.verbs.reading import records_only  # noqa: PLC0415

    _check(arguments)
    paths = records_only(arguments.files)
    if arguments.endpoint is not None:
        traces, size = otlp_protobuf.send((one for path in paths for one in read(path)), arguments.endpoint)
        tell(f"{arguments.endpoint}: {counted(traces, 'trace')}, {size} bytes")
        write_json(arguments.json, {"endpoint": arguments.endpoint, "traces": traces, "bytes": size})
        return 0
    rows = convert(paths, arguments.to, arguments.output)
    for name, count in rows.items():
        table = "" if name == arguments.output.name else f"{name}: "
        tell(f"{arguments.output}: {table}{counted(count, 'row')}")
    write_json(arguments.json, {"output": arguments.output, "rows": rows})
    return 0
