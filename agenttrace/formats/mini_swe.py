"""Trajectory files of mini-swe-agent v1 (`mini-swe-agent-1`, as of v1.17.5), written and read as traces.

A turn there is an assistant message with one bash block and the user message that answers it. What it has no place for
lies in `extra.agenttrace` of a message and in `info.agenttrace`; its own readers pass over both.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from agenttrace.agents.bash_block import blocks
from agenttrace.errors import DataError
from agenttrace.formats.conversation import json_object, opening, outcome_of, turns, without_none
from agenttrace.formats.foreign import fitting, foreign_span, foreign_step, text_of
from agenttrace.formats.patch import as_read, imported, with_patch
from agenttrace.records import (
    SCHEMA_VERSION,
    BashBlockSpec,
    LLMStep,
    Outcome,
    Span,
    SpanStatus,
    ToolCall,
    Trace,
    canonical_json,
    derived_id,
    digest,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agenttrace.formats.conversation import Turn
    from agenttrace.records import Ended, RunSpec

NAME = "mini-swe-agent-1"
VERSION = "1.17.5"
_RETURN_CODE = re.compile(r"<returncode>(-?\d{1,9})</returncode>")
_KILLED = ("The last command <command>", "</command> timed out and has been killed.")
"""How a message begins, and what it goes on to say, that answers a command at its time limit."""
_YEAR_10000 = 253_402_300_800
"""Seconds; what is later is no time."""
_STATUS: dict[Ended, str] = {
    "final_answer": "Submitted",
    "max_steps": "LimitsExceeded",
    "token_budget": "LimitsExceeded",
    "format_error": "FormatError",
}
_ENDED: dict[str, Ended] = {"Submitted": "final_answer", "LimitsExceeded": "max_steps", "FormatError": "format_error"}


class _Message(msgspec.Struct):
    role: str
    content: Any = ""
    timestamp: float | None = None
    extra: dict[str, Any] | None = None


class _Info(msgspec.Struct):
    exit_status: str | None = None
    submission: str | None = None
    config: dict[str, Any] | None = None


class _End(msgspec.Struct):
    """How a call ended; we say it of each call that we write."""

    status: SpanStatus
    exit_code: int | None


class _File(msgspec.Struct):
    messages: list[_Message]
    trajectory_format: str
    info: _Info | None = None
    instance_id: str | None = None


def from_trace(trace: Trace, spec: RunSpec | None = None, source: str = "") -> dict[str, Any]:  # noqa: ARG001
    """Return the content of a `.traj.json`; one that was read before is written again as it was.

    The replies of a bash-block agent stand as they are. Of another agent, a call of `bash` is a bash block, a call of
    another tool a block named after the tool, which mini-swe-agent would not run; the answers to all calls of a
    generation are one user message. `submission` is the patch of a checkout, where there is one.
    """
    found = [{"role": one.role, "content": one.content} for one in opening(trace, spec)]
    found += [said for turn in turns(trace, spec) for said in _turn(turn, plain=bool(imported(trace, NAME)))]
    outcome = trace.outcome
    value = {
        "info": {
            "exit_status": _STATUS.get(outcome.ended, outcome.ended),
            "submission": (outcome.patch if outcome.ended == "final_answer" else "") or outcome.final_answer or "",
            "model_stats": {"instance_cost": 0.0, "api_calls": len(trace.llm_steps)},
            "mini_version": VERSION,
            "config": _config(trace, spec),
            "agenttrace": {
                "trace_id": trace.trace_id,
                "timestamp_utc": trace.timestamp_utc,
                "metadata": trace.metadata,
                "outcome": outcome_of(trace),
            },
        },
        "messages": found,
        "trajectory_format": NAME,
        "instance_id": str(trace.metadata.get("task_name") or trace.trace_id),
    }
    return as_read(value, trace, NAME)


def _config(trace: Trace, spec: RunSpec | None) -> dict[str, Any]:
    model = {"model_name": trace.model}
    if spec is None or not isinstance(agent := spec.agent, BashBlockSpec):
        return {"model": model}
    return {
        "agent": {
            "system_template": agent.system_template,
            "instance_template": agent.instance_template,
            "format_error_template": agent.format_error_template,
            "step_limit": agent.max_turns,
            "cost_limit": 0.0,
        },
        "environment": {"timeout": agent.call_limit_ms // 1000},
        "model": {**model, "model_kwargs": msgspec.to_builtins(spec.sampler)},
    }


def _turn(turn: Turn, *, plain: bool) -> Iterator[dict[str, Any]]:
    """Yield the messages of a turn; `plain` are those of a file that was read, whose extras are in the patch."""
    step = turn.step
    parts = [step.model_output] if step.model_output else []
    shown = blocks(step.model_output or "")
    for call in (step.tool_calls or ()) if step.blocks is UNSET else ():
        command = (json_object(call.arguments) or {}).get("command") if call.name == "bash" else None
        if not isinstance(command, str):
            parts.append(f"```{call.name}\n{call.arguments}\n```")
        elif command.strip() not in shown:
            parts.append(f"```bash\n{command}\n```")
    usage = {"prompt_tokens": step.input_tokens, "completion_tokens": step.output_tokens}
    rest = {"reasoning_content": step.reasoning_content, "usage": usage, "finish_reason": step.finish_reason}
    yield _message("assistant", parts, step.end_ns, None if plain else without_none(rest))
    if turn.spans:
        left_out = {"tool_output", "stdout", "stderr", "type"}
        spans = [msgspec.to_builtins(span) for span in turn.spans]
        calls = [{key: span[key] for key in span if key not in left_out} for span in spans]
        outputs = [span.tool_output for span in turn.spans]
        yield _message("user", outputs, turn.spans[-1].end_ns, None if plain else {"calls": calls})
    if turn.reminder is not None:
        yield {"role": "user", "content": turn.reminder}


def _message(role: str, parts: list[str], end_ns: int | None, extra: dict[str, Any] | None) -> dict[str, Any]:
    found = {
        "role": role,
        "content": "\n\n".join(parts),
        "timestamp": None if end_ns is None else end_ns / 1e9,
        "extra": None if extra is None else {"agenttrace": extra},
    }
    return without_none(found)


def to_trace(value: Any, source: str = "") -> Trace:  # noqa: ANN401, ARG001 - whatever stood in the file
    """Return a trajectory as a record; nothing in it is executed.

    A reply with exactly one bash block is a call of `bash`, and the user message after it its result. Exit status and
    end are those that our writing left beside it; else the status is that of `<returncode>` or unknown (-1), the end
    `timeout` where mini-swe-agent says so. What the messages do not say is `null` or `not-measured`.

    Raises:
        DataError: it is no such file; the message names the field.
    """
    try:
        found = msgspec.convert(value, _File)
        return _trace(found, value)
    except (msgspec.ValidationError, RecursionError) as error:
        raise DataError(f"not a trajectory of mini-swe-agent v1: {error}") from error


def _trace(found: _File, value: dict[str, Any]) -> Trace:
    rest = list(found.messages)
    system = text_of(rest.pop(0).content) if rest and rest[0].role == "system" else None
    prompt = text_of(rest.pop(0).content) if rest and rest[0].role == "user" else ""
    info = found.info or _Info()
    said = [[message.content, message.timestamp] for message in found.messages]
    trace_id = derived_id(NAME, found.instance_id or "", digest(said))
    steps, spans = _turns(rest, trace_id)
    model = fitting(_at(info.config, "model", "model_name"), str)
    given = (message.timestamp for message in found.messages)
    times = [time for time in given if time is not None and 0 <= time < _YEAR_10000]
    trace = Trace(
        trace_id=trace_id,
        timestamp_utc=datetime.fromtimestamp(times[0], UTC).isoformat(timespec="microseconds") if times else None,
        prompt=prompt,
        model="unknown" if model is None else model,
        spans=tuple(spans),
        llm_steps=tuple(steps),
        total_duration_ms=(max(times) - min(times)) * 1000 if times else None,
        metadata=without_none({"schema_version": SCHEMA_VERSION, "source": NAME, "task_name": found.instance_id}),
        environment={"imported": without_none({"format": NAME, "system_prompt": system})},
        outcome=Outcome(
            ended=_ENDED.get(info.exit_status or "", "unknown"),
            detail=info.exit_status,
            final_answer=info.submission or None if info.exit_status == "Submitted" else None,
        ),
    )
    return with_patch(trace, from_trace(trace), value)


def _turns(rest: list[_Message], trace_id: str) -> tuple[list[LLMStep], list[Span]]:
    steps: list[LLMStep] = []
    spans: list[Span] = []
    for message, following in zip_longest(rest, rest[1:]):
        if message.role != "assistant":
            continue
        answer = text_of(following.content) if following is not None and following.role == "user" else None
        step = _step(message, answer, len(steps) + 1, trace_id)
        steps.append(step)
        if step.tool_calls and answer is not None:
            call = step.tool_calls[0]
            (end,) = fitting(_at(following.extra, "agenttrace", "calls"), tuple[_End]) or (_end(answer),)
            span = foreign_span(
                step,
                span_id=derived_id(trace_id, call.call_id),
                tool_name=call.name,
                tool_input=call.arguments,
                tool_output=answer,
                call_id=call.call_id,
                **msgspec.structs.asdict(end),
            )
            spans.append(span)
    return steps, spans


def _step(message: _Message, answer: str | None, number: int, trace_id: str) -> LLMStep:
    said = text_of(message.content)
    found = blocks(said)
    usage = _at(message.extra, "response", "usage") or _at(message.extra, "agenttrace", "usage")
    reasoning = _at(message.extra, "agenttrace", "reasoning_content")
    calls = None
    if len(found) == 1:
        arguments = canonical_json({"command": found[0]}).decode()
        calls = (ToolCall(call_id=f"call_{number}_1", name="bash", arguments=arguments),)
    return foreign_step(
        trace_id,
        number,
        model_output=said or None,
        reasoning_content=fitting(reasoning, str),
        tool_calls=calls,
        input_tokens=fitting(_at(usage, "prompt_tokens"), int),
        output_tokens=fitting(_at(usage, "completion_tokens"), int),
        counted_tokens=None,
        blocks=len(found),
        answered=None if calls else answer,
    )


def _end(text: str) -> _End:
    """Return how a command ended, as far as its answer says."""
    code = _RETURN_CODE.search(text[:200])
    killed = text.startswith(_KILLED[0]) and _KILLED[1] in text
    return _End(status="timeout" if killed else "ok", exit_code=int(code[1]) if code else None)


def _at(value: Any, *keys: str) -> Any:  # noqa: ANN401 - JSON of anyone
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
