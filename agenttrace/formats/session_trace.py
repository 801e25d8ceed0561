"""Sessions for the Hub's trace viewer, in the form of the Pi coding agent: a header, then an entry a line.

Sources: huggingface/hub-docs, docs/hub/session-traces-format.md (of its two forms, this is the one that `datasets` and
`teich` read without loss); `packages/coding-agent/docs/session-format.md` of earendil-works/pi, version 3. Entries are
a tree, here a chain. What Pi has no place for lies where it ignores it: under `agenttrace` in the header, in a reply
and in the `details` of a result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agenttrace.formats.conversation import iso, messages, spoken, tool_schemas, without_none
from agenttrace.formats.foreign import tokens
from agenttrace.formats.measured import OURS, of_run, of_span, of_step
from agenttrace.tasks.rewrite import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agenttrace.formats.conversation import Message
    from agenttrace.records import LLMStep, RunSpec, Span, Trace

HARNESS = "agenttrace"
TOOLS = "teich-available-tools"
"""What `teich` calls the entry with the schemas of the tools."""
_VERSION = 3
_NAME_CHARS = 120
_NS_PER_MS = 1_000_000
_INT64 = 1 << 63
_STOPS = {"stop": "stop", "length": "length", "tool_calls": "toolUse", "unparsable": "error"}


def from_trace(trace: Trace, spec: RunSpec | None = None, source: str = "") -> list[dict[str, Any]]:  # noqa: ARG001
    """Return the lines of a session: the header, what is said of the whole of it, then the messages in order.

    A figure that is not known is left out, but for the parts of `usage`, which Pi has all or none of.
    """
    header = {
        "type": "session",
        "version": _VERSION,
        "id": trace.trace_id,
        "timestamp": trace.timestamp_utc,
        "cwd": ROOT if "sandbox_policy" in trace.metadata else "/",  # Pi wants one; of others' runs it is not known
        "harness": HARNESS,
        OURS: {"metadata": bounded(trace.metadata), **of_run(trace)},
    }
    found: list[dict[str, Any]] = [without_none(header)]
    for number, entry in enumerate(_entries(trace, spec), start=1):
        place = {"id": f"{number:08x}", "parentId": f"{number - 1:08x}" if number > 1 else None}
        found.append({"type": entry.pop("type"), **place, **entry})
    return found


def _entries(trace: Trace, spec: RunSpec | None) -> Iterator[dict[str, Any]]:
    engine = trace.metadata.get("serving_engine")
    started = {} if trace.timestamp_utc is None else {"timestamp": trace.timestamp_utc}
    name = " ".join(trace.prompt[: 2 * _NAME_CHARS].split())[:_NAME_CHARS]
    provider = engine if isinstance(engine, str) else "unknown"
    yield {"type": "session_info", **started, "name": name}
    yield {"type": "model_change", **started, "provider": provider, "modelId": trace.model}
    if (tools := tool_schemas(spec)) is not None:
        yield {"type": "custom", **started, "customType": TOOLS, "data": {"tools": tools}}
    for found in messages(trace, spec):
        said = _message(found, trace, provider)
        ended = found.step.end_ns if found.step else found.span.end_ns if found.span else None
        moment = iso(ended) or trace.timestamp_utc if found.role == "user" else iso(ended)
        stamp = None if ended is None else ended // _NS_PER_MS
        yield without_none(
            {"type": "message", "timestamp": moment, "message": without_none({**said, "timestamp": stamp})}
        )


def _message(found: Message, trace: Trace, provider: str) -> dict[str, Any]:
    if found.span is not None:
        return _result(found.span)
    if found.step is None:
        return {"role": found.role, "content": found.content}
    step = found.step
    parts: list[dict[str, Any]] = []
    if step.reasoning_content:
        parts.append({"type": "thinking", "thinking": step.reasoning_content})
    if found.content:
        parts.append({"type": "text", "text": found.content})
    parts += [
        {"type": "toolCall", "id": call.call_id, "name": call.name, "arguments": bounded(spoken(call))}
        for call in found.calls
    ]
    return {
        "role": "assistant",
        "content": parts,
        "api": "openai-completions",
        "provider": provider,
        "model": trace.model,
        "usage": _usage(step),
        "stopReason": _STOPS.get(step.finish_reason or "", "stop"),
        OURS: of_step(step),
    }


def bounded(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return JSON with integers that readers in other languages cannot hold as text."""
    if isinstance(value, dict):
        return {key: bounded(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [bounded(one) for one in value]
    return str(value) if isinstance(value, int) and not -_INT64 <= value < _INT64 else value


def _usage(step: LLMStep) -> dict[str, Any] | None:
    """Return token counts as Pi has them: what was cached is not among `input`; nothing was paid that is known."""
    read, written = tokens(step.input_tokens), tokens(step.output_tokens)
    if read is None or written is None:
        return None
    cached = min(read, tokens(step.timings.cached_n) or 0) if step.timings else 0
    counts = {"input": read - cached, "output": written, "cacheRead": cached, "cacheWrite": 0}
    return {**counts, "totalTokens": read + written, "cost": {**dict.fromkeys(counts, 0), "total": 0}}


def is_error(span: Span) -> bool:
    """Return whether a call went wrong as Pi counts it: ended with another status than 0, or not by itself."""
    return span.status != "not_executed" and (span.status != "ok" or bool(span.exit_code))


def _result(span: Span) -> dict[str, Any]:
    return {
        "role": "toolResult",
        "toolCallId": span.call_id or span.span_id,
        "toolName": span.tool_name,
        "content": [{"type": "text", "text": span.tool_output}],
        "details": {OURS: of_span(span)},
        "isError": is_error(span),
    }
