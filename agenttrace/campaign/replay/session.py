"""`agenttrace replay`: one replay inside the collector container, with sandbox workers over sockets."""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.campaign.environment import image_digests
from agenttrace.campaign.inputs import as_replayed, input_differences, refuse_other_inputs
from agenttrace.campaign.options import like
from agenttrace.campaign.plan import Plan, make_plan
from agenttrace.campaign.replay import report
from agenttrace.campaign.replay.findings import as_text
from agenttrace.campaign.replay.rows import compare_rows
from agenttrace.campaign.replay.run import Replay
from agenttrace.campaign.workers import WorkerPool
from agenttrace.errors import UsageError
from agenttrace.show import printable
from agenttrace.store.read import read_run_spec, run_spec_path

if TYPE_CHECKING:
    from agenttrace.records import LLMStep, RunSpec, Span, Trace
    from agenttrace.tasks import Task

EXIT_DIFFERS = 1


class _Quiet:
    """Shows nothing while a replay runs; lost attempts come up in its report."""

    def event(self, event: LLMStep | Span) -> None:
        """Count nothing."""

    def finished(self, task: Task, trace: Trace) -> None:
        """Count nothing."""

    def failed(self, task: Task, trace: Trace, attempt: int) -> None:
        """Count nothing."""


def reproduce(
    file: Path, *, sockets: Path, workers: int, rows_only: bool, anyway: bool, trees: Path | None = None
) -> int:
    """Plan a released campaign again here, compare its rows, replay it, and return the exit status.

    A replay needs no model, so other images, weights or another server are noted and no more; the rows are planned with
    those of the run spec. Without one, every input must be that of the run spec.

    Args:
        file: the record file; run spec and cassette lie beside it.
        sockets: where sandbox workers listen.
        workers: tasks replayed at a time.
        rows_only: no replay; a live campaign follows.
        anyway: go on although inputs here are not those of the run spec.
        trees: prepared tasks over checkouts.

    Raises:
        UsageError: an input that counts is not that of the run spec.
    """
    from agenttrace.campaign.display import console  # noqa: PLC0415 - rich

    out = console()
    spec = read_run_spec(run_spec_path(file))
    plan = _planned(spec, trees)
    expected = as_replayed(spec, plan.spec)
    try:
        refuse_other_inputs(spec, plan.spec if rows_only else expected, what=file.name)
    except UsageError as error:
        if not anyway:
            raise
        out.print(printable(str(error)), markup=False)
    notes = [line for line in input_differences(spec, plan.spec) if line not in input_differences(spec, expected)]
    rows = compare_rows(file, msgspec.structs.replace(plan, spec=expected, spec_sha256=spec.digest))
    for finding in rows.findings[: report.SHOWN_FINDINGS]:
        out.print(printable(as_text(finding)), markup=False)
    body: dict[str, Any] = {"file": file.name, "rows": msgspec.to_builtins(rows), "notes": notes}
    passed = not rows.findings
    if not rows_only:
        found = Replay(file, trees=trees).run(WorkerPool(sockets).connect, _Quiet(), workers=workers, repeats=1)
        report.show(msgspec.structs.replace(found, notes=tuple(dict.fromkeys([*notes, *found.notes]))), out)
        body["replay"] = msgspec.to_builtins(found)
        passed = passed and found.passed
    out.print(rows.line, markup=False)
    sys.stdout.buffer.write(msgspec.json.encode(body))
    return 0 if passed else EXIT_DIFFERS


def _planned(spec: RunSpec, trees: Path | None) -> Plan:
    """Return the plan that the options of a run spec give here, in an empty folder: nothing is resumed."""
    with tempfile.TemporaryDirectory(prefix="agenttrace-") as folder:
        return make_plan(
            like(spec),
            images=image_digests(),
            folder=Path(folder),
            now=datetime.now(UTC),
            trees=trees,
        )


def replay(file: Path, *, sockets: Path, workers: int, repeats: int, trees: Path | None = None) -> int:
    """Replay a record file, print what was found (JSON to standard output) and return the exit status.

    Raises:
        AgentTraceError: the file, its run spec, its cassette, its tasks or a worker cannot be had.
    """
    from agenttrace.campaign.display import console  # noqa: PLC0415 - rich

    if workers < 1 or repeats < 1:
        raise UsageError("--workers and --repeat: expected 1 or more")
    pool = WorkerPool(sockets)
    found = Replay(file, trees=trees).run(pool.connect, _Quiet(), workers=workers, repeats=repeats)
    report.show(found, console())
    sys.stdout.buffer.write(report.as_json(found))
    return 0 if found.passed else EXIT_DIFFERS
