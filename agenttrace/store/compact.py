"""The compacted form of a record file: a few kilobytes a record, readable anywhere in the middle.

It is a Zstandard file of a line a record, lean where the record allows it (`agenttrace.store.lean`). It consists of
independent frames, each with whole records of one task (or a part of it), then two skippable frames: an index for
random access, and the seek table of the Zstandard Seekable Format (zstd, contrib/seekable_format, version 0.1.0). The
index has 24 bytes a record and is sorted: the 16 bytes of the id, the number of its frame and its place in the frame
(both 32 bits, little endian).
"""

from __future__ import annotations

import heapq
import os
import struct
import uuid
from typing import TYPE_CHECKING, BinaryIO, Self

import msgspec

from agenttrace.errors import DataError, UsageError
from agenttrace.records import Record
from agenttrace.store.jsonl import replacing
from agenttrace.store.lean import lean, whole
from agenttrace.store.opening import opened
from agenttrace.store.read import DECODE_ERRORS, RecordIndex, decode, plain_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from agenttrace.records import Trace

COMPACTED = ".zst"
LEVEL = 19
FRAME_BYTES = 8 * 2**20
"""A frame is closed beyond this size: what one random access has to unpack at most, but for a single larger record."""
MAX_FRAME_BYTES = 256 * 2**20
"""No frame of ours holds more; one that says so is damaged or hostile."""
_INDEX_MAGIC, _SEEK_TABLE_MAGIC, _SEEKABLE_MAGIC = 0x184D2A50, 0x184D2A5E, 0x8F92EAB1
_HEADER, _ENTRY, _FOOTER = struct.Struct("<II"), struct.Struct("<II"), struct.Struct("<IBI")
_ID = struct.Struct("<16sII")
_MOST_RECORDS = (2**32 - 1 - _HEADER.size) // _ID.size
"""More entries are no frame: sizes have 32 bits."""


class Compaction(Record, frozen=True, kw_only=True):
    """What came of it: records, frames, bytes before and after."""

    records: int
    frames: int
    bytes_before: int
    bytes_after: int


class _Metadata(msgspec.Struct):
    task_id: int | str | None = None
    rollout_index: int = 0


class _Key(msgspec.Struct):
    """What orders a record; the second half is of rollout files of schema 1.0.0."""

    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    instance_id: str | None = None
    rollout_index: int = 0


def is_compacted(path: Path) -> bool:
    """Return whether a file has the name of the compacted form and ends as it does; other compressed files do not.

    Raises:
        UsageError: it cannot be opened, or is a folder, a pipe or a device.
    """
    if path.suffix != COMPACTED:
        return False
    with opened(path) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _FOOTER.size))
        return file.read().endswith(_SEEKABLE_MAGIC.to_bytes(4, "little"))


