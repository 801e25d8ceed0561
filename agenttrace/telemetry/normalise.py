"""From a helper's raw sample to `records.Telemetry`: units made equal, what is missing or odd made `None`.

A raw sample is what a sandbox helper sends with each call, in the units of the kernel it ran on:

- `source`: `python-helper` or `c-helper`; `platform`: `linux` or `darwin`;
- `rusage`: `utime`, `stime` (seconds), `maxrss` (KiB on Linux, bytes on macOS) of `getrusage(RUSAGE_CHILDREN)`;
- `io_before`, `io_after`: `/proc/PID/io` counters of the reaped children (absent on macOS, where the block counts of
  `rusage` are operations and cannot stand in);
- `wall_ns`, `cleanup_ns`, `floor_kib`, `leftover_count`, `leftover_names`;
- `tree_rss_kib`, `tree_rss_samples`: largest sum of resident sets seen, and in how many samples (C helper only);
- `cgroup_memory_peak_bytes`: `memory.peak` of the call's own cgroup, where it has one;
- `cgroup_cpu_ns_delta`: the container's CPU over the call; `runner_cpu_ns`: the runner's and the helper's share of it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from agenttrace.records import Telemetry

if TYPE_CHECKING:
    from collections.abc import Mapping

_KIB = 1024
_NOISE_NS = 5_000_000
_MAX_NAMES = 16
_LARGEST = 2**63 - 1


def telemetry(sample: Mapping[str, Any]) -> Telemetry:
    """What a call cost, from its raw sample; a field that is missing, malformed or negative is `None`. Never raises."""
    usage = _mapping(sample, "rusage")
    user_s, system_s = _seconds(usage.get("utime")), _seconds(usage.get("stime"))
    user_ns, system_ns = _as_ns(user_s), _as_ns(system_s)
    return Telemetry(
        user_time_s=user_s,
        system_time_s=system_s,
        max_rss_bytes=_peak_bytes(usage.get("maxrss"), sample.get("platform")),
        read_bytes=_delta(sample, "read_bytes"),
        write_bytes=_delta(sample, "write_bytes"),
        method=_method(sample.get("source")),
        wall_ns=_count(sample.get("wall_ns")),
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
    )


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


def _delta(sample: Mapping[str, Any], name: str) -> int | None:
    before = _count(_mapping(sample, "io_before").get(name))
    after = _count(_mapping(sample, "io_after").get(name))
    return None if before is None or after is None or after < before else after - before


def _unattributed_ns(sample: Mapping[str, Any], user_ns: int | None, system_ns: int | None) -> int | None:
    """Container CPU that neither the call's tree nor the runner used.

    The counters are read one after the other, so the difference may fall a few milliseconds below zero: that is zero.
    Further below, one of them is wrong.
    """
    total, own = _count(sample.get("cgroup_cpu_ns_delta")), _count(sample.get("runner_cpu_ns"))
    if total is None or own is None or user_ns is None or system_ns is None:
        return None
    rest = total - own - user_ns - system_ns
    return max(rest, 0) if rest >= -_NOISE_NS else None


def _method(source: object) -> Literal["c-helper", "python-helper"]:
    return "c-helper" if source == "c-helper" else "python-helper"


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        return ()
    return tuple(sorted(name for name in value if isinstance(name, str))[:_MAX_NAMES])
