"""Files that lose nothing: what is appended to one, or takes the place of one, is whole and durable, or absent."""

from __future__ import annotations

import hashlib
import os
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, Self

import msgspec

from agenttrace.errors import AgentTraceError, DataError, StorageError
from agenttrace.store.append import AppendOnly, ChangedFileError, sync_folder
from agenttrace.store.ids import IdIndex
from agenttrace.store.opening import numbered_lines, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from agenttrace.records import Record

_TAIL_CHUNK = 65_536


class _Id(msgspec.Struct):
    trace_id: str


_id = msgspec.json.Decoder(_Id).decode


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
        self._unique = unique
        self._gone = 0
        self._appended = False
        self._file = AppendOnly(path, self._lacking)
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

    def append(self, trace_id: str, record: Record | msgspec.Raw) -> None:
        """Write one record and return when it is durable.

        Raises:
            ChangedFileError: the file is another one now; the record is durable in the rescue beside it.
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
        self._appended = True
        if self._file.changed is not None:
            self.check()

    def check(self) -> None:
        """See that the file holds what was appended, if anything was.

        Raises:
            ChangedFileError: it is another one now; what it lacks is in the rescue beside it.
        """
        if self._appended:
            try:
                self._file.check()
            except ChangedFileError as error:
                gone = f"; {self._gone} earlier records are on no disk any more, their tasks are run again"
                raise ChangedFileError(f"{error}{gone if self._gone else ''}") from None

    def _lacking(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the lines that the file of our name lacks, each once, and count the records that are nowhere."""
        there = IdIndex()
        found = 0
        for line in _whole_lines(self.path):
            key = self._key(line)
            found += there.add(key) is None and key in self.ids
        for line in lines:
            if there.add(key := self._key(line)) is None:
                found += key in self.ids
                yield line
        self._gone = len(self.ids) - found if self._unique else 0

    def _key(self, line: bytes) -> str:
        if self._unique:
            with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                return _id(line).trace_id
        return hashlib.sha256(line).hexdigest()

    def give_up(self, trace_id: str) -> None:
        """Do nothing: of a trace without a record nothing is held here."""

    def close(self) -> None:
        """Release the file and its lock."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        with closing(self._file):
            check_at_end(self.check, error)


def check_at_end(check: Callable[[], None], error: BaseException | None) -> None:
    """See at the end of a session that a file holds what was appended, also when the session ends with an error.

    Raises:
        ChangedFileError: it does not, and the error that ends the session says nothing of it; the message has both.
    """
    if isinstance(error, ChangedFileError):
        return
    try:
        check()
    except ChangedFileError as change:
        other = f"{error}\n" if isinstance(error, AgentTraceError) else ""
        raise ChangedFileError(f"{other}{change}") from error


def _whole_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of what may be any file by now, as far as it can be read."""
    with suppress(AgentTraceError, OSError), opened(path) as file:
        yield from (line for _, line in numbered_lines(file, path) if line.endswith(b"\n"))


def known_ids(path: Path, *, unique: bool = True, without: IdIndex | None = None) -> IdIndex:
    """Return the record ids of a record file; a torn last line (one without its line end) does not count.

    Args:
        path: the file.
        unique: no id may stand there twice.
        without: ids to leave out.

    Raises:
        UsageError: the file cannot be opened.
        DataError: a whole line is not a record, or an id stands there twice; the message names the line.
    """
    ids = IdIndex()
    with opened(path) as file:
        for number, line in numbered_lines(file, path):
            if not line.endswith(b"\n"):
                break
            try:
                trace_id = _id(line).trace_id
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise DataError(f"{path}, line {number}: not a trace record ({error}); move the file away") from error
            if without is not None and trace_id in without:
                continue
            before = len(ids)
            ids.add(trace_id)
            if unique and len(ids) == before:
                raise DataError(f"{path}, line {number}: trace {trace_id} is there twice; move the file away")
    return ids


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` when the block ends: whole and durable, or not at all.

    Raises:
        StorageError: it could not be written; an earlier file of that name is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file so that it is there whole or not at all, and durable.

    Raises:
        StorageError: see `replacing`.
    """
    with replacing(path) as file:
        file.write(data)
