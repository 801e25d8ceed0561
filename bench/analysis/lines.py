"""Rows of the table of `bench-diversity`: what was done by what, and what it took."""

from __future__ import annotations

import resource
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.records.base import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MIB = 2**20


class Line(Record, frozen=True, kw_only=True):
    """One row of the table: what was done by what, to how many rollouts, how long it took, and what came out."""

    what: str
    by: str
    rollouts: int
    cpu_seconds: float
    wall_seconds: float
    peak_mib: float
    found: str = ""

    @property
    def each_us(self) -> float:
        """Microseconds of processor time a rollout."""
        return 1e6 * self.cpu_seconds / self.rollouts

    def with_found(self, found: str) -> Line:
        """Return the row with what came out."""
        return msgspec.structs.replace(self, found=found)


def timed(what: str, by: str, count: int, action: Callable[[], Any]) -> tuple[Line, Any]:
    """Return the row of an action, and its result. On a loaded machine processor time changes least."""
    cpu, wall = time.process_time(), time.monotonic()
    result = action()
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else _MIB)
    return Line(what=what, by=by, rollouts=count, cpu_seconds=cpu, wall_seconds=wall, peak_mib=peak), result


def join(parent: list[int], one: int, other: int) -> None:
    """Put two members into one component of a list of parents."""
    while parent[one] != one:
        one = parent[one]
    while parent[other] != other:
        other = parent[other]
    parent[max(one, other)] = min(one, other)


def table(lines: Sequence[Line]) -> str:
    """Return the rows as Markdown."""
    head = ["| what | by | rollouts | CPU s | wall s | µs each | found | peak of the process so far, MiB |"]
    head.append("|---|---|---:|---:|---:|---:|---:|---:|")
    return "\n".join(
        head
        + [
            f"| {line.what} | {line.by} | {line.rollouts:,} | {line.cpu_seconds:,.2f} | {line.wall_seconds:,.2f} "
            f"| {line.each_us:,.1f} | {line.found} | {line.peak_mib:,.0f} |"
            for line in lines
        ]
    )
