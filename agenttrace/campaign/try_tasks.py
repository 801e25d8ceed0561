"""Tries a set of the user's own in the sandbox: gold commands must pass every check, an untouched tree must not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from agenttrace.campaign.plan import sandbox_of
from agenttrace.campaign.workers import WorkerPool
from agenttrace.records import Outcome, Record, Span, Verdict, canonical_json, solved
from agenttrace.show import say
from agenttrace.tasks import OWN, Finished, task_set
from agenttrace.tasks.bench import Bench
from agenttrace.tasks.gold import LIMIT_MS
from agenttrace.tasks.judging import assessed

if TYPE_CHECKING:
    from pathlib import Path

    from agenttrace.tasks import Task, TaskSet

_TELL_S = 5.0
"""Between two lines that say how far it is."""


class TriedTask(Record, frozen=True, kw_only=True):
    """What came of one task.

    Attributes:
        task_id: of the task.
        untouched: the verdicts where nothing was done and no answer given.
        gold: the verdicts on what its gold command does; `None` where it has none.
    """

    task_id: int | str
    untouched: tuple[Verdict, ...]
    gold: tuple[Verdict, ...] | None = None

    @property
    def problems(self) -> list[str]:
        """What is wrong with its checks."""
        found = ["its checks pass although nothing was done"] if solved(self.untouched) else []
        failed = (one for one in self.gold or () if one.verdict != "passed")
        return [*found, *(f"the gold command does not pass {one.aspect}: {one.reason}" for one in failed)]


def try_tasks(sha256: str, *, sockets: Path, trees: Path) -> list[TriedTask]:
    """Return what came of every task of a set that was laid out.

    Args:
        sha256: of the set.
        sockets: where a sandbox worker listens.
        trees: where it was laid out.

    Raises:
        AgentTraceError: the set, its trees or a worker cannot be had.
    """
    chosen = task_set(f"{OWN}:{sha256}", trees=trees)
    sandbox = sandbox_of(chosen)
    pool = WorkerPool(sockets)
    bench = Bench(pool.connect(), sandbox, connect=pool.connect)
    found = []
    tasks = chosen.tasks()
    told = time.monotonic()
    for number, task in enumerate(tasks, start=1):
        bench.turn_to(task, sandbox)
        found.append(_tried(chosen, task, bench))
        if time.monotonic() - told > _TELL_S:
            told = time.monotonic()
            say(f"{number} of {len(tasks)} tasks tried")
    bench.worker.close()
    return found


def _tried(chosen: TaskSet, task: Task, bench: Bench) -> TriedTask:
    bench.before()
    bench.pristine()
    nothing = Finished(outcome=Outcome(ended="final_answer", changes=()), spans=())
    untouched = assessed(chosen, task, nothing, bench).verdicts
    if task.expect["gold"] is None:
        return TriedTask(task_id=task.task_id, untouched=untouched)
    return TriedTask(
        task_id=task.task_id,
        untouched=untouched,
        gold=assessed(chosen, task, _by_gold(task, bench), bench).verdicts,
    )


def _by_gold(task: Task, bench: Bench) -> Finished:
    """Return the run of a model that gives the gold command and nothing else, and answers what it prints."""
    command, answer = task.expect["gold"], task.expect["gold_answer"]
    bench.pristine()
    report = bench.call("bash", command, limit_ms=LIMIT_MS)
    span = Span(
        span_id="gold",
        type="TOOL",
        tool_name="bash",
        tool_input=canonical_json({"command": command}).decode(),
        tool_output="",
        start_ns=report.start_ns,
        end_ns=report.end_ns,
        duration_ms=(report.end_ns - report.start_ns) / 1e6,
        telemetry=report.telemetry,
        exit_code=report.exit_code,
        parent_span_id=None,
        call_id="gold",
        status=report.status,
        signal=report.signal,
        stdout=report.stdout,
        stderr=report.stderr,
    )
    printed = (report.stdout.text or "").strip()
    outcome = Outcome(ended="final_answer", final_answer=printed if answer is None else answer, changes=bench.changes())
    return Finished(outcome=outcome, spans=(span,))
