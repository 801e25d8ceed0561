"""Files that lose nothing: what is appended to one, or takes the place of one, is whole and durable, or absent."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Self

import msgspec

from agenttrace.errors import DataError, StorageError, UsageError
from agenttrace.store.ids import IdIndex
from agenttrace.store.opening import numbered_lines, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agenttrace.records import Record

_TAIL_CHUNK = 65_536


class AppendOnly:
    """A file opened for appending by exactly one process.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the file and take its lock.

        Raises:
            UsageError: another campaign has it open, or it cannot be opened, or is a pipe or a device.
        """
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            self._descriptor = os.open(path, flags, 0o644)
        except OSError as error:
            raise UsageError(f"cannot open {path} for writing: {error.strerror}") from error
        try:
            self._lock()
        except BaseException:
            os.close(self._descriptor)
            raise
        sync_folder(path.parent)

    def _lock(self) -> None:
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            raise UsageError(f"cannot write {self.path}: it is a pipe or a device; name a file")
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise UsageError(
                    f"{self.path} is being written by another campaign; wait for it or choose another --output"
                ) from error
            raise StorageError(f"cannot lock {self.path}: {error.strerror}") from error
        # Who held it may have removed or replaced it between our opening and locking: what we wrote would go with it.
        if os.fstat(self._descriptor).st_nlink == 0:
            raise UsageError(f"{self.path} was removed or replaced while it was opened; run the same command again")

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return os.fstat(self._descriptor).st_size

    def read(self, count: int, offset: int) -> bytes:
        """Return up to `count` bytes from `offset` on."""
        return os.pread(self._descriptor, count, offset)

    def cut(self, end: int) -> int:
        """Cut off everything from `end` on and return how many bytes that were."""
        lost = self.size - end
        if lost > 0:
            os.ftruncate(self._descriptor, end)
            os.fsync(self._descriptor)
        return max(0, lost)

    def append(self, data: bytes) -> None:
        """Write one piece and return when it is durable.

        Raises:
            OSError: it could not be written whole; the file is as it was before the call.
        """
        before = self.size
        try:
            written = 0
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
            os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, before)
            raise

    def close(self) -> None:
        """Release the file and its lock."""
        os.close(self._descriptor)


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

    def give_up(self, trace_id: str) -> None:
        """Do nothing: of a trace without a record nothing is held here."""

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
    decode = msgspec.json.Decoder(_Id).decode
    ids = IdIndex()
    with opened(path) as file:
        for number, line in numbered_lines(file, path):
            if not line.endswith(b"\n"):
                break
            try:
                trace_id = decode(line).trace_id
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise DataError(f"{path}, line {number}: not a trace record ({error}); move the file away") from error
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


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable, where its file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot sync folders
            raise
    finally:
        os.close(descriptor)
