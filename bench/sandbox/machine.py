"""Where the figures come from: the engine's machine, and the worker that they were taken in."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import WorkerLostError
from agenttrace.host import engine
from agenttrace.host.workers import SandboxContainer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HELPERS = ("c", "python")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about the machine that runs the containers; on macOS that is the engine's virtual machine.

    Attributes:
        cpus: processors that the engine has.
        memory_bytes: memory that the engine has.
        kernel: release of the kernel that the containers run on.
        engine: version of the engine.
        cgroup_version: 1 or 2.
        storage_driver: of the engine.
        work_filesystem: under the work tree, as `stat -f` calls it.
        docker_desktop: whether the engine is Docker Desktop's.
        worker_cpus: processor limit of a worker.
        worker_memory_bytes: memory limit of a worker.
        load_before: this host's load average over one minute when the measuring began: who else wanted the cores.
        load_after: likewise at its end.
    """

    cpus: int
    memory_bytes: int
    kernel: str
    engine: str
    cgroup_version: int
    storage_driver: str
    work_filesystem: str
    docker_desktop: bool
    worker_cpus: float | None
    worker_memory_bytes: int | None
    load_before: float
    load_after: float | None = None


def machine(container: SandboxContainer) -> Machine:
    """Facts of the engine and of one of its workers."""
    info = engine.check()
    told = container.worker.call("bash", "stat -f -c %T .", limit_ms=10_000).stdout.text or ""
    limits = container.worker.info.limits
    return Machine(
        cpus=info.cpus,
        memory_bytes=info.memory_bytes,
        kernel=info.kernel,
        engine=info.version,
        cgroup_version=info.cgroup_version,
        storage_driver=info.storage_driver,
        work_filesystem=told.strip() or "unknown",
        docker_desktop=info.docker_desktop,
        worker_cpus=limits.cpus,
        worker_memory_bytes=limits.memory_bytes,
        load_before=load(),
    )


def load() -> float:
    """This host's load average over the last minute."""
    return round(os.getloadavg()[0], 2)


@contextlib.contextmanager
def worker_containers(project: str, env: Mapping[str, str], *flags: str) -> Iterator[dict[str, SandboxContainer]]:
    """Yield one running worker for every helper that the image offers, by the helper's name.

    What counts is the worker's own word: a helper that it was asked for and does not name is not offered.

    Raises:
        WorkerLostError: no helper works; the message holds what each worker said.
    """
    with contextlib.ExitStack() as stack:
        found: dict[str, SandboxContainer] = {}
        refused = []
        for helper in HELPERS:
            try:
                container = SandboxContainer(project, env, "--helper", helper, *flags)
            except WorkerLostError as error:
                refused.append(str(error))
                continue
            stack.callback(container.close)
            if container.worker.info.helper == helper:
                found[helper] = container
        if not found:
            raise WorkerLostError("no worker with any helper could be started:\n" + "\n".join(refused))
        yield found
