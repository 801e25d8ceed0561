"""Two calls of the same CPU and wall time: one held back by its own limit, one by a neighbour on its processor."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, NamedTuple

from agenttrace.analysis.slow import Why, why_slow
from agenttrace.host import engine
from agenttrace.host.workers import SandboxContainer
from bench.sandbox.loads import MS
from bench.verdict import Finding, Flag, Near, cpu

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agenttrace.records import Telemetry

_BURN_MS = 200
_CODE = f"import os, time\nwhile time.process_time() < {_BURN_MS / 1000}: pass\nos._exit(0)"
_SPIN = "import time\nend = time.time() + 60\nwhile time.time() < end: pass"
_LIMIT_MS = 60_000
_HEAVY = "16384"
"""Weight of the neighbour; that of the call is 1024, so it gets a seventeenth of their processor."""


class Held(NamedTuple):
    """A call, the processors that its sandbox was limited to, and what slowed it by its record alone."""

    cost: Telemetry
    cpus: float

    @property
    def why(self) -> Why:
        """What `analyze` says of it."""
        one, own = self.cost, self.cost.pressure_scope == "container"
        pressure, stalled = (one.cpu_pressure_ns, one.memory_pressure_ns) if own else (None, None)
        waited = one.runqueue_wait_ns or pressure
        return why_slow(
            wall_ns=one.wall_ns,
            cpu_ns=(one.cpu_user_ns or 0) + (one.cpu_system_ns or 0),
            throttled_ns=one.cfs_throttled_ns or 0,
            waited_ns=waited or None,
            memory_stalled_ns=stalled or None,
            cpus=self.cpus,
        )


def two_calls(project: str, env: Mapping[str, str]) -> tuple[Held, Held]:
    """Return a call held back by its limit and one held back by a neighbour, of about the same wall time.

    The limit is what the neighbour left the other call, so whatever else runs on the machine, both take as long.
    """
    with _container(project, env) as called, _container(project, env) as neighbour:
        for one in (called, neighbour):
            _update(one, "--cpuset-cpus", "0")
        _update(neighbour, "--cpu-shares", _HEAVY)
        with _busy(neighbour):
            beside = called.worker.call("python", _CODE, limit_ms=_LIMIT_MS).telemetry
        share = max(0.01, _BURN_MS * MS / (beside.wall_ns or 1))
        _update(called, "--cpus", f"{share:.3f}", "--cpu-shares", _HEAVY)  # nothing but the limit holds it back
        limited = called.worker.call("python", _CODE, limit_ms=_LIMIT_MS).telemetry
    return Held(limited, share), Held(beside, 1.0)


def findings(project: str, env: Mapping[str, str]) -> list[Finding]:
    """Return what the two records say, as findings: figures, and whether the cause is the right one (1)."""
    found = []
    limited, beside = two_calls(project, env)
    for name, one in (("limit", limited), ("neighbours", beside)):
        load = f"burn {_BURN_MS} ms, slowed by its {name}"
        cost, lost = one.cost, one.cost.wall_ns or 0
        known = {
            "cpu_ns": (cpu(_BURN_MS * MS), (cost.cpu_user_ns or 0) + (cost.cpu_system_ns or 0)),
            "cfs_throttled_ns": (
                Flag(lost, lost // 4) if name == "limit" else Near(0, lost // 20),
                cost.cfs_throttled_ns or 0,
            ),
            f"cause is {name}": (Near(1, 0), int(one.why.cause == name)),
        }
        found += [
            Finding(load=load, figure=figure, expectation=expected, measured=value, samples=(value,))
            for figure, (expected, value) in known.items()
        ]
    return found


@contextlib.contextmanager
def _container(project: str, env: Mapping[str, str]) -> Iterator[SandboxContainer]:
    container = SandboxContainer(project, env)
    try:
        yield container
    finally:
        container.close()


def _update(container: SandboxContainer, *flags: str) -> None:
    engine.run(["docker", "update", *flags, container.name])


@contextlib.contextmanager
def _busy(container: SandboxContainer) -> Iterator[None]:
    """Something in the container burns CPU inside the block; the end of the container ends it."""
    engine.run(["docker", "exec", "--detach", container.name, "python3", "-c", _SPIN])
    time.sleep(0.5)
    yield
