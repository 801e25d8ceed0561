"""Checks the task sets themselves: does a reference agree with itself, does it pass its own judge, is it broken."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import msgspec

from agenttrace.records import Record, SandboxSpec, Verdict
from agenttrace.tasks import gold
from agenttrace.tasks.asserts import run_asserts
from agenttrace.tasks.bench import Bench
from agenttrace.tasks.mbpp import verdicts

if TYPE_CHECKING:
    from datetime import datetime

    from agenttrace.sandbox.client import Worker
    from agenttrace.tasks import Task
    from agenttrace.tasks.gold import GradingPolicy, Observed

ENVIRONMENT_FLAGS = frozenset("TPUNDGOL")
ANOTHER_DAY = timedelta(days=40, hours=5, minutes=7)
ASPECTS = ("exit_status", "stdout", "state")

Group = Literal["no environment flag", "time (T)", "other flags"]


class ShellCheck(Record, frozen=True, kw_only=True):
    """What was found of one NL2Bash task.

    Attributes:
        task_id: the task.
        origin: file system and record number in the source files.
        effect: of the reference, by the policy table.
        flags: of the task, by the policy table.
        differs_pinned: aspects in which two runs under the pinned clock differ.
        differs_real: aspects in which a run under the real clock and one on another day differ.
        verdicts: of the second run under the pinned clock, judged against the first.
        exit_status: of the reference.
        broken: what is wrong with the reference here: its exit status, a time limit, a missing program.
        slowest_ms: the longest of the four runs.
    """

    task_id: int | str
    origin: str
    effect: str
    flags: str
    differs_pinned: tuple[str, ...]
    differs_real: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    exit_status: int | None
    broken: tuple[str, ...]
    slowest_ms: float

    @property
    def group(self) -> Group:
        """The row of the summary that this task counts in."""
        if not set(self.flags) & ENVIRONMENT_FLAGS:
            return "no environment flag"
        return "time (T)" if "T" in self.flags else "other flags"

    @property
    def passed(self) -> bool:
        """Every aspect can be graded, and passed."""
        return all(found.verdict == "passed" for found in self.verdicts)

    @property
    def as_it_should_be(self) -> bool:
        """Nothing failed, nothing had to be stopped; without environment flags every aspect is stable and passed."""
        failed = any(found.verdict == "failed" for found in self.verdicts)
        stopped = bool({"timeout", "oom"} & set(self.broken))
        free = self.group == "no environment flag"
        return not failed and not stopped and (not free or (self.passed and not self.differs_pinned))


class PythonCheck(Record, frozen=True, kw_only=True):
    """What was found of one MBPP task.

    Attributes:
        task_id: the task.
        verdicts: of the reference, one per assert, under the real clock.
        differs: asserts with another result on another day.
        passed_without: asserts that hold although the reference was replaced by `pass`.
        slowest_ms: the longest of the runs.
    """

    task_id: int | str
    verdicts: tuple[Verdict, ...]
    differs: tuple[int, ...]
    passed_without: tuple[int, ...]
    slowest_ms: float

    @property
    def as_it_should_be(self) -> bool:
        """Every assert holds on any day, and none without the reference."""
        return all(v.verdict == "passed" for v in self.verdicts) and not self.differs and not self.passed_without


class ShellRun(Record, frozen=True, kw_only=True):
    """One run of a reference command: what it did and how long it took."""

    found: gold.Observed
    ms: float


class PythonRun(Record, frozen=True, kw_only=True):
    """One run of a reference function: the problem per assert, and how long it took."""

    problems: tuple[str | None, ...]
    ms: float


def clocks(pinned: str | None, now: datetime) -> tuple[str | None, ...]:
    """Return the clocks to run a reference under: the pinned one twice, the real one, the real one on another day."""
    another = (now + ANOTHER_DAY).strftime("%Y-%m-%dT%H:%M:%SZ")
    return (None, another) if pinned is None else (pinned, pinned, None, another)


def run_shell(worker: Worker, sandbox: SandboxSpec, clock: str | None, task: Task) -> ShellRun:
    """Run a task's reference command once."""
    bench = Bench(worker, msgspec.structs.replace(sandbox, clock=clock))
    start_ns = time.monotonic_ns()
    found = gold.run_gold(bench, task.expect["gold"])
    return ShellRun(found=found, ms=(time.monotonic_ns() - start_ns) / 1e6)


def shell_check(task: Task, policy: GradingPolicy, runs: tuple[ShellRun, ...]) -> ShellCheck:
    """Return what four runs of a reference, in the order of `clocks`, say of its task."""
    first, second, real, another = (run.found for run in runs)
    return ShellCheck(
        task_id=task.task_id,
        origin=policy.origin,
        effect=policy.effect,
        flags=policy.flags,
        differs_pinned=_differs(policy, second, first),
        differs_real=_differs(policy, another, real),
        verdicts=gold.verdicts(policy, second, first),
        exit_status=first.exit_status,
        broken=_broken(first),
        slowest_ms=max(run.ms for run in runs),
    )


def _differs(policy: GradingPolicy, run: Observed, reference: Observed) -> tuple[str, ...]:
    everything = msgspec.structs.replace(policy, skip={})
    return tuple(verdict.aspect for verdict in gold.verdicts(everything, run, reference) if verdict.verdict != "passed")


def _broken(run: Observed) -> tuple[str, ...]:
    found = []
    if run.status != "ok":
        found.append(run.status)
    elif run.exit_status:
        found.append(f"exit status {run.exit_status}")
    text = (run.stderr.text or "") if run.stderr is not None else ""
    found += [mark for mark in ("command not found", "Read-only file system", "Permission denied") if mark in text]
    return tuple(found)


def run_python(worker: Worker, sandbox: SandboxSpec, clock: str | None, task: Task, code: str) -> PythonRun:
    """Run a task's asserts on some code once."""
    bench = Bench(worker, msgspec.structs.replace(sandbox, clock=clock))
    bench.pristine()
    start_ns = time.monotonic_ns()
    problems = run_asserts(bench, code, task.expect["setup"], task.expect["asserts"])
    return PythonRun(problems=tuple(problems), ms=(time.monotonic_ns() - start_ns) / 1e6)


def python_check(task: Task, runs: tuple[PythonRun, ...]) -> PythonCheck:
    """Return what three runs say of a task: the reference, the reference on another day, `pass` in its place."""
    reference, another, without = (run.problems for run in runs)
    return PythonCheck(
        task_id=task.task_id,
        verdicts=verdicts(reference),
        differs=tuple(n for n, pair in enumerate(zip(reference, another, strict=True)) if pair[0] != pair[1]),
        passed_without=tuple(n for n, problem in enumerate(without) if problem is None),
        slowest_ms=max(run.ms for run in runs),
    )
