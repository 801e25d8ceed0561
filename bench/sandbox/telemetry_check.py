"""Do the figures of a tool call hold? Known loads through real sandbox workers, against what they must cost.

    status = telemetry_check.check(repeats=5)

docs/benchmarks.md says how each expected figure comes to be known.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from agenttrace.errors import UsageError
from agenttrace.host.workers import sandbox_project
from bench import tables
from bench.sandbox import machine
from bench.sandbox.loads import LOADS, Load
from bench.verdict import Finding, median

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from agenttrace.records import Telemetry
    from agenttrace.sandbox.client import Worker

REPEATS = 5
_LIMIT_MS = 30_000
_PAGE = 4096


def check(
    *, repeats: int = REPEATS, only: Sequence[str] = (), json_file: Path | None = None, loads: Sequence[Load] = LOADS
) -> int:
    """Run the loads under every helper that the sandbox image offers, print the tables, return the exit status.

    Args:
        repeats: runs of each load; the median counts.
        only: parts of names; the loads that have one of them are run.
        json_file: gets the findings as JSON.
        loads: what to run.

    Returns:
        0 when every figure is within its tolerance and every escape was flagged, else 1.

    Raises:
        UsageError: no load has a name like those asked for, or the engine is missing.
        WorkerLostError: a worker died.
    """
    chosen = [load for load in loads if not only or any(part in load.name for part in only)]
    if not chosen or repeats < 1:
        names = "\n".join(load.name for load in loads)
        raise UsageError(f"nothing to check; a run has at least one repeat and one of these loads:\n{names}")
    everything = {}
    with (
        sandbox_project("telemetry", ("sandbox",)) as (project, env),
        machine.worker_containers(project, env) as containers,
    ):
        facts = machine.machine(containers[next(iter(containers))])
        print(tables.machine_line(facts))  # noqa: T201 - the session's result
        for helper, container in containers.items():
            findings = [item for load in chosen for item in measure(container.worker, load, repeats)]
            tables.print_findings(f"{helper} helper, median of {repeats}", findings)
            everything[f"{helper}_helper"] = findings
    if json_file is not None:
        tables.write_json(json_file, facts, **everything)
    return 1 if any(item.verdict == "outside" for table in everything.values() for item in table) else 0


def measure(worker: Worker, load: Load, repeats: int) -> list[Finding]:
    """One finding per figure that is known of the load."""
    runs: list[dict[str, int | None]] = []
    notes: set[str] = set()
    for _ in range(repeats):
        figures, note = _once(worker, load)
        runs.append(figures)
        notes |= {note} - {""}
    return [
        Finding(
            load=load.name,
            figure=name,
            expectation=expectation,
            measured=median([run[name] for run in runs]),
            samples=tuple(run[name] for run in runs),
            note="; ".join(sorted(notes)),
        )
        for name, expectation in load.expected.items()
    ]


def _once(worker: Worker, load: Load) -> tuple[dict[str, int | None], str]:
    """The figures of one run, less those of its counterpart; `None` and the reason when a run failed."""
    if load.before:
        worker.call("bash", load.before, limit_ms=_LIMIT_MS)
    without = worker.call(load.kind, load.without, limit_ms=_LIMIT_MS) if load.without else None
    with holding(load.held_bytes):
        report = worker.call(load.kind, load.code, limit_ms=_LIMIT_MS)
    for ran in (report, without):
        if ran is not None and ran.exit_code != 0:
            said = (ran.stderr.text or "").strip().splitlines()[-1:] or ["no message"]
            return dict.fromkeys(load.expected), f"exit code {ran.exit_code}: {said[0]}"
    figures = {}
    for name in load.expected:
        value = of(report.telemetry, name)
        subtracted = 0 if without is None else of(without.telemetry, name)
        figures[name] = None if value is None or subtracted is None else value - subtracted
    return figures, ""


def of(telemetry: Telemetry, name: str) -> int | None:
    """A figure by its name: a field, or `cpu_ns`, the sum of both kinds of CPU time (their split is noise)."""
    if name != "cpu_ns":
        value: int | None = getattr(telemetry, name)
        return value
    user, system = telemetry.cpu_user_ns, telemetry.cpu_system_ns
    return None if user is None or system is None else user + system


@contextlib.contextmanager
def holding(size: int) -> Iterator[None]:
    """This process holds `size` bytes of touched memory inside the block."""
    held = bytearray(size)
    held[::_PAGE] = b"." * len(range(0, size, _PAGE))
    yield
    del held
