"""Processor time that containers use, from the engine's own counters, over restarts of the containers."""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self

    import docker

PERIOD_S = 1.0


class ContainerCpu:
    """Follows the containers of a compose project; use it as a context.

    A worker that is replaced starts its counter anew; what it used in the last fraction of a second before is not seen.

    Args:
        sdk: client of the engine.
        project: compose project.
    """

    def __init__(self, sdk: docker.DockerClient, project: str) -> None:
        self._sdk = sdk
        self._label = f"com.docker.compose.project={project}"
        self._last: dict[str, int] = {}
        self._used: defaultdict[str, int] = defaultdict(int)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def used_ns(self, service: str) -> int:
        """Return the processor time of all containers of a service since the beginning."""
        return self._used[service]

    def __enter__(self) -> Self:
        self._sample(first=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        self._sample()

    def _follow(self) -> None:
        while not self._ending.wait(PERIOD_S):
            self._sample()

    def _sample(self, *, first: bool = False) -> None:
        for container in self._sdk.containers.list(filters={"label": self._label}, ignore_removed=True):
            with contextlib.suppress(Exception):  # it went away meanwhile
                self._note(container, container.stats(stream=False, one_shot=True), first=first)

    def _note(self, container: Any, stats: Any, *, first: bool) -> None:  # noqa: ANN401 - of the docker SDK
        total = int(stats["cpu_stats"]["cpu_usage"]["total_usage"])
        before = self._last.get(container.id, total if first else 0)
        self._last[container.id] = total
        service = container.labels.get("com.docker.compose.service", "")
        self._used[service] += total - before if total >= before else total
