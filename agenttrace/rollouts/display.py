"""Shows a run of rollouts while it goes on and sums it up: live on a terminal, plain lines anywhere else."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Self

from rich.markup import escape
from rich.table import Table

from agenttrace.progress import bar, eta, share
from agenttrace.show import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from agenttrace.records.rollout import Rollout
    from agenttrace.rollouts.campaign import Summary

_MINUTE_S = 60


class RolloutDisplay:
    """Progress of one sitting.

    Args:
        out: where it is shown.
        total: rollouts of the run.
        done: rollouts that had a record before this sitting.
    """

    def __init__(self, out: Console, *, total: int, done: int) -> None:
        self._out, self._total, self._before, self._done = out, total, done, done
        self._submitted = self._failures = 0
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._bar = bar(out, "rollouts")
        self._bar_id = self._bar.add_task("", total=total, completed=done, rates="", eta="--:--")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def finished(self, rollout: Rollout) -> None:
        """Count one durable record and, without a live bar, print a line for it."""
        with self._lock:
            self._done += 1
            self._submitted += rollout.stop == "submitted"
            self._refresh()
            if not self._out.is_terminal:
                verdict = ", ".join(one.verdict for one in rollout.verdicts) or "not judged"
                self._out.print(
                    f"[{self._done}/{self._total}] {_label(rollout)}: {rollout.stop}, {verdict}, "
                    f"{len(rollout.turns)} turns, {rollout.duration_ms / 1000:.2f} s, {self._rate()}, "
                    f"ETA {self._eta()}",
                    markup=False,
                )

    def failed(self, rollout: Rollout, attempt: int) -> None:
        """Tell of an attempt that the infrastructure spoilt."""
        with self._lock:
            self._failures += 1
            self._refresh()
            self._out.print(
                f"[yellow]{escape(_label(rollout))}: attempt {attempt} lost: "
                f"{escape(printable(rollout.detail or ''))}[/]"
            )

    def _rate(self) -> str:
        fresh, passed = self._done - self._before, time.monotonic() - self._started
        return f"{fresh / passed * _MINUTE_S:.1f} rollouts/min"

    def _eta(self) -> str:
        return eta(time.monotonic() - self._started, done=self._done - self._before, left=self._total - self._done)

    def _refresh(self) -> None:
        rates = f"{self._submitted} submitted, {self._failures} lost, {self._rate()}"
        self._bar.update(self._bar_id, completed=self._done, rates=rates, eta=self._eta())


def _label(rollout: Rollout) -> str:
    return f"{rollout.instance_id} #{rollout.rollout_index}"


def closing_table(summary: Summary, rollouts: Iterable[Rollout], *, skipped: int) -> Table:
    """Return the table that ends a sitting: stop rules, turns, tokens, patches, verdicts, and where the time went.

    Args:
        summary: of this sitting; the time rows are about it alone.
        rollouts: all records of the run, earlier sittings included.
        skipped: tasks of the plan without a tree.
    """
    stops: Counter[str] = Counter()
    verdicts: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    for rollout in rollouts:  # one at a time: a run may be larger than memory
        stops[rollout.stop] += 1
        verdicts.update(verdict.verdict for verdict in rollout.verdicts)
        sums["turns"] += len(rollout.turns)
        sums["out"] += sum(turn.output_tokens or 0 for turn in rollout.turns)
        sums["billed"] += sum(turn.input_tokens or 0 for turn in rollout.turns)
        if rollout.turns:
            sums["context"] += (rollout.turns[-1].input_tokens or 0) + (rollout.turns[-1].output_tokens or 0)
        sums["patched"] += bool(rollout.patch)
    every = stops.total()
    table = Table(title="rollouts", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_row("with a record", f"{every} ({summary.appended} of them in this sitting)")
    table.add_row("stopped by", ", ".join(f"{stop} {count}" for stop, count in stops.most_common()) or "-")
    table.add_row("non-empty patch", f"{sums['patched']} ({share(sums['patched'], every)})")
    table.add_row("verdicts", ", ".join(f"{name} {count}" for name, count in verdicts.most_common()) or "-")
    table.add_row("turns", f"{sums['turns']:,} ({_mean(sums['turns'], every)} a rollout)")
    table.add_row("tokens generated", f"{sums['out']:,} ({_mean(sums['out'], every)} a rollout)")
    table.add_row("tokens of final contexts", f"{sums['context']:,} ({_mean(sums['context'], every)} a rollout)")
    table.add_row("prompt tokens billed", f"{sums['billed']:,}")
    table.add_row("given up (infrastructure)", str(len(summary.abandoned)))
    table.add_row("tasks without a tree", str(skipped))
    _add_time_rows(table, summary)
    return table


def _add_time_rows(table: Table, summary: Summary) -> None:
    wall = summary.elapsed_ns / 1e9
    busy = wall * summary.concurrency
    table.add_row("wall time", f"{wall:.2f} s")
    if summary.appended:
        model, tools, tree = (ns / 1e9 for ns in (summary.model_ns, summary.tools_ns, summary.prepare_ns))
        table.add_row("rate", f"{summary.appended / wall:.2f} rollouts/s")
        table.add_row("  in the model", share(model, busy))
        table.add_row("  in commands", share(tools, busy))
        table.add_row("  in tree resets", share(tree, busy))
        table.add_row("  in the rest", share(max(0.0, busy - model - tools - tree), busy))


def _mean(total: float, count: int) -> str:
    return f"{total / count:,.1f}" if count else "-"
