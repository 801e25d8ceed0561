"""What keeps a campaign from being released: findings, missing tasks or replies, a changed checkout, torn ends."""

from __future__ import annotations

from itertools import islice, product
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from agenttrace.errors import AgentTraceError, DataError, UsageError
from agenttrace.records import RunSpec, Trace, digest
from agenttrace.serving.cassette import Cassette, cassette_path
from agenttrace.store.read import read_run_spec, read_traces, run_spec_path
from agenttrace.tasks import task_set
from agenttrace.validate import Validation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from agenttrace.serving.cassette import Exchange
    from agenttrace.validate.leaks import Word

MOST = 20
"""Flaws told of one kind; a hostile file could have millions."""
_Rollout = tuple[str, Any]
"""Task and index: what a run spec plans one record of."""
_NAMED = 3
_MOST_NAMED = 1_000_000
"""Tasks that are held in memory to say which have no record; of more only the number is told."""


def flaws(records: Path, words: Sequence[Word] = ()) -> Iterator[str]:
    """Yield what keeps a record file and the files beside it from being released, each as `NAME: what`.

    The file validates; run spec and cassette lie beside it and are its own; every task of the run spec has a record
    and its replies; the checkout that collected had no changes.
    """
    found = list(islice(Validation(records, words=words), MOST + 1))
    for one in found[:MOST]:
        place = f"{records.name}, line {one.line}" if one.line else records.name
        yield ": ".join(part for part in (place, one.rule, one.where, one.message) if part)
    if len(found) > MOST:
        yield f"{records.name}: more than {MOST} findings; all of them: nox -s validate -- {records}"
    beside = run_spec_path(records)
    try:
        spec = read_run_spec(beside)
        traces = {trace.trace_id: _Seen.of(trace) for trace in read_traces(records)}
    except UsageError as error:
        why = str(error).replace(f"{records.parent}/", "")
        yield why if beside.is_file() else f"{beside.name}: is missing; every record file has its run spec beside it"
        return
    except DataError as error:
        yield str(error).replace(f"{records.parent}/", "")
        return
    yield from (f"{records.name}: {flaw}" for flaw in _unfinished(spec, [seen.rollout for seen in traces.values()]))
    yield from (f"{records.name}: {flaw}" for flaw in _changed(list(traces.values())))
    tape = cassette_path(records)
    yield from (f"{tape.name}: {flaw}" for flaw in islice(_replies(tape, spec, traces), MOST))


class _Seen(msgspec.Struct, frozen=True):
    """What is kept of a trace while its file is read: task and index; what the model said; the checkout's state.

    `said` is a digest of all replies, in order.
    """

    rollout: _Rollout
    said: str
    commit: Any
    dirty: Any

    @classmethod
    def of(cls, trace: Trace) -> _Seen:
        host = trace.environment.get("host")
        host = host if isinstance(host, dict) else {}
        steps = (step for step in trace.llm_steps if step.finish_reason != "unparsable")
        said = [(step.model_output or "", step.reasoning_content or "", step.output_tokens) for step in steps]
        known = trace.metadata
        return cls(
            (str(known.get("task_id")), known.get("rollout_index")),
            digest(said),
            host.get("git_commit"),
            host.get("git_dirty"),
        )


def _unfinished(spec: RunSpec, there: list[_Rollout]) -> Iterator[str]:
    if not there:
        yield "holds no record"
        return
    known = set(there)
    wanted = spec.dataset.count * spec.dataset.rollouts
    names = _planned_names(spec) if wanted <= _MOST_NAMED else {}
    missing = [name for rollout, name in names.items() if rollout not in known]
    if missing or len(there) < wanted:
        count = max(len(missing), wanted - len(there))
        which = f" ({_some(missing)})" if missing else ""
        yield f"{count} of {wanted} tasks of the run spec have no record{which}: collect the rest first"
    if len(there) > wanted:
        yield f"{len(there)} records, but the run spec has {wanted} tasks"


def _planned_names(spec: RunSpec) -> dict[_Rollout, str]:
    """Return what a run spec plans, with the name of its task; empty where its task files are not at hand."""
    dataset = spec.dataset
    if dataset.sampling is not UNSET:
        tasks = [(name, f"task {name}") for name in dataset.sampling.task_ids]
    else:
        try:
            chosen = task_set(dataset.name)
            if chosen.spec(offset=dataset.offset, count=dataset.count).sha256 != dataset.sha256:
                return {}
            found = chosen.tasks(offset=dataset.offset, count=dataset.count)
        except AgentTraceError:
            return {}
        tasks = [(str(task.task_id), f"task {task.task_id} {task.name}") for task in found]
    return {(task_id, index): name for (task_id, name), index in product(tasks, range(dataset.rollouts))}


def _changed(traces: list[_Seen]) -> Iterator[str]:
    dirty = [one for one in traces if one.dirty is True]
    if dirty:
        commits = _some(sorted({str(one.commit) for one in dirty}))
        yield f"{len(dirty)} records were collected from a checkout with uncommitted changes (commit {commits})"


def _replies(path: Path, spec: RunSpec, traces: dict[str, _Seen]) -> Iterator[str]:
    try:
        cassette = Cassette(path)
    except UsageError:
        yield "is missing; without the replies nobody can replay the records"
        return
    except DataError as error:
        yield str(error).replace(f"{path.parent}/", "")
        return
    yield from (str(damage) for damage in cassette.damage)
    if cassette.end < path.stat().st_size:
        yield f"the last {path.stat().st_size - cassette.end} bytes are no whole frame (a torn end): collect again"
    if cassette.run_spec_sha256 != spec.digest:
        yield f"is of another run spec ({cassette.run_spec_sha256}, the run spec beside it is {spec.digest})"
    there = set(cassette.trace_ids)
    for trace_id, seen in traces.items():
        if trace_id not in there:
            yield f"lacks the replies of trace {trace_id}"
            continue
        try:
            said = digest([_said(turn) for turn in cassette.turns(trace_id) if turn.kind == "reply"])
        except DataError as error:
            yield str(error).replace(f"{path.parent}/", "")
            continue
        if said != seen.said:
            yield f"the replies of trace {trace_id} are not those of its record"
    if others := there - set(traces):
        yield f"holds replies of {len(others)} traces without a record ({_some(sorted(others))})"


def _said(turn: Exchange) -> tuple[str, str, int | None]:
    result = turn.result if isinstance(turn.result, dict) else {}
    return result.get("content") or "", result.get("reasoning") or "", result.get("output_tokens")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"
