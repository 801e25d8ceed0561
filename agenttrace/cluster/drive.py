"""A run driven on a Ray cluster: begun or taken up in its store, its shards handed out, shown while it goes."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agenttrace.campaign.display import console
from agenttrace.cluster.driver import FILE, Driver, Figures, Machines
from agenttrace.cluster.endpoints import PATIENCE_S
from agenttrace.cluster.exported import metrics_page, progress_file
from agenttrace.cluster.objects import mark
from agenttrace.cluster.on_ray import RayMachines, connect, nodes_have
from agenttrace.cluster.orders import Order, seat_of
from agenttrace.cluster.progress import RunDisplay
from agenttrace.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agenttrace.cluster.gather import Gatherer, GatherOrder
    from agenttrace.cluster.runs import StoredRun


MOST_WORKERS = 8
"""Of a shard where nobody says how many: in its last rounds most of them wait (the dry run of docs/cluster.md)."""


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Let nothing be printed where results go: Ray does what its nodes complain of, which comes back with attempts."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


class Drive:
    """One run and what drives it.

    Args:
        order: what nodes are told; its number of workers is replaced where none is asked for.
        address: of Ray's head, or `auto`.
        progress: file that has its figures while it goes, as JSON.
        metrics_port: where Prometheus finds them.
        workers: rollouts of a shard at a time; `None` is half the sandbox workers of the smallest node that has any, so
            that the end of one shard overlaps with the next, and at most `MOST_WORKERS`.

    Attributes:
        run: in its store.
        figures: so far.

    Raises:
        UsageError: there is no such cluster, it may not be used, or the run is another one.
        StorageError: the store cannot be used.
    """

    def __init__(
        self,
        order: Order,
        address: str,
        *,
        workers: int | None,
        progress: Path | None = None,
        metrics_port: int | None = None,
    ) -> None:
        self._progress, self._port = progress, metrics_port
        self._out = console()
        with _unheard():
            self._ray = connect(address)
            if workers is None:
                workers = max(1, min(MOST_WORKERS, int(min(filter(None, nodes_have(self._ray)), default=2) // 2)))
            order = msgspec.structs.replace(order, workers=workers)
            self.run = _begun(order)
            order = msgspec.structs.replace(order, mark=mark(self.run.store))
            self._driver = driver(self.run, RayMachines(self._ray, order), patience_s=order.patience_s)
        self.figures = self._driver.figures

    def finish(self) -> Figures:
        """Make what is left of the run and return what was done; errors are those of `Driver.run`."""
        with contextlib.ExitStack() as opened:
            opened.enter_context(_unheard())
            opened.callback(self._ray.shutdown)
            self._export(opened)
            return self._driven()

    def _export(self, opened: contextlib.ExitStack) -> None:
        """Have other programs know how it goes."""
        run_id, tell = self.run.spec.run_id, functools.partial(self._out.print, style="yellow", markup=False)
        if self._progress is not None:
            opened.enter_context(progress_file(self._progress, run_id, self.figures, tell=tell))
        if self._port is not None:
            port = opened.enter_context(metrics_page(self._port, run_id, self.figures))
            self._out.print(f"figures for Prometheus: http://{platform.node()}:{port}/metrics", markup=False)

    def _driven(self) -> Figures:
        figures = self.figures
        self._out.print(f"{self.run.url}: {figures.done} of {figures.shards} shards are done", markup=False)
        display = RunDisplay(self._out, figures)
        with display.bar:
            return self._driver.run(display)


def driver(run: StoredRun, machines: Machines, *, patience_s: float) -> Driver:
    """Return what drives a run on some machines; what is done is known by its manifests.

    Raises:
        StorageError: the store cannot be read.
    """
    return Driver(
        machines,
        count=run.shards.count,
        done=run.done(),
        left_by=lambda shard: sum(1 for _ in run.store.names(run.parts(shard))),
        patience_s=patience_s,
    )


def gather_on(address: str, order: GatherOrder, gatherer: Gatherer) -> Figures:
    """Have the nodes of a Ray cluster make the files of a run that are not there, and return what was done.

    Raises:
        UsageError: there is no such cluster, it may not be used, or its nodes offer no processor.
        StorageError: the store cannot be used.
    """
    with contextlib.ExitStack() as opened:
        opened.enter_context(_unheard())
        ray = connect(address)
        opened.callback(ray.shutdown)
        name, _ = order.takes
        if not any(nodes_have(ray, name)):
            raise UsageError(
                f"--ray {address}: no node offers a processor (`ray start --num-cpus N`); files need one each"
            )
        files = Driver(
            RayMachines(ray, order),
            count=len(gatherer.stretches),
            done=gatherer.done(),
            left_by=lambda _: 0,
            patience_s=PATIENCE_S,
            unit=FILE,
        )
        display = RunDisplay(console(), files.figures, unit=FILE)
        with display.bar:
            return files.run(display)


def _begun(order: Order) -> StoredRun:
    """Return the run, which is begun where it is new."""
    with seat_of(order) as seat:
        return seat.run
