"""One campaign per checkout: a lock that the kernel releases whatever happens to its holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING

from agenttrace.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLEANING_S = 30.0


@contextlib.contextmanager
def only_one(path: Path, *, what: str = "campaign", waiting_s: float = CLEANING_S) -> Iterator[int]:
    """Hold the lock file; yields its descriptor, which a clean-up process may inherit and so keep it locked.

    When the holder that wrote its process id is gone, its clean-up is still at work: it is waited for.

    Raises:
        UsageError: a living campaign holds the lock, or the clean-up does not end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _acquire(descriptor, path, what, waiting_s)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, what: str, waiting_s: float) -> None:
    deadline = time.monotonic() + waiting_s
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        holder = os.pread(descriptor, 32, 0).decode("ascii", errors="replace").strip()
        if holder.isdigit() and _alive(int(holder)):
            raise UsageError(
                f"another {what} runs from this checkout (process {holder}); wait for it or stop it with Ctrl-C there"
            )
        if time.monotonic() > deadline:
            raise UsageError(f"the clean-up of an earlier {what} does not end; see who holds {path}")
        time.sleep(0.1)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
