"""The entry step of a worker in a container that shares network and mounts with others, as those of a pod do.

With `--enclose` the runner first makes of such a container what a service of docker-compose.yml is made by the engine:
no network but a loopback of its own, memory of the policy's sizes on every writable place, nothing else of what was
mounted, the policy's kernel settings, host name and limits, no environment of the pod's. It must be the container's
first process, and have the capabilities of the policy and `STEP`; it gives the latter up before anything else runs.
Then it starts anew with `--confined`, which looks at the result as the runner will have it, refuses to serve where
something falls short, and starts the runner.
"""

from __future__ import annotations

import fcntl
import os
import resource
import socket
import struct
import sys
import tomllib
from contextlib import suppress

from . import confinement, counters, libc, mounts, namespaces
from .namespaces import BIND, MOVE, NODEV, NOEXEC, NOSUID, PRIVATE, RDONLY, RECURSIVE, REMOUNT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from .frames import Message
    from .settings import Settings

EXIT_SHORT = 2
STEP = ("SYS_ADMIN", "SETPCAP", "NET_ADMIN")
"""Capabilities of the step itself: namespaces and mounts, giving capabilities up for good, starting the loopback."""
_FLAGS = ("--enclose", "--confined")
_HANDED_ON = ("PATH", "LANG")
_LOCKED = {"ro": RDONLY, "nosuid": NOSUID, "nodev": NODEV, "noexec": NOEXEC, "noatime": 1 << 10, "relatime": 1 << 21}
"""Flags that a change of a mount must name again, by their words in the mount table."""
_SCRATCH = "/run/call/step"
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
_HOSTS = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


class ShortError(Exception):
    """The container falls short of what the step needs, or the result of the policy."""


def run(options: Settings) -> NoReturn:
    """Do what `--enclose` or `--confined` asks for; ends in the runner, or with a line where something falls short."""
    try:
        if options.enclose:
            _enclose(options)
        _confirm(options)
    except (ShortError, OSError, ValueError, KeyError) as error:
        why = f"{options.policies} has no {error}" if isinstance(error, KeyError) else error
        what = "cannot be enclosed" if options.enclose else "is not confined"
        sys.stderr.write(f"runner: this container {what}: {why} (docs/sandbox.md#outside-compose)\n")
        raise SystemExit(EXIT_SHORT) from None


def _enclose(options: Settings) -> NoReturn:
    """Make the container what the policy asks for, and start anew with `--confined`."""
    policy = _policy(options)
    _check_rights(policy)
    os.umask(0o022)
    os.chdir("/")
    _close_descriptors()
    table = mounts.table()
    namespaces.unshare(namespaces.NEW_MOUNTS | namespaces.NEW_NAMES | namespaces.NEW_IPC | namespaces.NEW_NETWORK)
    namespaces.mount(None, "/", None, RECURSIVE | PRIVATE)
    _hide(options, policy)
    _make_places(options, policy)
    _make_system(table)
    _start_loopback()
    _set_kernel(policy["limits"]["sysctls"])
    socket.sethostname(policy["hostname"])
    more = _limit(policy["limits"])
    os.chdir(options.work)
    libc.forbid_new_privileges()
    namespaces.keep_capabilities(confinement.bits(policy["capabilities"]))
    namespaces.refuse_calls(os.uname().machine)
    _start_anew("--confined", *more)


def _confirm(options: Settings) -> NoReturn:
    """Start the runner where the container is what the policy asks for, however it came about."""
    policy = _policy(options)
    said = confinement.faults(confinement.facts(options), confinement.limits(options), policy, options.work)
    said = said or [f"programs run from {one}" for one in policy["limits"]["tmpfs"] if mounts.runs_programs(one)]
    if said:
        raise ShortError("; ".join(said))
    _start_anew()


def _policy(options: Settings) -> Message:
    with open(options.policies, "rb") as file:  # noqa: PTH123 -- as everywhere in the runner
        policies = tomllib.load(file)
    if options.policy not in policies:
        raise ShortError(f"{options.policies} has no policy {options.policy}")
    return dict(policies[options.policy])


