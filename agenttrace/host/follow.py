"""Follows a collector container to its end, and notices when the model server goes before it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

from agenttrace.errors import ModelServerError
from agenttrace.host import engine
from agenttrace.show import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

EXIT_INTERRUPTED = 130
_POLL_S = 0.2
_STOP_S = 20.0
_NOTICE_S = 12.0
"""Time in which the collector finds out by itself that the server is gone, and says what it was doing."""
_LOG_LINES = 15


def follow(process: subprocess.Popen[bytes], sdk: docker.DockerClient, project: str, name: str) -> int:
    """Wait for the collector; end it when the user interrupts, nox itself was killed or the model server is gone."""
    parent = os.getppid()
    server = _ServerWatch(sdk, project)
    try:
        while process.poll() is None and os.getppid() == parent:
            time.sleep(_POLL_S)
            if server.gone_for_s() > _NOTICE_S:
                _stop(process, sdk, name)
                process.returncode = ModelServerError.exit_code
    except KeyboardInterrupt:
        pass
    if process.returncode is None:
        with uninterrupted():
            _stop(process, sdk, name)
        return EXIT_INTERRUPTED
    if process.returncode == ModelServerError.exit_code:
        _tell_server_log(sdk, project)
    if process.returncode in {137, -9}:
        engine.say("the collector was killed; every finished record is kept, the same command goes on")
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _server(sdk: docker.DockerClient, project: str) -> list[Any]:
    """Return the server's container, if there is one."""
    labels = [f"com.docker.compose.project={project}", "com.docker.compose.service=server"]
    return list(sdk.containers.list(all=True, filters={"label": labels}, ignore_removed=True))


class _ServerWatch:
    """Notices the end of the model server without polling the engine on the machine that is being measured."""

    def __init__(self, sdk: docker.DockerClient, project: str) -> None:
        self._ended_at: float | None = None
        for container in _server(sdk, project):
            threading.Thread(target=self._wait, args=(container,), daemon=True).start()

    def _wait(self, container: Any) -> None:  # noqa: ANN401 - docker.models.containers.Container
        with contextlib.suppress(Exception):  # the engine went away, or the campaign is over: nothing to notice then
            container.wait(timeout=None)
            self._ended_at = time.monotonic()

    def gone_for_s(self) -> float:
        """Return for how long the server has been gone; 0 while it runs."""
        return 0.0 if self._ended_at is None else time.monotonic() - self._ended_at


def _stop(process: subprocess.Popen[bytes], sdk: docker.DockerClient, name: str) -> None:
    """Ask the collector to end as on Ctrl-C and wait for it; it may only just be starting."""
    import docker.errors  # noqa: PLC0415

    deadline = time.monotonic() + _STOP_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(docker.errors.APIError):
            sdk.containers.get(name).kill(signal="SIGINT")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.0)
    if process.poll() is None:
        process.kill()
        process.wait()


def _tell_server_log(sdk: docker.DockerClient, project: str) -> None:
    for container in _server(sdk, project):
        state = container.attrs["State"]
        lines = container.logs(tail=_LOG_LINES).decode(errors="replace").rstrip()
        lines = printable(lines)
        engine.say(f"the model server is {state['Status']} (exit status {state['ExitCode']}); its last lines:\n{lines}")


@contextlib.contextmanager
def terminations_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the campaign as Ctrl-C does; what was ignored before stays so, as `nohup` wants it."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    both = (signal.SIGTERM, signal.SIGHUP)
    numbers = [number for number in both if signal.getsignal(number) is not signal.SIG_IGN]
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Let interrupts of the block take effect at its end: what it starts is then known to who must end it."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, before[number])
        if came:
            signal.raise_signal(came[0])


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore further interrupts while cleaning up, which takes a second or two."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
