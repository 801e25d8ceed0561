"""Follows a collector container to its end, and notices when the model server goes before it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

from agenttrace.command import EXIT_INTERRUPTED
from agenttrace.errors import ModelServerError
from agenttrace.host import engine
from agenttrace.host.guard import uninterrupted
from agenttrace.show import printable

if TYPE_CHECKING:
    import docker

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
                stop(process, name)
                process.returncode = ModelServerError.exit_code
    except KeyboardInterrupt:
        pass
    if process.returncode is None:
        with uninterrupted():
            stop(process, name)
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


def _tell_server_log(sdk: docker.DockerClient, project: str) -> None:
    for container in _server(sdk, project):
        state = container.attrs["State"]
        lines = printable(container.logs(tail=_LOG_LINES).decode(errors="replace").rstrip())
        engine.say(f"the model server is {state['Status']} (exit status {state['ExitCode']}); its last lines:\n{lines}")
