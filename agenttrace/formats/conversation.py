"""A record as the conversation that it was: what every format of messages is written from.

The system prompt, the tool schemas and the tool-calling agent's reminder stand in the run spec; without one, or what an
earlier reading kept of a foreign file, they are not known and are left out.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET

from agenttrace.formats.patch import Json, imported
from agenttrace.records import END_CLASSES, BashBlockSpec, OtherAgentSpec, ToolCallingSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agenttrace.records import LLMStep, RunSpec, Span, ToolCall, Trace

_REJECTED = "Error: the arguments of this call are not a JSON object of strings."
"""Says of a call, in records of collectors before the text that was sent was recorded, that the reminder followed."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Message(NamedTuple):
    """One message; an `assistant` one has its step, a `tool` one its span."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    step: LLMStep | None = None
    span: Span | None = None

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The calls it proposes."""
        return () if self.step is None else self.step.tool_calls or ()


class Turn(NamedTuple):
    """One generation.

    Attributes:
        heard: what it read and the one before it had not: increments, never the history again.
        step: the generation.
        spans: its calls that have a span, in order.
        reminder: what answered a reply without a usable call, if that is known.
    """

    heard: list[Message]
    step: LLMStep
    spans: list[Span]
    reminder: str | None

    @property
    def answers(self) -> list[Message]:
        """What came back."""
        found = [Message("tool", span.tool_output, span=span) for span in self.spans]
        return found if self.reminder is None else [*found, Message("user", self.reminder)]


def messages(trace: Trace, spec: RunSpec | None = None) -> list[Message]:
    """Return the conversation of a record, results of its last calls included, which no generation has read."""
    found = opening(trace, spec)
    for turn in turns(trace, spec):
        found += [Message("assistant", turn.step.model_output or "", step=turn.step), *turn.answers]
    return found


def opening(trace: Trace, spec: RunSpec | None) -> list[Message]:
    """Return what stands before the first generation: the system prompt, where it is known, and the task."""
    system = system_prompt(trace, spec)
    return [*([] if system is None else [Message("system", system)]), Message("user", trace.prompt)]


def turns(trace: Trace, spec: RunSpec | None = None) -> list[Turn]:
    """Return the generations of a record with their spans; spans that no step claims go with the last step."""
    owner = {step.step_id: number for number, step in reversed(list(enumerate(trace.llm_steps)))}
    for number, step in reversed(list(enumerate(trace.llm_steps))):
        owner.update({f"call {call.call_id}": number for call in step.tool_calls or ()})
    last = len(trace.llm_steps) - 1
    spans: list[list[Span]] = [[] for _ in trace.llm_steps]
    for span in trace.spans if spans else ():
        spans[owner.get(span.parent_span_id or "", owner.get(f"call {span.call_id}", last))].append(span)
    found: list[Turn] = []
    for number, step in enumerate(trace.llm_steps):
        heard = found[-1].answers if found else opening(trace, spec)
        found.append(Turn(heard, step, spans[number], _reminder(step, spans[number], spec, is_last=number == last)))
    return found


def _reminder(step: LLMStep, spans: list[Span], spec: RunSpec | None, *, is_last: bool) -> str | None:
    """Return the message that answered a reply without a usable call: recorded, or what the agent says then."""
    if step.answered is not UNSET:
        return step.answered
    usable = step.tool_calls and not any(span.tool_output == _REJECTED for span in spans)
    if spec is None or is_last or not isinstance(spec.agent, ToolCallingSpec) or usable:
        return None
    return spec.agent.reminder


def system_prompt(trace: Trace, spec: RunSpec | None) -> str | None:
    """Return the system prompt from the run spec, or from what an earlier reading kept."""
    if spec is not None:
        if isinstance(spec.agent, OtherAgentSpec):
            return None
        return spec.agent.system_message if isinstance(spec.agent, ToolCallingSpec) else spec.agent.system_template
    kept = imported(trace).get("system_prompt")
    return kept if isinstance(kept, str) else None


def tool_schemas(spec: RunSpec | None) -> list[Json] | None:
    """Return the schemas that were sent with every request; `None` where that is not known or there were none."""
    if spec is None or isinstance(spec.agent, BashBlockSpec) or as_json(spec):
        return None
    return list(spec.agent.tools)


def as_json(spec: RunSpec | None) -> bool:
    """Return whether the calls of a record stand in the texts of its replies, as JSON."""
    return spec is not None and isinstance(spec.agent, ToolCallingSpec) and spec.agent.reply_form is not UNSET


def in_text(trace: Trace, spec: RunSpec | None) -> bool:
    """Return whether the calls of a record stand in the texts of its replies, as bash blocks."""
    if spec is not None:
        return isinstance(spec.agent, BashBlockSpec)
    return any(step.blocks is not UNSET for step in trace.llm_steps)


def json_object(text: str) -> dict[str, Json] | None:
    """Return a JSON text as an object, or `None` when it is none or cannot be written again."""
    try:
        value = msgspec.json.decode(text)
        json.dumps(value, allow_nan=False)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def outcome_of(trace: Trace) -> dict[str, Any]:
    """Return an outcome as formats with room for it carry it: its fields, and what class of end it is."""
    return {**msgspec.to_builtins(trace.outcome), "end_class": END_CLASSES.get(trace.outcome.ended)}


def without_none(value: Mapping[str, Json]) -> dict[str, Json]:
    """Return the members that are not `None`: what is not known is left out of formats that have no null."""
    return {key: item for key, item in value.items() if item is not None}


def spoken(call: ToolCall) -> Json:
    """Return the arguments of a call: the object, or the text where it is none."""
    values = json_object(call.arguments)
    return call.arguments if values is None else values


def epoch_ns(timestamp: str | None) -> int | None:
    """Return the instant of an ISO 8601 text (UTC where it names no offset), to the microsecond."""
    try:
        moment = datetime.fromisoformat(timestamp or "")
        since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    except (ValueError, OverflowError):
        return None
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000


def lasted_ms(moments: Sequence[int]) -> float | None:
    """Return the milliseconds from the first of some moments to the last; one alone does not say how long it was."""
    return (max(moments) - min(moments)) / 1e6 if len(moments) > 1 else None


def iso(moment_ns: int | None) -> str | None:
    """Return ISO 8601 text with microseconds and offset."""
    if moment_ns is None:
        return None
    try:
        return (_EPOCH + timedelta(microseconds=moment_ns // 1000)).isoformat(timespec="microseconds")
    except OverflowError:
        return None
