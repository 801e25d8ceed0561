"""Plans a released campaign again and compares ids, prompts, order and metadata of its rows, byte for byte."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from agenttrace.campaign.replay.findings import ReplayFinding
from agenttrace.errors import DataError
from agenttrace.records import Record, canonical_json
from agenttrace.records.compare import ABSENT
from agenttrace.store.read import DECODE_ERRORS, RecordIndex, read_traces

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agenttrace.campaign.plan import Plan
    from agenttrace.tasks import Task


class Rows(Record, frozen=True, kw_only=True):
    """How the rows of a file compare with those that its run spec makes here.

    Attributes:
        rows: rows in the file.
        identical: rows with the planned id, prompt and metadata, byte for byte.
        metadata_sha256: see `metadata_digest`.
        findings: what differs, in file order.
    """

    rows: int
    identical: int
    metadata_sha256: str
    findings: tuple[ReplayFinding, ...]

    @property
    def line(self) -> str:
        """The result in one line."""
        return f"metadata: {self.identical} of {self.rows} rows identical, sha256 {self.metadata_sha256}"


class _Row(msgspec.Struct):
    trace_id: str
    prompt: str
    metadata: msgspec.Raw


def metadata_digest(records: Path) -> str:
    """Return the SHA-256 over the metadata of all rows: the canonical JSON of each, one line each, in file order.

    Raises:
        UsageError: the file cannot be read.
        DataError: a line is not a record.
    """
    digest = hashlib.sha256()
    for trace in read_traces(records):
        digest.update(canonical_json(trace.metadata) + b"\n")
    return digest.hexdigest()


def _rows(index: RecordIndex) -> Iterator[_Row]:
    for number, trace_id in enumerate(index.ids, start=1):
        try:
            yield msgspec.json.decode(index.line(trace_id), type=_Row)
        except DECODE_ERRORS as error:
            raise DataError(f"{index.path}, line {number}: not a trace record: {error}") from error


def compare_rows(records: Path, plan: Plan) -> Rows:
    """Compare the rows of a file with those of a plan made here.

    Raises:
        UsageError: the file cannot be read.
        DataError: a line is not a record.
    """
    planned = {plan.trace_id(task): task for task in plan.jobs()}
    findings: list[ReplayFinding] = []
    identical = 0
    index = RecordIndex(records)
    for row in _rows(index):
        found = list(_row_findings(row, planned.get(row.trace_id), plan))
        identical += not found
        findings += found
    findings += _order_findings(index.ids, list(planned), strict=plan.spec.serving.reproducible)
    return Rows(
        rows=len(index.ids),
        identical=identical,
        metadata_sha256=metadata_digest(records),
        findings=tuple(findings),
    )


def _row_findings(row: _Row, task: Task | None, plan: Plan) -> Iterator[ReplayFinding]:
    if task is None:
        fields = {"trace_id": (row.trace_id, "not planned")}
    else:
        here = msgspec.json.encode(plan.metadata(task)).decode()
        fields = {"prompt": (row.prompt, plan.prompt(task)), "metadata": (bytes(row.metadata).decode(), here)}
    for field, (recorded, found) in fields.items():
        if recorded != found:
            yield ReplayFinding(
                trace_id=row.trace_id,
                task_id=None if task is None else task.task_id,
                where="trace",
                field=field,
                recorded=recorded,
                found=found,
            )


def _order_findings(recorded: list[str], planned: list[str], *, strict: bool) -> Iterator[ReplayFinding]:
    """Yield missing rows and the first row out of the plan's order; side by side, tasks end in any order."""
    rows, tasks = set(recorded), set(planned)
    for trace_id in planned:
        if trace_id not in rows:
            yield ReplayFinding(trace_id=trace_id, where="trace", field="", recorded=ABSENT, found="planned")
    there = [trace_id for trace_id in planned if trace_id in rows]
    known = [trace_id for trace_id in recorded if trace_id in tasks]
    if strict and there != known:
        at = next(number for number, (one, two) in enumerate(zip(there, known, strict=True)) if one != two)
        yield ReplayFinding(where=f"row {at + 1}", field="order", recorded=known[at], found=there[at])
