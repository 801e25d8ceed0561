"""Read-only views of the kernel's counters: cgroup v1 or v2 of this container, I/O of reaped children.

A cgroup file counts only where it belongs to this container: at the root of a hierarchy (no container, or one that
shares the host's cgroup namespace) it would count the whole machine, so it is then reported as `None`.
"""

from __future__ import annotations

import fcntl
import functools
import os
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Counts = dict[str, int]

CGROUP = "/sys/fs/cgroup"
PRESSURE = "/proc/pressure"
_CPU = {  # of v2, and the throttled time of v1
    "usage_usec": ("cpu_ns", 1000),
    "nr_periods": ("cfs_periods", 1),
    "nr_throttled": ("cfs_throttled_periods", 1),
    "throttled_usec": ("cfs_throttled_ns", 1000),
    "throttled_time": ("cfs_throttled_ns", 1),
}
_OOM = {"oom_kill": ("oom_kills", 1)}
_REFUSED = {"max": ("refused_forks", 1)}
_REFAULTS = {  # the first before Linux 5.9, when only pages of files were counted
    "workingset_refault": ("file_refaults", 1),
    "workingset_refault_file": ("file_refaults", 1),
    "workingset_refault_anon": ("anon_refaults", 1),
}
_PRESSURES = {"some": "%s_pressure_ns", "full": "%s_pressure_full_ns"}
_UNLIMITED = 1 << 60
_SIOCGIFFLAGS, _NAME_BYTES, _IFREQ_BYTES = 0x8913, 16, 40
_FIRST_PIDS = "pid:[4026531836]"


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


class Gauges:
    """The container's counters that every call reads before and after: each file is found and opened once.

    Attributes:
        pressure_scope: whose pressure it is: `container` (cgroup v2), `machine` (everybody's), `None` where it is not
            counted.
        network_bytes: what a call can have sent and received: 0 where there is no network, else unknown.
    """

    def __init__(self, *, basic: bool = False) -> None:
        self.network_bytes = _network_bytes()
        self.pressure_scope: str | None = None
        self._files: list[tuple[int, Callable[[str], Counts]]] = []
        if not self._add(_v2_path("cpu.stat"), _cpu):
            self._add(_v1_path("cpuacct", "cpuacct.usage"), _usage)
            if not basic:
                self._add(_v1_path("cpu", "cpu.stat"), _cpu)
        if not self._add(_v2_path("memory.events"), _oom_kills):
            self._add(_v1_path("memory", "memory.oom_control"), _oom_kills)
        if not basic:
            self._add_more()

    def _add_more(self) -> None:
        if not self._add(_v2_path("memory.stat"), _refaults):
            self._add(_v1_path("memory", "memory.stat"), _refaults)
        if not self._add(_v2_path("pids.events"), _refused):
            self._add(_v1_path("pids", "pids.events"), _refused)
        for scope in ("container", "machine"):
            for resource in ("cpu", "memory", "io"):
                path = _v2_path(f"{resource}.pressure") if scope == "container" else f"{PRESSURE}/{resource}"
                if self._add(path, functools.partial(_pressure, resource)):
                    self.pressure_scope = scope
            if self.pressure_scope is not None:
                break

    def _add(self, path: str, counts: Callable[[str], Counts]) -> bool:
        """Whether a file is there and says something."""
        fd = _open(path)
        if fd is None:
            return False
        if text := _content(fd):
            self._files.append((fd, counts))
            return bool(counts(text))
        os.close(fd)
        return False

    def read(self) -> Counts:
        """What they say now, by the names of the figures; what is not counted here is not there."""
        found: Counts = {}
        for fd, counts in self._files:
            found |= counts(_content(fd) or "")
        return found


def _chosen(text: str, names: dict[str, tuple[str, int]]) -> Counts:
    """Figures by the names that the kernel gives them, each with what its unit is multiplied by."""
    found = {}
    text = f"\n{text}"
    for key, (name, scale) in names.items():
        _, _, rest = text.partition(f"\n{key} ")
        value = rest.partition("\n")[0]
        if value.isdecimal():
            found[name] = int(value) * scale
    return found


def _usage(text: str) -> Counts:
    value = _number(text)
    return {} if value is None else {"cpu_ns": value}


def _cpu(text: str) -> Counts:
    return _chosen(text, _CPU)


def _oom_kills(text: str) -> Counts:
    return _chosen(text, _OOM)


def _refused(text: str) -> Counts:
    return _chosen(text, _REFUSED)


def _refaults(text: str) -> Counts:
    return _chosen(text, _REFAULTS)


def _pressure(resource: str, text: str) -> Counts:
    """`some` is the time in which a process waited for the resource, `full` in which all did."""
    found = {}
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        total = rest.rpartition("total=")[2]
        if kind in _PRESSURES and total.isdecimal() and (resource != "cpu" or kind == "some"):
            found[_PRESSURES[kind] % resource] = int(total) * 1000
    return found


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


def interfaces() -> list[str] | None:
    """The network interfaces that are up; `None` where the kernel does not say.

    One that is down carries nothing, and nobody in a container can change that: kernels with tunnels put one of each
    kind, down, into every network (`fb_tunnels_only_for_init_net`), as those of Docker Desktop do.
    """
    text = _text("/proc/net/dev")
    if text is None:
        return None
    names = [line.partition(":")[0].strip() for line in text.splitlines() if ":" in line]
    return [name for name in names if _is_up(name)]


def _is_up(name: str) -> bool:
    """Whether an interface is up; also where the kernel does not say."""
    request = os.fsencode(name).ljust(_IFREQ_BYTES, b"\0")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
            answer = fcntl.ioctl(asking, _SIOCGIFFLAGS, request)
    except OSError:
        return True
    return bool(int.from_bytes(answer[_NAME_BYTES : _NAME_BYTES + 2], sys.byteorder) & 1)


def _network_bytes() -> int | None:
    """0 where this container has no network but its own loopback: nothing can leave it. Else unknown."""
    found = interfaces()
    return 0 if found is not None and set(found) <= {"lo"} else None


def last_pid() -> int | None:
    """The number given out last in this PID namespace; `None` in the first one of the machine, which is everybody's."""
    try:
        if os.readlink("/proc/self/ns/pid") == _FIRST_PIDS:  # noqa: PTH115 -- pathlib costs memory
            return None
    except OSError:
        return None
    return _number((_text("/proc/loadavg") or "").rpartition(" ")[2])


class Started:
    """How many processes and threads this PID namespace has had since: looked at often enough to see a new beginning.

    The numbers go up until they begin anew, and how many there were is then unknown, also when they are beyond the
    first again: `pid_max` may be 32,768.
    """

    def __init__(self) -> None:
        self._first = self._last = last_pid()

    def look(self) -> None:
        """Take notice of the number that was given out last."""
        last = None if self._last is None else last_pid()
        self._last = None if last is None or self._last is None or last < self._last else last

    def count(self) -> int | None:
        """How many there were at the last look; `None` is unknown."""
        return None if self._first is None or self._last is None else self._last - self._first
