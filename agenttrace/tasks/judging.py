"""Judges recorded traces again: the outcome of a line is computed anew, every other byte of it stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import DataError, UsageError
from agenttrace.records import INFRASTRUCTURE_ENDS, Outcome, Record, RunSpec, Trace
from agenttrace.tasks import Finished, Task, TaskSet, solved

if TYPE_CHECKING:
    from agenttrace.tasks import Bench

_Fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_Trace = msgspec.json.Decoder(Trace)


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
    task_id: int
    before: Outcome
    after: Outcome
    line: bytes

    @property
    def differs(self) -> bool:
        """Whether a verdict or a score is another one than recorded."""
        return self.before != self.after


def matching_set(chosen: TaskSet, spec: RunSpec) -> dict[int, Task]:
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


def rejudged(line: bytes, chosen: TaskSet, tasks: dict[int, Task], bench: Bench) -> Rejudged:
    """Return a record's line with verdicts, `solved` and scores computed anew.

    A run whose final state is not recorded, and one that the infrastructure ended, stays as it is.
    """
    try:
        trace = _Trace.decode(line)
        task_id = int(trace.metadata["task_id"])
        task = tasks[task_id]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"a line is not a record of this task set ({error!r}); agenttrace show FILE names it"
        ) from error
    old = trace.outcome
    if old.changes is None or old.ended in INFRASTRUCTURE_ENDS:
        return Rejudged(trace_id=trace.trace_id, task_id=task_id, before=old, after=old, line=line)
    finished = Finished(answer=old.final_answer, spans=trace.spans, changes=old.changes)
    judgement = chosen.assess(task, finished, bench)
    new = msgspec.structs.replace(
        old, verdicts=judgement.verdicts, solved=solved(judgement.verdicts), scores=judgement.scores
    )
    return Rejudged(
        trace_id=trace.trace_id,
        task_id=task_id,
        before=old,
        after=new,
        line=line if new == old else with_outcome(line, new),
    )


def with_outcome(line: bytes, outcome: Outcome) -> bytes:
    """Return a record's line with another outcome; every other field keeps its bytes and its place."""
    fields = _Fields.decode(line)
    fields["outcome"] = msgspec.Raw(msgspec.json.encode(outcome))
    body = b",".join(msgspec.json.encode(name) + b":" + bytes(value) for name, value in fields.items())
    return b"{" + body + b"}\n"
