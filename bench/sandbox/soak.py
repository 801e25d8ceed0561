"""Thousands of calls in a row through one set of workers: does anything grow?"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Literal

from agenttrace.host import engine
from bench.sandbox import inside
from bench.verdict import Row, row

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agenttrace.host.workers import SandboxContainer

CALLS = 10_000
FLAGS = ("--max-tasks", "1000000000")
"""Flags of a worker that must outlive the soak."""
_LIMIT_MS = 30_000
_WINDOW = 1000
_RESET_EVERY = 50
_HOST_EVERY = 10
_GROWTH_KIB = 1024.0
_SLOWER = 1.25
_WHEN = ("first", "last")
_MIX: tuple[tuple[Literal["bash", "python"], str], ...] = (
    ("bash", ":"),
    ("bash", "echo text >>file; mkdir -p a/b; ls -l"),
    ("bash", ":"),
    ("bash", "sleep 600 & disown; setsid sleep 600 >/dev/null 2>&1 &"),
    ("bash", "head -c 300000 /dev/zero"),
    ("python", "print(sum(range(1000)))"),
    ("bash", "seq 2000 | sort -R | head -1"),
    ("bash", "exit 3"),
    ("bash", "no-such-command"),
    ("bash", ":"),
)


def all_of(containers: Mapping[str, SandboxContainer], calls: int, report: Callable[[str], None]) -> list[Row]:
    """Run the calls round-robin over the workers, reset now and then; compare the first and the last thousand.

    Args:
        containers: the workers, by helper.
        calls: how many in all.
        report: gets a line now and then.
    """
    window = max(1, min(_WINDOW, calls // 2))
    workers = list(containers.values())
    fixtures = {name: sorted(container.worker.info.fixtures) for name, container in containers.items()}
    first: dict[str, inside.State] = {}
    taken: list[float] = []
    host: list[float] = []
    for number in range(calls):
        container = workers[number % len(workers)]
        kind, code = _MIX[number // len(workers) % len(_MIX)]
        start = time.perf_counter_ns()
        container.worker.call(kind, code, limit_ms=_LIMIT_MS)
        taken.append((time.perf_counter_ns() - start) / 1e6)
        if number % _HOST_EVERY == 0:
            host.append(_host_ms())
        if number % _RESET_EVERY == 0:
            for name, other in containers.items():
                other.worker.reset(fixtures[name][0])
        if number + 1 == window:
            first = {name: inside.state(other.name) for name, other in containers.items()}
        if (number + 1) % _WINDOW == 0:
            report(
                f"{number + 1:,} of {calls:,} calls, the last {_WINDOW:,}: median {_median(taken[-_WINDOW:]):.2f} ms"
            )
    beside = max(1, window // _HOST_EVERY)
    rows = _latency((taken[:window], taken[-window:]), (host[:beside], host[-beside:]))
    for name, container in containers.items():
        rows += _growth(name, first[name], inside.state(container.name))
    return rows


def _median(samples: list[float]) -> float:
    return statistics.median(samples)


def _host_ms() -> float:
    start = time.perf_counter_ns()
    engine.run(["bash", "-c", ":"])
    return (time.perf_counter_ns() - start) / 1e6


def _latency(calls: tuple[list[float], list[float]], host: tuple[list[float], list[float]]) -> list[Row]:
    """First and last calls, with a process of the host beside them: that one tells how busy the machine was."""
    grown, drift = (_median(last) / _median(first) for first, last in (calls, host))
    return [
        *(row("soak", f"call, {when} {len(taken):,}", "ms", taken) for when, taken in zip(_WHEN, calls, strict=True)),
        *(row("soak", f"bash on the host meanwhile, {when}", "ms", taken)
          for when, taken in zip(_WHEN, host, strict=True)),
        row("soak", "calls, last over first, medians", "x", [grown]),
        row("soak", "the same, the host's own drift divided out", "x", [grown / drift], target=_SLOWER),
    ]  # fmt: skip


def _growth(helper: str, first: inside.State, last: inside.State) -> list[Row]:
    named = (
        ("memory of the runner", "KiB", last.rss_kib - first.rss_kib, _GROWTH_KIB),
        ("descriptors of the runner", "", last.descriptors - first.descriptors, 0),
        ("processes in the container", "", last.processes - first.processes, 0),
        ("zombies", "", last.zombies - first.zombies, 0),
    )
    return [row("soak", f"growth: {name}, {helper} helper", unit, [value], target=limit)
            for name, unit, value, limit in named]  # fmt: skip
