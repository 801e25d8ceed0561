"""What keeps work of one checkout apart and the engine clean, whatever ends it: signals, a lock, a reaper.

The lock is the kernel's, which releases it whatever happens to its holder. The reaper removes a campaign's containers
when the process that should have done it was killed: it runs beside every campaign, as `python -m` this module, in a
session of its own, and reads its standard input: a byte means that the campaign cleaned up behind itself; end of file
without one means that it died.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from agenttrace.errors import UsageError
from agenttrace.host import compose, engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

CLEANING_S = 30.0
_ALL_WELL = b"."
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def _handled(handler: Callable[..., object] | signal.Handlers, numbers: Sequence[signal.Signals]) -> Iterator[None]:
    """Have signals handled so for the block; what is ignored stays so, as `nohup` wants it."""
    handled = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = [signal.signal(number, handler) for number in handled]
    try:
        yield
    finally:
        for number, earlier in zip(handled, before, strict=True):
            signal.signal(number, earlier)


def terminations_interrupt() -> AbstractContextManager[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    return _handled(interrupt, (signal.SIGTERM, signal.SIGHUP))


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Let interrupts of the block take effect at its end: what it starts is then known to who must end it."""
    came: list[int] = []
    try:
        with _handled(lambda number, _: came.append(number), _ENDS):
            yield
    finally:
        if came:
            signal.raise_signal(came[0])


def uninterrupted() -> AbstractContextManager[None]:
    """Ignore further interrupts while cleaning up, which takes a second or two."""
    return _handled(signal.SIG_IGN, _ENDS)


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
        pass
    return True


@contextlib.contextmanager
def reaped(project: str, lock: int) -> Iterator[None]:
    """Have a compose project removed if this process dies in the block; after it, the clean-up is taken to be done.

    Args:
        project: compose project to remove.
        lock: descriptor of the campaign lock, held until the reaper is through.
    """
    process = engine.start(
        [sys.executable, "-P", "-m", "agenttrace.host.guard", project],
        env={**os.environ, "PYTHONPATH": str(compose.ROOT)},
        stdin=subprocess.PIPE,
        output=subprocess.DEVNULL,
        errors=subprocess.DEVNULL,
        pass_fds=(lock,),
    )
    try:
        yield
    finally:
        process.communicate(_ALL_WELL)


def main() -> None:
    """Wait for the byte or the end of file; on the latter remove the project."""
    if sys.stdin.buffer.read(1) != _ALL_WELL:
        compose.sweep_for_good(compose.client(), sys.argv[1])


if __name__ == "__main__":
    main()
