"""`agenttrace compact`: rollouts in a small file with random access, and back."""

import argparse
from pathlib import Path

from agenttrace.errors import UsageError
from agenttrace.show import tell
from agenttrace.verbs.output import add_json, write_json


class _Given(argparse.Action):
    """Leaves alone what `-o` named where there is no word for it."""

    def __call__(self, parser: object, namespace: argparse.Namespace, values: object, option: object = None) -> None:  # noqa: ARG002
        if values is not None:
            namespace.output = values


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("file", type=Path, help="rollouts (.jsonl), or a compacted file")
    written = "the compacted file (.jsonl.zst), or a new .jsonl for the lines"
    parser.add_argument("output", nargs="?", type=Path, action=_Given, help=f"{written}; or name it by -o")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help=written)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the compacted file and say what it saves, or the lines of one."""
    import msgspec  # noqa: PLC0415

    from agenttrace.store.compact import compact, unpack  # noqa: PLC0415

    if arguments.output is None:
        raise UsageError("name the file to write: -o FILE.jsonl.zst, or -o FILE.jsonl for the lines of a compacted one")
    if arguments.output.suffix == ".jsonl":
        unpack(arguments.file, arguments.output)
        write_json(arguments.json, {"output": arguments.output})
        return 0
    done = compact(arguments.file, arguments.output)
    tell(
        f"{arguments.output}: {done.records} records in {done.frames} frames, {done.bytes_after:,} of "
        f"{done.bytes_before:,} bytes, {done.bytes_after / done.records:,.0f} bytes a record"
    )
    write_json(arguments.json, {"output": arguments.output, **msgspec.structs.asdict(done)})
    return 0
