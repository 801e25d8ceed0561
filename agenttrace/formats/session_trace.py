"""The Hub's session traces (Session Trace Simple Format): a header line, then one message a line.

Format: huggingface/hub-docs, docs/hub/session-traces-format.md, as of 2026-07. The Hub opens such a file in its trace
viewer. Members of the header beyond `type`, `harness`, `id`, `name` are ignored there; ours lie under `agenttrace`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.formats.conversation import messages, outcome_of, without_none

if TYPE_CHECKING:
    from agenttrace.formats.conversation import Message
    from agenttrace.records import RunSpec, Trace

HARNESS = "agenttrace"
_NAME_CHARS = 120
_NS_PER_MS = 1_000_000


def from_trace(trace: Trace, spec: RunSpec | None = None, source: str = "") -> list[dict[str, Any]]:  # noqa: ARG001
    """Return the lines of a session: the header, then the messages in order."""
    header = {
        "type": "session",
        "harness": HARNESS,
        "id": trace.trace_id,
        "name": " ".join(trace.prompt[: 2 * _NAME_CHARS].split())[:_NAME_CHARS],
        "agenttrace": {
            "timestamp_utc": trace.timestamp_utc,
            "metadata": trace.metadata,
            "outcome": {**outcome_of(trace), "changes": None},
            "calls": [
                {
                    "call_id": span.call_id,
                    "exit_code": span.exit_code,
                    "status": span.status,
                    "duration_ms": span.duration_ms,
                    "telemetry": without_none(msgspec.to_builtins(span.telemetry)),
                }
                for span in trace.spans
            ],
        },
    }
    return [header, *({"type": "message", "message": _message(found, trace)} for found in messages(trace, spec))]


def _message(found: Message, trace: Trace) -> dict[str, Any]:
    step, span = found.step, found.span
    ended_ns = step.end_ns if step else span.end_ns if span else None
    calls = [{"id": call.call_id, "function": {"name": call.name, "arguments": call.arguments}} for call in found.calls]
    return without_none(
        {
            "role": found.role,
            "content": found.content,
            "reasoningContent": step.reasoning_content if step else None,
            "toolCalls": calls or None,
            "toolCallId": span.call_id if span else None,
            "timestamp": None if ended_ns is None else ended_ns // _NS_PER_MS,
            "model": trace.model if step else None,
        }
    )
