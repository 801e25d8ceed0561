"""Judges finished runs, and recorded traces again: then the outcome of a line is new, every other byte of it stays."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import DataError, UsageError, WorkerLostError
from agenttrace.records import INFRASTRUCTURE_ENDS, Outcome, Record, RunSpec, Verdict, solved
from agenttrace.store.read import decode
from agenttrace.tasks import Finished, Judgement, Task, TaskSet

if TYPE_CHECKING:
    from agenttrace.records import SandboxSpec, Trace
    from agenttrace.tasks.bench import Bench

_Fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
JUDGINGS = 3
LOST_METHOD = "worker-lost-v1"
"""Failed: the sandbox worker died of what the model had called or written, each time, and the next one worked."""
_SHOWN = 40
_VERSION = re.compile(r"[-_]v\d+\Z")


class Rejudged(Record, frozen=True, kw_only=True):
    """A trace judged again.

    Attributes:
        trace_id: of the trace.
        task_id: of its task.
        before: the recorded outcome.
        after: the new one; the same object where it could not be judged.
        line: the record's line with the new outcome.
    """

    trace_id: str
    task_id: int | str
    before: Outcome
    after: Outcome
    line: bytes

    @property
    def dated(self) -> tuple[tuple[Verdict, Verdict], ...]:
        """Recorded verdict and new one where another version of the same method gave the recorded one."""
        new = {verdict.aspect: verdict for verdict in self.after.verdicts}
        pairs = ((verdict, new[verdict.aspect]) for verdict in self.before.verdicts if verdict.aspect in new)
        return tuple(pair for pair in pairs if _differ_in_version(*(verdict.method for verdict in pair)))

    @property
    def differs(self) -> bool:
        """Whether the same method gives another verdict, or the same score another figure, than recorded."""
        old, new = self.before, self.after
        dated = {verdict.aspect for verdict, _ in self.dated}
        if dated and old.solved != solved(old.verdicts):
            return True
        names = {name for name in old.scores if name in new.scores}
        if {_VERSION.sub("", name) for name in old.scores} != {_VERSION.sub("", name) for name in new.scores}:
            return True
        left = [
            msgspec.structs.replace(
                outcome,
                solved=None if dated else outcome.solved,
                verdicts=tuple(verdict for verdict in outcome.verdicts if verdict.aspect not in dated),
                scores={name: outcome.scores[name] for name in names},
            )
            for outcome in (old, new)
        ]
        return left[0] != left[1]


def assessed(chosen: TaskSet, task: Task, finished: Finished, bench: Bench) -> Judgement:
    """Return what a task set says of a finished run, from a worker that has seen no harm.

    A judge may run what the model wrote. Where every worker dies of it, and the one after that works, the run failed.

    Raises:
        WorkerLostError: workers die of something else, or there are none.
    """
    if bench.worn:
        bench.move()
    for _ in range(JUDGINGS):
        try:
            return chosen.assess(task, finished, bench)
        except WorkerLostError:
            bench.move()
    bench.check()
    return lost(f"judging it took the worker with it, {JUDGINGS} times")


def lost(reason: str) -> Judgement:
    """Return the judgement on a run that took its workers with it."""
    return Judgement(verdicts=(Verdict(aspect="sandbox", verdict="failed", method=LOST_METHOD, reason=reason),))


def matching_set(chosen: TaskSet, spec: RunSpec) -> dict[int | str, Task]:
    """Return the tasks of a set by id.

    Raises:
        UsageError: the set is not the one that the run spec names.
    """
    if chosen.spec().sha256 != spec.dataset.sha256:
        raise UsageError(
            f"the records were made from another {spec.dataset.name} (SHA-256 {spec.dataset.sha256}) "
            f"than this version of the kit has ({chosen.spec().sha256}): their tasks cannot be judged with it"
        )
    return {task.task_id: task for task in chosen.tasks()}


def recorded(line: bytes, tasks: dict[int | str, Task], where: str) -> tuple[Trace, Task]:
    """Return the trace that a line holds, and its task.

    Args:
        line: of a record file.
        tasks: those of the set that the file names.
        where: file and number of the line, for the message.

    Raises:
        DataError: it is not a trace, or not of one of these tasks.
    """
    try:
        trace = decode(line)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    task_id = trace.metadata.get("task_id")
    task = tasks.get(task_id) if isinstance(task_id, int | str) else None
    if task is None:
        raise DataError(
            f"{where}: metadata.task_id is {str(task_id)[:_SHOWN]!r}, and the task set has no such task; "
            "the line is from another file, or was edited"
        )
    return trace, task


def rejudged(
    line: bytes,
    chosen: TaskSet,
    tasks: dict[int | str, Task],
    bench: Bench,
    where: str = "a line",
    *,
    sandbox: SandboxSpec | None = None,
) -> Rejudged:
    """Return a record's line with verdicts, `solved` and scores computed anew.

    The bench turns to the task's own tree where `sandbox`, that of the run spec, is given.
    A run whose final state is not recorded, and one that the infrastructure ended, stays as it is.

    Raises:
        DataError: see `recorded`.
    """
    trace, task = recorded(line, tasks, where)
    old = new = trace.outcome
    if (old.changes is not None or isinstance(old.patch, str)) and old.ended not in INFRASTRUCTURE_ENDS:
        if sandbox is not None:
            bench.turn_to(task, sandbox)
        new = assessed(chosen, task, Finished(outcome=old, spans=trace.spans), bench).on(old)
    return Rejudged(
        trace_id=trace.trace_id,
        task_id=task.task_id,
        before=old,
        after=new,
        line=line if new == old else with_outcome(line, new),
    )


def with_outcome(line: bytes, outcome: Outcome) -> bytes:
    """Return a record's line with another outcome; every other field keeps its bytes and its place."""
    fields = _Fields.decode(line)
    if "outcome" in fields:
        fields["outcome"] = msgspec.Raw(msgspec.json.encode(outcome))
    else:  # a rollout of schema 1.0.0
        fields["verdicts"] = msgspec.Raw(msgspec.json.encode(outcome.verdicts))
    body = b",".join(msgspec.json.encode(name) + b":" + bytes(value) for name, value in fields.items())
    return b"{" + body + b"}\n"


def _differ_in_version(old: str, new: str) -> bool:
    return old != new and _VERSION.sub("", old) == _VERSION.sub("", new)
