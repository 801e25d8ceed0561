"""Rows of AgentTrace 0.3.0, read and written.

Reading keeps everything: what a record has no place for (unknown keys, another order of keys, clock readings on no
known axis) is in `environment.imported.patch`, so a row that was read is written again as it was. Writing a record of
ours is lossy; `docs/formats.md` lists what 0.3.0 cannot carry.

The form of a row (keys, order, types) is that of the released rows and of the tracing module that wrote them.
"""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.errors import DataError
from agenttrace.formats import agenttrace_0_3_row as rows
from agenttrace.formats.commands import call_arguments
from agenttrace.formats.conversation import json_object
from agenttrace.formats.foreign import NEVER, UNTIMED, foreign_span
from agenttrace.formats.patch import as_read, imported, with_patch
from agenttrace.records import NO_PROCESS, LLMStep, Outcome, Telemetry, ToolCall, Trace, canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agenttrace.records import RunSpec, Span

NAME = "agenttrace-0.3"


def from_trace(trace: Trace, spec: RunSpec | None = None, source: str = "") -> dict[str, Any]:  # noqa: ARG001
    """Return a record as a row of AgentTrace 0.3.0, keys in its order.

    Args:
        trace: the record.
        spec: its run spec; without it the server's arguments are not known and are `null`.
        source: not used.

    Raises:
        DataError: what an earlier reading kept has been changed so that no row comes of it.
    """
    row = {
        "trace_id": trace.trace_id,
        "timestamp_utc": trace.timestamp_utc or NEVER,
        "prompt": trace.prompt,
        "model": trace.model,
        "spans": [_foreign_span(span) for span in trace.spans if json_object(span.tool_input) is not None],
        "llm_steps": [_foreign_step(step) for step in trace.llm_steps],
        "total_duration_ms": trace.total_duration_ms or 0.0,
        "metadata": rows.compose(trace.metadata, trace.environment, None if imported(trace, NAME) else spec),
    }
    return as_read(row, trace, NAME)


def _foreign_span(span: Span) -> dict[str, Any]:
    start = span.start_ns or 0
    return {
        "span_id": span.span_id,
        "type": span.type,
        "tool_name": span.tool_name,
        "tool_input": f"kwargs={json_object(span.tool_input) or {}!r}",
        "tool_output": span.tool_output,
        "start_ns": start,
        "end_ns": start + round((span.duration_ms or 0.0) * 1e6),  # there, duration_ms is this difference
        "duration_ms": span.duration_ms or 0.0,
        "telemetry": {name: getattr(span.telemetry, name) or getattr(NO_PROCESS, name) for name in rows.COSTS},
        "exit_code": -1 if span.exit_code is None else span.exit_code,
        "parent_span_id": None,  # in all rows of that format
    }


def _foreign_step(step: LLMStep) -> dict[str, Any]:
    calls = [(call.name, json_object(call.arguments)) for call in step.tool_calls or ()]
    kept = [{"name": name, "arguments": values} for name, values in calls if values is not None]
    fields = {name: getattr(step, name) for name in rows.Step.__struct_fields__}
    return fields | {"tool_calls": None if step.tool_calls is None or (calls and not kept) else kept}


def to_trace(row: Any, source: str = "") -> Trace:  # noqa: ANN401, ARG001 - whatever stood in the line
    """Return a row as a record; ids, texts and figures are the row's own.

    Unknown is `null`: times of steps and spans have no known axis there, steps mostly no duration. Spans are joined to
    proposed calls by name and order, as there is no id. `outcome.ended` is `final_answer` after such a call,
    `max_steps` when the limit was reached, else `unknown`; nothing was judged.

    Raises:
        DataError: it is not a row of that format; the message names the field.
    """
    try:
        trace = record(rows.convert(row))
        written = json.loads(json.dumps(from_trace(trace)))  # tuples become lists, as in a row
        return with_patch(trace, written, row)
    except RecursionError as error:
        raise DataError(f"not a row of AgentTrace 0.3.0: {error}") from error


def record(row: rows.ReleasedRow) -> Trace:
    """Return a decoded row as a record, without what a record has no place for; see `to_trace`."""
    steps = tuple(map(_own_step, row.llm_steps))
    spans = tuple(_own_spans(row.spans, steps))
    untimed = row.timestamp_utc == NEVER  # as we write what has no times
    return Trace(
        trace_id=row.trace_id,
        timestamp_utc=None if untimed else row.timestamp_utc,
        prompt=row.prompt,
        model=row.model,
        spans=spans,
        llm_steps=steps,
        total_duration_ms=(row.total_duration_ms or None) if untimed else row.total_duration_ms,
        metadata=rows.shaping(row.metadata),
        environment={**rows.observed(row.metadata), "imported": {"format": NAME}},
        outcome=_outcome(row.spans, steps, row.metadata.get("max_steps")),
    )


def _own_step(step: rows.Step) -> LLMStep:
    calls = enumerate(step.tool_calls or (), start=1)
    own = tuple(
        ToolCall(call_id=f"call_{step.step_number}_{index}", name=call.name, arguments=json.dumps(call.arguments))
        for index, call in calls
    )
    fields = msgspec.structs.asdict(step) | {"tool_calls": None if step.tool_calls is None else own}
    return LLMStep(**UNTIMED | fields)


def _own_spans(spans: tuple[rows.RowSpan, ...], steps: tuple[LLMStep, ...]) -> Iterator[Span]:
    proposed = [(step, call) for step in steps for call in step.tool_calls or ()]
    places: dict[str, deque[int]] = {}
    for place, (_, call) in enumerate(proposed):
        places.setdefault(call.name, deque()).append(place)
    at = 0
    for span in spans:
        left = places.get(span.tool_name, deque())
        while left and left[0] < at:
            left.popleft()
        at = left[0] + 1 if left else at
        yield _own_span(span, *(proposed[left[0]] if left else (None, None)))


def _own_span(span: rows.RowSpan, step: LLMStep | None, call: ToolCall | None) -> Span:
    values = call_arguments(span.tool_input, span.tool_name)
    return foreign_span(
        step,
        span_id=span.span_id,
        tool_name=span.tool_name,
        tool_input=span.tool_input if values is None else canonical_json(values).decode(),
        tool_output=span.tool_output,
        duration_ms=span.duration_ms,
        telemetry=Telemetry(**msgspec.structs.asdict(span.telemetry), method="foreign"),
        exit_code=span.exit_code,
        call_id=None if call is None else call.call_id,
        status="ok" if span.ran else "not_executed",
    )


def _outcome(spans: tuple[rows.RowSpan, ...], steps: tuple[LLMStep, ...], max_steps: object) -> Outcome:
    if spans and spans[-1].tool_name == rows.FINAL_ANSWER and spans[-1].exit_code == 0:
        return Outcome(ended="final_answer", final_answer=spans[-1].tool_output)
    if isinstance(max_steps, int) and len(steps) >= max_steps:
        return Outcome(ended="max_steps")
    return Outcome(ended="unknown")
