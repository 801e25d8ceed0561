"""OpenTelemetry spans as OTLP/JSON: one export request a line, as the collector's file exporter writes them.

One trace per record: `invoke_agent`, below it one `chat` span per generation, below that one `execute_tool` span per
call. Attributes follow OpenTelemetry's GenAI conventions and OpenInference (`otlp_attributes`); what neither has a name
for is under `agenttrace.`. Format: opentelemetry-proto, `ExportTraceServiceRequest` in its JSON mapping: ids are hex,
enumerations numbers, 64-bit integers strings.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from agenttrace.formats.conversation import epoch_ns, messages, turns
from agenttrace.formats.otlp_attributes import chat, encoded, root, tool, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agenttrace.records import LLMStep, RunSpec, Span, Trace

_INTERNAL, _CLIENT = 1, 3
_OK, _ERROR = 1, 2
_LATEST_NS = 1 << 63
_SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.0"


class _Times(NamedTuple):
    """Start and end, nanoseconds since the epoch, and whether the record has them."""

    start: int
    end: int
    recorded: bool


def from_trace(trace: Trace, spec: RunSpec | None = None, source: str = "") -> dict[str, Any]:  # noqa: ARG001
    """Return a record as one export request.

    Ids derive from the record's own ids, so a second export gives the same spans. A generation without times (records
    of other formats) starts where the one before it ended and lasts as long as is known; `agenttrace.time` says which.

    Raises:
        OverflowError: a time is none that OTLP can say.
    """
    resource = {
        "service.name": "agenttrace",
        "service.version": trace.metadata.get("collector_version"),
    }
    scope = {"name": "agenttrace", "version": str(trace.metadata.get("collector_version") or "")}
    spans = list(_spans(trace, spec))
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": encoded(resource)},
                "scopeSpans": [{"scope": scope, "spans": spans, "schemaUrl": _SCHEMA_URL}],
            }
        ]
    }


def trace_id_of(trace: Trace) -> str:
    """Return 32 hex digits: those of the record's UUID, or of the SHA-256 of an id that is none."""
    try:
        found = uuid.UUID(trace.trace_id).hex
    except ValueError:
        found = ""
    usable = found.strip("0") != ""
    return found if usable else hashlib.sha256(trace.trace_id.encode()).hexdigest()[:32]


def span_id_of(trace: Trace, *parts: str | int) -> str:
    """Return 16 hex digits of the SHA-256 of the trace id and the parts."""
    text = "\n".join([trace.trace_id, *(str(part) for part in parts)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _spans(trace: Trace, spec: RunSpec | None) -> Iterator[dict[str, Any]]:
    common = {"traceId": trace_id_of(trace)}
    top = span_id_of(trace, "root")
    heard = _heard(trace, spec)
    cursor = max(0, epoch_ns(trace.timestamp_utc) or 0)
    children, first, recorded = [], cursor, True
    for number, turn in enumerate(turns(trace, spec)):
        times = _times(turn.step, cursor)
        cursor, first, recorded = max(cursor, times.end), min(first, times.start), recorded and times.recorded
        own = span_id_of(trace, "step", number, turn.step.step_id)
        name = f"chat {trace.model}"
        attributes = chat(trace, turn, heard[number], spec)
        children.append(
            _span(common, own, top, name, _CLIENT, times, attributes, failed=turn.step.finish_reason == "unparsable")
        )
        for index, span in enumerate(turn.spans):
            times = _times(span, cursor)
            cursor = max(cursor, times.end)
            call = span_id_of(trace, "call", number, index, span.span_id)
            error = span.status in {"timeout", "oom", "lost"}
            children.append(
                _span(
                    common, call, own, f"execute_tool {span.tool_name}", _INTERNAL, times, tool(span), failed=error
                )
            )  # fmt: skip
    whole = _Times(first, max(cursor, first + round(trace.total_duration_ms * 1e6)), recorded)
    found = _span(common, top, "", f"invoke_agent {trace.model}", _INTERNAL, whole, root(trace, spec), failed=False)
    found["events"] = [
        {"timeUnixNano": str(whole.end), "name": "gen_ai.evaluation.result", "attributes": encoded(verdict(judged))}
        for judged in trace.outcome.verdicts
    ]
    yield found
    yield from children


def _span(
    common: dict[str, Any],
    span_id: str,
    parent: str,
    name: str,
    kind: int,
    times: _Times,
    attributes: dict[str, Any],
    *,
    failed: bool,
) -> dict[str, Any]:
    if not 0 <= times.start <= times.end < _LATEST_NS:
        raise OverflowError("a span lies outside of the times of OTLP (nanoseconds since 1970, 63 bits)")
    return {
        **common,
        "spanId": span_id,
        "parentSpanId": parent,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(times.start),
        "endTimeUnixNano": str(times.end),
        "attributes": encoded({**attributes, "agenttrace.time": "recorded" if times.recorded else "laid out"}),
        "status": {"code": _ERROR if failed else _OK},
    }


def _heard(trace: Trace, spec: RunSpec | None) -> list[list[Any]]:
    """Return what each generation read that the one before it had not: increments, never the history again."""
    found: list[list[Any]] = [[]]
    for message in messages(trace, spec):
        if message.role == "assistant":
            found.append([])
        else:
            found[-1].append(message)
    return found


def _times(item: LLMStep | Span, cursor: int) -> _Times:
    if item.start_ns is not None and item.end_ns is not None:
        return _Times(item.start_ns, max(item.start_ns, item.end_ns), recorded=True)
    return _Times(cursor, cursor + round((item.duration_ms or 0.0) * 1e6), recorded=False)
