"""How far what a tool call costs is the same in every replay: which figures can be reproduced, and to what per cent."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from msgspec import UNSET

from agenttrace.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agenttrace.records import Telemetry, Trace

COUNTERS = ("user_instructions", "cycles")
"""Hardware counters: where there are none, the record says why."""
FIGURES = (
    *COUNTERS,
    *("cpu_ns", "wall_ns", "max_rss_bytes", "tree_rss_peak_bytes", "minor_faults", "major_faults"),
    *("voluntary_switches", "involuntary_switches", "read_calls", "write_calls", "read_chars", "write_chars"),
    *("read_bytes", "write_bytes", "processes_started", "runqueue_wait_ns"),
)
"""Fields of `Telemetry` that are compared, and `cpu_ns`: user and system together, whose split is noise."""
_MOST = 0.95
_NOT_ASKED = "not asked for (AGENTTRACE_FIGURES=cpu_counters)"


class FigureSpread(Record, frozen=True, kw_only=True):
    """How much one figure of one and the same call differs between replays: smallest below largest, in per cent of it.

    Attributes:
        figure: one of `FIGURES`.
        calls: calls of which every replay has it.
        equal: of these, how many have the same value in all replays.
        half_percent: half of the calls differ by at most that; `None` where no call has the figure.
        most_percent: 95 % of the calls likewise.
        largest_percent: all of them.
        reason: why no call has it.
    """

    figure: str
    calls: int
    equal: int
    half_percent: float | None
    most_percent: float | None
    largest_percent: float | None
    reason: str | None = None


class Costs:
    """Takes every replay of every trace; of each call and figure it keeps the smallest, the largest and how many."""

    def __init__(self) -> None:
        self._replays: Counter[tuple[str, int]] = Counter()
        self._seen: dict[str, dict[tuple[str, int], tuple[int, int, int]]] = {figure: {} for figure in FIGURES}
        self._reasons: Counter[str] = Counter()

    def add(self, trace: Trace) -> None:
        """Take one replay of a trace; what started no process has no cost that could differ."""
        for number, span in enumerate(trace.spans):
            if span.telemetry.method not in {"c-helper", "python-helper"}:
                continue
            call = (trace.trace_id, number)
            self._replays[call] += 1
            if reason := span.telemetry.counters_reason:
                self._reasons[str(reason)] += 1
            for figure, seen in self._seen.items():
                if (value := _value(span.telemetry, figure)) is not None:
                    low, high, count = seen.get(call, (value, value, 0))
                    seen[call] = (min(low, value), max(high, value), count + 1)

    def spreads(self) -> tuple[FigureSpread, ...]:
        """Return what was found of every figure, in the order of `FIGURES`."""
        return tuple(self._spread(figure) for figure in FIGURES)

    def _spread(self, figure: str) -> FigureSpread:
        found = self._seen[figure].items()
        whole = [(low, high) for call, (low, high, count) in found if count == self._replays[call]]
        percents = sorted(100 * (high - low) / high if high else 0.0 for low, high in whole)
        half, most, largest = (_within(percents, share) for share in (0.5, _MOST, 1.0))
        return FigureSpread(
            figure=figure,
            calls=len(whole),
            equal=sum(low == high for low, high in whole),
            half_percent=half,
            most_percent=most,
            largest_percent=largest,
            reason=None if whole else self._why(figure),
        )

    def _why(self, figure: str) -> str:
        if not self._replays:
            return "no call started a process"
        if figure in COUNTERS:
            return self._reasons.most_common(1)[0][0] if self._reasons else _NOT_ASKED
        return "no call has it in every replay (docs/telemetry.md says when)"


def _value(telemetry: Telemetry, figure: str) -> int | None:
    if figure == "cpu_ns":
        user, system = telemetry.cpu_user_ns, telemetry.cpu_system_ns
        return None if user is None or system is None else user + system
    value = getattr(telemetry, figure)
    return None if value is UNSET or value is None else int(value)


def _within(percents: list[float], share: float) -> float | None:
    """Return what that share of sorted values does not exceed."""
    return round(percents[math.ceil(share * len(percents)) - 1], 3) if percents else None


def table(spreads: Iterable[FigureSpread]) -> Iterator[str]:
    """Yield the lines of a table: figure, calls, equal ones, and how far half, 95 % and all of the calls differ."""
    yield f"{'figure':<22}{'calls':>7}{'equal':>7}{'half within':>13}{'95 % within':>13}{'all within':>13}"
    for one in spreads:
        head = f"{one.figure:<22}{one.calls:>7}{one.equal:>7}"
        if one.calls:
            percents = (one.half_percent, one.most_percent, one.largest_percent)
            yield head + "".join(f"{percent:>11.2f} %" for percent in percents)
        else:
            yield f"{one.figure:<22}{'null':>7}  {one.reason}"
