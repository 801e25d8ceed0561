"""Reads stored rollouts, in either form: JSON Lines (`.jsonl`), or its compacted form (`.jsonl.zst`).

The compacted form is a file that `zstd -d` turns back into JSON Lines. It consists of independent frames, each with
whole records of one task (or a part of it), then two skippable frames: an index for random access, and the seek table
of the Zstandard Seekable Format (zstd, contrib/seekable_format, version 0.1.0). The index has 24 bytes a record and is
sorted: the 16 bytes of the id, the number of its frame and its place in the frame (both 32 bits, little endian).
"""

from __future__ import annotations

import os
import struct
import uuid
from typing import TYPE_CHECKING, Self

import msgspec

from agenttrace.errors import DataError, UsageError
from agenttrace.records.rollout import Rollout
from agenttrace.store.kinds import compressed, other_kind
from agenttrace.store.opening import numbered_lines, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMPACTED = ".zst"
INDEX_MAGIC, SEEK_TABLE_MAGIC, SEEKABLE_MAGIC = 0x184D2A50, 0x184D2A5E, 0x8F92EAB1
HEADER, ENTRY, FOOTER = struct.Struct("<II"), struct.Struct("<II"), struct.Struct("<IBI")
ID = struct.Struct("<16sII")
MAX_FRAME_BYTES = 256 * 2**20
"""No frame of ours holds more; one that says so is damaged or hostile."""


def read(path: Path) -> Iterator[Rollout]:
    """Yield the rollouts of a file in file order.

    Raises:
        UsageError: the file cannot be opened, or is of another kind.
        DataError: a record is not one of this version; the message names its place.
    """
    decode = msgspec.json.Decoder(Rollout).decode
    for number, line in enumerate(lines(path), start=1):
        try:
            yield decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            if number == 1 and (why := other_kind(path, line) or compressed(line) or _trace(line)):
                raise UsageError(f"cannot read {path}: {why}") from None
            torn = "" if line.endswith(b"\n") else "; the line is cut off, the same run again repairs the file"
            raise DataError(f"{path}, line {number}: not a rollout: {error}{torn}") from error


def _trace(line: bytes) -> str | None:
    return "it holds traces; give a record file of rollouts" if line.startswith(b'{"trace_id"') else None


def lines(path: Path) -> Iterator[bytes]:
    """Yield the records of a file as JSON with its line end.

    Raises:
        UsageError: the file cannot be opened.
        DataError: the compacted file is damaged.
    """
    if path.suffix == COMPACTED:
        with Compacted(path) as compacted:
            for number in range(compacted.frames):
                yield from compacted.frame(number).splitlines(keepends=True)
        return
    with opened(path) as file:
        for _, line in numbered_lines(file, path):
            yield line


def is_compacted(path: Path) -> bool:
    """Return whether a file ends as the compacted form does; other compressed files do not.

    Raises:
        UsageError: it cannot be opened.
    """
    with opened(path) as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - FOOTER.size))
        return file.read().endswith(SEEKABLE_MAGIC.to_bytes(4, "little"))


class Compacted:
    """A compacted file, open for random access; use it as a context.

    Args:
        path: of the file.

    Attributes:
        frames: how many frames with records it has.
        rollouts: how many records.

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
            self.rollouts = self._index_entries()
        except BaseException:
            os.close(self._descriptor)
            raise

    def frame(self, number: int) -> bytes:
        """Return the records of one frame, a line each.

        Raises:
            DataError: the frame is damaged.
        """
        start, end = self._starts[number], self._starts[number + 1]
        data = self._read(end - start, start)
        try:
            size = self._size(data)  # before anything is unpacked: that much would be set aside for it
            if size != self._sizes[number]:
                raise self._damaged(f"frame {number} has {size} bytes instead of {self._sizes[number]}")
            return self._decompressor.decompress(data)
        except self._error as error:
            raise self._damaged(f"frame {number}: {error}") from error

    def get(self, rollout_id: str) -> Rollout:
        """Return one rollout; reads the index in steps and one frame.

        Raises:
            UsageError: there is no such rollout.
            DataError: the file is damaged.
        """
        try:
            wanted = uuid.UUID(rollout_id).bytes
        except ValueError as error:
            raise UsageError(f"{rollout_id!r} is no rollout id") from error
        low, high = 0, self.rollouts
        while low < high:
            middle = (low + high) // 2
            found, frame, place = self._entry(middle)
            if found == wanted:
                return self._at(frame, place)
            low, high = (middle + 1, high) if found < wanted else (low, middle)
        raise UsageError(f"{self._path} has no rollout {rollout_id}")

    def _entry(self, number: int) -> tuple[bytes, int, int]:
        id_, frame, place = ID.unpack(self._read(ID.size, self._index_at + HEADER.size + number * ID.size))
        return id_, frame, place

    def _at(self, frame: int, place: int) -> Rollout:
        if frame >= self.frames:
            raise self._damaged(f"the index names frame {frame} of {self.frames}")
        found = self.frame(frame).splitlines()
        try:
            return msgspec.json.decode(found[place], type=Rollout)
        except (IndexError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._damaged(f"frame {frame}, record {place}: {error}") from error

    def _seek_table(self) -> tuple[list[int], list[int], int]:
        """Return the start of every frame and the end of the last, their sizes unpacked, and where the index is."""
        size = os.fstat(self._descriptor).st_size
        count, flags, magic = FOOTER.unpack(self._read(FOOTER.size, size - FOOTER.size))
        table_at = size - FOOTER.size - count * ENTRY.size
        if magic != SEEKABLE_MAGIC or flags or count < 1 or table_at < HEADER.size:
            raise self._damaged("no seek table at its end; another compressed file is unpacked first (zstd -d)")
        entries = list(ENTRY.iter_unpack(self._read(count * ENTRY.size, table_at)))
        starts = [0]
        for packed, unpacked in entries:
            starts.append(starts[-1] + packed)
            if unpacked > MAX_FRAME_BYTES:
                raise self._damaged(f"a frame of {unpacked} bytes")
        if starts[-1] != table_at - HEADER.size:
            raise self._damaged("the seek table does not fit the file")
        return starts[:-1], [unpacked for _, unpacked in entries[:-1]], starts[-2]

    def _index_entries(self) -> int:
        magic, size = HEADER.unpack(self._read(HEADER.size, self._index_at))
        if magic != INDEX_MAGIC or size % ID.size:
            raise self._damaged("no index of rollouts")
        return int(size // ID.size)

    def _read(self, count: int, at: int) -> bytes:
        data = os.pread(self._descriptor, count, at) if at >= 0 else b""
        if len(data) != count:
            raise self._damaged("it ends too early")
        return data

    def _damaged(self, what: str) -> DataError:
        return DataError(f"{self._path}: not a whole file of compacted rollouts: {what}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
