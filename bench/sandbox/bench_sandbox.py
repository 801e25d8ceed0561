"""What the sandbox costs beside its alternatives, on this machine, in one run.

    status = bench_sandbox.run(only=["calls", "resets"])

docs/benchmarks.md says how to read the table.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import UsageError
from agenttrace.host.workers import sandbox_project
from agenttrace.show import say
from bench import tables
from bench.sandbox import calls, loads, machine, resets, soak, telemetry_check
from bench.verdict import Near, Row, row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from agenttrace.host.workers import SandboxContainer
    from bench.verdict import Finding

ROUNDS = 20
GROUPS = ("calls", "resets", "telemetry")
_FIGURES = {
    "cpu_ns": ("ms", 1e6),
    "max_rss_bytes": ("KiB", 1024.0),
    "write_bytes": ("KiB", 1024.0),
    "read_bytes": ("KiB", 1024.0),
}
_ACCURATE = (
    "burn 200 ms",
    "pipeline of 3, 100 ms each",
    "double-forked daemon, 2 x 100 ms",
    "64 MiB more, 1 GiB held by this process",
    "write 16 MiB, fsync",
    "read 16 MiB, O_DIRECT",
)


def run(
    *,
    rounds: int = ROUNDS,
    only: Sequence[str] = (),
    soak_calls: int = 0,
    work: Path | None = None,
    json_file: Path | None = None,
    strict: bool = False,
) -> int:
    """Measure, print one table and return the exit status.

    Args:
        rounds: turns of each side.
        only: some of `GROUPS`; all of them when empty and no soak was asked for.
        soak_calls: calls of the soak; 0 leaves it out.
        work: folder in which the work trees of the resets lie, instead of a volume.
        json_file: gets the rows as JSON.
        strict: whether a missed target makes the status 1.

    Raises:
        UsageError: there is no such group, or the engine is missing.
        WorkerLostError: a worker died.
    """
    unknown = set(only) - set(GROUPS)
    if unknown or rounds < 1 or soak_calls < 0:
        raise UsageError(f"groups are {', '.join(GROUPS)}, not {', '.join(sorted(unknown))}; rounds are at least 1")
    groups = only or (() if soak_calls else GROUPS)
    rows: list[Row] = []
    targets = ("sandbox", "collector") if {"calls", "resets"} & set(groups) else ("sandbox",)
    with sandbox_project("bench", targets) as (project, env):
        with machine.worker_containers(project, env, *soak.FLAGS) as containers:
            facts = machine.machine(next(iter(containers.values())))
            if "calls" in groups:
                say("measuring calls")
                rows += calls.all_of(project, env, containers, rounds, desktop=facts.docker_desktop)
            if "telemetry" in groups:
                say("measuring known loads")
                rows += accuracy(containers, rounds)
            if soak_calls:
                rows += soak.all_of(containers, soak_calls, say)
        if "resets" in groups:
            say("measuring resets")
            rows += resets.all_of(project, env, rounds, work)
    facts = msgspec.structs.replace(facts, load_after=machine.load())
    print(tables.machine_line(facts))  # noqa: T201 - the session's result
    tables.print_rows("sandbox", rows)
    if json_file is not None:
        tables.write_json(json_file, facts, rows=rows)
    return 1 if strict and any(item.verdict == "missed" for item in rows) else 0


def accuracy(containers: Mapping[str, SandboxContainer], rounds: int) -> list[Row]:
    """How far off the figures of known loads are: |measured - expected|, with the tolerance as the target."""
    rows: list[Row] = []
    for helper, container in containers.items():
        for load in (load for load in loads.LOADS if load.name in _ACCURATE):
            findings = telemetry_check.measure(container, load, rounds)
            rows += [_error(finding, helper) for finding in findings if finding.figure in _FIGURES]
    return rows


def _error(finding: Finding, helper: str) -> Row:
    """How far the samples of a finding are off; one that was not measured is infinitely far off."""
    unit, scale = _FIGURES[finding.figure]
    known = finding.expectation
    errors = [math.inf if sample is None else abs(sample - known.expected) / scale for sample in finding.samples]
    allowed = known.tolerance if isinstance(known, Near) else 0
    return row("known loads", f"error of {finding.load}, {helper} helper", unit, errors, target=allowed / scale)
