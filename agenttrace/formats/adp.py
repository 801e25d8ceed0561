"""Trajectories of the Agent Data Protocol: what was heard, called and said, in order; for training.

Source: neulab/agent-data-protocol, `schema/` (`Trajectory`, `ApiAction`, `CodeAction`, `MessageAction`,
`TextObservation`; arXiv 2510.24702). A call is linked to its result by `tool_call_id`, and each has exactly one of the
other; calls that were not carried out are text, and so are results that no call is known for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agenttrace.formats.conversation import json_object, outcome_of, system_prompt, turns, without_none

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agenttrace.formats.conversation import Turn
    from agenttrace.records import RunSpec, Trace

_LANGUAGES = {"bash": ("bash", "command"), "python_interpreter": ("python", "code")}
"""Tools that run code → its language, and the argument that has it."""


def from_trace(trace: Trace, spec: RunSpec | None = None, source: str = "") -> dict[str, Any]:  # noqa: ARG001
    """Return a trajectory; without `schema_version`, so it is of the version of whoever reads it."""
    content = [_heard(trace.prompt, "user")]
    content += [item for turn in turns(trace, spec) for item in _turn(turn)]
    languages = sorted({item["language"] for item in content if item["class_"] == "code_action"})
    outcome = outcome_of(trace)
    details = {
        "model": trace.model,
        "system_prompt": system_prompt(trace, spec),
        **{name: trace.metadata.get(name) for name in ("run_id", "dataset_name", "task_id", "task_name", "seed")},
        **{name: outcome[name] for name in ("ended", "end_class", "solved", "final_answer")},
        "tokens": _tokens(trace),
    }
    value = {
        "id": trace.trace_id,
        "content": content,
        "available_code_languages": languages or None,
        "details": without_none(details),
    }
    return without_none(value)


def _heard(text: str, source: str, call_id: str | None = None) -> dict[str, Any]:
    said = {"class_": "text_observation", "content": text, "source": source, "tool_call_id": call_id}
    return without_none(said)


def _turn(turn: Turn) -> Iterator[dict[str, Any]]:
    """Yield what a generation did and what came back; its text and thought stand with the first call."""
    step = turn.step
    results = {span.call_id: span for span in reversed(turn.spans) if span.call_id is not None}
    done = {call.call_id: call for call in step.tool_calls or () if call.call_id in results}
    thought = {"description": step.model_output, "reasoning_content": step.reasoning_content or None}
    for call in done.values():
        yield {**_action(call.name, call.arguments), **without_none(thought), "tool_call_id": call.call_id}
        thought = {"description": None} if call.name in _LANGUAGES else {}
    if not done:
        said = [step.model_output or "", *(f"{call.name} {call.arguments}" for call in step.tool_calls or ())]
        yield without_none(
            {
                "class_": "message_action",
                "content": "\n".join(filter(None, said)),
                "reasoning_content": step.reasoning_content or None,
            }
        )
    for span in turn.spans:
        linked = span.call_id in done and results[span.call_id] is span
        yield _heard(span.tool_output, "environment", span.call_id if linked else None)
    if turn.reminder is not None:
        yield _heard(turn.reminder, "user")


def _action(name: str, arguments: str) -> dict[str, Any]:
    values = json_object(arguments)
    language, key = _LANGUAGES.get(name, ("", ""))
    code = None if values is None else values.get(key)
    if isinstance(code, str) and len(values or ()) == 1:
        return {"class_": "code_action", "language": language, "content": code, "description": None}
    kwargs = {"arguments": arguments} if values is None else values
    return {"class_": "api_action", "function": name, "kwargs": kwargs}


def _tokens(trace: Trace) -> dict[str, int] | None:
    """Return the sums over the generations, where each is known."""
    pairs = [(step.input_tokens, step.output_tokens) for step in trace.llm_steps]
    if not pairs or any(None in pair for pair in pairs):
        return None
    return {"input": sum(one or 0 for one, _ in pairs), "output": sum(one or 0 for _, one in pairs)}
