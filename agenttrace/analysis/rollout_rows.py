"""Decodes one line of a rollout file of schema 1.0.0 into only what the tables need, without the records in between.

A turn is decoded into what also has the fields of a step, its execution into what also has those of a span; they are
filled in. What 1.0.0 had no field for is not there, and unknown.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from types import GenericAlias
from typing import Annotated, Any

import msgspec
from msgspec import UNSET

from agenttrace.analysis.lean import lean
from agenttrace.formats.columns import COMPUTED_FROM, LONG
from agenttrace.records import LLMStep, Span, Telemetry, Timings, Trace, rollout_1_0
from agenttrace.records.rollout_1_0 import TOOL, arguments, end_ns, kept_bytes, part_ids, with_parts

_Summand = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
"""What of a rollout is added up: the sum fits a column."""
_GIVEN: dict[str, Any] = {
    **dict.fromkeys(("start_ns", "stdout_bytes", "stderr_bytes", "lost_bytes"), _Summand),
    "timestamp_utc": datetime | None,
    "stop": rollout_1_0.Stop,
}
_TEXTS = frozenset({"content", "observation", "reasoning_content", "counted_tokens", "cut_chars", "encoding"})
_LATER = frozenset(
    field.name for kind in (Telemetry, Timings) for field in msgspec.structs.fields(kind) if field.default is UNSET
)


_ONE = (None,)
"""Calls of a turn with a command: they are only counted."""


class _Stream(msgspec.Struct, gc=False):
    bytes_total: int
    bytes_kept: int


def decode(line: bytes, *, texts: bool, ids: bool) -> Trace:
    """Return the trace of a line, or what has its fields; errors are those of `msgspec.json.decode`.

    Args:
        line: the line.
        texts: with the fields of `columns.LONG`.
        ids: with the ids of steps and spans; else they only tell one from another in this trace.
    """
    if texts:
        return rollout_1_0.as_trace(_whole()(line))
    rollout = _lean()(line)
    turns = rollout.turns
    names = part_ids(rollout) if ids else [[str(turn.turn) for turn in turns]] * 3
    spans = []
    for turn, step_id, call_id, span_id in zip(turns, *names, strict=True):
        turn.step_id, turn.step_number = step_id, turn.turn
        turn.end_ns = end_ns(turn.start_ns, turn.duration_ms)
        span = turn.execution
        if span is None:
            continue
        turn.tool_calls = _ONE
        spans.append(span)
        span.span_id, span.parent_span_id, span.call_id = span_id, step_id, call_id
        span.tool_name, span.tool_input = TOOL, arguments(span.command)
        span.end_ns = end_ns(span.start_ns, span.duration_ms)
        if span.status != "lost":
            stdout, stderr = kept_bytes(span)
            span.stdout, span.stderr = _Stream(span.stdout_bytes, stdout), _Stream(span.stderr_bytes, stderr)
    return with_parts(rollout, turns, tuple(spans))


@cache
def _whole() -> Any:  # noqa: ANN401 - a function
    return msgspec.json.Decoder(lean(rollout_1_0.Rollout, without=frozenset(), given=_GIVEN)).decode


@cache
def _lean() -> Any:  # noqa: ANN401 - a function
    without = _TEXTS | _LATER | (LONG & {*Telemetry.__struct_fields__})
    execution = _seen_as(Span, lean(rollout_1_0.Execution, without=without, given=_GIVEN))
    given = {**_GIVEN, "execution": execution | None}
    turn = _seen_as(LLMStep, lean(rollout_1_0.RolloutTurn, without=without, given=given))
    given["turns"] = GenericAlias(tuple, (turn, ...))
    return msgspec.json.Decoder(lean(rollout_1_0.Rollout, without=without, given=given)).decode


def _seen_as(kind: Any, base: Any) -> Any:  # noqa: ANN401 - structures
    """Return a structure with the fields of another and those that the tables need of a kind, to be filled in."""
    needed = [name for name in kind.__struct_fields__ if name not in LONG - COMPUTED_FROM or name == "tool_calls"]
    more = [(name, Any, None) for name in needed if name not in base.__struct_fields__]
    return msgspec.defstruct(kind.__name__, more, bases=(base,), frozen=False, kw_only=True, gc=False)
