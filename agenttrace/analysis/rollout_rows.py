"""Decodes one line of a rollout file of schema 1.0.0 into what the tables need, without the records in between.

The lines that are refused are those that `store.read.decode` refuses, and beside them only what no column can hold: a
figure out of its bounds, a time that is none, metadata or environment of another type than their column. A turn is
decoded into what also has the fields of a step, its execution into what also has those of a span; they are filled in,
which takes less time than `rollout_1_0.as_trace`, and even than the same with types of the fewest fields. The tests
hold both equal. What 1.0.0 had no field for is unknown.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from types import GenericAlias
from typing import Annotated, Any

import msgspec

from agenttrace.analysis.lean import lean
from agenttrace.formats.columns import COMPUTED_FROM, LONG
from agenttrace.records import LLMStep, Span, rollout_1_0
from agenttrace.records.rollout_1_0 import TOOL, arguments, as_trace, end_ns, kept_bytes, part_ids, with_parts

_Summand = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
"""What of a rollout is added up: the sum fits a column."""
_GIVEN: dict[str, Any] = {
    **dict.fromkeys(("start_ns", "stdout_bytes", "stderr_bytes", "lost_bytes"), _Summand),
    "timestamp_utc": datetime,
}
_ONE = (None,)
"""Calls of a turn with a command: they are only counted."""


class _Stream(msgspec.Struct, gc=False):
    bytes_total: int
    bytes_kept: int


def decode(line: bytes, *, texts: bool, ids: bool) -> Any:  # noqa: ANN401 - of other types than a `Trace`
    """Return what has the fields of the trace of a line; errors are those of `msgspec.json.decode`.

    Args:
        line: the line.
        texts: with the fields of `columns.LONG`.
        ids: with the ids of steps and spans; else, without texts, they only tell one from another in this trace.
    """
    rollout = _decoder()(line)
    return as_trace(rollout) if texts else _filled(rollout, ids=ids)


def _filled(rollout: Any, *, ids: bool) -> Any:  # noqa: ANN401
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
def _decoder() -> Any:  # noqa: ANN401 - a function
    execution = _seen_as(Span, _exact(rollout_1_0.Execution))
    turn = _seen_as(LLMStep, _exact(rollout_1_0.RolloutTurn, execution=execution | None))
    return msgspec.json.Decoder(_exact(rollout_1_0.Rollout, turns=GenericAlias(tuple, (turn, ...)))).decode


def _exact(record: type, **given: Any) -> Any:  # noqa: ANN401 - types
    return lean(record, without=frozenset(), given=_GIVEN | given, exact=True)


def _seen_as(kind: Any, base: Any) -> Any:  # noqa: ANN401 - structures
    """Return a structure with the fields of another and those that the tables need of a kind, to be filled in."""
    needed = [name for name in kind.__struct_fields__ if name not in LONG - COMPUTED_FROM or name == "tool_calls"]
    more = [(name, Any, None) for name in needed if name not in base.__struct_fields__]
    return msgspec.defstruct(kind.__name__, more, bases=(base,), frozen=False, kw_only=True, gc=False)
