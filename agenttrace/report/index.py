"""The index: one short row per trace, what the list shows and filters by before any trace is unpacked."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from agenttrace.records import Record
from agenttrace.report.view import SNIPPET_CHARS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agenttrace.report.view import TraceView

TROUBLES = frozenset({"timeout", "oom", "lost"})
"""Statuses of calls that did not run to their end."""

NAME_CHARS = 200
MOST_VALUES = 50
"""A list needs no more of a name, or of a trace's tools and exit codes; the trace itself has them all."""

_Number = TypeVar("_Number", int, float)


class IndexRow(Record, frozen=True, kw_only=True, array_like=True):
    """One trace in the list; written as an array, the names stand once in `FIELDS`.

    Attributes:
        id: trace id; several files can hold the same.
        file: number of the record file, from 0.
        chunk: number of the chunk that holds the trace, from 0.
        place: position in that chunk, from 0.
        prompt: the start of the prompt, blanks folded.
        tools: names of the tools called, sorted.
        exits: exit codes of the calls that ran, sorted.
        troubles: what ended calls that did not run to their end (one of `TROUBLES`), sorted.
        peak: largest peak of its calls.
    """

    id: str
    file: int
    chunk: int
    place: int
    dataset: str
    task: str
    name: str
    model: str
    prompt: str
    ended: str | None
    solved: bool | None
    tools: list[str]
    exits: list[int]
    troubles: list[str]
    steps: int
    calls: int
    ms: float | None
    tokens_in: int | None
    tokens_out: int | None
    cpu_ms: float | None
    peak: int | None
    read: int | None
    write: int | None


FIELDS: tuple[str, ...] = IndexRow.__struct_fields__


def index_row(view: TraceView, *, file: int, chunk: int, place: int) -> IndexRow:
    """Return the row of one trace: totals over its calls, `None` where no call was measured by itself."""
    calls = view.calls
    costs = [call.cost for call in calls if call.cost is not None and call.cost.method != "foreign"]
    peaks = [cost.peak for cost in costs if cost.peak is not None]
    return IndexRow(
        id=view.id,
        file=file,
        chunk=chunk,
        place=place,
        dataset=_short(view.dataset),
        task=_short(view.task),
        name=_short(view.name),
        model=_short(view.model),
        prompt=" ".join(view.prompt[: 2 * SNIPPET_CHARS].split())[:SNIPPET_CHARS],
        ended=view.ended,
        solved=view.solved,
        tools=sorted({_short(call.tool) for call in calls})[:MOST_VALUES],
        exits=sorted({call.exit for call in calls if call.exit is not None and call.status != "not_executed"})[
            :MOST_VALUES
        ],
        troubles=sorted({call.status for call in calls if call.status in TROUBLES}),
        steps=len(view.steps),
        calls=len(calls),
        ms=view.ms,
        tokens_in=_total(step.tokens_in for step in view.steps),
        tokens_out=_total(step.tokens_out for step in view.steps),
        cpu_ms=_total(cost.cpu_ms for cost in costs),
        peak=max(peaks, default=None),
        read=_total(cost.read for cost in costs),
        write=_total(cost.write for cost in costs),
    )


def _short(text: str) -> str:
    return text if len(text) <= NAME_CHARS else f"{text[: NAME_CHARS - 1]}…"


def _total(values: Iterable[_Number | None]) -> _Number | None:
    known = [value for value in values if value is not None]
    return sum(known[1:], known[0]) if known else None
