"""Trajectory files of mini-swe-agent v2 (`mini-swe-agent-1.1`, as of v2.4.6), written: native calls, several at once.

Sources: its `agents/default.py`, `models/litellm_model.py`, `models/utils/actions_toolcall.py`. A reply has
`tool_calls` and, of those that it runs, `extra.actions`; each result is a message of the role `tool`; the last message
is `exit`.
The replies of a bash-block agent are those of its text models: calls in the text, results as messages of the user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agenttrace.formats import mini_swe
from agenttrace.formats.conversation import in_text, json_object, messages, without_none
from agenttrace.formats.patch import imported

if TYPE_CHECKING:
    from agenttrace.formats.conversation import Message
    from agenttrace.records import LLMStep, RunSpec, Span, ToolCall, Trace

NAME = "mini-swe-agent-1.1"
VERSION = "2.4.6"
_WHY = {
    "ok": ("", None),
    "not_executed": ("action was not executed", None),
    "timeout": ("the command timed out after its time limit", "TimeoutExpired"),
    "oom": ("the command was killed for its memory", None),
    "lost": ("the sandbox was lost under the command", None),
}
"""Status of a call → `exception_info` and `exception_type` of its result."""


def from_trace(trace: Trace, spec: RunSpec | None = None, source: str = "") -> dict[str, Any]:  # noqa: ARG001
    """Return the content of a `.traj.json`; one that was read before is written again as it was."""
    if imported(trace, mini_swe.NAME):
        before = mini_swe.from_trace(trace, spec)
        if before.get("trajectory_format") == NAME:
            return before
    texts = in_text(trace, spec)
    found = [_message(one, trace, texts=texts) for one in messages(trace, spec)]
    value = mini_swe.trajectory(trace, spec, found, NAME, VERSION)
    status, submission = value["info"]["exit_status"], value["info"]["submission"]
    ended = {"exit_status": status, "submission": submission}
    found.append({"role": "exit", "content": submission or status, "extra": ended})
    return value


def _message(found: Message, trace: Trace, *, texts: bool) -> dict[str, Any]:
    if found.span is not None:
        return _result(found.span, found.content, texts=texts)
    if found.step is None:
        return {"role": found.role, "content": found.content}
    step = found.step
    calls = [
        {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in found.calls
    ]
    extra = {
        "actions": [one for call in found.calls for one in _action(call, texts=texts)],
        "response": _response(step, trace),
        "timestamp": _seconds(step.end_ns),
    }
    said = {
        "role": "assistant",
        "content": found.content,
        "tool_calls": None if texts else calls or None,
        "reasoning_content": step.reasoning_content,
        "extra": without_none(extra),
    }
    return without_none(said)


def _action(call: ToolCall, *, texts: bool) -> list[dict[str, Any]]:
    """Return the command of a call that mini-swe-agent would run: it has no tool but `bash`."""
    command = (json_object(call.arguments) or {}).get("command") if call.name == "bash" else None
    if not isinstance(command, str):
        return []
    return [{"command": command} if texts else {"command": command, "tool_call_id": call.call_id}]


def _response(step: LLMStep, trace: Trace) -> dict[str, Any]:
    """Return what is kept there of a server's answer: token counts and why it ended."""
    cached = None if step.timings is None else step.timings.cached_n
    usage = {
        "prompt_tokens": step.input_tokens,
        "completion_tokens": step.output_tokens,
        "prompt_tokens_details": None if cached is None else {"cached_tokens": cached},
    }
    return {
        "model": trace.model,
        "choices": [{"finish_reason": step.finish_reason, "message": {"role": "assistant"}}],
        "usage": without_none(usage),
    }


def _result(span: Span, content: str, *, texts: bool) -> dict[str, Any]:
    why, kind = _WHY[span.status]
    extra = {
        "returncode": span.exit_code,
        "timestamp": _seconds(span.end_ns),
        "exception_info": why,
        "exception_type": kind,
        "agenttrace": {"calls": [mini_swe.call_facts(span)]},
    }
    said = {"content": content, "extra": without_none(extra)}
    if texts:
        return {"role": "user", **said}
    return {"role": "tool", "tool_call_id": span.call_id or span.span_id, **said}


def _seconds(moment_ns: int | None) -> float | None:
    return None if moment_ns is None else moment_ns / 1e9
