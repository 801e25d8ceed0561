"""From a helper's raw sample to `records.Telemetry`: units made equal, what is missing or odd made `None`.

A raw sample is what a sandbox helper sends with each call, in the units of the kernel it ran on:

- `source`: `python-helper` or `c-helper`; `platform`: `linux` or `darwin`;
- `rusage`: `utime`, `stime` (seconds), `maxrss` (KiB on Linux, bytes on macOS) of `getrusage(RUSAGE_CHILDREN)`;
- `io_before`, `io_after`: `/proc/PID/io` counters of the reaped children (absent on macOS, where the block counts of
  `rusage` are operations and cannot stand in);
- `wall_ns`, `cleanup_ns`, `floor_kib`, `leftover_count`, `leftover_names`;
- `tree_rss_kib`, `tree_rss_samples`: largest sum of resident sets seen, and in how many samples (C helper only);
- `tree_rss_kib_us`: that sum times microseconds, over the call; `tree_rss_series`: (milliseconds, KiB) pairs;
- `processes_peak`, `processes_started`, `runqueue_wait_ns`, `user_instructions`, `cycles`, `counters_reason`;
- `cgroup_memory_peak_bytes`: `memory.peak` of the call's own cgroup, where it has one;
- `gauges_before`, `gauges_after`: the container's counters, by the names of `sandbox.runner.counters.Gauges`;
  `processes_started` are the numbers given out, of which `refused_forks` became no process;
- `pressure_scope`: whose pressure they count; `network_bytes`: 0 where there is no network;
- `runner_cpu_ns`: the runner's and the helper's share of the container's CPU.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from msgspec import UNSET

from agenttrace.records import Telemetry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from msgspec import UnsetType

_KIB = 1024
_NOISE_NS = 5_000_000
_MAX_NAMES = 16
_MAX_POINTS = 64
_LARGEST = 2**63 - 1
_GAUGES = (
    "cfs_periods", "cfs_throttled_periods", "cfs_throttled_ns", "cpu_pressure_ns", "memory_pressure_ns",
    "memory_pressure_full_ns", "io_pressure_ns", "io_pressure_full_ns", "file_refaults", "anon_refaults",
)  # fmt: skip
"""Figures that are the difference of a counter of the container."""


def telemetry(sample: Mapping[str, Any]) -> Telemetry:
    """What a call cost, from its raw sample; a field that is missing, malformed or negative is `None`. Never raises."""
    usage, wall_ns = _mapping(sample, "rusage"), _count(sample.get("wall_ns"))
    user_s, system_s = _seconds(usage.get("utime")), _seconds(usage.get("stime"))
    user_ns, system_ns = _as_ns(user_s), _as_ns(system_s)
    return Telemetry(
        user_time_s=user_s,
        system_time_s=system_s,
        max_rss_bytes=_peak_bytes(usage.get("maxrss"), sample.get("platform")),
        read_bytes=_delta(sample, "read_bytes"),
        write_bytes=_delta(sample, "write_bytes"),
        method=_method(sample.get("source")),
        wall_ns=wall_ns,
        cleanup_ns=_count(sample.get("cleanup_ns")),
        cpu_user_ns=user_ns,
        cpu_system_ns=system_ns,
        cpu_unattributed_ns=_unattributed_ns(sample, user_ns, system_ns),
        peak_rss_floor_bytes=_from_kib(sample.get("floor_kib")),
        cancelled_write_bytes=_delta(sample, "cancelled_write_bytes"),
        read_chars=_delta(sample, "rchar"),
        write_chars=_delta(sample, "wchar"),
        leftover_count=_count(sample.get("leftover_count")),
        leftover_names=_names(sample.get("leftover_names")),
        tree_rss_peak_bytes=_from_kib(sample.get("tree_rss_kib")),
        tree_rss_samples=_count(sample.get("tree_rss_samples")),
        cgroup_memory_peak_bytes=_count(sample.get("cgroup_memory_peak_bytes")),
        **_since_1_2(sample, wall_ns, user_ns, system_ns),
    )


def _since_1_2(
    sample: Mapping[str, Any], wall_ns: int | None, user_ns: int | None, system_ns: int | None
) -> dict[str, Any]:
    """Return the figures that schema 1.1.0 had not."""
    usage, area = _mapping(sample, "rusage"), _count(sample.get("tree_rss_kib_us"))
    waited_ns = _count(sample.get("runqueue_wait_ns"))
    return {
        "minor_faults": _count(usage.get("minflt")),
        "major_faults": _count(usage.get("majflt")),
        "voluntary_switches": _count(usage.get("nvcsw")),
        "involuntary_switches": _count(usage.get("nivcsw")),
        "read_calls": _delta(sample, "syscr"),
        "write_calls": _delta(sample, "syscw"),
        **{name: _delta(sample, name, "gauges") for name in _GAUGES},
        "pressure_scope": _scope(sample),
        "tree_rss_mean_bytes": _mean(area, wall_ns),
        "tree_rss_byte_seconds": None if area is None else round(area * _KIB / 1e6),
        "tree_rss_series": _series(sample),
        "processes_started": _started(sample),
        "processes_peak": _count(sample.get("processes_peak")),
        "runqueue_wait_ns": waited_ns,
        "blocked_ns": _rest(wall_ns, user_ns, system_ns, waited_ns),
        "network_bytes": _count(sample.get("network_bytes")),
        **_hardware(sample),
    }


def _mapping(sample: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = sample.get(key)
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int | None:
    """A whole number that is not negative and fits 63 bits, else `None`."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST else None


