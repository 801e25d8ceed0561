"""OpenTelemetry spans as OTLP/JSON: one export request a line, as the collector's file exporter writes them.

One trace per record: `invoke_agent`, below it one `chat` span per generation, below that one `execute_tool` span per
call. Format: opentelemetry-proto, `ExportTraceServiceRequest` in its JSON mapping: ids are hex, enumerations numbers,
64-bit integers strings.

Names of attributes: OpenTelemetry's GenAI conventions (`gen_ai.*`; semantic-conventions-genai 0.1.0, status
Development), its general ones (`process.exit.code`, `error.type`; 1.45) and OpenInference (`openinference.span.kind`,
`llm.*`, `input.value`, `output.value`). What none has a name for is under `agenttrace.`; what a tool call cost is
`agenttrace.telemetry.FIELD`, each with the meaning and unit of that field in `docs/schema.md`. A figure that was not
measured has no attribute.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from agenttrace.formats.conversation import epoch_ns, json_object, spoken, system_prompt, tool_schemas, turns
from agenttrace.formats.measured import totals_of
from agenttrace.records import END_CLASSES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agenttrace.formats.conversation import Message, Turn
    from agenttrace.records import LLMStep, RunSpec, Span, Trace, Verdict

_INTERNAL, _CLIENT = 1, 3
_OK, _ERROR = 1, 2
_SCHEMA_URL = "https://opentelemetry.io/schemas/gen-ai/0.1.0"
_AGENT = "agenttrace"
_INT64 = 1 << 63


class Times(NamedTuple):
    """Start and end, nanoseconds since the epoch, and whether the record has them."""

    start: int
    end: int
    recorded: bool


class Timeline(NamedTuple):
    """A record on one axis: the whole of it, and its generations with their calls, in order."""

    whole: Times
    turns: list[tuple[Turn, Times, list[Times]]]


def timeline(trace: Trace, spec: RunSpec | None = None) -> Timeline:
    """Return when what was; where a record has no times, one thing begins where the one before it ended."""
    cursor = max(0, epoch_ns(trace.timestamp_utc) or 0)
    first, recorded, found = cursor, True, []
    for turn in turns(trace, spec):
        own = _times(turn.step, cursor)
        cursor, first, recorded = max(cursor, own.end), min(first, own.start), recorded and own.recorded
        calls = []
        for span in turn.spans:
            calls.append(_times(span, cursor))
            cursor = max(cursor, calls[-1].end)
        found.append((turn, own, calls))
    last = max(cursor, first + round((trace.total_duration_ms or 0.0) * 1e6))
    return Timeline(Times(first, last, recorded), found)


def from_trace(trace: Trace, spec: RunSpec | None = None, source: str = "") -> dict[str, Any]:  # noqa: ARG001
    """Return a record as one export request.

    Ids derive from the record's own ids, so a second export gives the same spans. A generation without times (records
    of other formats) starts where the one before it ended and lasts as long as is known; `agenttrace.time` says which.

    Raises:
        OverflowError: a time is none that OTLP can say.
    """
    version = trace.metadata.get("collector_version")
    resource = {"attributes": encoded({"service.name": "agenttrace", "service.version": version})}
    scope = {"name": "agenttrace", "version": str(version or "")}
    spans = list(_spans(trace, spec))
    of_scope = {"scope": scope, "spans": spans, "schemaUrl": _SCHEMA_URL}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [of_scope]}]}


def trace_id_of(trace: Trace) -> str:
    """Return 32 hex digits: those of the record's UUID, or of the SHA-256 of an id that is none."""
    try:
        found = uuid.UUID(trace.trace_id).hex
    except ValueError:
        found = ""
    return found if found.strip("0") else hashlib.sha256(trace.trace_id.encode()).hexdigest()[:32]


