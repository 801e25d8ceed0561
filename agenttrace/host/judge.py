"""`judge`: computes the verdicts of a record file again, with a sandbox worker for the references."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agenttrace.host import engine
from agenttrace.host.workers import SandboxContainer, sandbox_project
from agenttrace.store.jsonl import RecordLog, write_whole
from agenttrace.store.opening import the_file
from agenttrace.store.read import read_run_spec, run_spec_path
from agenttrace.tasks import task_set
from agenttrace.tasks.bench import WorkerBench
from agenttrace.tasks.judging import matching_set, recorded, rejudged

if TYPE_CHECKING:
    from pathlib import Path

    from agenttrace.tasks.judging import Rejudged


def judge(file: Path, *, check: bool = False) -> int:
    """Judge every trace of a file again and return the exit status.

    Args:
        file: the record file; its run spec lies beside it. It is replaced as a whole, or not at all.
        check: only compare: the status is 1 when a verdict or a score differs, and nothing is written.

    Raises:
        AgentTraceError: the file, its task set, its fixture or a worker cannot be had.
    """
    file = the_file(file)
    if check:
        return 1 if any(found.differs for found in _judged(file)) else 0
    with RecordLog(file) as log:  # nobody appends meanwhile
        if log.torn_bytes:
            engine.say(f"cut off a torn last line of {log.torn_bytes} bytes, left by a killed sitting")
        found = _judged(file)
        if any(one.differs for one in found):
            write_whole(file, b"".join(one.line for one in found))
    return 0


def _judged(file: Path) -> list[Rejudged]:
    spec = read_run_spec(run_spec_path(file))
    chosen = task_set(spec.dataset.name)
    tasks = matching_set(chosen, spec)
    lines = [
        (line, f"{file}, line {number}") for number, line in enumerate(file.read_bytes().splitlines(keepends=True), 1)
    ]
    for line, where in lines:  # a damaged line ends it now, not after an hour of references
        recorded(line, tasks, where)
    with sandbox_project("judge") as (project, env):
        container = SandboxContainer(project, env)
        try:
            bench = WorkerBench(container.worker, spec.sandbox)
            found = [rejudged(line, chosen, tasks, bench, where) for line, where in lines]
        finally:
            container.close()
    for one in found:
        _tell(one)
    left = sum(one.before.changes is None for one in found)
    engine.say(
        f"{len(found)} traces judged again, {sum(one.differs for one in found)} differ"
        + (f"; {left} left as they are: their final state is not recorded" if left else "")
    )
    return found


def _tell(one: Rejudged) -> None:
    """Say in which verdicts and scores a trace differs from what was recorded."""
    old = {verdict.aspect: verdict for verdict in one.before.verdicts}
    new = {verdict.aspect: verdict for verdict in one.after.verdicts}
    for aspect in dict.fromkeys([*old, *new]):
        if old.get(aspect) != new.get(aspect):
            engine.say(f"task {one.task_id}, {aspect}: {_shown(old.get(aspect))}, now {_shown(new.get(aspect))}")
    if one.before.scores != one.after.scores:
        engine.say(f"task {one.task_id}, scores: {one.before.scores}, now {one.after.scores}")


def _shown(verdict: object) -> str:
    if verdict is None:
        return "none"
    kind, reason = getattr(verdict, "verdict", ""), getattr(verdict, "reason", None)
    return f"{kind} ({reason})" if reason else str(kind)
