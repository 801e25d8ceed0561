"""Compares live runs of one campaign: equal, or the first divergent step, token and character of every task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from agenttrace.campaign.replay.findings import ReplayFinding, around, located, same_items
from agenttrace.errors import DataError
from agenttrace.records import LLMStep, Record, Tokens, Trace, canonical_json
from agenttrace.records.compare import record_differences
from agenttrace.store.read import read_traces

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Tokenize = Callable[[str], list[int]]

CONTEXT_CHARS = 80
Kind = Literal["equal", "other reply", "other tool result", "other field", "missing"]


class Divergence(Record, frozen=True, kw_only=True):
    """Where two runs of a task part for the first time.

    Attributes:
        run: number of the run, from 1, that differs from the first.
        where: `step N` for a reply of the model, else the span or the trace.
        field: `reply`, or the field of the record.
        character: index of the first different character.
        token: index of the first different token of the reply (`Tokens.output_ids`), else of its text as the server's
            tokenizer cuts it; `None` without either.
        margins: by how much each of the two tokens there was likelier than the next candidate (`Tokens.margins`), the
            first run's first; `None` where nobody asked for log-probabilities.
        first: the text of the first run around that place.
        other: the text of the other run.
    """

    run: int
    where: str
    field: str
    character: int
    token: int | None
    first: str
    other: str
    margins: tuple[float | None, float | None] | None = None


class TaskVerdict(Record, frozen=True, kw_only=True):
    """Whether every run of a task gave the same trajectory.

    Attributes:
        verdict: `equal`; `other reply` (the model said something else); `other tool result` (a call gave something else
            first); `other field` (texts are equal, counts or ids are not); `missing` (a run has no record of it).
        equal_runs: runs equal to the first, the first included.
        divergence: the earliest of the first run that differs.
    """

    trace_id: str
    task_id: int | str
    name: str
    verdict: Kind
    runs: int
    equal_runs: int
    divergence: Divergence | None = None


def compare_runs(files: Sequence[Path], tokenize: Tokenize | None = None) -> list[TaskVerdict]:
    """Return a verdict per task over all files, the tasks of the first one first.

    Prompt, steps, tool calls and outcome are compared, every byte but the measured fields; metadata is not, since runs
    with another profile or seed are other campaigns.

    Raises:
        UsageError: a file cannot be opened.
        DataError: a line is not a trace.
    """
    runs = [{trace.trace_id: trace for trace in read_traces(file)} for file in files]
    ids = dict.fromkeys(trace_id for run in runs for trace_id in run)
    return [_verdict([run.get(trace_id) for run in runs], tokenize) for trace_id in ids]


def _verdict(made: list[Trace | None], tokenize: Tokenize | None) -> TaskVerdict:
    """Return the verdict on what each run made of a task; the first run that has it is what the others should equal."""
    there = [(number, trace) for number, trace in enumerate(made, start=1) if trace is not None]
    (_, first), others = there[0], there[1:]
    kind: Kind = "equal" if len(there) == len(made) else "missing"
    task_id, name = first.metadata.get("task_id"), first.metadata.get("task_name", "")
    if not isinstance(task_id, int | str) or not isinstance(name, str):
        raise DataError(
            f"trace {first.trace_id}: its metadata names no task (task_id, task_name): no record of a campaign"
        )
    divergence, equal = None, 1
    for run, other in others:
        found = _differences(first, other)
        equal += not found
        if found and divergence is None:
            kind, divergence = _earliest(run, first, other, found, tokenize)
    return TaskVerdict(
        trace_id=first.trace_id,
        task_id=task_id,
        name=name,
        verdict=kind,
        runs=len(made),
        equal_runs=equal,
        divergence=divergence,
    )


def _differences(first: Trace, other: Trace) -> list[ReplayFinding]:
    lines = (msgspec.json.encode(_comparable(trace)) for trace in (first, other))
    return [located(first.trace_id, None, one, other) for one in record_differences(Trace, *lines)]


def _comparable(trace: Trace) -> Trace:
    """Return a trace without metadata, and without what an endpoint of others had in its cache just then."""
    steps = trace.llm_steps
    if trace.metadata.get("serving_engine") == "external":
        steps = tuple(msgspec.structs.replace(step, timings=None) for step in steps)
    return msgspec.structs.replace(trace, metadata={}, llm_steps=steps)


def _earliest(
    run: int, first: Trace, other: Trace, found: list[ReplayFinding], tokenize: Tokenize | None
) -> tuple[Kind, Divergence]:
    """Return what differs first as the run went: replies and the calls they made, in turn."""
    texts = [[reply_text(step) for step in trace.llm_steps] for trace in (first, other)]
    pairs = enumerate(zip(*texts, strict=False), start=1)
    step = next((number for number, (one, two) in pairs if one != two), None)
    tool = _first_tool_difference(first, found, before=step)
    if tool is not None:
        return "other tool result", _from_finding(run, tool)
    if step is None:
        if len(texts[0]) == len(texts[1]):
            return "other field", _from_finding(run, found[0])
        step = min(map(len, texts)) + 1
    one, two = (text[step - 1] if step <= len(text) else "" for text in texts)
    reply = ReplayFinding(where=f"step {step}", field="reply", recorded=one, found=two)
    said = _said(first, step), _said(other, step)
    if said[0].output_ids and said[1].output_ids:
        place = same_items(said[0].output_ids, said[1].output_ids)
        found_there = _from_finding(run, reply, place)
        margins = (_margin(said[0], place), _margin(said[1], place))
        return "other reply", msgspec.structs.replace(found_there, margins=None if margins == (None, None) else margins)
    token = None if tokenize is None else same_items(tokenize(one), tokenize(two))
    return "other reply", _from_finding(run, reply, token)


def _said(trace: Trace, step: int) -> Tokens:
    """Return the tokens of a step, as far as they are known."""
    return (trace.llm_steps[step - 1].tokens if step <= len(trace.llm_steps) else None) or Tokens()


def _margin(tokens: Tokens, place: int) -> float | None:
    return tokens.margins[place] if tokens.margins and place < len(tokens.margins) else None


def _first_tool_difference(first: Trace, found: list[ReplayFinding], *, before: int | None) -> ReplayFinding | None:
    """Return the first difference in what a call gave, if its step comes before the first other reply."""
    steps = {step.step_id: step.step_number for step in first.llm_steps}
    made_by = {number: steps.get(span.parent_span_id or "", 0) for number, span in enumerate(first.spans, start=1)}
    for one in found:
        if one.where.startswith("span "):
            number = int(one.where.split()[1])
            if before is None or made_by.get(number, before) < before:
                return one
    return None


def _from_finding(run: int, one: ReplayFinding, token: int | None = None) -> Divergence:
    first, other = around(one.recorded, one.found, chars=CONTEXT_CHARS)
    return Divergence(
        run=run,
        where=one.where,
        field=one.field,
        character=same_items(one.recorded, one.found),
        token=token,
        first=first,
        other=other,
    )


def reply_text(step: LLMStep) -> str:
    """Return a reply as one text: reasoning, content, and each call as JSON, one after the other."""
    calls = [
        canonical_json({"name": call.name, "arguments": call.arguments}).decode() for call in step.tool_calls or ()
    ]
    return "\n".join([step.reasoning_content or "", step.model_output or "", *calls])