def _check_rights(policy: Message) -> None:
    """Refuse before anything is changed."""
    if os.getpid() != 1:
        raise ShortError(
            "the runner must be its first process: without an init of the engine (no `docker run --init`) and without"
            " shareProcessNamespace"
        )
    own = confinement.status()
    wanted = confinement.bits((*policy["capabilities"], *STEP))
    if lacking := wanted & ~int(own["CapEff"], 16):
        raise ShortError(f"it lacks the capabilities {confinement.names(lacking)}")
    if own.get("Seccomp") != str(confinement.SECCOMP_FILTER):
        raise ShortError("there is no filter of system calls before it: set seccompProfile RuntimeDefault")


def _close_descriptors() -> None:
    """Close what the engine may have left open: a folder of the host is a way out."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 -- pathlib costs memory
        if int(name) > 2:  # noqa: PLR2004 -- the standard streams
            with suppress(OSError):
                os.close(int(name))


def _hide(options: Settings, policy: Message) -> None:
    """Take away every mount but the system's and the worker's own folders, and write neutral names of hosts.

    What lay below is the image's, or an empty place that the engine made for the mount, which goes as well.
    """
    folders = {options.socket_dir, options.trees, options.fixtures, options.work} - {*policy["limits"]["tmpfs"]}
    kept = {"/", "/proc", "/sys", "/dev", "/dev/pts", "/dev/mqueue", *mounts.DEVICES, *folders}
    hidden = set()
    while strange := [
        one.place for one in mounts.table() if one.place not in kept and not one.place.startswith(("/proc/", "/sys/"))
    ]:
        namespaces.unmount(strange[-1])
        hidden.add(strange[-1])
    there = {one.place for one in mounts.table()}
    for flag, folder in (("--socket-dir", options.socket_dir), ("--work", options.work)):
        if folder in folders and folder not in there and not (options.stdio and folder == options.socket_dir):
            raise ShortError(f"nothing is mounted on {folder} ({flag}): mount a volume there")
    _change("/", without=RDONLY)
    for place in sorted(hidden - {*policy["limits"]["tmpfs"]}, reverse=True):
        _remove_place(place)
    for name, text in (("hosts", _HOSTS), ("hostname", f"{policy['hostname']}\n"), ("resolv.conf", "")):
        with open(f"/etc/{name}", "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(text)
    _change("/", RDONLY)
    for folder in folders & there:
        readonly = RDONLY if folder in {options.trees, options.fixtures} else 0
        _change(folder, readonly | NOSUID | NODEV | (NOEXEC if folder != options.work else 0))


def _change(place: str, more: int = 0, *, without: int = 0) -> None:
    """Change the flags of a mount; those it has stay."""
    options = next(one.options for one in reversed(mounts.table()) if one.place == place)
    flags = sum(flag for word, flag in _LOCKED.items() if word in options)
    namespaces.mount(None, place, None, REMOUNT | BIND | (flags & ~without) | more)


def _remove_place(place: str) -> None:
    """Remove the empty folder or file that something was mounted on."""
    with suppress(OSError):
        if os.path.isdir(place):  # noqa: PTH112 -- pathlib costs memory
            (os.removedirs if place.startswith("/run/") else os.rmdir)(place)
        elif os.path.getsize(place) == 0:  # noqa: PTH202
            os.unlink(place)  # noqa: PTH108


def _make_places(options: Settings, policy: Message) -> None:
    """Mount memory of the policy's size on each place of the policy; nothing there can be run."""
    for place, size in sorted(policy["limits"]["tmpfs"].items()):
        mode, uid, gid = 0o755, 0, 0
        if place == options.work:
            uid, gid = options.tool_uid, options.tool_gid
        elif place in options.wipe:
            mode = 0o1777
        sized = f"size={size['bytes']},nr_inodes={size['inodes']},mode={mode:o},uid={uid},gid={gid}"
        namespaces.mount("tmpfs", place, "tmpfs", NOSUID | NODEV | NOEXEC, sized)
    os.chown(options.work, options.tool_uid, options.tool_gid)
    os.chmod(options.work, 0o755)  # noqa: PTH101, S103 -- as in the image


