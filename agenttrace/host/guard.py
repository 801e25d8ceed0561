"""Keeps work of one checkout apart, follows it, and leaves the engine clean whatever ends it: lock, signals, reaper.

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
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.errors import EXIT_INTERRUPTED, ModelServerError, UsageError
from agenttrace.host import compose, engine, images
from agenttrace.show import printable, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

_CLEANING_S = 30.0
_POLL_S = 0.2
_STOP_S = 20.0
_NOTICE_S = 12.0
"""Time in which the collector finds out by itself that the server is gone, and says what it was doing."""
_LOG_LINES = 15
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
    """Ignore further interrupts while cleaning up, which takes a second or two, some more where the engine is slow."""
    return _handled(signal.SIG_IGN, _ENDS)


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """An engine that is ready for work of this checkout.

    Attributes:
        sdk: its client.
        project: compose project of everything that is started; swept before and after.
        info: what the engine is.
        built: the images, up to date.
    """

    sdk: Any
    project: str
    info: engine.EngineInfo
    built: images.ImageSet


@contextlib.contextmanager
def guarded(purpose: str = "", *, targets: Sequence[str] = images.TARGETS) -> Iterator[Engine]:
    """Yield an engine for work that starts services; whatever happens, nothing of that work stays on it.

    Args:
        purpose: what work beside campaigns is for, such as `probes`; work of one purpose runs once at a time.
        targets: images that the work needs.

    Raises:
        AgentTraceError: there is no engine, no image, or other work of this checkout for the same purpose.
    """
    project = f"{compose.project_name()}{purpose and f'-{purpose}'}"
    what = f"session with workers ({purpose})" if purpose else "campaign"
    with terminations_interrupt(), only_one(compose.ROOT / ".nox" / f"{project}.lock", what=what) as lock:
        info = engine.check()
        engine.check_strength(info)
        built = images.build(targets=targets)
        sdk = compose.client()
        compose.ensure_volumes(sdk)
        with reaped(project, lock):
            compose.sweep(sdk, project)
            try:
                yield Engine(sdk=sdk, project=project, info=info, built=built)
            finally:
                with uninterrupted():
                    compose.sweep_for_good(sdk, project)


@contextlib.contextmanager
def only_one(path: Path, *, what: str = "campaign") -> Iterator[int]:
    """Hold the lock file; yields its descriptor, which a clean-up process may inherit and so keep it locked.

    When the holder that wrote its process id is gone, its clean-up is still at work: it is waited for.

    Raises:
        UsageError: a living campaign holds the lock, or the clean-up does not end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _acquire(descriptor, path, what)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, what: str) -> None:
    deadline = time.monotonic() + _CLEANING_S
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


def follow(process: subprocess.Popen[bytes], at: Engine, name: str) -> int:
    """Wait for the collector; end it when the user interrupts, nox itself was killed or the model server is gone."""
    parent = os.getppid()
    server_ended_at = _watch_server(at)
    try:
        while process.poll() is None and os.getppid() == parent:
            time.sleep(_POLL_S)
            if server_ended_at and time.monotonic() - server_ended_at[0] > _NOTICE_S:
                stop(process, name)
                process.returncode = ModelServerError.exit_code
    except KeyboardInterrupt:
        pass
    if process.returncode is None:
        with uninterrupted():
            stop(process, name)
        return EXIT_INTERRUPTED
    if process.returncode == ModelServerError.exit_code:
        _tell_server_log(at)
    if process.returncode in {137, -9}:
        say("the collector was killed; every finished record is kept, the same command goes on")
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _server(at: Engine) -> list[Any]:
    """Return the server's container, if there is one."""
    labels = [f"com.docker.compose.project={at.project}", "com.docker.compose.service=server"]
    return list(at.sdk.containers.list(all=True, filters={"label": labels}, ignore_removed=True))


def _watch_server(at: Engine) -> list[float]:
    """Return where the time of the server's end will stand; the engine of a machine that is measured is not polled."""
    ended_at: list[float] = []

    def wait(container: Any) -> None:  # noqa: ANN401 - docker.models.containers.Container
        with contextlib.suppress(Exception):  # the engine went away, or the campaign is over: nothing to notice then
            container.wait(timeout=None)
            ended_at.append(time.monotonic())

    for container in _server(at):
        threading.Thread(target=wait, args=(container,), daemon=True).start()
    return ended_at


def stop(process: subprocess.Popen[bytes], name: str) -> None:
    """Ask a container to end as on Ctrl-C and wait for it; it may only just be starting.

    Args:
        process: the engine's client that runs it.
        name: of the container.
    """
    deadline = time.monotonic() + _STOP_S
    while process.poll() is None and time.monotonic() < deadline:
        engine.run(["docker", "kill", "--signal", "SIGINT", name], check=False)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.0)
    if process.poll() is None:
        engine.run(["docker", "rm", "--force", name], check=False)
        process.kill()
        process.wait()


def _tell_server_log(at: Engine) -> None:
    for container in _server(at):
        state = container.attrs["State"]
        lines = printable(container.logs(tail=_LOG_LINES).decode(errors="replace").rstrip())
        say(f"the model server is {state['Status']} (exit status {state['ExitCode']}); its last lines:\n{lines}")


def main() -> None:
    """Wait for the byte or the end of file; on the latter remove the project."""
    if sys.stdin.buffer.read(1) != _ALL_WELL:
        compose.sweep_for_good(compose.client(), sys.argv[1])


if __name__ == "__main__":
    main()
