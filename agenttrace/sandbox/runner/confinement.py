"""How a worker is confined, as it sees that itself, and in what it falls short of its policy.

A worker says the facts of itself in its greeting, however it was started. `faults` judges them by the policy
(`agenttrace/sandbox/policies.toml`): the worker before it serves, with `--confined`; a client that will have no other.
"""

from __future__ import annotations

import contextlib
import os

from . import counters, mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from .frames import Message
    from .settings import Settings

CAPABILITIES = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"),
    *("LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER"),
    *("SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE"),
    *("SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP"),
    *("MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF"),
    "CHECKPOINT_RESTORE",
)
"""By their numbers, as in linux/capability.h."""
SECCOMP_FILTER = 2
_OF_THE_KERNEL = frozenset({"proc", "devpts", "mqueue"})


def bits(names: Iterable[str]) -> int:
    """Capabilities as the kernel writes them."""
    return sum({1 << CAPABILITIES.index(name) for name in names})


def names(found: int) -> str:
    """Capabilities in words."""
    return ", ".join(name for number, name in enumerate(CAPABILITIES) if found >> number & 1) or hex(found)


def status() -> dict[str, str]:
    """What the kernel says of this process; raises `OSError` where there is no /proc."""
    with open("/proc/self/status", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 -- pathlib costs memory
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def facts(options: Settings) -> Message | None:
    """What a policy asks of a worker's surroundings, as they are; `None` where the kernel does not say (no Linux)."""
    try:
        own, table = status(), mounts.table()
    except OSError:
        return None
    interfaces = counters.interfaces()
    if interfaces is None:
        return None
    sets = (own.get(f"Cap{which}", "0") for which in ("Inh", "Prm", "Eff", "Bnd", "Amb"))
    held = 0
    for one in sets:
        held |= int(one, 16)
    return {
        "interfaces": interfaces,
        "capabilities": f"{held:x}",
        "no_new_privileges": own.get("NoNewPrivs") == "1",
        "seccomp": int(own.get("Seccomp", "0")),
        "oom_kills_all": counters.number(f"{counters.CGROUP}/memory.oom.group") == 1,
        "other_processes": _other_processes(),
        "writable": {
            one.place: _place(one)
            for one in table
            if one.writable
            and one.kind not in _OF_THE_KERNEL
            and one.place not in {"/dev", *mounts.DEVICES, options.socket_dir}
            and not one.place.startswith("/proc/")  # what the engine covers there is covered by /dev/null
            and not (one.place == counters.CGROUP and _is_of_root(one.place))  # folders of version 1 lie in memory
        },
    }


def _is_of_root(place: str) -> bool:
    """Whether nobody else may write there."""
    info = os.stat(place)  # noqa: PTH116 -- pathlib costs memory
    return info.st_uid == 0 and not info.st_mode & 0o022


def _place(one: mounts.Mount) -> Message:
    """A writable mount; size and number of files where it lies in memory and can be looked at."""
    size = None
    if one.kind == "tmpfs":
        with contextlib.suppress(OSError):
            size = os.statvfs(one.place)
    return {
        "kind": one.kind,
        "bytes": None if size is None else size.f_blocks * size.f_frsize,
        "files": None if size is None else size.f_files,
        "runs_programs": "noexec" not in one.options,
    }


def _other_processes() -> int:
    """Processes that are neither this one nor what started it: others' containers share their numbers."""
    ours = set()
    pid = os.getpid()
    while pid > 0:
        ours.add(pid)
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
                pid = int(file.read().rpartition(b") ")[2].split()[1])
        except OSError:
            break
    return sum(name.isdecimal() and int(name) not in ours for name in os.listdir("/proc"))  # noqa: PTH208


def limits(options: Settings) -> dict[str, float | None]:
    """The worker's limits: those of its container, and the runner's own of processes where that is lower."""
    found = counters.limits()
    pids = [one for one in (found["pids"], options.pids) if one]
    return {**found, "pids": min(pids, default=None)}


def faults(said: Message | None, limited: Message, policy: Message, work: str) -> list[str]:
    """In what a worker falls short of its policy, a clause each; empty where in nothing.

    Args:
        said: its `facts`.
        limited: its `limits`.
        policy: a table of policies.toml.
        work: its work tree.
    """
    if said is None:
        return ["it does not say how it is confined"]
    wanted, held = bits(policy["capabilities"]), int(said["capabilities"], 16)
    found = []
    if outside := [name for name in said["interfaces"] if name != "lo"]:
        found.append(f"it has the network interfaces {', '.join(outside)}")
    if held & ~wanted:
        found.append(f"it has the capabilities {names(held & ~wanted)}")
    if wanted & ~held:
        found.append(f"it lacks the capabilities {names(wanted & ~held)}")
    if not said["no_new_privileges"]:
        found.append("its programs can gain privileges (no_new_privileges is not set)")
    if said["seccomp"] != SECCOMP_FILTER:
        found.append("there is no filter of system calls before it")
    if said["oom_kills_all"]:
        found.append("a call that is killed for memory takes the worker with it (memory.oom.group)")
    if said["other_processes"]:
        found.append(f"it sees {said['other_processes']} processes of others")
    return found + _short_limits(limited, policy["limits"]) + _short_places(said["writable"], policy["limits"], work)


def _short_limits(limited: Message, wanted: Message) -> list[str]:
    named = {"memory_bytes": "memory", "pids": "processes", "cpus": "processors"}
    return [
        f"its limit of {word} is {limited[name] or 'none'}, not {wanted[name]}"
        for name, word in named.items()
        if limited[name] != wanted[name]
    ]


def _short_places(writable: dict[str, Any], wanted: Message, work: str) -> list[str]:
    found = []
    for place, size in wanted["tmpfs"].items():
        there = writable.get(place)
        if there is None or there["kind"] != "tmpfs":
            found.append(f"{place} is no writable memory of its own")
        elif there["runs_programs"]:
            found.append(f"programs run from {place}")
        elif (there["bytes"], there["files"]) != (size["bytes"], size["inodes"]):
            held, most = (f"{one} bytes in {many} files" for one, many in (_held(there), _held(size)))
            found.append(f"{place} takes {held}, not {most}")
    others = [place for place in writable if place not in {*wanted["tmpfs"], work}]
    return found + [f"{place} can be written to" for place in others]


def _held(size: Message) -> tuple[int, int]:
    return size["bytes"], size["files"] if "files" in size else size["inodes"]