def span_id_of(trace: Trace, *parts: str | int) -> str:
    """Return 16 hex digits of the SHA-256 of the trace id and the parts."""
    text = "\n".join([trace.trace_id, *(str(part) for part in parts)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _spans(trace: Trace, spec: RunSpec | None) -> Iterator[dict[str, Any]]:
    top = span_id_of(trace, "root")
    children = []
    whole, placed = timeline(trace, spec)
    for number, (turn, times, calls) in enumerate(placed):
        own = span_id_of(trace, "step", number, turn.step.step_id)
        made = _span(trace, own, f"chat {trace.model}", times, _chat(trace, turn, spec))
        children.append(made | {"parentSpanId": top, "kind": _CLIENT})
        for index, (span, spent) in enumerate(zip(turn.spans, calls, strict=True)):
            call = span_id_of(trace, "call", number, index, span.span_id)
            made = _span(trace, call, f"execute_tool {span.tool_name}", spent, _tool(span))
            children.append(made | {"parentSpanId": own})
    found = _span(trace, top, f"invoke_agent {_AGENT}", whole, _root(trace, spec))
    found["events"] = [
        {"timeUnixNano": str(whole.end), "name": "gen_ai.evaluation.result", "attributes": encoded(_verdict(judged))}
        for judged in trace.outcome.verdicts
    ]
    yield found
    yield from children


def _span(trace: Trace, span_id: str, name: str, times: Times, attributes: dict[str, Any]) -> dict[str, Any]:
    """Return a span of the agent itself without a parent; one with an `error.type` failed."""
    if not 0 <= times.start <= times.end < _INT64:
        raise OverflowError("a span lies outside of the times of OTLP (nanoseconds since 1970, 63 bits)")
    return {
        "traceId": trace_id_of(trace),
        "spanId": span_id,
        "parentSpanId": "",
        "name": name,
        "kind": _INTERNAL,
        "startTimeUnixNano": str(times.start),
        "endTimeUnixNano": str(times.end),
        "attributes": encoded({**attributes, "agenttrace.time": "recorded" if times.recorded else "laid out"}),
        "status": {"code": _ERROR if attributes.get("error.type") else _OK},
    }


def _times(item: LLMStep | Span, cursor: int) -> Times:
    if item.start_ns is not None and item.end_ns is not None:
        return Times(item.start_ns, max(item.start_ns, item.end_ns), recorded=True)
    return Times(cursor, cursor + round((item.duration_ms or 0.0) * 1e6), recorded=False)


def encoded(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    """Return attributes as OTLP key-values; those that are `None` are left out."""
    return [{"key": key, "value": _value(value)} for key, value in attributes.items() if value is not None]


def _value(value: Any) -> dict[str, Any]:  # noqa: ANN401 - an attribute of any kind
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int) and -_INT64 <= value < _INT64:
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, (list, tuple)):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    return {"stringValue": _compact(value) if isinstance(value, dict) else str(value)}


def _root(trace: Trace, spec: RunSpec | None) -> dict[str, Any]:
    """Return the attributes of the whole run."""
    meta, outcome = trace.metadata, trace.outcome
    system = system_prompt(trace, spec)
    return {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": _AGENT,
        "gen_ai.request.model": trace.model,
        "gen_ai.conversation.id": trace.trace_id,
        "gen_ai.system_instructions": None if system is None else _compact([{"type": "text", "content": system}]),
        "gen_ai.tool.definitions": None if (tools := tool_schemas(spec)) is None else _compact(tools),
        "openinference.span.kind": "AGENT",
        "session.id": trace.trace_id,
        "input.value": trace.prompt,
        "output.value": outcome.final_answer,
        "metadata": _compact(meta),
        "agenttrace.trace_id": trace.trace_id,
        "agenttrace.run_id": meta.get("run_id"),
        "agenttrace.dataset_name": meta.get("dataset_name"),
        "agenttrace.task_id": meta.get("task_id"),
        "agenttrace.total_duration_ms": trace.total_duration_ms,
        "agenttrace.outcome.ended": outcome.ended,
        "agenttrace.outcome.end_class": END_CLASSES.get(outcome.ended),
        "agenttrace.outcome.detail": outcome.detail,
        "agenttrace.outcome.solved": outcome.solved,
        **_below("agenttrace.outcome.scores", outcome.scores),
        **_below("agenttrace.totals", totals_of(trace).get("totals", {})),
    }


def _chat(trace: Trace, turn: Turn, spec: RunSpec | None) -> dict[str, Any]:
    """Return the attributes of one generation."""
    step, meta = turn.step, trace.metadata
    sampler = None if spec is None else spec.sampler
    read, written = step.input_tokens, step.output_tokens
    server: dict[str, Any] = msgspec.to_builtins(step.timings) if step.timings else {}
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": _provider(trace),
        "gen_ai.request.model": trace.model,
        "gen_ai.conversation.id": trace.trace_id,
        "gen_ai.request.temperature": _number(sampler.temperature if sampler else meta.get("temperature")),
        "gen_ai.request.seed": meta.get("seed"),  # of this rollout; the run spec has that of the first
        "gen_ai.request.top_p": sampler.top_p if sampler else None,
        "gen_ai.request.top_k": sampler.top_k if sampler else None,
        "gen_ai.request.max_tokens": sampler.max_tokens if sampler else None,
        "gen_ai.response.finish_reasons": [step.finish_reason] if step.finish_reason else None,
        "gen_ai.usage.input_tokens": read,
        "gen_ai.usage.output_tokens": written,
        "gen_ai.usage.cache_read.input_tokens": server.get("cached_n"),
        "gen_ai.usage.reasoning.output_tokens": server.get("reasoning_n"),
        "gen_ai.input.messages": _compact([_gen_ai(message) for message in turn.heard]),
        "gen_ai.output.messages": _compact([_gen_ai_output(turn)]),
        "openinference.span.kind": "LLM",
        "session.id": trace.trace_id,
        "llm.model_name": trace.model,
        "llm.token_count.prompt": read,
        "llm.token_count.completion": written,
        "llm.token_count.total": None if read is None or written is None else read + written,
        **{key: value for index, one in enumerate(turn.heard) for key, value in _heard(index, one).items()},
        **_said(turn),
        "error.type": "unparsable" if step.finish_reason == "unparsable" else None,
        "agenttrace.step_id": step.step_id,
        "agenttrace.step_number": step.step_number,
        "agenttrace.duration_ms": step.duration_ms,
        **_below("agenttrace.timings", server),
    }


