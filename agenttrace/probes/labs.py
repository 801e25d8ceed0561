"""Where the workers come from that are attacked: containers of our own, or whatever listens in a folder."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from agenttrace.errors import UsageError, WorkerLostError
from agenttrace.host import engine, workers
from agenttrace.sandbox.client import Worker, acquire
from agenttrace.sandbox.policies import policies
from agenttrace.sandbox.strength import AmongOthersError, refuse_among_others

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FIRST_S = 10.0
RESTART_S = 330.0
"""A kubelet waits up to five minutes before it starts a container again that ended often."""
_CANARY = "canary"
_CANARIES = (f"/run/agenttrace/{_CANARY}", f"/run/call/{_CANARY}")


class ComposeLab:
    """Workers with exactly the hardening of a campaign, by docker-compose.yml.

    Args:
        project: compose project (see `workers.sandbox_project`).
        env: environment for compose.
        policy: name of the policy.
        override: compose file laid over the services, to see what a weaker sandbox lets through.
    """

    def __init__(self, project: str, env: Mapping[str, str], policy: str, override: Path | None = None) -> None:
        self._project = project
        self._env = env
        self._service = policies()[policy].service
        self._override = override
        self._container: workers.SandboxContainer | None = None

    @property
    def _running(self) -> workers.SandboxContainer:
        if self._container is None:
            self._container = workers.SandboxContainer(
                self._project, self._env, service=self._service, override=self._override
            )
        return self._container

    @property
    def worker(self) -> Worker:
        """A living worker, the same until `close`."""
        return self._running.worker

    def close(self) -> None:
        """End the worker; the next use starts another."""
        if self._container is not None:
            with contextlib.suppress(WorkerLostError):
                self._container.close()
            self._container = None

    def plant(self) -> None:
        """Place files in the two folders outside the work tree that the runner writes to."""
        self._as_root(" && ".join(f"echo alive >{path}" for path in _CANARIES))

    def is_untouched(self) -> bool:
        """Whether they are still there."""
        return self._as_root(f"echo $(<{_CANARIES[0]}) $(<{_CANARIES[1]})").split() == ["alive", "alive"]

    def _as_root(self, code: str) -> str:
        """Run shell code as root beside the runner, which no call can; returns its output."""
        argv = ["docker", "exec", "--user", "0:0", self._running.name, "/bin/bash", "-c", code]
        return engine.run(argv, check=False).stdout


class SocketLab:
    """Whichever workers listen in a folder; who starts them again when they end is not asked.

    Args:
        folder: with the workers' sockets.
        first_s: how long to wait for the first one.
        wait_s: how long to wait for another one, when it has ended.

    Raises:
        UsageError: there is no such folder.
    """

    def __init__(self, folder: Path, *, first_s: float = FIRST_S, wait_s: float = RESTART_S) -> None:
        if not folder.is_dir():
            raise UsageError(f"--socket {folder}: there is no such folder; name the one that workers have sockets in")
        self._folder = folder
        self._wait_s, self._later_s = first_s, wait_s
        self._worker: Worker | None = None
        self._there: set[str] = set()

    @property
    def worker(self) -> Worker:
        """A living worker, the same until `close`; each is asked whether it may be attacked."""
        if self._worker is None or self._worker.closed:
            (worker,) = acquire(self._folder, count=1, timeout_s=self._wait_s)
            self._wait_s = self._later_s
            try:
                refuse_among_others(worker.info)
            except AmongOthersError:
                worker.close()
                raise
            self._worker = worker
        return self._worker

    def close(self) -> None:
        """Hang up: a worn worker ends, and what started it starts another."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None
            self._there = self._there & {_CANARY}

    def plant(self) -> None:
        """Note what is in the folder, the worker's own socket among it, and add a file where that is allowed.

        The other folder that a runner writes to cannot be seen from here.
        """
        socket = self.worker.path
        self._there = set() if socket is None else {socket.name}
        with contextlib.suppress(PermissionError):
            (self._folder / _CANARY).write_text("alive\n", encoding="ascii")
            self._there.add(_CANARY)

    def is_untouched(self) -> bool:
        """Whether it is all still there; the file is removed."""
        kept = self._there <= {path.name for path in self._folder.iterdir()}
        if kept and _CANARY in self._there:
            canary = self._folder / _CANARY
            kept = canary.read_text(encoding="ascii") == "alive\n"
            canary.unlink()
        return kept


def policy_of(worker: Worker, asked: str | None) -> str:
    """Return the policy of a worker.

    Raises:
        UsageError: it is not the one that was asked for, or none of the kit's.
    """
    found = worker.info.policy
    if found not in policies():
        raise UsageError(f"the worker says its policy is {found!r}; known are {', '.join(policies())}")
    if asked not in {None, found}:
        raise UsageError(f"--policy {asked}: the worker's policy is {found}")
    return found
