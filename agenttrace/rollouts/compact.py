"""Turns a record file into its compacted form: small, readable anywhere in the middle, and JSON Lines for `zstd -d`."""

from __future__ import annotations

import os
import uuid
from typing import IO, TYPE_CHECKING

import msgspec

from agenttrace.errors import DataError, StorageError, UsageError
from agenttrace.records import Record
from agenttrace.rollouts.files import (
    COMPACTED,
    ENTRY,
    FOOTER,
    HEADER,
    ID,
    INDEX_MAGIC,
    SEEK_TABLE_MAGIC,
    SEEKABLE_MAGIC,
    lines,
)

if TYPE_CHECKING:
    from pathlib import Path

LEVEL = 19
FRAME_BYTES = 8 * 2**20
"""A frame is closed beyond this size: what one random access has to unpack at most, but for a single larger record."""


class Compaction(Record, frozen=True, kw_only=True):
    """What came of it: records, frames, bytes before and after."""

    rollouts: int
    frames: int
    bytes_before: int
    bytes_after: int


class _Id(msgspec.Struct):
    rollout_id: str
    instance_id: str
    rollout_index: int


def compact(source: Path, target: Path) -> Compaction:
    """Write the compacted form of `source` to `target`, whole or not at all, and return what came of it.

    Records are grouped by task in the order of their first appearance, then by rollout index; the source stays.

    Raises:
        UsageError: the source cannot be read, or the target's name is none of a compacted file.
        DataError: it holds something else than rollouts, or one of them twice.
        StorageError: the target cannot be written.
    """
    if not target.name.endswith(f".jsonl{COMPACTED}"):
        raise UsageError(f"{target}: the name of a compacted file ends in .jsonl{COMPACTED}, by which it is known")
    places = _places(source)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with source.open("rb") as read, temporary.open("wb") as write:
            frames = _write(places, read, write)
            write.flush()
            os.fsync(write.fileno())
        temporary.replace(target)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return Compaction(
        rollouts=len(places),
        frames=frames,
        bytes_before=sum(size for _, _, size in places.values()),
        bytes_after=target.stat().st_size,
    )


def _places(source: Path) -> dict[bytes, tuple[tuple[int, int], int, int]]:
    """Return id → ((task, index), offset, size) of every record."""
    decode = msgspec.json.Decoder(_Id).decode
    found: dict[bytes, tuple[tuple[int, int], int, int]] = {}
    tasks: dict[str, int] = {}
    at = 0
    for number, line in enumerate(lines(source), start=1):
        try:
            record = decode(line)
            id_ = uuid.UUID(record.rollout_id).bytes
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise DataError(f"{source}, line {number}: not a rollout: {error}") from error
        if id_ in found:
            raise DataError(f"{source}, line {number}: rollout {record.rollout_id} is there twice")
        order = tasks.setdefault(record.instance_id, len(tasks)), record.rollout_index
        found[id_] = (order, at, len(line))
        at += len(line)
    if not found:
        raise UsageError(f"{source}: no rollout in it")
    return found


def _write(places: dict[bytes, tuple[tuple[int, int], int, int]], read: IO[bytes], write: IO[bytes]) -> int:
    import zstandard  # noqa: PLC0415 - heavy

    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    table: list[tuple[int, int]] = []
    index: list[bytes] = []
    block: list[bytes] = []
    task = -1

    def close() -> None:
        text = b"".join(block)
        table.append((write.write(compressor.compress(text)), len(text)))
        block.clear()

    for id_, (order, at, size) in sorted(places.items(), key=lambda item: item[1]):
        if block and (order[0] != task or sum(map(len, block)) + size > FRAME_BYTES):
            close()
        task = order[0]
        index.append(ID.pack(id_, len(table), len(block)))
        read.seek(at)
        block.append(read.read(size).removesuffix(b"\n") + b"\n")  # a last line may lack its end
    close()
    entries = b"".join(sorted(index))
    write.write(HEADER.pack(INDEX_MAGIC, len(entries)) + entries)
    table.append((HEADER.size + len(entries), 0))
    packed = b"".join(ENTRY.pack(*entry) for entry in table)
    write.write(HEADER.pack(SEEK_TABLE_MAGIC, len(packed) + FOOTER.size) + packed)
    write.write(FOOTER.pack(len(table), 0, SEEKABLE_MAGIC))
    return len(table) - 1
