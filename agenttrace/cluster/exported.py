"""A run's figures for other programs while it goes: a file of JSON that is replaced, and a page for Prometheus."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.errors import AgentTraceError, UsageError, with_extra
from agenttrace.store.jsonl import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from agenttrace.cluster.driver import Figures

EVERY_S = 5.0
"""Pause between two states of the file."""
_MOST_PORT = 65_535


@contextlib.contextmanager
def progress_file(
    path: Path, run_id: str, figures: Figures, *, tell: Callable[[str], None], every_s: float = EVERY_S
) -> Iterator[None]:
    """Keep a file with the figures of a run, always a whole one; the last state is that at the end.

    Args:
        path: of it.
        run_id: of the run.
        figures: of its driver.
        tell: gets a line for people, once, where the file cannot be written any more.
        every_s: pause between two states.

    Raises:
        StorageError: it cannot be written at the beginning.
    """
    over = threading.Event()
    failed: list[str] = []

    def write() -> None:
        write_whole(path, msgspec.json.encode({"run_id": run_id, **figures.said()}) + b"\n")

    def write_or_tell() -> None:
        try:
            write()
        except AgentTraceError as error:
            if not failed:
                tell(f"--progress-json: {error}")
            failed.append(str(error))

    def follow() -> None:
        while not over.wait(every_s):
            write_or_tell()

    write()
    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        write_or_tell()


@contextlib.contextmanager
def metrics_page(port: int, run_id: str, figures: Figures) -> Iterator[int]:
    """Serve the figures of a run at `/metrics` on every address of this machine, and yield the port.

    Args:
        port: 0 is a free one.
        run_id: of the run; every figure has it as a label.
        figures: of its driver, read when somebody asks.

    Raises:
        UsageError: the port cannot be had, or `prometheus-client` is not installed.
    """
    try:
        import prometheus_client as prometheus  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UsageError(
            f"--metrics-port needs prometheus-client, which is not installed: {with_extra('cluster')}"
        ) from error
    if not 0 <= port <= _MOST_PORT:
        raise UsageError(f"--metrics-port {port}: expected 0 to {_MOST_PORT}")
    registry = prometheus.CollectorRegistry()
    registry.register(_Page(run_id, figures))
    try:
        server, thread = prometheus.start_http_server(port, registry=registry)
    except OSError as error:
        raise UsageError(f"--metrics-port {port}: {error.strerror}") from error
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Page:
    """What Prometheus asks for; see `prometheus_client.registry.Collector`."""

    def __init__(self, run_id: str, figures: Figures) -> None:
        self._run_id = run_id
        self._figures = figures

    def collect(self) -> Iterable[Any]:
        """Yield every figure, as it is now."""
        from prometheus_client import core  # noqa: PLC0415 - an extra

        said = self._figures.said()
        for name, what, value in (
            ("shards", "Shards of the run", said["shards"]),
            ("shards_done", "Shards that are done", said["done"]),
            ("shards_given_up", "Shards that are not tried again", len(said["given_up"])),
            ("shards_handed_out", "Shards that are handed out", said["running"]),
            ("shards_room", "Shards that can be worked on at a time", said["room"]),
            ("driver_seconds", "How long the driver has run", said["elapsed_s"]),
        ):
            gauge = core.GaugeMetricFamily(f"agenttrace_{name}", what, labels=["run_id"])
            gauge.add_metric([self._run_id], value)
            yield gauge
        for name, label, what, values in (
            ("records", "endpoint", "Records of shards that came to their end, by endpoint", said["endpoints"]),
            ("attempts", "how", "Attempts at shards, by how they ended", said["attempts"]),
            ("node_attempts", "node", "Attempts at shards, by machine", said["nodes"]),
        ):
            counter = core.CounterMetricFamily(f"agenttrace_{name}", what, labels=["run_id", label])
            for key, value in values.items():
                counter.add_metric([self._run_id, key], value)
            yield counter
