"""What a replay found: differences, each with the place where people look for it; for people and for programs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.campaign.replay.costs import FigureSpread, table
from agenttrace.records import Record
from agenttrace.show import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agenttrace.records import Trace
    from agenttrace.records.compare import Difference
    from agenttrace.tasks import Task

_PLACE = re.compile(r"(spans|llm_steps)\[(\d+)\]\.?(.*)")
_WRITTEN = frozenset({"tool_output", "stdout.text", "stderr.text"})
SHOWN_FINDINGS = 20
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


def is_order_alone(difference: Difference, trace: Trace) -> bool:
    """Return whether a call of several processes wrote the same bytes in another order.

    Members of a pipeline run at the same time, and a message is often several writes: which comes first is up to the
    kernel, at every run.

    Args:
        difference: of a record and its replay.
        trace: the replay.
    """
    match = _PLACE.fullmatch(difference.field)
    texts = (difference.recorded, difference.found)
    if match is None or match[1] != "spans" or match[3] not in _WRITTEN or not all(text[0] == '"' for text in texts):
        return False
    recorded, found = (sorted(msgspec.json.decode(text, type=str)) for text in texts)
    return recorded == found and trace.spans[int(match[2])].telemetry.processes_started != 1


def as_text(finding: ReplayFinding) -> str:
    """Return a finding as one paragraph: trace, step or span, field, both values around the first difference."""
    head = "" if finding.trace_id is None else f"trace {finding.trace_id}"
    task = "" if finding.task_id is None else f" (task {finding.task_id})"
    recorded, found = around(finding.recorded, finding.found)
    place = ", ".join(part for part in (f"{head}{task}", finding.where, finding.field) if part)
    return f"{place}\n    recorded: {recorded}\n    now:      {found}"


def around(one: str, other: str, *, chars: int = SHOWN_CHARS) -> tuple[str, str]:
    """Return two texts cut to what lies around their first difference."""
    start = max(0, same_items(one, other) - chars // 2)

    def cut(text: str) -> str:
        middle = text[start : start + chars]
        return f"{'…' if start else ''}{middle}{'…' if start + chars < len(text) else ''}"

    return cut(one), cut(other)


def same_items(one: Sequence[object], two: Sequence[object]) -> int:
    """Return how many items two sequences have in common at their beginning."""
    return next((at for at, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))


def show_findings(findings: Sequence[ReplayFinding], say: Callable[[str], object]) -> None:
    """Say the first findings, and how many more there are."""
    for finding in findings[:SHOWN_FINDINGS]:
        say(printable(as_text(finding)))
    if len(findings) > SHOWN_FINDINGS:
        say(f"... and {len(findings) - SHOWN_FINDINGS} more differences (all of them: --json FILE)")


class ReplayReport(Record, frozen=True, kw_only=True):
    """What a replay found.

    Attributes:
        file: name of the record file.
        traces: records in it.
        replayed: traces that ran again to their end.
        identical: of those, the ones without a difference.
        reordered: of those, the ones that differ in nothing but the order in which processes of a call wrote.
        repeats: how often each was replayed.
        workers: tasks run at a time.
        elapsed_s: time of the replay alone.
        notes: inputs that differ from the run spec's and make no trace another one by themselves.
        findings: every difference, in the order in which it was found.
        costs: how far the costs of one and the same call differ; empty where each was replayed once.
    """

    file: str
    traces: int
    replayed: int
    identical: int
    repeats: int
    workers: int
    elapsed_s: float
    notes: tuple[str, ...]
    findings: tuple[ReplayFinding, ...]
    reordered: int = 0
    costs: tuple[FigureSpread, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every trace was replayed and nothing differs, but for the order of what was written at one time."""
        return self.replayed == self.identical + self.reordered == self.traces and not self.findings


def as_json(report: ReplayReport) -> bytes:
    """Return a report as the JSON that `--json` writes."""
    body: dict[str, Any] = {"passed": report.passed, **msgspec.to_builtins(report)}
    return msgspec.json.format(msgspec.json.encode(body), indent=2) + b"\n"


def show(report: ReplayReport, say: Callable[[str], object]) -> None:
    """Say the notes, the first findings and the line that sums up."""
    for note in report.notes:
        say(f"note: other input than in the run spec: {printable(note)}")
    show_findings(report.findings, say)
    for line in table(report.costs) if report.costs else ():
        say(printable(line))
    often = "" if report.repeats == 1 else f", {report.repeats} times each"
    order = (
        f", {report.reordered} more but for the order in which processes of a call wrote" if report.reordered else ""
    )
    say(
        f"{report.replayed} of {report.traces} traces replayed{often}, {report.identical} byte-identical but for the "
        f"measured fields{order}; {report.elapsed_s:.2f} s with {report.workers} workers"
    )
