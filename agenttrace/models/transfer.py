"""Shows how the bytes of one file come."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_LINE_EVERY_S = 5.0


class Transfer:
    """Progress of one file: a bar on a terminal, a line now and then anywhere else.

    Attributes:
        bar: to be entered as a context while bytes come.

    Args:
        label: what is fetched.
        total: its size, bytes.
        out: where to show it; `None` is nowhere.
    """

    def __init__(self, label: str, total: int, out: Console | None = None) -> None:
        from rich import progress as shown  # noqa: PLC0415 - heavy

        self._out = out
        self._line_at = time.monotonic()
        figures = (shown.DownloadColumn(), shown.TransferSpeedColumn(), "ETA", shown.TimeRemainingColumn())
        self.bar = shown.Progress(
            "[bold]{task.description}[/]",
            shown.BarColumn(bar_width=24),
            *figures,
            console=out,
            disable=out is None or not out.is_interactive,
        )
        self._figures = figures
        self._task = self.bar.add_task(label, total=total, start=False)

    def at(self, done: int) -> None:
        """Say that `done` bytes of the file are there."""
        task = self.bar.tasks[0]
        if not task.started:  # the rate is that of this run: what an earlier one has left counts for nothing
            task.completed = done
            self.bar.start_task(self._task)
        self.bar.update(self._task, completed=done)
        if self._out is None or self._out.is_interactive:
            return
        now = time.monotonic()
        if now - self._line_at >= _LINE_EVERY_S or done == task.total:
            self._line_at = now
            self._out.print(self.line(), markup=False)

    def line(self) -> str:
        """Return the line for what is there: share, bytes, rate of this run, time left."""
        task = self.bar.tasks[0]
        told = (column if isinstance(column, str) else str(column.render(task)) for column in self._figures)
        return f"{task.description}: {task.percentage:.0f} %, {' '.join(told)}"

    def note(self, text: str) -> None:
        """Tell of something that happened on the way."""
        if self._out is not None:
            self._out.print(f"{self.bar.tasks[0].description}: {text}", markup=False)
