"""The index: one short row per trace, what the list shows and filters by before any trace is unpacked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

from agenttrace.records import Record
from agenttrace.report.view import SNIPPET_CHARS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agenttrace.report.view import CallView, TraceView

TROUBLES = frozenset({"timeout", "oom", "lost"})
"""Statuses of calls that did not run to their end."""

NAME_CHARS = 200
_LONGEST_PREFACE = 20_000
MOST_VALUES = 50
"""A list needs no more of a name, or of a trace's tools and exit codes; the trace itself has them all."""

_ISSUE = re.compile(r"^## Issue[ \t]*\n|^<(?:pr_description|issue)>", re.MULTILINE)
"""What stands before the issue in a prompt over a checkout: of the kit's agent, and of mini-swe-agent's templates."""
ToolCost = tuple[str, int, int, float | None, float | None, int | None]

_Number = TypeVar("_Number", int, float)


class IndexRow(Record, frozen=True, kw_only=True, array_like=True):
    """One trace in the list; written as an array, the names stand once in `FIELDS`.

    Attributes:
        id: trace id; several files can hold the same.
        file: number of the record file, from 0.
        chunk: number of the chunk that holds the trace, from 0.
        place: position in that chunk, from 0.
        run: id of its run, empty where none is recorded; several files can hold parts of one, or the same twice.
        time: when it began, ISO 8601, empty where that is not recorded.
        attempt: which rollout of its task in its run, from 0.
        prompt: the start of what is asked, blanks folded: of an issue over a checkout, of the issue.
        verdicts: [aspect, verdict] of each aspect that was judged.
        exits: exit codes of the calls that ran, sorted.
        troubles: what ended calls that did not run to their end (one of `TROUBLES`), sorted.
        model_ms: in generations; `None` where one has no duration. So is `tools_ms`, in calls.
        cost: US dollars.
        peak: largest peak of its calls.
        by_tool: for each tool, sorted, [name, calls, those that failed, ms, CPU ms, peak bytes].
    """

    id: str
    file: int
    chunk: int
    place: int
    dataset: str
    task: str
    name: str
    attempt: int | None
    model: str
    run: str
    time: str
    prompt: str
    ended: str | None
    solved: bool | None
    verdicts: list[tuple[str, str]]
    exits: list[int]
    troubles: list[str]
    steps: int
    calls: int
    ms: float | None
    model_ms: float | None
    tools_ms: float | None
    cost: float | None
    tokens_in: int | None
    tokens_out: int | None
    cpu_ms: float | None
    peak: int | None
    read: int | None
    write: int | None
    by_tool: list[ToolCost]


FIELDS: tuple[str, ...] = IndexRow.__struct_fields__


def index_row(view: TraceView, *, file: int, chunk: int, place: int) -> IndexRow:
    """Return the row of one trace: totals over its calls, `None` where no call was measured by itself."""
    calls = view.calls
    costs = [call.cost for call in calls if call.cost is not None and call.cost.method != "foreign"]
    return IndexRow(
        id=view.id,
        file=file,
        chunk=chunk,
        place=place,
        dataset=_short(view.dataset),
        task=_short(view.task),
        name=_short(view.name),
        attempt=view.attempt,
        model=_short(view.model),
        run=_short(view.run),
        time=view.time[:NAME_CHARS],
        prompt=_asked(view.prompt),
        ended=view.ended,
        solved=view.solved,
        verdicts=[(_short(one.aspect), one.verdict) for one in view.verdicts[:MOST_VALUES]],
        exits=sorted({call.exit for call in calls if call.exit is not None and call.status != "not_executed"})[
            :MOST_VALUES
        ],
        troubles=sorted({call.status for call in calls if call.status in TROUBLES}),
        steps=len(view.steps),
        calls=len(calls),
        ms=view.ms,
        model_ms=_whole([step.ms for step in view.steps]),
        tools_ms=_whole([call.ms for call in calls if call.status is not None]),
        cost=view.facts.get("totals", {}).get("cost_usd"),
        tokens_in=_tokens([step.tokens_in for step in view.steps], view.facts, "input_tokens"),
        tokens_out=_tokens([step.tokens_out for step in view.steps], view.facts, "output_tokens"),
        cpu_ms=_total(cost.cpu_ms for cost in costs),
        peak=_most(cost.peak for cost in costs),
        read=_total(cost.read for cost in costs),
        write=_total(cost.write for cost in costs),
        by_tool=_by_tool(calls),
    )


def _asked(prompt: str) -> str:
    """Return the start of what a prompt asks; the issue, where that stands behind the same words for every task."""
    found = _ISSUE.search(prompt[:_LONGEST_PREFACE])
    text = prompt[found.end() :].lstrip() if found else prompt
    title, _, rest = text[: 2 * SNIPPET_CHARS].partition("\n\n" if found else "\0")
    parts = [" ".join(part.split()) for part in (title, rest)]
    return " \N{EN DASH} ".join(filter(None, parts))[:SNIPPET_CHARS]


def _by_tool(calls: Iterable[CallView]) -> list[ToolCost]:
    tools: dict[str, list[CallView]] = {}
    for call in calls:
        tools.setdefault(_short(call.tool), []).append(call)
    return [_tool_cost(name, tools[name]) for name in sorted(tools)[:MOST_VALUES]]


def _tool_cost(name: str, calls: list[CallView]) -> ToolCost:
    costs = [call.cost for call in calls if call.cost is not None and call.cost.method != "foreign"]
    bad = sum(call.failed for call in calls)
    ms = _total(call.ms for call in calls)
    return name, len(calls), bad, ms, _total(one.cpu_ms for one in costs), _most(one.peak for one in costs)


def _most(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _tokens(steps: list[int | None], facts: dict[str, Any], name: str) -> int | None:
    """Return the sum over the steps; else what the format that it was read from says of the whole, as the tables do."""
    known = [count for count in steps if count is not None]
    whole: int | None = facts.get("totals", {}).get(name)
    return sum(known) if known and len(known) == len(steps) else whole


def _whole(values: list[float | None]) -> float | None:
    """Return the sum where every value is known: a part of it would look like the whole."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _short(text: str) -> str:
    return text if len(text) <= NAME_CHARS else f"{text[: NAME_CHARS - 1]}…"


def _total(values: Iterable[_Number | None]) -> _Number | None:
    known = [value for value in values if value is not None]
    return sum(known[1:], known[0]) if known else None
