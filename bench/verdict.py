"""What a measured figure is held against: an expectation with a tolerance, or a target. Nothing here measures."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Verdict = Literal["within", "outside", "flagged"]
Judged = Literal["median", "p95", "max"]


class Near(msgspec.Struct, frozen=True, tag="near"):
    """A figure that is known: within `tolerance` of `expected`, both in the figure's own unit."""

    expected: int
    tolerance: int

    def verdict(self, measured: int | None) -> Verdict:
        """`within` or `outside`; what was not measured is outside."""
        return "within" if measured is not None and abs(measured - self.expected) <= self.tolerance else "outside"


class Flag(msgspec.Struct, frozen=True, tag="flag"):
    """A figure that must raise the alarm: above `threshold`; `expected` is what a perfect measurement would give."""

    expected: int
    threshold: int

    def verdict(self, measured: int | None) -> Verdict:
        """`flagged` or `outside`; what was not measured raised no alarm."""
        return "flagged" if measured is not None and measured > self.threshold else "outside"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of one known load.

    Attributes:
        load: name of the load.
        figure: field of `records.Telemetry`, or `cpu_ns` for user and system together.
        expectation: what it is held against.
        measured: median of the samples; `None` when one of them was missing or a run of the load failed.
        samples: one figure per run, in order.
        note: why a run failed; empty otherwise.
    """

    load: str
    figure: str
    expectation: Near | Flag
    measured: int | None
    samples: tuple[int | None, ...]
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        """What the expectation says."""
        return self.expectation.verdict(self.measured)


def cpu(expected_ns: int) -> Near:
    """An expected CPU time: within 5 % or 10 ms, whichever is more."""
    return Near(expected_ns, max(expected_ns // 20, 10_000_000))


def median(samples: Sequence[int | None]) -> int | None:
    """The (lower) median; `None` when there is none or one of them was not measured."""
    known = [sample for sample in samples if sample is not None]
    return statistics.median_low(known) if known and len(known) == len(samples) else None


def percentile(samples: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: the smallest sample that at least `percent` % do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One measured quantity of a benchmark, with its target when it has one.

    Attributes:
        group: what it belongs to, such as `calls`.
        name: what was measured.
        unit: of every figure in the row: `ms`, `MiB`, `KiB`, `x` (a ratio) or nothing (a count).
        median: of the samples.
        p95: of the samples.
        largest: of the samples.
        count: how many samples.
        target: upper limit of the judged figure.
        judged: which figure the target is for.
        ratio: how many times the row's own measure the alternative takes, by the medians.
        note: what the row is compared with, or what to know about it.
    """

    group: str
    name: str
    unit: str
    median: float
    p95: float | None = None
    largest: float | None = None
    count: int = 1
    target: float | None = None
    judged: Judged = "median"
    ratio: float | None = None
    note: str = ""

    @property
    def verdict(self) -> Literal["met", "missed", ""]:
        """Whether the judged figure is at most the target; empty without one."""
        if self.target is None:
            return ""
        value = {"median": self.median, "p95": self.p95, "max": self.largest}[self.judged]
        return "met" if value is not None and value <= self.target else "missed"


def row(
    group: str,
    name: str,
    unit: str,
    samples: Sequence[float],
    *,
    target: float | None = None,
    judged: Judged = "median",
    against: Sequence[float] = (),
    note: str = "",
) -> Row:
    """The row of some samples (at least one); `against` are the samples of its alternative."""
    middle = statistics.median(samples)
    return Row(
        group=group,
        name=name,
        unit=unit,
        median=middle,
        p95=percentile(samples, 95),
        largest=max(samples),
        count=len(samples),
        target=target,
        judged=judged,
        ratio=statistics.median(against) / middle if against and middle else None,
        note=note,
    )


def interleaved(sides: Mapping[str, Callable[[], Iterable[float]]], rounds: int) -> dict[str, list[float]]:
    """Samples per side, taken in turns (A, B, A, B, ...): what disturbs the machine for a while disturbs them all.

    Args:
        sides: what takes one turn and returns its samples, by name.
        rounds: turns of each.
    """
    samples: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, turn in sides.items():
            samples[name] += turn()
    return samples
