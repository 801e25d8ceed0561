"""Agent Trajectory Interchange Format v1.0 to v1.8, read: our own exports give the record back, others what they have.

Of a foreign trajectory, everything that a record has no place for is in `environment.imported.patch`: writing it as
ATIF again gives it as it was.
"""

from __future__ import annotations

import json
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET

from agenttrace.errors import DataError
from agenttrace.formats.patch import difference
from agenttrace.formats.times import epoch_ns
from agenttrace.records import (
    NOT_MEASURED,
    SCHEMA_VERSION,
    LLMStep,
    Outcome,
    Span,
    ToolCall,
    Trace,
    canonical_json,
    derived_id,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "atif"
SCHEMA = "ATIF-v1.7"
_OURS = "agenttrace"


class _Call(msgspec.Struct):
    tool_call_id: str
    function_name: str
    arguments: dict[str, Any] = {}
    extra: dict[str, Any] | None = None


class _Result(msgspec.Struct):
    source_call_id: str | None = None
    content: Any = None
    extra: dict[str, Any] | None = None


class _Observation(msgspec.Struct):
    results: list[_Result]


class _Metrics(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Step(msgspec.Struct):
    source: Literal["system", "user", "agent"]
    message: Any = ""
    timestamp: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_Call] | None = None
    observation: _Observation | None = None
    metrics: _Metrics | None = None
    extra: dict[str, Any] | None = None


class _Agent(msgspec.Struct):
    name: str
    version: str = "unknown"
    model_name: str | None = None


class _Trajectory(msgspec.Struct):
    schema_version: str
    agent: _Agent
    steps: list[_Step]
    session_id: str | None = None
    trajectory_id: str | None = None
    extra: dict[str, Any] | None = None


def to_trace(value: Any) -> Trace:  # noqa: ANN401 - whatever stood in the file
    """Return a trajectory as a record.

    Of foreign ones: the prompt is the user's text before the first agent step; a call's result joins it by
    `source_call_id`; what a call cost, how long it took and its exit status are not known (`not-measured`, 0, -1);
    `outcome.ended` is `unknown`.

    Raises:
        DataError: it is no trajectory; the message names the field.
    """
    try:
        found = msgspec.convert(value, _Trajectory)
        root = _extra(found.extra)
        if "outcome" in root:
            return _own(found, root)
        return _foreign(found, value)
    except (msgspec.ValidationError, RecursionError, KeyError, TypeError) as error:
        raise DataError(f"not a trajectory of {SCHEMA}: {error}") from error


def _extra(extra: dict[str, Any] | None) -> dict[str, Any]:
    found = (extra or {}).get(_OURS)
    return found if isinstance(found, dict) else {}


def _own(found: _Trajectory, root: dict[str, Any]) -> Trace:
    """Put a record together again from the fields and our extras."""
    agent_steps = [step for step in found.steps if step.source == "agent"]
    spans = [span for step in agent_steps for span in _own_spans(step)]
    spans += msgspec.convert(root.get("spans", []), list[Span])
    places = {span_id: place for place, span_id in enumerate(root["span_order"])}
    return Trace(
        trace_id=found.trajectory_id or "",
        timestamp_utc=msgspec.convert(root["timestamp_utc"], str),
        prompt=_prompt(found.steps),
        model=found.agent.model_name or "",
        spans=tuple(sorted(spans, key=lambda span: places.get(span.span_id, len(places)))),
        llm_steps=tuple(_own_steps(found.steps)),
        total_duration_ms=msgspec.convert(root["total_duration_ms"], float),
        metadata=msgspec.convert(root["metadata"], dict[str, Any]),
        environment=msgspec.convert(root["environment"], dict[str, Any]),
        outcome=msgspec.convert(root["outcome"], Outcome),
        prepare_ms=msgspec.convert(root["prepare_ms"], float) if "prepare_ms" in root else UNSET,
    )


def _own_steps(steps: list[_Step]) -> Iterator[LLMStep]:
    for step, following in zip_longest(steps, steps[1:]):
        if step.source == "agent":
            yield _own_step(step, following)


def _own_step(step: _Step, following: _Step | None) -> LLMStep:
    rest = dict(_extra(step.extra))
    if "answered" in rest:
        rest["answered"] = _text(following.message) if rest["answered"] and following is not None else None
    no_output = rest.pop("no_output", False)
    metrics = step.metrics or _Metrics()
    unknown = {"duration_ms": None, "start_ns": None, "end_ns": None}
    return msgspec.convert(
        {
            **unknown,
            **rest,
            "model_output": None if no_output and not step.message else _text(step.message),
            "reasoning_content": step.reasoning_content,
            "tool_calls": None if step.tool_calls is None else [msgspec.to_builtins(_call(c)) for c in step.tool_calls],
            "input_tokens": metrics.prompt_tokens,
            "output_tokens": metrics.completion_tokens,
        },
        LLMStep,
    )


def _own_spans(step: _Step) -> Iterator[Span]:
    for result in step.observation.results if step.observation else ():
        yield msgspec.convert({**_extra(result.extra), "type": "TOOL", "tool_output": _text(result.content)}, Span)


def _call(call: _Call) -> ToolCall:
    text = _extra(call.extra).get("arguments")
    arguments = text if isinstance(text, str) else json.dumps(call.arguments)
    return ToolCall(call_id=call.tool_call_id, name=call.function_name, arguments=arguments)


def _foreign(found: _Trajectory, value: dict[str, Any]) -> Trace:
    from agenttrace.formats.atif import from_trace  # noqa: PLC0415 - each way needs the other

    # Not of the file's whole content: the same trajectory must keep its id when someone adds a note to it.
    trace_id = found.trajectory_id or derived_id(NAME, found.session_id or "", _prompt(found.steps))
    agent_steps = [step for step in found.steps if step.source == "agent"]
    steps = tuple(_foreign_step(step, number, trace_id) for number, step in enumerate(agent_steps, start=1))
    spans = tuple(span for ours, step in zip(steps, agent_steps, strict=True) for span in _foreign_spans(ours, step))
    system = [_text(step.message) for step in found.steps if step.source == "system"]
    times = [moment for step in found.steps if (moment := epoch_ns(step.timestamp)) is not None]
    kept: dict[str, Any] = {"format": NAME, **({"system_prompt": system[0]} if system else {})}
    trace = Trace(
        trace_id=trace_id,
        timestamp_utc=next((step.timestamp for step in found.steps if step.timestamp), "1970-01-01T00:00:00+00:00"),
        prompt=_prompt(found.steps),
        model=found.agent.model_name or "unknown",
        spans=spans,
        llm_steps=steps,
        total_duration_ms=(max(times) - min(times)) / 1e6 if times else 0.0,
        metadata={"schema_version": SCHEMA_VERSION, "source": found.schema_version, "agent": found.agent.name},
        environment={"imported": kept},
        outcome=Outcome(ended="unknown"),
    )
    patch = difference(from_trace(trace), value)
    return msgspec.structs.replace(trace, environment={"imported": {**kept, **({"patch": patch} if patch else {})}})


def _foreign_step(step: _Step, number: int, trace_id: str) -> LLMStep:
    metrics = step.metrics or _Metrics()
    return LLMStep(
        step_id=derived_id(trace_id, "step", number),
        step_number=number,
        model_output=_text(step.message) or None,
        reasoning_content=step.reasoning_content,
        tool_calls=None if step.tool_calls is None else tuple(_call(call) for call in step.tool_calls),
        duration_ms=None,
        input_tokens=metrics.prompt_tokens,
        output_tokens=metrics.completion_tokens,
        start_ns=None,
        end_ns=None,
    )


def _foreign_spans(ours: LLMStep, step: _Step) -> Iterator[Span]:
    calls = {call.tool_call_id: call for call in step.tool_calls or ()}
    for index, result in enumerate(step.observation.results if step.observation else (), start=1):
        call = calls.get(result.source_call_id or "")
        yield Span(
            span_id=derived_id(ours.step_id, "result", index),
            type="TOOL",
            tool_name=call.function_name if call else "observation",
            tool_input=canonical_json(call.arguments).decode() if call else "{}",
            tool_output=_text(result.content),
            start_ns=None,
            end_ns=None,
            duration_ms=0.0,
            telemetry=NOT_MEASURED,
            exit_code=-1,
            parent_span_id=ours.step_id,
            call_id=result.source_call_id,
            status="ok",
        )


def _prompt(steps: list[_Step]) -> str:
    """Return what the user said before the first agent step."""
    found = []
    for step in steps:
        if step.source == "agent":
            break
        if step.source == "user":
            found.append(_text(step.message))
    return "\n\n".join(found)


def _text(content: Any) -> str:  # noqa: ANN401 - text, parts or nothing
    """Return content as text; a part that is no text is named in its place."""
    if isinstance(content, list):
        return "\n".join(_part(part) for part in content)
    return content if isinstance(content, str) else "" if content is None else json.dumps(content)


def _part(part: Any) -> str:  # noqa: ANN401 - as above
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return str(part["text"])
    return f"[{part.get('type', 'unknown') if isinstance(part, dict) else 'unknown'}]"
