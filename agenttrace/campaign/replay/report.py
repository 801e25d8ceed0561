"""What a replay found, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.campaign.replay.findings import ReplayFinding, as_text
from agenttrace.records import Record
from agenttrace.show import printable

if TYPE_CHECKING:
    from rich.console import Console

SHOWN_FINDINGS = 20


class ReplayReport(Record, frozen=True, kw_only=True):
    """What a replay found.

    Attributes:
        file: name of the record file.
        traces: records in it.
        replayed: traces that ran again to their end.
        identical: of those, the ones without a difference.
        repeats: how often each was replayed.
        workers: tasks run at a time.
        elapsed_s: time of the replay alone.
        notes: inputs that differ from the run spec's and make no trace another one by themselves.
        findings: every difference, in the order in which it was found.
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

    @property
    def passed(self) -> bool:
        """Whether every trace was replayed and nothing differs."""
        return self.replayed == self.identical == self.traces and not self.findings


def as_json(report: ReplayReport) -> bytes:
    """Return a report as the JSON that `--json` writes."""
    body: dict[str, Any] = {"passed": report.passed, **msgspec.to_builtins(report)}
    return msgspec.json.format(msgspec.json.encode(body), indent=2) + b"\n"


def show(report: ReplayReport, out: Console) -> None:
    """Print the first findings and the line that sums up."""
    for note in report.notes:
        out.print(f"note: other input than in the run spec: {printable(note)}", markup=False)
    for finding in report.findings[:SHOWN_FINDINGS]:
        out.print(printable(as_text(finding)), markup=False)
    if len(report.findings) > SHOWN_FINDINGS:
        out.print(f"... and {len(report.findings) - SHOWN_FINDINGS} more differences (all of them: --json FILE)")
    often = "" if report.repeats == 1 else f", {report.repeats} times each"
    out.print(
        f"{report.replayed} of {report.traces} traces replayed{often}, {report.identical} byte-identical but for the "
        f"measured fields; {report.elapsed_s:.2f} s with {report.workers} workers"
    )
