"""`tasks-check`: runs every reference of a task set in sandbox workers and says what can be relied on."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from agenttrace.campaign.plan import sandbox_of
from agenttrace.errors import UsageError, WorkerLostError
from agenttrace.host.workers import SandboxContainer, sandbox_project
from agenttrace.records import Record, SandboxSpec
from agenttrace.show import say
from agenttrace.store.jsonl import write_whole
from agenttrace.tasks import task_set
from agenttrace.tasks.nl2bash import NL2BashTasks
from bench.task_sets import references
from bench.task_sets.task_tables import python_tables, shell_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from agenttrace.sandbox.client import Worker
    from agenttrace.tasks import Task, TaskSet
    from bench.task_sets.references import PythonCheck, PythonRun, ShellCheck, ShellRun

SETS = ("nl2bash", "mbpp")
_MOST_WORKERS = 8

T = TypeVar("T")


class Report(Record, frozen=True, kw_only=True):
    """What `--json` writes: one entry per set."""

    dataset: str
    sha256: str
    fixture_version: str
    clock: str | None
    elapsed_s: float
    ok: bool
    tasks: tuple[Any, ...]


def check(names: Sequence[str] = (), *, workers: int | None = None, json_file: Path | None = None) -> int:
    """Check task sets, print a table each, and return 0 when nothing failed.

    Args:
        names: some of `SETS`; all of them when empty.
        workers: sandbox workers at a time; by default one per core, at most 4.
        json_file: gets everything that was found.

    Raises:
        AgentTraceError: task files, images or workers cannot be had.
    """
    if unknown := set(names) - set(SETS):
        raise UsageError(f"no task set to check: {', '.join(sorted(unknown))}; known: {', '.join(SETS)}")
    if workers is not None and not 1 <= workers <= _MOST_WORKERS:
        raise UsageError(f"--workers {workers}: expected 1 to {_MOST_WORKERS}")
    from rich.console import Console  # noqa: PLC0415

    console = Console(highlight=False)
    sets = [task_set(name) for name in names or SETS]  # before anything is built: the files may be missing
    reports = []
    with sandbox_project("tasks") as (project, env), ExitStack() as stack:
        pool = [_Place(project, env) for _ in range(workers or min(4, os.cpu_count() or 1))]
        for place in pool:
            stack.callback(place.close)
        for chosen in sets:
            report = _check(pool, chosen)
            for table in shell_tables(report.tasks) if report.dataset == "nl2bash" else python_tables(report.tasks):
                console.print(table)
            verdict = "as it should be" if report.ok else "[red]NOT as it should be[/]"
            console.print(f"{report.dataset}: {len(report.tasks)} tasks in {report.elapsed_s:.0f} s: {verdict}\n")
            reports.append(report)
    if json_file is not None:
        write_whole(json_file, msgspec.json.format(msgspec.json.encode(reports), indent=1) + b"\n")
    return 0 if all(report.ok for report in reports) else 1


def _check(pool: list[_Place], chosen: TaskSet) -> Report:
    started = time.monotonic()
    spec = chosen.spec()
    sandbox = sandbox_of(chosen)
    clocks = references.clocks(chosen.clock, datetime.now(UTC))
    found: tuple[Any, ...]
    if isinstance(chosen, NL2BashTasks):
        found = _shell(pool, chosen, sandbox, clocks)
        ok = all(check.as_it_should_be for check in found)
    else:
        found = _python(pool, chosen, sandbox, clocks)
        ok = all(check.as_it_should_be for check in found)
    return Report(
        dataset=spec.name,
        sha256=spec.sha256,
        fixture_version=sandbox.fixture_version,
        clock=chosen.clock,
        elapsed_s=round(time.monotonic() - started, 1),
        ok=ok,
        tasks=found,
    )


def _shell(
    pool: list[_Place], chosen: NL2BashTasks, sandbox: SandboxSpec, clocks: tuple[str | None, ...]
) -> tuple[ShellCheck, ...]:
    tasks = chosen.tasks()
    runs = [_spread(pool, tasks, partial(_run_shell, sandbox, clock), turn=turn) for turn, clock in enumerate(clocks)]
    return tuple(
        references.shell_check(task, chosen.policies[int(task.task_id)], four)
        for task, four in zip(tasks, zip(*runs, strict=True), strict=True)
    )


def _run_shell(sandbox: SandboxSpec, clock: str | None, worker: Worker, task: Task) -> ShellRun:
    return references.run_shell(worker, sandbox, clock, task)


def _python(
    pool: list[_Place], chosen: TaskSet, sandbox: SandboxSpec, clocks: tuple[str | None, ...]
) -> tuple[PythonCheck, ...]:
    tasks = chosen.tasks()
    runs = [_spread(pool, tasks, partial(_run_python, sandbox, clock), turn=turn) for turn, clock in enumerate(clocks)]
    runs.append(_spread(pool, tasks, partial(_run_pass, sandbox), turn=0))
    return tuple(
        references.python_check(task, three) for task, three in zip(tasks, zip(*runs, strict=True), strict=True)
    )


def _run_python(sandbox: SandboxSpec, clock: str | None, worker: Worker, task: Task) -> PythonRun:
    return references.run_python(worker, sandbox, clock, task, task.expect["reference"])


def _run_pass(sandbox: SandboxSpec, worker: Worker, task: Task) -> PythonRun:
    return references.run_python(worker, sandbox, None, task, "pass")


class _Place:
    """One worker container, replaced when it is lost."""

    def __init__(self, project: str, env: dict[str, str]) -> None:
        self._start = partial(SandboxContainer, project, env)
        self._container = self._start()

    @property
    def worker(self) -> Worker:
        if self._container.worker.closed:
            self._container.close()
            self._container = self._start()
        return self._container.worker

    def close(self) -> None:
        self._container.close()


def _spread(pool: list[_Place], tasks: tuple[Task, ...], run: Callable[[Worker, Task], T], *, turn: int) -> list[T]:
    """Run every task, each turn on another worker than the turn before; returns the results in order."""

    def serve(index: int) -> list[T]:
        mine = tasks[(index - turn) % len(pool) :: len(pool)]
        return [_tried(pool[index], run, task) for task in mine]

    with ThreadPoolExecutor(max_workers=len(pool)) as threads:
        served = list(threads.map(serve, range(len(pool))))
    found = {
        task.task_id: result
        for index, results in enumerate(served)
        for task, result in zip(tasks[(index - turn) % len(pool) :: len(pool)], results, strict=True)
    }
    return [found[task.task_id] for task in tasks]


def _tried(place: _Place, run: Callable[[Worker, Task], T], task: Task) -> T:
    """Run a task; a lost worker is replaced once, so that one accident does not end the whole check."""
    try:
        return run(place.worker, task)
    except WorkerLostError as error:
        say(f"{task.name}: {error}; trying once more")
        return run(place.worker, task)