class Compacted:
    """A compacted file, open for random access; use it as a context.

    Args:
        path: of the file.

    Attributes:
        frames: how many frames with records it has.
        records: how many records.

    Raises:
        UsageError: it cannot be opened.
        DataError: it is not such a file.
    """

    def __init__(self, path: Path) -> None:
        import zstandard  # noqa: PLC0415 - heavy

        self._path = path
        self._error, self._size = zstandard.ZstdError, zstandard.frame_content_size
        self._decompressor = zstandard.ZstdDecompressor()
        with opened(path) as file:
            self._descriptor = os.dup(file.fileno())
        try:
            self._starts, self._sizes, self._index_at = self._seek_table()
            self.frames = len(self._sizes)
            self.records = self._index_entries()
        except BaseException:
            os.close(self._descriptor)
            raise

    def frame(self, number: int) -> bytes:
        """Return the records of one frame, a line each, lean or not.

        Raises:
            DataError: the frame is damaged.
        """
        data = self._packed(number)
        try:
            size = self._size(data)  # before anything is unpacked: that much would be set aside for it
            if size != self._sizes[number]:
                raise self._damaged(f"frame {number} has {size} bytes instead of {self._sizes[number]}")
            return self._decompressor.decompress(data)
        except self._error as error:
            raise self._damaged(f"frame {number}: {error}") from error

    def _packed(self, number: int) -> bytes:
        start, end = self._starts[number], self._starts[number + 1]
        return self._read(end - start, start)

    def parts(self) -> tuple[Iterator[tuple[bytes, int]], bytes]:
        """Return each frame as it stands, with its size unpacked, and the index of records."""
        frames = ((self._packed(number), size) for number, size in enumerate(self._sizes))
        return frames, self._read(self.records * _ID.size, self._index_at + _HEADER.size)

    def check(self) -> None:
        """Unpack every frame, to see that the seek table is that of the file.

        Raises:
            DataError: one is damaged.
        """
        for number in range(self.frames):
            self.frame(number)

    def get(self, trace_id: str) -> Trace:
        """Return one record; reads the index in steps and one frame.

        Raises:
            UsageError: there is no such record.
            DataError: the file is damaged.
        """
        try:
            wanted = uuid.UUID(trace_id).bytes
        except ValueError as error:
            raise UsageError(f"{trace_id!r} is no trace id") from error
        low, high = 0, self.records
        while low < high:
            middle = (low + high) // 2
            found, frame, place = self._entry(middle)
            if found == wanted:
                return self._at(frame, place)
            low, high = (middle + 1, high) if found < wanted else (low, middle)
        raise UsageError(f"{self._path} has no trace {trace_id}")

    def _entry(self, number: int) -> tuple[bytes, int, int]:
        id_, frame, place = _ID.unpack(self._read(_ID.size, self._index_at + _HEADER.size + number * _ID.size))
        return id_, frame, place

    def _at(self, frame: int, place: int) -> Trace:
        if frame >= self.frames:
            raise self._damaged(f"the index names frame {frame} of {self.frames}")
        found = self.frame(frame).split(b"\n")
        try:
            return decode(whole(found[place]))
        except (IndexError, DataError) as error:
            raise self._damaged(f"frame {frame}, record {place}: {error}") from error

    def _seek_table(self) -> tuple[list[int], list[int], int]:
        """Return the start of every frame and the end of the last, their sizes unpacked, and where the index is."""
        size = os.fstat(self._descriptor).st_size
        count, flags, magic = _FOOTER.unpack(self._read(_FOOTER.size, size - _FOOTER.size))
        table_at = size - _FOOTER.size - count * _ENTRY.size
        if magic != _SEEKABLE_MAGIC or flags or count < 1 or table_at < _HEADER.size:
            raise self._damaged("no seek table at its end; another compressed file is unpacked first (zstd -d)")
        entries = list(_ENTRY.iter_unpack(self._read(count * _ENTRY.size, table_at)))
        starts = [0]
        for packed, unpacked in entries:
            starts.append(starts[-1] + packed)
            if unpacked > MAX_FRAME_BYTES:
                raise self._damaged(f"a frame of {unpacked} bytes")
        if starts[-1] != table_at - _HEADER.size:
            raise self._damaged("the seek table does not fit the file")
        return starts[:-1], [unpacked for _, unpacked in entries[:-1]], starts[-2]

    def _index_entries(self) -> int:
        magic, size = _HEADER.unpack(self._read(_HEADER.size, self._index_at))
        if magic != _INDEX_MAGIC or size % _ID.size:
            raise self._damaged("no index of records")
        return int(size // _ID.size)

    def _read(self, count: int, at: int) -> bytes:
        data = os.pread(self._descriptor, count, at) if at >= 0 else b""
        if len(data) != count:
            raise self._damaged("it ends too early")
        return data

    def _damaged(self, what: str) -> DataError:
        return DataError(f"{self._path}: not a whole compacted file: {what}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def compact(source: Path, target: Path) -> Compaction:
    """Write the compacted form of `source` to `target`, whole or not at all, and return what came of it.

    Records are grouped by task in the order of their first appearance, then by rollout index; the source stays.

    Raises:
        UsageError: the source cannot be read, or the target's name is none of a compacted file.
        DataError: it holds something else than records, or one of them twice.
        StorageError: the target cannot be written.
    """
    if not target.name.endswith(f".jsonl{COMPACTED}"):
        raise UsageError(f"{target}: the name of a compacted file ends in .jsonl{COMPACTED}, by which it is known")
    index = RecordIndex(source)
    ids = _ordered(index)
    with replacing(target) as write:
        frames = _write(ids, index, write)
    return Compaction(records=len(ids), frames=frames, bytes_before=index.bytes, bytes_after=target.stat().st_size)


def join(sources: Iterable[Path], target: Path) -> None:
    """Write compacted files as one, whole or not at all; nothing is unpacked, and each is read once, in this order.

    The indexes of all are held: 24 bytes a record.

    Raises:
        UsageError: a source cannot be read.
        DataError: one is damaged, two of them have a record of one id, or they have more records than a file can.
        StorageError: the target cannot be written.
    """
    table: list[tuple[int, int]] = []
    indexes: list[Iterator[tuple[bytes, int, int]]] = []
    count = 0
    with replacing(target) as write:
        for path in sources:
            with Compacted(path) as one:
                frames, index = one.parts()
                indexes.append(_moved(path, index, frames=one.frames, by=len(table)))
                count += one.records
                table.extend((write.write(data), size) for data, size in frames)
        if count > _MOST_RECORDS:
            raise DataError(f"{target.name}: {count} records; a compacted file has {_MOST_RECORDS} at most")
        last = b""
        write.write(_HEADER.pack(_INDEX_MAGIC, count * _ID.size))
        for entry in heapq.merge(*indexes):
            if entry[0] == last:
                raise DataError(f"{target.name}: trace {uuid.UUID(bytes=last)} is there twice")
            last = entry[0]
            write.write(_ID.pack(*entry))
        _close(write, table, count * _ID.size)


def _moved(path: Path, index: bytes, *, frames: int, by: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the entries of the index of a file with so many frames, which follow so many others."""
    last = b""
    for id_, frame, place in _ID.iter_unpack(index):
        if frame >= frames or id_ < last:
            what = f"names frame {frame} of {frames}" if frame >= frames else "is not sorted"
            raise DataError(f"{path}: not a whole compacted file: the index {what}")
        last = id_
        yield id_, frame + by, place


def unpack(source: Path, target: Path) -> None:
    """Write the lines of a record file of any form to a new one, as they were collected.

    Raises:
        UsageError: the source cannot be read, or the target is there already.
        DataError: the source is damaged.
        StorageError: the target cannot be written.
    """
    if target.exists():
        raise UsageError(f"{target} is there already; name a new file for the lines of {source}")
    with plain_file(source) as lines, replacing(target) as write:
        write.writelines(lines)


def _ordered(index: RecordIndex) -> list[tuple[int, str]]:
    """Return (number of its task, id) of every record, in the order of the compacted file."""
    decode_key = msgspec.json.Decoder(_Key).decode
    found: list[tuple[int, int, int, str]] = []
    tasks: dict[int | str | None, int] = {}
    for number, trace_id in enumerate(index.ids, start=1):
        try:
            uuid.UUID(trace_id)
            key = decode_key(index.line(trace_id))
        except (*DECODE_ERRORS, ValueError) as error:
            raise DataError(f"{index.path}, line {number}: not a record of the kit: {error}") from error
        task = key.metadata.task_id if key.instance_id is None else key.instance_id
        rollout = key.metadata.rollout_index if key.instance_id is None else key.rollout_index
        found.append((tasks.setdefault(task, len(tasks)), rollout, number, trace_id))
    if not found:
        raise UsageError(f"{index.path}: no record in it")
    return [(task, trace_id) for task, _, _, trace_id in sorted(found)]


def _write(ids: list[tuple[int, str]], records: RecordIndex, write: BinaryIO) -> int:
    import zstandard  # noqa: PLC0415 - heavy

    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    table: list[tuple[int, int]] = []
    index: list[bytes] = []
    block: list[bytes] = []
    last = -1

    def close() -> None:
        text = b"".join(block)
        table.append((write.write(compressor.compress(text)), len(text)))
        block.clear()

    for task, trace_id in ids:
        line = lean(records.line(trace_id).removesuffix(b"\n") + b"\n")  # a last line may lack its end
        if block and (task != last or sum(map(len, block)) + len(line) > FRAME_BYTES):
            close()
        last = task
        index.append(_ID.pack(uuid.UUID(trace_id).bytes, len(table), len(block)))
        block.append(line)
    close()
    entries = b"".join(sorted(index))
    write.write(_HEADER.pack(_INDEX_MAGIC, len(entries)) + entries)
    _close(write, table, len(entries))
    return len(table) - 1


def _close(write: BinaryIO, table: list[tuple[int, int]], index_bytes: int) -> None:
    """Write the seek table, which has the index as its last frame."""
    table.append((_HEADER.size + index_bytes, 0))
    packed = b"".join(_ENTRY.pack(*entry) for entry in table)
    write.write(_HEADER.pack(_SEEK_TABLE_MAGIC, len(packed) + _FOOTER.size) + packed)
    write.write(_FOOTER.pack(len(table), 0, _SEEKABLE_MAGIC))
