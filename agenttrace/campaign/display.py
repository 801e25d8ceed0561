"""Shows a campaign while it runs and sums it up: live on a terminal, plain lines anywhere else."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from msgspec import UNSET
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from agenttrace.campaign.advice import Advice
from agenttrace.campaign.loop import Display
from agenttrace.campaign.pace import Pace
from agenttrace.records import LLMStep, Span, Trace
from agenttrace.show import counted, is_plain, is_quiet, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agenttrace.campaign.live import Generating
    from agenttrace.campaign.loop import Summary
    from agenttrace.records import AgentSpec, Outcome
    from agenttrace.tasks import Task

_MINUTE_S = 60
_SILENCE_S = 30.0
"""After so long without a line, what runs just now is told."""
_MARKS = {True: "[green]solved[/]", False: "[red]not solved[/]", None: "not graded"}


def console() -> Console:
    """Return the console for people, on standard error.

    A container without a terminal of its own is told the caller's by `AGENTTRACE_TERMINAL` (`WIDTHxHEIGHT`).
    """
    width, _, height = os.environ.get("AGENTTRACE_TERMINAL", "").partition("x")
    if width.isdigit() and height.isdigit():
        return Console(
            stderr=True, force_terminal=True, width=int(width), height=int(height), highlight=False, quiet=is_quiet()
        )
    watched = sys.stderr.isatty() and not is_plain()  # `FORCE_COLOR` makes Rich take a file for a terminal
    return Console(stderr=True, highlight=False, soft_wrap=True, quiet=is_quiet(), force_interactive=watched)


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


class CampaignDisplay(Display):
    """Progress of one session; safe to call from the threads that run tasks.

    Args:
        out: where it is shown.
        total: tasks of the campaign.
        done: tasks that had a record when the campaign was started.
        agent: of the run spec, for advice.
        earlier: tokens generated for each of these, as far as they were looked at.

    Attributes:
        bar: live on a terminal, while it is entered as a context.
    """

    def __init__(self, out: Console, *, total: int, done: int, agent: AgentSpec, earlier: Iterable[int] = ()) -> None:
        self._out = out
        self._advice = Advice(agent)
        self._total = total
        self._done = done
        self._solved = self._failures = self._calls = 0
        self._waits = False
        self._pace = Pace(earlier)
        self._started = self._told = time.monotonic()
        self._lock = threading.Lock()
        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("[bold]collecting[/]"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rates]}{task.fields[live]}"),
            TimeElapsedColumn(),
            TextColumn("ETA {task.fields[eta]}"),
            console=out,
            disable=not out.is_interactive,
        )
        self._bar_id = self.bar.add_task("", total=total, completed=done, rates="", live="", eta="-:--")

    def event(self, event: LLMStep | Span) -> None:
        """Count one finished generation or tool call."""
        with self._lock:
            if isinstance(event, LLMStep):
                self._pace.generated(event)
            else:
                self._calls += 1
            self._refresh()

    def generating(self, now: Generating | None) -> None:
        """Show what runs just now; without a live bar as a line, now and then."""
        with self._lock:
            self.bar.update(self._bar_id, live="" if now is None else f", {now}")
            if now is not None and not self._out.is_interactive and time.monotonic() - self._told >= _SILENCE_S:
                self._tell(escape(f"[{self._done}/{self._total}] {now}"))

    def finished(self, task: Task, trace: Trace) -> None:
        """Count one durable record and, without a live bar, print a line for it."""
        with self._lock:
            self._done += 1
            self._solved += trace.outcome.solved is True
            self._pace.finished(trace.llm_steps)
            self._refresh()
            if not self._out.is_interactive:
                did = f"{counted(len(trace.llm_steps), 'step')}, {counted(len(trace.spans), 'call')}"
                self._tell(
                    f"[{self._done}/{self._total}] {_label(trace, task)}: {_MARKS[trace.outcome.solved]}, "
                    f"{trace.outcome.ended}{_repeats(trace.outcome)}, {did}, "
                    f"{(trace.total_duration_ms or 0.0) / 1000:.2f} s, {self._speed()}"
                )
            if (advice := self._advice.after(trace)) is not None:
                self._out.print(advice, style="yellow", markup=False)

    def failed(self, task: Task, trace: Trace, attempt: int) -> None:
        """Tell of an attempt that ended in an infrastructure failure."""
        with self._lock:
            self._failures += 1
            self._refresh()
            self._out.print(
                f"[yellow]{_label(trace, task)}: attempt {attempt} lost ({trace.outcome.ended}): "
                f"{escape(printable(trace.outcome.detail or ''))}[/]"
            )

    def waited(self, waited_ns: int) -> None:
        """Say, the first time, that a task waits for its tree."""
        with self._lock:
            if not self._waits:
                self._out.print(
                    f"[yellow]the model answered before the work tree was back, so a task waited {waited_ns / 1e6:.0f}"
                    " ms for the rest of the reset; the closing table counts such tasks[/]"
                )
            self._waits = True

    def _lost(self) -> str:
        return f"{counted(self._failures, 'attempt')} lost, " if self._failures else ""

    def _tell(self, line: str) -> None:
        self._told = time.monotonic()
        self._out.print(line, markup=True)

    def _speed(self) -> str:
        return f"{self._rates()}, {self._lost()}ETA {self._eta()}"

    def _eta(self) -> str:
        return self._pace.left(self._total - self._done, time.monotonic() - self._started)

    def _rates(self) -> str:
        return self._pace.rates(time.monotonic() - self._started)

    def _refresh(self) -> None:
        rates = f"{self._solved} solved, {self._lost()}{self._calls} calls, {self._rates()}"
        self.bar.update(self._bar_id, completed=self._done, rates=rates, eta=self._eta())


def _repeats(outcome: Outcome) -> str:
    return f" ({outcome.repeating_steps} repeating)" if outcome.repeating_steps else ""


def label(task: Task) -> str:
    """Return a run of a task as people know it."""
    again = f" (rollout {task.rollout})" if task.rollout else ""
    return f"{task.name}{again}" if task.name == task.task_id else f"{task.task_id} {task.name}{again}"


def _label(trace: Trace, task: Task) -> str:
    return escape(printable(f"{trace.metadata['dataset_name']}/{label(task)}"))


def closing_table(
    summary: Summary,
    traces: Iterable[Trace],
    *,
    solvable: Mapping[int | str, bool],
    slots: int | None = None,
    skipped: int = 0,
    planned: int,
    given_up: int,
) -> Table:
    """Return the table that ends a session: tasks, ends, cost, and where the time went.

    Args:
        summary: of what this start of the campaign did; the time rows are about it alone.
        traces: all records of the campaign, earlier sessions included.
        solvable: by task id, whether the model is meant to solve the task; those not named are.
        slots: requests that the server works on at a time.
        skipped: tasks of the plan without a tree.
        planned: runs of the campaign.
        given_up: of these, now and before, for the infrastructure's reasons.
    """
    ends: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    for trace in traces:  # one at a time: a campaign may be larger than memory
        ends[trace.outcome.ended] += 1
        can = solvable.get(trace.metadata["task_id"], True)
        sums["can"] += can
        sums["solved"] += trace.outcome.solved is True
        sums["solved_can"] += can and trace.outcome.solved is True
        sums["steps"] += len(trace.llm_steps)
        sums["repeating"] += trace.outcome.repeating_steps or 0
        sums["spans"] += len(trace.spans)
        sums["in"] += sum(step.input_tokens or 0 for step in trace.llm_steps)
        sums["out"] += sum(step.output_tokens or 0 for step in trace.llm_steps)
        sums["checkouts"] += trace.outcome.patch is not UNSET
        sums["patched"] += bool(trace.outcome.patch)
    every = ends.total()
    table = Table(title="campaign", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_row("tasks with a record", f"{every} ({summary.appended} of them new)")
    table.add_row("solved", f"{sums['solved']} ({_share(sums['solved'], every)})")
    table.add_row("given up (infrastructure)", f"{given_up} of {planned}")
    if sums["can"] != every:
        shown = f"{sums['solved_can']} of {sums['can']} ({_share(sums['solved_can'], sums['can'])})"
        table.add_row("solved of the solvable", shown)
    if sums["checkouts"]:
        table.add_row("non-empty patch", f"{sums['patched']} ({_share(sums['patched'], every)})")
    table.add_row("ended", ", ".join(f"{end} {count}" for end, count in ends.most_common()) or "-")
    table.add_row("model generations", str(sums["steps"]))
    if sums["repeating"]:
        table.add_row("  that end in a repetition", str(sums["repeating"]))
    if summary.failed_tries:
        table.add_row("requests sent again", str(summary.failed_tries))
    table.add_row("tool calls", str(sums["spans"]))
    if summary.waits:
        table.add_row("tasks that waited for their tree", str(summary.waits))
    table.add_row("tokens in / out", f"{sums['in']:,} / {sums['out']:,}")
    if skipped:
        table.add_row("tasks without a tree", str(skipped))
    _add_time_rows(table, summary, slots)
    return table


def _add_time_rows(table: Table, summary: Summary, slots: int | None) -> None:
    """Wall time of the session, and its shares by measured durations; workers run side by side."""
    wall = summary.elapsed_ns / 1e9
    busy = wall * summary.workers
    model, tools, trees = (ns / 1e9 for ns in (summary.model_ns, summary.tools_ns, summary.prepare_ns))
    table.add_row("wall time", f"{wall:.2f} s")
    if summary.appended:
        ours = max(0.0, busy - model - tools - trees)
        table.add_row("rate", f"{summary.appended / wall * _MINUTE_S:.1f} records/min")
        table.add_row("  in the model", _share(model, busy))
        table.add_row("  in tools", _share(tools, busy))
        table.add_row("  waiting for trees", _share(trees, busy))
        table.add_row("  in agenttrace", _share(ours, busy))
        if slots and summary.slot_ns:
            table.add_row("server's slots busy", _share(summary.slot_ns / 1e9, wall * slots))