def _from_kib(value: object) -> int | None:
    count = _count(value)
    return None if count is None else count * _KIB


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 <= value <= _LARGEST / 1e9 or not math.isfinite(value):
        return None
    return float(value)


def _as_ns(seconds: float | None) -> int | None:
    return None if seconds is None else min(round(seconds * 1e9), _LARGEST)


def _peak_bytes(maxrss: object, platform: object) -> int | None:
    """`ru_maxrss` in bytes: the kernel counts KiB on Linux and bytes on macOS."""
    value = _count(maxrss)
    scale = {"linux": _KIB, "darwin": 1}.get(platform) if isinstance(platform, str) else None
    return None if value is None or scale is None else value * scale


def _delta(sample: Mapping[str, Any], name: str, counters: str = "io") -> int | None:
    before = _count(_mapping(sample, f"{counters}_before").get(name))
    after = _count(_mapping(sample, f"{counters}_after").get(name))
    return None if before is None or after is None or after < before else after - before


def _unattributed_ns(sample: Mapping[str, Any], user_ns: int | None, system_ns: int | None) -> int | None:
    """Container CPU that neither the call's tree nor the runner used.

    The counters are read one after the other, so the difference may fall a few milliseconds below zero: that is zero.
    Further below, one of them is wrong.
    """
    return _rest(_delta(sample, "cpu_ns", "gauges"), _count(sample.get("runner_cpu_ns")), user_ns, system_ns)


def _rest(whole: int | None, *parts: int | None) -> int | None:
    """What is left of a whole; a little less than nothing is nothing, and more than that contradicts itself."""
    known = [part for part in parts if part is not None]
    if whole is None or len(known) < len(parts):
        return None
    rest = whole - sum(known)
    return max(rest, 0) if rest >= -_NOISE_NS else None


def _started(sample: Mapping[str, Any]) -> int | None:
    """Processes and threads that were started: a fork that the limit of processes refuses takes a number, too."""
    given, refused = _count(sample.get("processes_started")), _delta(sample, "refused_forks", "gauges")
    if refused is None:
        return None if "refused_forks" in _mapping(sample, "gauges_after") else given
    return None if given is None or refused > given else given - refused


def _scope(sample: Mapping[str, Any]) -> Literal["container", "machine"] | None:
    found = sample.get("pressure_scope")
    return "container" if found == "container" else "machine" if found == "machine" else None


def _mean(kib_us: int | None, wall_ns: int | None) -> int | None:
    return round(kib_us * _KIB * 1000 / wall_ns) if kib_us is not None and wall_ns else None


def _series(sample: Mapping[str, Any]) -> tuple[tuple[int, ...], ...] | UnsetType | None:
    """The points, `None` where one of them is malformed, absent where nobody asked for them."""
    if "tree_rss_series" not in sample:
        return UNSET
    given = sample["tree_rss_series"]
    if not isinstance(given, list | tuple) or len(given) > _MAX_POINTS:
        return None
    points = [
        (at, size * _KIB)
        for point in given
        if isinstance(point, list | tuple) and len(point) == 2  # noqa: PLR2004 - a pair
        if (at := _count(point[0])) is not None and (size := _count(point[1])) is not None
    ]
    return tuple(points) if len(points) == len(given) else None


def _hardware(sample: Mapping[str, Any]) -> dict[str, Any]:
    """The counters that were asked for, or why there are none."""
    names = ("user_instructions", "cycles", "counters_reason")
    if not any(name in sample for name in names):
        return {}
    reason = sample.get("counters_reason")
    counts = {name: _count(sample.get(name)) for name in names[:2]}
    return {**counts, "counters_reason": reason if isinstance(reason, str) else None}


def _method(source: object) -> Literal["c-helper", "python-helper"]:
    return "c-helper" if source == "c-helper" else "python-helper"


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        return ()
    return tuple(sorted(name for name in value if isinstance(name, str))[:_MAX_NAMES])
