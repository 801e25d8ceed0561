"""What the page shows of a call's cost: processor, memory, disk, and what kept it waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from agenttrace.analysis.slow import slow_figures, why_slow
from agenttrace.records import Record

if TYPE_CHECKING:
    from msgspec import UnsetType

    from agenttrace.analysis.slow import Cause
    from agenttrace.records import Telemetry

_MOST_POINTS = 64
_NS_PER_MS = 1e6
_PRESSURE = {"processor": "cpu_pressure_ns", "memory": "memory_pressure_ns", "disk": "io_pressure_ns"}


class CallWaits(Record, frozen=True, kw_only=True):
    """What kept a call from running, milliseconds; `None` is "not measured".

    Attributes:
        throttled: by its own CPU limit, added up over processors.
        processor: it could run and had no processor, less what is known to have been throttled; added up over its
            processes.
        memory: it waited for memory, where the container has a figure of its own.
        disk: likewise for a disk.
        machine: where it has none, for what anything on the machine waited meanwhile: `processor`, `memory`, `disk`.
        cause: what slowed it most, by the rule of `analyze`.
    """

    throttled: float | None
    processor: float | None
    memory: float | None
    disk: float | None
    machine: dict[str, float]
    cause: Cause


class CallCost(Record, frozen=True, kw_only=True):
    """What a call cost; `method` names how the figures were taken: `foreign` ones are not of the call alone.

    Attributes:
        cpu_ms: user and system time of the call's processes.
        peak: resident set of the largest process, bytes.
        floor: a peak at or below this many bytes cannot be seen.
        tree_peak: largest sum of the resident sets of all its processes, bytes.
        mean: mean of that sum.
        series: that sum over time, where it was asked for: milliseconds since the start, bytes.
        read: bytes from the block layer.
        write: bytes dirtied in the page cache of disk-backed files.
        leftovers: processes that were still alive at the end of the call and were killed.
        waits: what kept it from running; `None` where nothing of that was measured.
    """

    cpu_ms: float | None
    peak: int | None
    read: int | None
    write: int | None
    method: str | None
    floor: int | None = None
    tree_peak: int | None = None
    mean: int | None = None
    series: tuple[tuple[int, ...], ...] | None = None
    leftovers: int | None = None
    waits: CallWaits | None = None


def call_cost(telemetry: Telemetry, cpus: float | None) -> CallCost:
    """Return what a call cost.

    Args:
        telemetry: the figures of its record.
        cpus: processors that its sandbox was limited to; `None` where that is not known.
    """
    user, system = telemetry.user_time_s, telemetry.system_time_s
    return CallCost(
        cpu_ms=None if user is None or system is None else (user + system) * 1000,
        peak=telemetry.max_rss_bytes,
        read=telemetry.read_bytes,
        write=telemetry.write_bytes,
        method=telemetry.method,
        floor=telemetry.peak_rss_floor_bytes,
        tree_peak=telemetry.tree_rss_peak_bytes,
        mean=_known(telemetry.tree_rss_mean_bytes),
        series=_series(telemetry),
        leftovers=telemetry.leftover_count,
        waits=_waits(telemetry, cpus),
    )


def _known(value: int | UnsetType | None) -> int | None:
    return None if value is UNSET else value


def _series(telemetry: Telemetry) -> tuple[tuple[int, ...], ...] | None:
    """Return the points, none where a record of others has what is no such series."""
    given = telemetry.tree_rss_series
    if given is UNSET or not given or len(given) > _MOST_POINTS:
        return None
    pairs = all(len(point) == 2 and min(point) >= 0 for point in given)  # noqa: PLR2004 - time and size
    return given if pairs else None


def _waits(telemetry: Telemetry, cpus: float | None) -> CallWaits | None:
    figures = slow_figures(telemetry, cpus)
    throttled, waited = figures["throttled_ns"], figures["waited_ns"]
    pressure = {name: _known(getattr(telemetry, field)) for name, field in _PRESSURE.items()}
    if throttled is None and waited is None and set(pressure.values()) == {None}:
        return None
    own = telemetry.pressure_scope == "container"
    return CallWaits(
        throttled=_ms(throttled),
        processor=None if waited is None else _ms(max(0, waited - (throttled or 0))),
        memory=_ms(pressure["memory"]) if own else None,
        disk=_ms(pressure["disk"]) if own else None,
        machine={} if own else {name: ns / _NS_PER_MS for name, ns in pressure.items() if ns is not None},
        cause=why_slow(**figures).cause,
    )


def _ms(ns: int | None) -> float | None:
    return None if ns is None else ns / _NS_PER_MS
