"""Shows a run over all its machines while it goes: live on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from agenttrace.campaign.pace import clock
from agenttrace.cluster.driver import SHARD, Watcher
from agenttrace.show import counted, printable

if TYPE_CHECKING:
    from rich.console import Console

    from agenttrace.cluster.attempts import AttemptResult
    from agenttrace.cluster.driver import Figures, Unit

_EVERY_S = 10.0
"""Pause between two plain lines of what goes well; there may be a million shards."""
_SILENCE_S = 60.0


class RunDisplay(Watcher):
    """Progress of one run.

    Args:
        out: where it is shown.
        figures: of the driver, which counts.
        unit: what is handed out.

    Attributes:
        bar: live on a terminal, while it is entered as a context.
    """

    def __init__(self, out: Console, figures: Figures, *, unit: Unit = SHARD) -> None:
        self._out, self._figures, self._unit, self._needs = out, figures, unit.name, unit.needs
        self._started = time.monotonic()
        self._told, self._waited = float("-inf"), 0.0
        self.bar = Progress(
            SpinnerColumn(),
            TextColumn(f"[bold]{unit.name}s[/]"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rates]}"),
            TimeElapsedColumn(),
            TextColumn("ETA {task.fields[eta]}"),
            console=out,
            disable=not out.is_interactive,
        )
        self._bar_id = self.bar.add_task("", total=figures.shards, completed=figures.done, rates="", eta="-:--")

    def begun(self) -> None:
        """Show how many shards are worked on."""
        self.bar.update(self._bar_id, completed=self._figures.done, rates=self._rates(), eta=self._eta())
        if not self._out.is_interactive and time.monotonic() - self._told >= _SILENCE_S:
            self._tell(f"{self._where()}: {self._rates()}, ETA {self._eta()}")

    def result(self, result: AttemptResult) -> None:
        """Tell of a shard, now and then; the last one always."""
        last = self._figures.done == self._figures.shards
        if not self._out.is_interactive and result.is_done and (last or time.monotonic() - self._told >= _EVERY_S):
            self._tell(f"{self._where()}: {self._rates()}, ETA {self._eta()}")

    def later(self, result: AttemptResult, pause_s: float) -> None:
        """Say what failed."""
        why = result.why or "tasks were given up"
        self._warn(f"{self._unit} {result.shard}: {why}; it is tried again in {pause_s:.0f} s", result)

    def given_up(self, result: AttemptResult) -> None:
        """Say what is not tried again."""
        self._warn(f"{self._unit} {result.shard} is given up: {result.why or 'tasks were given up'}", result)

    def waiting(self, waited_s: float) -> None:
        """Say, at the beginning and each minute, that no machine has room."""
        if waited_s < self._waited or waited_s == 0 or waited_s - self._waited >= _SILENCE_S:
            self._waited = waited_s
            self._out.print(f"no node has {self._needs} for a {self._unit}; waiting for one", style="yellow")

    def _warn(self, line: str, result: AttemptResult) -> None:
        where = f" (node {result.node})" if result.node else ""
        self._out.print(escape(printable(line + where)), style="yellow")

    def _tell(self, line: str) -> None:
        self._told = time.monotonic()
        self._out.print(line, markup=False)

    def _where(self) -> str:
        return f"[{self._figures.done}/{self._figures.shards}] {self._unit}s"

    def _rates(self) -> str:
        minutes = (time.monotonic() - self._started) / 60
        figures = self._figures
        rate = f"{figures.records / minutes:,.1f} records/min" if figures.records and minutes else "- records/min"
        nodes = f" from {counted(len(figures.nodes), 'node')}" if figures.nodes else ""
        at_work = min(figures.running, figures.room)
        failed = f", {counted(figures.failed, 'attempt')} failed" if figures.failed else ""
        return f"{counted(figures.records, 'record')}{nodes}, {rate}, {counted(at_work, self._unit)} at work{failed}"

    def _eta(self) -> str:
        eta_s = self._figures.eta_s
        return "-:--" if eta_s is None else clock(eta_s)
