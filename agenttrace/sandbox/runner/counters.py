"""Read-only views of the kernel's counters: cgroup v1 or v2 of this container, I/O of reaped children.

A cgroup file counts only where it belongs to this container: at the root of a hierarchy (no container, or one that
shares the host's cgroup namespace) it would count the whole machine, so it is then reported as `None`.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CGROUP = "/sys/fs/cgroup"
_UNLIMITED = 1 << 60


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _content(fd: int | None) -> str | None:
    """What the open file holds now, whatever was read of it before."""
    try:
        return None if fd is None else os.pread(fd, 65536, 0).decode("ascii", "replace")
    except OSError:
        return None


def _text(path: str) -> str | None:
    fd = _open(path)
    try:
        return _content(fd)
    finally:
        if fd is not None:
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


def _v2_path(name: str) -> str:
    # `cgroup.type` exists in every cgroup but the root.
    return f"{CGROUP}/{name}" if os.path.exists(f"{CGROUP}/cgroup.type") else ""  # noqa: PTH110


def _v1_path(controller: str, name: str) -> str:
    # `release_agent` exists in the root of a v1 hierarchy only.
    folder = f"{CGROUP}/{controller}"
    return "" if os.path.exists(f"{folder}/release_agent") else f"{folder}/{name}"  # noqa: PTH110


def _v2(name: str) -> str | None:
    return _text(_v2_path(name))


def _v1(controller: str, name: str) -> str | None:
    return _text(_v1_path(controller, name))


class Gauge:
    """A counter that every call reads: its file is found and opened once, and one system call reads it."""

    def __init__(self, path: str, value: Callable[[str | None], int | None]) -> None:
        self._fd = _open(path)
        self._value = value

    def read(self) -> int | None:
        """What it says now; `None` when it is not there or holds something else."""
        return self._value(_content(self._fd))


def _usage_ns(text: str | None) -> int | None:
    usage_us = pairs(text).get("usage_usec")
    return None if usage_us is None else usage_us * 1000


def _oom_kills(text: str | None) -> int | None:
    return pairs(text).get("oom_kill")


def cpu_ns() -> Gauge:
    """CPU time of the whole container so far, nanoseconds."""
    found = Gauge(_v2_path("cpu.stat"), _usage_ns)
    return found if found.read() is not None else Gauge(_v1_path("cpuacct", "cpuacct.usage"), _number)


def oom_kills() -> Gauge:
    """How many processes of this container the kernel has killed for memory so far."""
    found = Gauge(_v2_path("memory.events"), _oom_kills)
    return found if found.read() is not None else Gauge(_v1_path("memory", "memory.oom_control"), _oom_kills)


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
