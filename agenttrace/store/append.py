"""A file that only grows: locked by one writer, each piece durable as a whole or not there."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING

from agenttrace.errors import StorageError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


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