def _tool(span: Span) -> dict[str, Any]:
    """Return the attributes of one tool call: what it was, what came back, what it cost."""
    cost = msgspec.to_builtins(span.telemetry)
    if series := cost.pop("tree_rss_series", None):
        cost["tree_rss_series"] = _compact(series)  # an attribute holds no lists of lists
    return {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": span.tool_name,
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": span.call_id,
        "gen_ai.tool.call.arguments": span.tool_input,
        "gen_ai.tool.call.result": span.tool_output,
        "openinference.span.kind": "TOOL",
        "tool.name": span.tool_name,
        "input.value": span.tool_input,
        "input.mime_type": "application/json" if json_object(span.tool_input) is not None else "text/plain",
        "output.value": span.tool_output,
        "output.mime_type": "text/plain",
        "process.exit.code": None if span.status == "not_executed" else span.exit_code,
        "error.type": span.status if span.status in {"timeout", "oom", "lost"} else None,
        "agenttrace.span_id": span.span_id,
        "agenttrace.status": span.status,
        "agenttrace.signal": span.signal,
        "agenttrace.duration_ms": span.duration_ms,
        "agenttrace.stdout.bytes_total": span.stdout.bytes_total if span.stdout else None,
        "agenttrace.stderr.bytes_total": span.stderr.bytes_total if span.stderr else None,
        **_below("agenttrace.telemetry", {name: value for name, value in cost.items() if value != []}),
    }


def _verdict(judged: Verdict) -> dict[str, Any]:
    """Return the attributes of the event `gen_ai.evaluation.result` for one judged aspect."""
    return {
        "gen_ai.evaluation.name": judged.aspect,
        "gen_ai.evaluation.score.label": judged.verdict,
        "gen_ai.evaluation.explanation": judged.reason,
        "agenttrace.verdict.method": judged.method,
    }


def _below(name: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{name}.{key}": value for key, value in values.items()}


def _compact(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return JSON text, ASCII, for attributes that hold JSON as text."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _provider(trace: Trace) -> str:
    engine = trace.metadata.get("serving_engine")
    return engine if isinstance(engine, str) else "unknown"


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _gen_ai(message: Message) -> dict[str, Any]:
    span = message.span
    if span is None:
        return {"role": message.role, "parts": [{"type": "text", "content": message.content}]}
    part = {"type": "tool_call_response", "id": span.call_id, "response": message.content}
    return {"role": "tool", "parts": [part]}


def _gen_ai_output(turn: Turn) -> dict[str, Any]:
    step = turn.step
    parts: list[dict[str, Any]] = []
    if step.reasoning_content:
        parts.append({"type": "reasoning", "content": step.reasoning_content})
    if step.model_output:
        parts.append({"type": "text", "content": step.model_output})
    parts += [
        {"type": "tool_call", "id": call.call_id, "name": call.name, "arguments": spoken(call)}
        for call in step.tool_calls or ()
    ]
    return {"role": "assistant", "parts": parts}


def _heard(index: int, message: Message) -> dict[str, Any]:
    at = f"llm.input_messages.{index}.message"
    called = None if message.span is None else message.span.call_id
    return {f"{at}.role": message.role, f"{at}.content": message.content, f"{at}.tool_call_id": called}


def _said(turn: Turn) -> dict[str, Any]:
    at = "llm.output_messages.0.message"
    found: dict[str, Any] = {f"{at}.role": "assistant", f"{at}.content": turn.step.model_output}
    for index, call in enumerate(turn.step.tool_calls or ()):
        one = f"{at}.tool_calls.{index}.tool_call"
        found[f"{one}.id"] = call.call_id
        found[f"{one}.function.name"] = call.name
        found[f"{one}.function.arguments"] = call.arguments
    return found
