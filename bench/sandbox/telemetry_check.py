"""Do the figures of a tool call hold? Known loads through real sandbox workers, against what they must cost.

    status = telemetry_check.check(repeats=5)

docs/benchmarks.md says how each expected figure comes to be known.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from msgspec import UNSET

from agenttrace.errors import UsageError
from agenttrace.host import engine
from agenttrace.host.workers import sandbox_project
from bench import tables
from bench.sandbox import call_loads, machine, neighbours
from bench.sandbox.loads import LOADS, Load
from bench.verdict import Finding, median

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence
    from pathlib import Path

    from msgspec import UnsetType

    from agenttrace.host.workers import SandboxContainer
    from agenttrace.records import Telemetry
    from agenttrace.sandbox.client import Worker

REPEATS = 5
_LIMIT_MS = 30_000
_PAGE = 4096
EVERY = (*LOADS, *call_loads.LOADS)
_TWO = "slowed by its limit, slowed by its neighbours"
_RIGHT = {"AGENTTRACE_SANDBOX_RIGHT": "PERFMON"}
"""Without it no engine lets a worker count instructions."""
_UPDATED = {"--cpus": "1", "--memory": "1g", "--memory-swap": "1g"}
"""What `Load.update` is taken back to: the limits of a worker."""


def check(
    *, repeats: int = REPEATS, only: Sequence[str] = (), json_file: Path | None = None, loads: Sequence[Load] = EVERY
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
    two = (loads is EVERY and not only) or any(part in _TWO for part in only)
    if not (chosen or two) or repeats < 1:
        names = "\n".join([*(load.name for load in loads), _TWO])
        raise UsageError(f"nothing to check; a run has at least one repeat and one of these loads:\n{names}")
    everything = {}
    with (
        sandbox_project("telemetry", ("sandbox",)) as (project, env),
        machine.worker_containers(project, env | _RIGHT, "--figures", "memory_series,cpu_counters") as containers,
    ):
        facts = machine.machine(containers[next(iter(containers))])
        print(tables.machine_line(facts))  # noqa: T201 - the session's result
        for helper, container in containers.items():
            known = call_loads.not_measured(container.worker.call("bash", "sleep 0.2", limit_ms=_LIMIT_MS).telemetry)
            findings = [item for load in chosen for item in measure(container, load, repeats, known)]
            tables.print_findings(f"{helper} helper, median of {repeats}", findings)
            for name, why in sorted(known.items()):
                print(f"not measured by the {helper} helper: {name}: {why}")  # noqa: T201
            everything[f"{helper}_helper"] = findings
        if two:
            everything["two_calls"] = neighbours.findings(project, env)
            tables.print_findings("two calls of the same CPU and wall time", everything["two_calls"])
    if json_file is not None:
        tables.write_json(json_file, facts, **everything)
    return 1 if any(item.verdict == "outside" for table in everything.values() for item in table) else 0


def measure(container: SandboxContainer, load: Load, repeats: int, not_measured: Container[str] = ()) -> list[Finding]:
    """One finding per figure that is known of the load and measured here."""
    runs: list[dict[str, int | None]] = []
    notes: set[str] = set()
    expected = {name: one for name, one in load.expected.items() if name not in not_measured}
    for _ in range(repeats if expected else 0):
        with _updated(container, load.update):
            figures, note = _once(container.worker, load)
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
        for name, expectation in expected.items()
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
    """A figure by its name: a field (of a series its largest), or `cpu_ns`, user and system (their split is noise)."""
    if name == "tree_rss_series":
        return max((size for _, size in telemetry.tree_rss_series or ()), default=None)
    if name != "cpu_ns":
        value: int | UnsetType | None = getattr(telemetry, name)
        return None if value is UNSET else value
    user, system = telemetry.cpu_user_ns, telemetry.cpu_system_ns
    return None if user is None or system is None else user + system


@contextlib.contextmanager
def _updated(container: SandboxContainer, flags: Sequence[str]) -> Iterator[None]:
    """The container has other limits inside the block."""
    if flags:
        engine.run(["docker", "update", *flags, container.name])
    yield
    if flags:
        before = [part for flag in flags[::2] for part in (flag, _UPDATED[flag])]
        engine.run(["docker", "update", *before, container.name])


@contextlib.contextmanager
def holding(size: int) -> Iterator[None]:
    """This process holds `size` bytes of touched memory inside the block."""
    held = bytearray(size)
    held[::_PAGE] = b"." * len(range(0, size, _PAGE))
    yield
    del held
