"""Agent Trajectory Interchange Format v1.7, written: what it has no field for lies in `extra.agenttrace`.

Format: RFC 0001 of Harbor and its models (`harbor.models.trajectories`). Nothing of a record is lost: what has a field
stands there and only there, the rest in `extra` at the same level, and `atif_read` puts both together again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from agenttrace.formats.atif_read import NAME, SCHEMA, to_trace
from agenttrace.formats.conversation import (
    builtins_of,
    imported,
    json_object,
    system_prompt,
    tool_schemas,
    turns,
    without_none,
)
from agenttrace.formats.patch import patched
from agenttrace.formats.times import iso

if TYPE_CHECKING:
    from agenttrace.formats.conversation import Turn
    from agenttrace.records import LLMStep, RunSpec, Span, Trace

__all__ = ["from_trace", "to_trace"]

_AGENT = "agenttrace"
_FIELDS = frozenset({"model_output", "reasoning_content", "tool_calls", "input_tokens", "output_tokens"})
"""Of a generation, what has a field of its own."""
_NULLABLE = frozenset({"counted_tokens", "answered"})
"""Where `null` is not the same as absent."""


def from_trace(trace: Trace, spec: RunSpec | None = None, source: str = "") -> dict[str, Any]:  # noqa: ARG001
    """Return a record as one trajectory; a trajectory that was read before is written again as it was."""
    found = _trajectory(trace, spec)
    value = patched(found, imported(trace, NAME).get("patch"))
    return value if isinstance(value, dict) else found


def _trajectory(trace: Trace, spec: RunSpec | None) -> dict[str, Any]:
    system = system_prompt(trace, spec)
    steps: list[dict[str, Any]] = [] if system is None else [{"source": "system", "message": system}]
    steps.append({"source": "user", "message": trace.prompt})
    for turn in turns(trace, spec):
        steps.append(_agent_step(turn))
        if turn.reminder is not None:
            steps.append({"source": "user", "message": turn.reminder, "extra": {_AGENT: {"reminder": True}}})
    extra: dict[str, Any] = {} if imported(trace, NAME) else {"extra": {_AGENT: _root_extra(trace)}}
    return {
        "schema_version": SCHEMA,
        "session_id": trace.trace_id,  # a run of the agent; campaigns have many, and readers join what shares it
        "trajectory_id": trace.trace_id,
        "agent": without_none(
            {
                "name": _AGENT,
                "version": str(trace.metadata.get("collector_version") or "unknown"),
                "model_name": trace.model,
                "tool_definitions": tool_schemas(spec),
            }
        ),
        "steps": [{"step_id": number, **step} for number, step in enumerate(steps, start=1)],
        "final_metrics": _totals(trace, len(steps)),
        **extra,
    }


def _root_extra(trace: Trace) -> dict[str, Any]:
    strays = () if trace.llm_steps else trace.spans
    return without_none(
        {
            "timestamp_utc": trace.timestamp_utc,
            "total_duration_ms": trace.total_duration_ms,
            "metadata": trace.metadata,
            "environment": trace.environment,
            "outcome": msgspec.to_builtins(trace.outcome),
            "span_order": [span.span_id for span in trace.spans],
            "spans": builtins_of(strays) or None,
            "prepare_ms": None if trace.prepare_ms is UNSET else trace.prepare_ms,
        }
    )


def _agent_step(turn: Turn) -> dict[str, Any]:
    step = turn.step
    calls = [_call(call.call_id, call.name, call.arguments) for call in step.tool_calls or ()]
    known = {call["tool_call_id"] for call in calls}
    return without_none(
        {
            "timestamp": iso(step.start_ns),
            "source": "agent",
            "message": step.model_output or "",
            "reasoning_content": step.reasoning_content,
            "tool_calls": None if step.tool_calls is None else calls,
            "observation": {"results": [_result(span, known) for span in turn.spans]} if turn.spans else None,
            "metrics": _metrics(step),
            "llm_call_count": 1,
            "extra": {_AGENT: _step_extra(step)},
        }
    )


def _step_extra(step: LLMStep) -> dict[str, Any]:
    """Return what has no field; of an answer only that there is one, as it is the step that follows."""
    fields = msgspec.to_builtins(step)
    found = {key: fields[key] for key in fields if key not in _FIELDS and (fields[key] is not None or key in _NULLABLE)}
    if step.model_output is None:
        found["no_output"] = True
    if "answered" in found:
        found["answered"] = found["answered"] is not None
    return found


def _call(call_id: str, name: str, text: str) -> dict[str, Any]:
    """Return a proposed call; the text of its arguments is kept where the object does not give it again."""
    values = json_object(text)
    found: dict[str, Any] = {"tool_call_id": call_id, "function_name": name, "arguments": values or {}}
    if values is None or json.dumps(values) != text:
        found["extra"] = {_AGENT: {"arguments": text}}
    return found


def _result(span: Span, known: set[str]) -> dict[str, Any]:
    fields = msgspec.to_builtins(span)
    rest = {key: fields[key] for key in fields if key not in {"tool_output", "type"}}
    joined = {"source_call_id": span.call_id} if span.call_id in known else {}
    return {**joined, "content": span.tool_output, "extra": {_AGENT: rest}}


def _metrics(step: LLMStep) -> dict[str, Any] | None:
    cached = step.timings.cached_n if step.timings else None
    found = {"prompt_tokens": step.input_tokens, "completion_tokens": step.output_tokens, "cached_tokens": cached}
    return without_none(found) or None


def _totals(trace: Trace, steps: int) -> dict[str, Any]:
    """Return the sums over what was counted; nothing where nothing was."""
    read = [step.input_tokens for step in trace.llm_steps if step.input_tokens is not None]
    written = [step.output_tokens for step in trace.llm_steps if step.output_tokens is not None]
    return without_none(
        {
            "total_prompt_tokens": sum(read) if read else None,
            "total_completion_tokens": sum(written) if written else None,
            "total_steps": steps,
        }
    )
