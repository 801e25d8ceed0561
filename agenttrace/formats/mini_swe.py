"""Trajectory files of mini-swe-agent v1 (`mini-swe-agent-1`, as of v1.17.5), written.

A turn there is an assistant message with one bash block and the user message that answers it. What it has no place for
lies in `extra.agenttrace` of a message and in `info.agenttrace`; its own readers pass over both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from agenttrace.agents.bash_block import blocks
from agenttrace.formats.conversation import json_object, opening, outcome_of, turns, without_none
from agenttrace.formats.measured import totals_of
from agenttrace.formats.patch import as_read, imported
from agenttrace.records import (
    BashBlockSpec,
    Trace,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agenttrace.formats.conversation import Turn
    from agenttrace.records import Ended, RunSpec, Span

NAME = "mini-swe-agent-1"
VERSION = "1.17.5"
_STATUS: dict[Ended, str] = {
    "final_answer": "Submitted",
    "max_steps": "LimitsExceeded",
    "token_budget": "LimitsExceeded",
    "format_error": "FormatError",
}
ENDS: dict[str, Ended] = {
    "Submitted": "final_answer",
    "LimitsExceeded": "max_steps",
    "FormatError": "format_error",
    "RepeatedFormatError": "format_error",
}


def from_trace(trace: Trace, spec: RunSpec | None = None, source: str = "") -> dict[str, Any]:  # noqa: ARG001
    """Return the content of a `.traj.json`; one that was read before is written again as it was.

    The replies of a bash-block agent stand as they are. Of another agent, a call of `bash` is a bash block, a call of
    another tool a block named after the tool, which mini-swe-agent would not run; the answers to all calls of a
    generation are one user message. `submission` is the patch of a checkout, where there is one.
    """
    found = [{"role": one.role, "content": one.content} for one in opening(trace, spec)]
    found += [said for turn in turns(trace, spec) for said in _turn(turn, plain=bool(imported(trace, NAME)))]
    return as_read(trajectory(trace, spec, found, NAME, VERSION), trace, NAME)


def trajectory(
    trace: Trace, spec: RunSpec | None, messages: list[dict[str, Any]], name: str, version: str
) -> dict[str, Any]:
    """Return a file of either form: what `info` says of a run, around its messages."""
    outcome = trace.outcome
    paid = None if trace.totals is UNSET or trace.totals is None else trace.totals.cost_usd
    return {
        "info": {
            "exit_status": _STATUS.get(outcome.ended, outcome.ended),
            "submission": (outcome.patch if outcome.ended == "final_answer" else "") or outcome.final_answer or "",
            "model_stats": {"instance_cost": paid or 0.0, "api_calls": len(trace.llm_steps)},
            "mini_version": version,
            "config": _config(trace, spec),
            "agenttrace": {
                "trace_id": trace.trace_id,
                "timestamp_utc": trace.timestamp_utc,
                "total_duration_ms": trace.total_duration_ms,
                "metadata": trace.metadata,
                "outcome": outcome_of(trace),
                **totals_of(trace),
            },
        },
        "messages": messages,
        "trajectory_format": name,
        "instance_id": str(trace.metadata.get("task_name") or trace.trace_id),
    }


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
        calls = [call_facts(span) for span in turn.spans]
        outputs = [span.tool_output for span in turn.spans]
        yield _message("user", outputs, turn.spans[-1].end_ns, None if plain else {"calls": calls})
    if turn.reminder is not None:
        yield {"role": "user", "content": turn.reminder}


def call_facts(span: Span) -> dict[str, Any]:
    """Return what is said of a call beside its text: how it ended and what it cost."""
    left_out = {"tool_output", "stdout", "stderr", "type"}
    return {key: one for key, one in msgspec.to_builtins(span).items() if key not in left_out}


def _message(role: str, parts: list[str], end_ns: int | None, extra: dict[str, Any] | None) -> dict[str, Any]:
    found = {
        "role": role,
        "content": "\n\n".join(parts),
        "timestamp": None if end_ns is None else end_ns / 1e9,
        "extra": None if extra is None else {"agenttrace": extra},
    }
    return without_none(found)
