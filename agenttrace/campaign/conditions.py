"""What a task ran under: the machine's load and the model server's, read before it and after it.

Sources: proc(5) (`loadavg`, `stat`), the kernel's Documentation/accounting/psi.rst and admin-guide/pm/cpufreq.rst. In a
container these are the machine's own, all of its tenants together; on macOS those of the engine's virtual machine.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from agenttrace.campaign.server_load import ServerLoad

PROC, SYS = Path("/proc"), Path("/sys")
_GOVERNOR = "devices/system/cpu/cpu0/cpufreq/scaling_governor"
_MILLISECOND_US = 1000


class HostLoad(msgspec.Struct, frozen=True, kw_only=True):
    """One reading of the machine; `None` is what it does not tell, and `unknown` says why.

    Attributes:
        load_1m: runnable and waiting tasks, mean of a minute.
        memory_available_bytes: what can be had without swapping.
        governor: how the clock of the first processor is chosen.
        steal_ms: time, since the machine started, that the hypervisor gave to others, of all processors together.
        cpu_stalled_ms: time in which some task waited for a processor.
        memory_stalled_ms: time in which some task waited for memory.
        memory_stalled_full_ms: time in which all tasks did.
        unknown: what is not known → why.
    """

    load_1m: float | None
    memory_available_bytes: int | None
    governor: str | None
    steal_ms: float | None
    cpu_stalled_ms: float | None
    memory_stalled_ms: float | None
    memory_stalled_full_ms: float | None
    unknown: dict[str, str] = {}


_COUNTERS = ("steal_ms", "cpu_stalled_ms", "memory_stalled_ms", "memory_stalled_full_ms")
_GAUGES = ("load_1m", "memory_available_bytes", "governor")


def host_load(proc: Path = PROC, sys: Path = SYS) -> HostLoad:
    """Return what the machine tells of its load now; reading it never fails."""
    unknown: dict[str, str] = {}

    def text(name: str, path: Path, why: str) -> str:
        try:
            return path.read_text(encoding="ascii", errors="replace")
        except OSError as error:
            unknown[name] = f"{why} ({error.strerror or error})"
            return ""

    load = _float(text("load_1m", proc / "loadavg", "no /proc/loadavg").split()[:1])
    memory = dict(
        line.partition(":")[::2]
        for line in text("memory_available_bytes", proc / "meminfo", "no /proc/meminfo").splitlines()
    )
    free = _float(memory.get("MemAvailable", "").split()[:1])
    cpu = text("steal_ms", proc / "stat", "no /proc/stat").partition("\n")[0].split()
    steal = _float(cpu[8:9]) if cpu[:1] == ["cpu"] else None
    cpu_some, _ = _stalled(text("cpu_stalled_ms", proc / "pressure/cpu", "no pressure stall information"))
    some, full = _stalled(text("memory_stalled_ms", proc / "pressure/memory", "no pressure stall information"))
    governor = text("governor", sys / _GOVERNOR, "no frequency scaling to be seen").strip() or None
    figures: dict[str, Any] = {
        "load_1m": load,
        "memory_available_bytes": None if free is None else int(free) * 1024,
        "governor": governor,
        "steal_ms": None if steal is None else 1000.0 * steal / os.sysconf("SC_CLK_TCK"),
        "cpu_stalled_ms": cpu_some,
        "memory_stalled_ms": some,
        "memory_stalled_full_ms": full,
    }
    for name in (name for name, value in figures.items() if value is None):
        unknown.setdefault(name, unknown.get(name.replace("_full_", "_"), "the kernel's file does not say it"))
    return HostLoad(**figures, unknown=unknown)


def _float(words: list[str]) -> float | None:
    try:
        return float(words[0]) if words else None
    except ValueError:
        return None


def _stalled(text: str) -> tuple[float | None, float | None]:
    """Return the totals of `some` and `full`, milliseconds."""
    totals = {line.split()[0]: _float([line.rpartition("total=")[2]]) for line in text.splitlines() if "total=" in line}
    some, full = (None if (us := totals.get(name)) is None else us / _MILLISECOND_US for name in ("some", "full"))
    return some, full


def during(before: HostLoad, after: HostLoad) -> dict[str, Any]:
    """Return gauges as [before, after], counters as what they grew by; `unknown` says why something is `None`."""
    pairs = {name: (getattr(before, name), getattr(after, name)) for name in (*_GAUGES, *_COUNTERS)}
    found: dict[str, Any] = {name: None if None in pairs[name] else list(pairs[name]) for name in _GAUGES}
    for name in _COUNTERS:
        one, other = pairs[name]
        found[name] = None if one is None or other is None or other < one else round(other - one, 3)
    unknown = {**before.unknown, **after.unknown}
    unknown |= {
        name: "it was less afterwards" for name, value in found.items() if value is None and name not in unknown
    }
    return {**found, **({"unknown": unknown} if unknown else {})}


class Conditions:
    """Reads what tasks run under.

    Args:
        server: the model server's load, where that is followed.
    """

    def __init__(self, server: ServerLoad | None = None) -> None:
        self._server = server

    def before(self) -> tuple[HostLoad, int]:
        """Return what is to be given to `since` when the task is done."""
        return host_load(), 0 if self._server is None else self._server.taken

    def since(self, before: tuple[HostLoad, int]) -> dict[str, Any]:
        """Return what goes into the `environment` of the task's record."""
        host, taken = before
        found: dict[str, Any] = {"host_load": during(host, host_load())}
        if self._server is not None:
            found["server_load"] = self._server.since(taken)
        return found
