"""The attributes of exported spans, and how OTLP/JSON spells their values.

Names: OpenTelemetry's GenAI conventions (`gen_ai.*`, `process.exit.code`, `error.type`; semantic-conventions 1.41,
status Development) and OpenInference (`openinference.span.kind`, `llm.*`, `input.value`, `output.value`). Neither has
names for what a tool call cost: those are `agenttrace.telemetry.FIELD`, each with the meaning and unit of that field in
`docs/schema.md`; a figure that was not measured has no attribute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.formats.conversation import compact, json_object, system_prompt, tool_schemas

if TYPE_CHECKING:
    from agenttrace.formats.conversation import Message, Turn
    from agenttrace.records import RunSpec, Span, ToolCall, Trace, Verdict

_INT64 = 1 << 63
_JSON = "application/json"


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
    return {"stringValue": compact(value) if isinstance(value, dict) else str(value)}


def root(trace: Trace, spec: RunSpec | None) -> dict[str, Any]:
    """Return the attributes of the whole run."""
    meta, outcome = trace.metadata, trace.outcome
    system = system_prompt(trace, spec)
    return {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "agenttrace",
        "gen_ai.provider.name": _provider(trace),
        "gen_ai.request.model": trace.model,
        "gen_ai.conversation.id": trace.trace_id,
        "gen_ai.system_instructions": None if system is None else compact([{"type": "text", "content": system}]),
        "gen_ai.tool.definitions": None if (tools := tool_schemas(spec)) is None else compact(tools),
        "openinference.span.kind": "AGENT",
        "session.id": trace.trace_id,
        "input.value": trace.prompt,
        "output.value": outcome.final_answer,
        "metadata": compact(meta),
        "agenttrace.trace_id": trace.trace_id,
        "agenttrace.run_id": meta.get("run_id"),
        "agenttrace.dataset_name": meta.get("dataset_name"),
        "agenttrace.task_id": meta.get("task_id"),
        "agenttrace.total_duration_ms": trace.total_duration_ms,
        "agenttrace.outcome.ended": outcome.ended,
        "agenttrace.outcome.detail": outcome.detail,
        "agenttrace.outcome.solved": outcome.solved,
        **{f"agenttrace.outcome.scores.{name}": score for name, score in outcome.scores.items()},
    }


def chat(trace: Trace, turn: Turn, heard: list[Message], spec: RunSpec | None) -> dict[str, Any]:
    """Return the attributes of one generation; `heard` is what it read and the one before it had not."""
    step, meta = turn.step, trace.metadata
    sampler = None if spec is None else spec.sampler
    read, written = step.input_tokens, step.output_tokens
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": _provider(trace),
        "gen_ai.request.model": trace.model,
        "gen_ai.conversation.id": trace.trace_id,
        "gen_ai.request.temperature": _number(sampler.temperature if sampler else meta.get("temperature")),
        "gen_ai.request.seed": meta.get("seed"),  # of this rollout; the run spec has that of the first
        "gen_ai.request.top_p": sampler.top_p if sampler else None,
        "gen_ai.request.top_k": _number(sampler.top_k) if sampler else None,
        "gen_ai.request.max_tokens": sampler.max_tokens if sampler else None,
        "gen_ai.response.finish_reasons": [step.finish_reason] if step.finish_reason else None,
        "gen_ai.usage.input_tokens": read,
        "gen_ai.usage.output_tokens": written,
        "gen_ai.usage.cache_read.input_tokens": step.timings.cached_n if step.timings else None,
        "gen_ai.input.messages": compact([_gen_ai(message) for message in heard]),
        "gen_ai.output.messages": compact([_gen_ai_output(turn)]),
        "openinference.span.kind": "LLM",
        "session.id": trace.trace_id,
        "llm.model_name": trace.model,
        "llm.token_count.prompt": read,
        "llm.token_count.completion": written,
        "llm.token_count.total": None if read is None or written is None else read + written,
        **{key: value for index, one in enumerate(heard) for key, value in _heard(index, one).items()},
        **_said(turn),
        "error.type": "unparsable" if step.finish_reason == "unparsable" else None,
        "agenttrace.step_id": step.step_id,
        "agenttrace.step_number": step.step_number,
        "agenttrace.duration_ms": step.duration_ms,
        **(
            {f"agenttrace.timings.{name}": value for name, value in msgspec.structs.asdict(step.timings).items()}
            if step.timings
            else {}
        ),
    }


def tool(span: Span) -> dict[str, Any]:
    """Return the attributes of one tool call: what it was, what came back, what it cost."""
    cost = msgspec.to_builtins(span.telemetry)
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
        "input.mime_type": _JSON if json_object(span.tool_input) is not None else "text/plain",
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
        **{f"agenttrace.telemetry.{name}": value for name, value in cost.items() if value != []},
    }


def verdict(judged: Verdict) -> dict[str, Any]:
    """Return the attributes of the event `gen_ai.evaluation.result` for one judged aspect."""
    return {
        "gen_ai.evaluation.name": judged.aspect,
        "gen_ai.evaluation.score.label": judged.verdict,
        "gen_ai.evaluation.explanation": judged.reason,
        "agenttrace.verdict.method": judged.method,
    }


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
    parts += [_gen_ai_call(call) for call in step.tool_calls or ()]
    return {"role": "assistant", "parts": parts, "finish_reason": step.finish_reason or "unknown"}


def _gen_ai_call(call: ToolCall) -> dict[str, Any]:
    values = json_object(call.arguments)
    arguments = call.arguments if values is None else values
    return {"type": "tool_call", "id": call.call_id, "name": call.name, "arguments": arguments}


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