def _make_system(before: Sequence[mounts.Mount]) -> None:
    """Give the namespaces views of their own: message queues, and a /sys that shows their network.

    Control groups are bound back, read-only; what the engine had covered is covered again.
    """
    if any(one.place == "/dev/mqueue" for one in before):
        namespaces.unmount("/dev/mqueue")
        namespaces.mount("mqueue", "/dev/mqueue", "mqueue", NOSUID | NODEV | NOEXEC)
    groups = counters.CGROUP
    os.mkdir(_SCRATCH)  # noqa: PTH102
    # While the old one is there: in a user namespace the kernel shows no more of /sys than is seen already.
    namespaces.mount("sysfs", _SCRATCH, "sysfs", NOSUID | NODEV | NOEXEC | RDONLY)
    namespaces.mount(groups, f"{_SCRATCH}{groups.removeprefix('/sys')}", None, BIND | RECURSIVE)
    namespaces.unmount("/sys")
    namespaces.mount(_SCRATCH, "/sys", None, MOVE)
    os.rmdir(_SCRATCH)  # noqa: PTH106
    for one in before:
        if one.place.startswith("/sys/") and not f"{one.place}/".startswith(f"{groups}/"):
            _cover(one.place)
    _kill_one_at_a_time(groups)
    for place in {one.place for one in mounts.table() if f"{one.place}/".startswith(f"{groups}/")}:
        _change(place, RDONLY | NOSUID | NODEV | NOEXEC)


def _cover(place: str) -> None:
    if os.path.isdir(place):  # noqa: PTH112
        namespaces.mount("tmpfs", place, "tmpfs", RDONLY | NOSUID | NODEV | NOEXEC, "size=4k,nr_inodes=1")
    elif os.path.exists(place):  # noqa: PTH110
        namespaces.mount("/dev/null", place, None, BIND)
        _change(place, RDONLY)


def _kill_one_at_a_time(groups: str) -> None:
    """Have a call that needs too much memory be killed alone; a kubelet asks for all of the container at once."""
    path = f"{groups}/memory.oom.group"
    if counters.number(path) != 1:
        return
    try:
        _change(groups, without=RDONLY)
        with open(path, "w", encoding="ascii") as file:  # noqa: PTH123
            file.write("0")
    except OSError as error:
        raise ShortError(
            "a call that is killed for memory would take the worker with it, and that cannot be changed here"
            f" ({error}): set singleProcessOOMKill: true in the kubelet's configuration"
        ) from error


def _start_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        fcntl.ioctl(asking, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _IFF_UP))


def _set_kernel(values: dict[str, str]) -> None:
    """Set what belongs to the new namespaces, through a view of /proc/sys that is not read-only, for a moment."""
    os.mkdir(_SCRATCH)  # noqa: PTH102
    namespaces.mount("/proc", _SCRATCH, None, BIND)
    try:
        for name, value in values.items():
            with open(f"{_SCRATCH}/sys/{name.replace('.', '/')}", "r+", encoding="ascii") as file:  # noqa: PTH123
                file.write(value)
                file.flush()
                file.seek(0)
                if (found := file.read().split()) != value.split():
                    raise ShortError(f"{name} is {' '.join(found)} and not {value}")
    finally:
        namespaces.unmount(_SCRATCH)
        os.rmdir(_SCRATCH)  # noqa: PTH106


def _limit(limits: Message) -> list[str]:
    """Set the limits that a pod cannot name; returns flags for those that are the runner's to set."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits["open_files"], limits["open_files"]))
    pids = counters.limits()["pids"]
    return ["--pids", str(limits["pids"])] if pids is None or pids > limits["pids"] else []


def _start_anew(*flags: str) -> NoReturn:
    """Start this program again without the flags that made it do this, and without the environment of the pod."""
    words = [word for word in sys.orig_argv[1:] if word not in _FLAGS]
    env = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
    os.execve(sys.executable, [sys.executable, *words, *flags], env)  # noqa: S606 -- this program itself
