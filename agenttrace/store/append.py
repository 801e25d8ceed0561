"""A file that one process appends to: every piece is whole and durable, or absent, and none goes where nobody finds it.

Editors, `sed -i`, cloud folders and `git checkout` put another file under the name of one that is being written, or
write over it. What was appended after that would be gone with the old file, so before every piece it is seen that the
file is still the one that was opened, as long as we left it. If not, it is never written again: what it lacks and what
still comes goes to a file beside it (`rescued_path`).
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import stat
from collections import deque
from typing import TYPE_CHECKING

from agenttrace.errors import AgentTraceError, StorageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

KEPT_BYTES = 8 << 20
"""Of memory, for the latest pieces: what an editor that saves in place has written over is found nowhere else."""
BLOCK_BYTES = 1 << 18
"""Of pieces that are compressed together: records to about a tenth."""
_BATCH = 1 << 20
_SUFFIXES = (".failures.jsonl", ".cassette.zst", ".jsonl")


class ChangedFileError(StorageError):
    """Another program replaced, removed, cut or wrote to a file that is appended to; what it lacks was rescued."""


def rescued_path(path: Path) -> Path:
    """Return where the rescue of a file goes: `NAME.rescued.jsonl` for `NAME.jsonl`, other endings likewise."""
    ending = next((suffix for suffix in _SUFFIXES if path.name.endswith(suffix)), "")
    return path.with_name(f"{path.name.removesuffix(ending)}.rescued{ending}")


class AppendOnly:
    """A file opened for appending by exactly one process.

    Args:
        path: the file.
        lacking: is given the pieces that were written and may be lost, and yields those to put into a rescue.

    Attributes:
        path: the file.
        changed: what another program did to the file, once that was seen; pieces go to the rescue since.

    Raises:
        UsageError: another campaign has it open, or it cannot be opened, or is a pipe or a device.
    """

    def __init__(
        self, path: Path, lacking: Callable[[Iterator[bytes]], Iterable[bytes]] = lambda pieces: pieces
    ) -> None:
        self.path = path
        self.changed: ChangedFileError | None = None
        self._lacking = lacking
        self._rescue: AppendOnly | None = None
        self._rescue_start = 0
        self._latest = _Latest()
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
        self._end = self.size
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
        if not self._is_there():
            raise UsageError(f"{self.path} was removed or replaced while it was opened; run the same command again")

    def _is_there(self) -> bool:
        """Return whether the file by our name is ours."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self._descriptor))
        except OSError:
            return False

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
            self._end = end
        return max(0, lost)

    def append(self, data: bytes) -> None:
        """Write one piece, here or where `changed` says, and return when it is durable.

        Raises:
            OSError: it could not be written whole; the file is as it was before the call.
            StorageError: the file is another one, and there can be no rescue.
        """
        self.look()
        if self.changed is not None and self._rescue is not None:
            self._rescue.append(data)
            return
        try:
            written = 0
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
            os.fsync(self._descriptor)
            self._end += len(data)
        except BaseException:  # an interrupt, too: what it leaves would look like another program's
            os.ftruncate(self._descriptor, self._end)
            raise
        self._latest.append(data)

    def check(self) -> None:
        """See that the file is as we left it, also after the last piece.

        Raises:
            ChangedFileError: it is not; what it lacks has been rescued.
            StorageError: it is not, and there can be no rescue.
        """
        self.look()
        if self.changed is not None:
            raise self.changed

    def look(self) -> None:
        """See whether the file is as we left it; if not, what it lacks is rescued, and `changed` says why.

        Raises:
            StorageError: it is not, and there can be no rescue.
        """
        if self.changed is not None or (what := self._difference()) is None:
            return
        target = rescued_path(self.path)
        why = f"{self.path} {what} while a campaign wrote to it, so the campaign stops"
        try:
            if self._rescue is None:
                self._rescue = AppendOnly(target)
                self._rescue_start = self._rescue.size
            self._rescue.cut(self._rescue_start)  # an earlier try may have been interrupted or found no room
            for batch in _batches(self._lacking(self._pieces())):
                self._rescue.append(batch)
        except (OSError, AgentTraceError) as error:
            raise StorageError(f"{why}; what it lacks cannot be kept in {target}: {error}") from error
        self.changed = ChangedFileError(
            f"{why}. What it lacks is in {target.name} beside it: run the same command again, which takes that in"
        )

    def _difference(self) -> str | None:
        if not self._is_there():
            return "was replaced by another file" if os.path.lexists(self.path) else "was removed"
        more = self.size - self._end
        if more < 0:
            return f"was cut to {self.size} of {self._end} bytes"
        if more > 0:
            return f"got {more} bytes of another program (`truncate -s {self._end}` takes them off again)"
        return None

    def _pieces(self) -> Iterator[bytes]:
        """Yield what was written and may be lost, as lines: a file that has our name no longer, then the latest pieces.

        Where that file is whole, it has the latest pieces, too.
        """
        if not self._is_there():
            with os.fdopen(os.dup(self._descriptor), "rb") as file:
                file.seek(0)
                yield from file
            if self.size >= self._end:
                return
        yield from self._latest.lines()

    def close(self) -> None:
        """Release the file and its lock."""
        if self._rescue is not None:
            self._rescue.close()
        os.close(self._descriptor)


class _Latest:
    """The latest pieces that were written, in little memory."""

    def __init__(self) -> None:
        self._blocks: deque[bytes] = deque()
        self._bytes = 0
        self._open = bytearray()

    def append(self, piece: bytes) -> None:
        """Keep a piece, and no more of earlier ones than there is room for."""
        self._open += piece
        if len(self._open) >= BLOCK_BYTES:
            import zstandard  # noqa: PLC0415 - heavy

            # Copied, as the library holds on to as many bytes as there might have been.
            self._blocks.append(memoryview(zstandard.compress(bytes(self._open))).tobytes())
            self._bytes += len(self._blocks[-1])
            self._open = bytearray()
        while self._bytes > KEPT_BYTES:
            self._bytes -= len(self._blocks.popleft())

    def lines(self) -> Iterator[bytes]:
        """Yield what is kept, in lines."""
        import zstandard  # noqa: PLC0415

        for block in self._blocks:
            yield from io.BytesIO(zstandard.decompress(block))
        yield from io.BytesIO(self._open)


def _batches(pieces: Iterable[bytes]) -> Iterator[bytes]:
    batch: list[bytes] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece)
        if size > _BATCH:
            yield b"".join(batch)
            batch, size = [], 0
    if batch:
        yield b"".join(batch)


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
