"""Append-only JSON Lines: one record is either whole and durable, or absent."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

import msgspec

from agenttrace.errors import DataError, StorageError
from agenttrace.store.append import AppendOnly, sync_folder
from agenttrace.store.ids import IdIndex
from agenttrace.store.opening import numbered_lines, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agenttrace.records import Record

_TAIL_CHUNK = 65_536


class _Id(msgspec.Struct):
    trace_id: str


class RecordLog:
    """A record file opened for appending by exactly one campaign.

    Opening takes an exclusive lock, cuts off a torn last line (what a kill or a power cut leaves) and reads the ids
    that are there. Lines that are whole are never touched again.

    Attributes:
        path: the file.
        ids: trace ids in the file.
        torn_bytes: bytes of a torn last line that were cut off.
    """

    def __init__(self, path: Path, *, unique: bool = True) -> None:
        """Open or create the file.

        Args:
            path: the file.
            unique: whether a trace may stand in it only once; attempts that failed may be several.

        Raises:
            UsageError: another campaign has it open, or it cannot be opened.
            DataError: a whole line is not a record.
        """
        self.path = path
        self._file = AppendOnly(path)
        try:
            self.torn_bytes = self._cut_torn_line()
            self.ids = known_ids(path, unique=unique)
        except BaseException:
            self._file.close()
            raise

    def _cut_torn_line(self) -> int:
        end = self._file.size
        while end > 0:
            start = max(0, end - _TAIL_CHUNK)
            newline = self._file.read(end - start, start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        return self._file.cut(end)

    def append(self, trace_id: str, record: Record) -> None:
        """Write one record and return when it is durable.

        Raises:
            StorageError: it could not be written whole; the file is as it was before the call.
        """
        try:
            self._file.append(msgspec.json.encode(record) + b"\n")
        except OSError as error:
            raise StorageError(
                f"cannot append to {self.path}: {error.strerror}; all {len(self.ids)} earlier records are kept, "
                "make room and run the same command again to go on"
            ) from error
        self.ids.add(trace_id)

    def close(self) -> None:
        """Release the file and its lock."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def known_ids(path: Path, *, unique: bool = True) -> IdIndex:
    """Return the record ids of a record file; a torn last line (one without its line end) does not count.

    Raises:
        UsageError: the file cannot be opened.
        DataError: a whole line is not a record, or an id stands there twice; the message names the line.
    """
    ids = IdIndex()
    for number, trace_id in _ids(path):
        before = len(ids)
        ids.add(trace_id)
        if unique and len(ids) == before:
            raise DataError(f"{path}, line {number}: trace {trace_id} is there twice; move the file away")
    return ids


def _ids(path: Path) -> Iterator[tuple[int, str]]:
    decode = msgspec.json.Decoder(_Id).decode
    with opened(path) as file:
        for number, line in numbered_lines(file, path):
            if not line.endswith(b"\n"):
                return
            try:
                yield number, decode(line).trace_id
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise DataError(f"{path}, line {number}: not a trace record ({error}); move the file away") from error


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file so that it is there whole or not at all, and durable.

    Raises:
        StorageError: it could not be written; an earlier file of that name is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
