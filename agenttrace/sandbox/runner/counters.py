"""Read-only views of the kernel's counters: cgroup v1 or v2 of this container, I/O of reaped children.

A cgroup file counts only where it belongs to this container: at the root of a hierarchy (no container, or one that
shares the host's cgroup namespace) it would count the whole machine, so it is then reported as `None`.
"""

from __future__ import annotations

import os

CGROUP = "/sys/fs/cgroup"
_UNLIMITED = 1 << 60


def _text(path: str) -> str | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, 65536).decode("ascii", "replace")
    except OSError:
        return None
    finally:
        os.close(fd)


def pairs(text: str | None) -> dict[str, int]:
    """`name value` or `name: value` lines as a dictionary; other lines are skipped."""
    found = {}
    for line in (text or "").splitlines():
        name, _, value = line.partition(" ")
        if value.strip().isdecimal():
            found[name.rstrip(":")] = int(value)
    return found


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdecimal() else None


def number(path: str) -> int | None:
    """The whole number that a kernel file consists of; `None` when it is not there or holds something else."""
    return _number(_text(path))


def _v2(name: str) -> str | None:
    # `cgroup.type` exists in every cgroup but the root.
    return _text(f"{CGROUP}/{name}") if os.path.exists(f"{CGROUP}/cgroup.type") else None  # noqa: PTH110


def _v1(controller: str, name: str) -> str | None:
    # `release_agent` exists in the root of a v1 hierarchy only.
    folder = f"{CGROUP}/{controller}"
    return None if os.path.exists(f"{folder}/release_agent") else _text(f"{folder}/{name}")  # noqa: PTH110


def cpu_ns() -> int | None:
    """CPU time of the whole container so far, nanoseconds."""
    usage_us = pairs(_v2("cpu.stat")).get("usage_usec")
    if usage_us is not None:
        return usage_us * 1000
    return _number(_v1("cpuacct", "cpuacct.usage"))


def oom_kills() -> int | None:
    """How many processes of this container the kernel has killed for memory so far."""
    kills = pairs(_v2("memory.events")).get("oom_kill")
    return kills if kills is not None else pairs(_v1("memory", "memory.oom_control")).get("oom_kill")


def _limit(value: int | None) -> int | None:
    return None if value is None or value >= _UNLIMITED else value


def limits() -> dict[str, float | None]:
    """The container's limits: processes, memory in bytes, CPUs; `None` where unlimited or unreadable."""
    quota, _, period = (_v2("cpu.max") or "").strip().partition(" ")
    if not quota:
        quota = (_v1("cpu", "cpu.cfs_quota_us") or "").strip()
        period = (_v1("cpu", "cpu.cfs_period_us") or "").strip()
    cpus = int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else None
    memory = _number(_v2("memory.max"))
    pids = _number(_v2("pids.max"))
    return {
        "pids": pids if pids is not None else _number(_v1("pids", "pids.max")),
        "memory_bytes": _limit(memory if memory is not None else _number(_v1("memory", "memory.limit_in_bytes"))),
        "cpus": cpus,
    }


def reaped_io() -> dict[str, int] | None:
    """I/O of every child this process has waited for, and of theirs; `None` where the kernel does not say.

    `/proc/self/io` is the process and its reaped children, `/proc/thread-self/io` the (only) thread alone.
    """
    own, whole = _text("/proc/thread-self/io"), _text("/proc/self/io")
    if own is None or whole is None:
        return None
    own_values = pairs(own)
    return {name: value - own_values.get(name, 0) for name, value in pairs(whole).items()}


def own_rss_kib() -> int | None:
    """Resident set of this process now, KiB."""
    words = (_text("/proc/self/statm") or "").split()
    return int(words[1]) * os.sysconf("SC_PAGE_SIZE") // 1024 if len(words) > 1 else None
