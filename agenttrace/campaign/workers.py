"""The sandbox workers of a session: connected, checked against the run spec, handed to the threads that run tasks."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from agenttrace.errors import UsageError, WorkerLostError, command
from agenttrace.sandbox.client import acquire
from agenttrace.sandbox.strength import refuse_short

if TYPE_CHECKING:
    from pathlib import Path

    from agenttrace.records import RunSpec
    from agenttrace.sandbox.client import Worker
    from agenttrace.sandbox.reports import WorkerInfo

WORKER_START_S = 120.0
_TRY_S = 0.5


def check_worker(info: WorkerInfo, spec: RunSpec) -> None:
    """Refuse a sandbox that was made from another image, or has other limits, than the run spec names."""
    named = (spec.sandbox.memory_bytes, spec.sandbox.pids, spec.sandbox.cpus)
    found = (info.limits.memory_bytes, info.limits.pids, info.limits.cpus)
    if any(is_ is not None and is_ != should for is_, should in zip(found, named, strict=True)):
        raise UsageError(
            f"the sandbox's limits (memory, processes, processors) are {found}, the run spec names {named}"
        )
    expected = spec.images.get("sandbox")
    if None not in {expected, info.environment_digest} and info.environment_digest != expected:
        raise UsageError(
            f"the sandbox has the environment digest {info.environment_digest}, the run spec names {expected}; "
            f"build the images anew: {command('images')}"
        )


class WorkerPool:
    """The sandbox workers that a campaign holds; safe to use from the threads that run tasks.

    Args:
        sockets: folder with the workers' sockets.
        only: policy that every worker must have, and be as confined as; `None` where the engine was told so by us.
    """

    def __init__(self, sockets: Path, *, only: str | None = None) -> None:
        self._sockets = sockets
        self._only = only
        self._lock = threading.Lock()
        self._given: list[Worker] = []
        self._spare: list[Worker] = []

    def connect(self) -> Worker:
        """Return an idle worker that nobody here has.

        Raises:
            WorkerLostError: none became free in time.
            UsageError: one has another policy than it must have, or falls short of it.
        """
        deadline = time.monotonic() + WORKER_START_S
        while True:
            try:
                return self._one_try()
            except WorkerLostError:
                if time.monotonic() > deadline:
                    raise

    def _one_try(self) -> Worker:
        with self._lock:  # one thread at a time, so that two do not take the same worker; briefly, so that none starves
            if self._spare:
                return self._spare.pop()
            self._given = [worker for worker in self._given if not worker.closed]
            held = {worker.path for worker in self._given if worker.path is not None}
            (worker,) = acquire(self._sockets, count=1, timeout_s=_TRY_S, held=held)
            try:
                if self._only is not None:
                    refuse_short(worker.info, self._only)
            except UsageError:
                worker.close()
                raise
            self._given.append(worker)
            return worker

    def give_back(self, worker: Worker) -> None:
        """Keep a worker for the next one who asks."""
        self._spare.append(worker)

    def close(self) -> None:
        """Let go of workers that were given back and that nobody has asked for since."""
        with self._lock:
            while self._spare:
                self._spare.pop().close()
