"""`agenttrace compact`: rollouts in a small file with random access, and back."""

import argparse
from pathlib import Path

from agenttrace.show import tell
from agenttrace.verbs.output import add_json, write_json


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("file", type=Path, help="rollouts (.jsonl), or a compacted file")
    parser.add_argument("output", type=Path, help="the compacted file (.jsonl.zst), or a new .jsonl for the lines")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the compacted file and say what it saves, or the lines of one."""
    import msgspec  # noqa: PLC0415

    from agenttrace.store.compact import compact, unpack  # noqa: PLC0415

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
