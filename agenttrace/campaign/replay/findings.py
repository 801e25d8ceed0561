"""A difference between two traces, with the place where people look for it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agenttrace.records import Record, Trace

if TYPE_CHECKING:
    from agenttrace.records.compare import Difference
    from agenttrace.tasks import Task

_PLACE = re.compile(r"(spans|llm_steps)\[(\d+)\]\.?(.*)")
SHOWN_CHARS = 200


class ReplayFinding(Record, frozen=True, kw_only=True):
    """One difference.

    Attributes:
        where: `step N`, `span N (TOOL)`, `trace`, `inputs` or `cassette`.
        field: path of the field in there.
        recorded: JSON text of the value in the record.
        found: JSON text of the value now.
        trace_id: the trace, where it is about one.
        task_id: its task, where that is known.
    """

    where: str
    field: str
    recorded: str
    found: str
    trace_id: str | None = None
    task_id: int | str | None = None


def located(trace_id: str, task: Task | None, difference: Difference, trace: Trace | None) -> ReplayFinding:
    """Return a difference of two records as people find it: `spans[0].exit_code` is `exit_code` of span 1."""
    where, field = "trace", difference.field
    if match := _PLACE.fullmatch(difference.field):
        number = int(match[2])
        field = match[3] or match[1]
        where = f"step {number + 1}"
        if match[1] == "spans":
            spans = () if trace is None else trace.spans
            name = spans[number].tool_name if number < len(spans) else "not there now"
            where = f"span {number + 1} ({name})"
    return ReplayFinding(
        trace_id=trace_id,
        task_id=None if task is None else task.task_id,
        where=where,
        field=field,
        recorded=difference.recorded,
        found=difference.found,
    )


def as_text(finding: ReplayFinding) -> str:
    """Return a finding as one paragraph: trace, step or span, field, both values around the first difference."""
    head = "" if finding.trace_id is None else f"trace {finding.trace_id}"
    task = "" if finding.task_id is None else f" (task {finding.task_id})"
    recorded, found = around(finding.recorded, finding.found)
    place = ", ".join(part for part in (f"{head}{task}", finding.where, finding.field) if part)
    return f"{place}\n    recorded: {recorded}\n    now:      {found}"


def around(one: str, other: str, *, chars: int = SHOWN_CHARS) -> tuple[str, str]:
    """Return two texts cut to what lies around their first difference."""
    same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    start = max(0, same - chars // 2)

    def cut(text: str) -> str:
        middle = text[start : start + chars]
        return f"{'…' if start else ''}{middle}{'…' if start + chars < len(text) else ''}"

    return cut(one), cut(other)
