"""How a worker is confined: what it says of itself, what of that falls short, and the filter of system calls."""

from __future__ import annotations

import copy
import hashlib
import os
import platform
import socket
import struct
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from agenttrace.errors import UsageError
from agenttrace.sandbox import strength
from agenttrace.sandbox.policies import policies
from agenttrace.sandbox.reports import Confinement, Limits, WorkerInfo
from agenttrace.sandbox.runner import confinement, mounts, namespaces
from agenttrace.sandbox.runner.settings import Settings

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")


def asked(policy):
    return msgspec.to_builtins(policies()[policy])


def as_compose(policy):
    """Return what a worker of Compose says: facts and limits."""
    limits = asked(policy)["limits"]
    places = {
        place: {"kind": "tmpfs", "bytes": size["bytes"], "files": size["inodes"], "runs_programs": False}
        for place, size in limits["tmpfs"].items()
    }
    volume = {"/testdata": {"kind": "ext4", "bytes": None, "files": None, "runs_programs": True}}
    said = {
        "interfaces": ["lo"], "capabilities": "eb", "no_new_privileges": True, "seccomp": 2, "oom_kills_all": False,
        "other_processes": 0, "writable": {**(volume if policy == "shell" else {}), **places},
    }  # fmt: skip
    return said, {name: limits[name] for name in ("pids", "memory_bytes", "cpus")}


@pytest.mark.parametrize("policy", policies())
def test_a_worker_of_compose_falls_short_in_nothing(policy):
    assert confinement.faults(*as_compose(policy), asked(policy), "/testdata") == []


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("interfaces", ["lo", "eth0"], "it has the network interfaces eth0"),
        ("capabilities", "2000eb", "it has the capabilities SYS_ADMIN"),
        ("capabilities", "cb", "it lacks the capabilities KILL"),
        ("no_new_privileges", False, "its programs can gain privileges"),
        ("seccomp", 0, "there is no filter of system calls"),
        ("oom_kills_all", True, "takes the worker with it"),
        ("other_processes", 3, "it sees 3 processes of others"),
        ("writable./tmp.runs_programs", True, "programs run from /tmp"),
        ("writable./tmp.kind", "ext4", "/tmp is no writable memory of its own"),
        ("writable./tmp.bytes", 1 << 40, "/tmp takes 1099511627776 bytes in 65536 files, not 268435456 bytes"),
        ("writable./tmp.files", 0, "/tmp takes 268435456 bytes in 0 files, not 268435456 bytes in 65536 files"),
        ("writable./etc", {"kind": "ext4", "bytes": None, "files": None, "runs_programs": True}, "/etc can be written"),
        ("writable./", {"kind": "overlay", "bytes": None, "files": None, "runs_programs": True}, "/ can be written to"),
    ],
)
@pytest.mark.parametrize("policy", policies())
def test_each_fact_that_falls_short_is_said(policy, path, value, fault):
    said, limits = copy.deepcopy(as_compose(policy))
    *folders, name = path.split(".")
    there = said
    for folder in folders:
        there = there[folder]
    there[name] = value
    (found,) = confinement.faults(said, limits, asked(policy), "/testdata")
    assert fault in found


@pytest.mark.parametrize("name", ["pids", "memory_bytes", "cpus"])
def test_a_limit_that_is_not_there_falls_short(name):
    said, limits = as_compose("shell")
    (found,) = confinement.faults(said, {**limits, name: None}, asked("shell"), "/testdata")
    assert "is none, not" in found


def test_a_worker_that_does_not_say_falls_short():
    assert confinement.faults(None, {}, asked("shell"), "/testdata") == ["it does not say how it is confined"]


def worker(policy="shell", **fields):
    said, limits = as_compose(policy)
    own = hashlib.sha256(strength.FILE.read_bytes()).hexdigest()
    base = {
        "protocol": 2, "version": "1", "helper": "c", "policy": policy, "isolation": "uid", "tool_uid": 1,
        "tool_gid": 1, "fixtures": {}, "python": "3", "limits": Limits(**limits), "environment_digest": None,
        "work": "/testdata", "tasks_served": 0, "max_tasks": 9, "policy_sha256": own,
        "confinement": msgspec.convert(said, Confinement),
    }  # fmt: skip
    return WorkerInfo(**(base | fields))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"isolation": "none"}, "run as the user of the runner"),
        ({"policy_sha256": "0" * 64}, "other policies than this version of the kit"),
        ({"policy_sha256": None}, "other policies than this version of the kit"),
        ({"confinement": None}, "does not say how it is confined"),
        ({"limits": Limits(memory_bytes=1 << 30, cpus=1.0)}, "its limit of processes is none, not 256"),
    ],
)
def test_a_worker_that_is_weaker_is_refused_with_the_reason(fields, said, monkeypatch):
    monkeypatch.delenv(strength.ANY, raising=False)
    strength.refuse_short(worker(), "shell")
    with pytest.raises(UsageError, match=f"weaker than .*{said}.*--enclose") as refused:
        strength.refuse_short(worker(**fields), "shell")
    assert "\n" not in str(refused.value)
    monkeypatch.setenv(strength.ANY, "1")
    strength.refuse_short(worker(**fields), "shell")
    with pytest.raises(UsageError, match="have the policy shell, the tasks need execution_free"):
        strength.refuse_short(worker(**fields), "execution_free")


def test_a_policy_of_nobody_is_no_policy():
    assert strength.shortfalls(worker(policy="shell") and msgspec.structs.replace(worker(), policy="x")) == [
        "its policy 'x' is none of shell, execution_free"
    ]


@LINUX
def test_a_runner_on_this_host_says_how_it_is_not_confined():
    said = confinement.facts(Settings())
    flags = {name: int(Path(f"/sys/class/net/{name}/flags").read_text(), 16) for _, name in socket.if_nameindex()}
    assert msgspec.convert(said, Confinement).interfaces == tuple(name for name, flag in flags.items() if flag & 1)
    assert int(said["capabilities"], 16) & int(confinement.status()["CapBnd"], 16) == int(said["capabilities"], 16)
    found = confinement.faults(said, confinement.limits(Settings()), asked("execution_free"), "/testdata")
    assert "/testdata is no writable memory of its own" in found


def test_a_line_of_the_mount_table_is_read():
    one = mounts.Mount("36 35 98:0 /mnt1 /a\\040b\\134c rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n")
    assert (one.place, one.kind, one.options, one.writable) == ("/a b\\c", "ext3", ["rw", "noatime"], True)
    assert not mounts.Mount("1 0 0:1 / /x rw,nosuid - tmpfs tmpfs ro,size=1k\n").writable
    assert not mounts.Mount("1 0 0:1 / /x ro - overlay  rw\n").writable


@LINUX
def test_a_place_where_programs_run_is_told_from_one_where_they_do_not(tmp_path):
    assert mounts.runs_programs(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    noexec = [one.place for one in mounts.table() if one.kind == "tmpfs" and "noexec" in one.options and one.writable]
    for place in (place for place in noexec if os.access(place, os.W_OK) and Path(place).is_dir()):
        assert not mounts.runs_programs(place)


def test_capabilities_have_the_kernels_numbers():
    assert confinement.bits(["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID"]) == 0xEB
    assert confinement.bits(["SYS_ADMIN"]) == 1 << 21
    assert confinement.bits(["CHECKPOINT_RESTORE"]) == 1 << 40
    assert confinement.names(0xEB | 1 << 21).endswith("SYS_ADMIN")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_jump_of_the_filter_ends_in_the_program(machine):
    program = list(struct.iter_unpack("=HBBI", namespaces.filter_of_calls(machine)))
    assert program[-1] == (0x06, 0, 0, 0x7FFF0000)
    for number, (code, yes, no, _) in enumerate(program):
        assert number + 1 + max(yes, no) < len(program) or code == 0x06
    with pytest.raises(ValueError, match="riscv64 are not known"):
        namespaces.filter_of_calls("riscv64")


_ATTEMPTS = """
import ctypes, errno, os, socket, subprocess
from agenttrace.sandbox.runner import libc, namespaces
libc.forbid_new_privileges()
namespaces.refuse_calls(os.uname().machine)
libc = ctypes.CDLL(None, use_errno=True)
def tried(name, result):
    print(name, "done" if result >= 0 else errno.errorcode[ctypes.get_errno()])
tried("unshare", libc.unshare(0x10000000))
tried("mount", libc.mount(b"x", b"/tmp", b"tmpfs", 0, None))
tried("setns", libc.setns(0, 0))
arm = os.uname().machine == "aarch64"
tried("bpf", libc.syscall(280 if arm else 321, 0, None, 0))
tried("clone3", libc.syscall(435, None, 0))
tried("namespace", libc.syscall(220 if arm else 56, ctypes.c_ulong(0x10000011), 0, 0, 0, 0))
try:
    socket.socket(40, socket.SOCK_STREAM)
    print("vsock done")
except OSError as error:
    print("vsock", errno.errorcode[error.errno])
print("programs", subprocess.run(["true"]).returncode, os.waitpid(os.posix_spawnp("true", ["true"], {}), 0)[1])
socket.socket(socket.AF_UNIX).close()
"""


@LINUX
def test_the_filter_refuses_what_no_tool_needs_and_nothing_else():
    if platform.machine() not in {"x86_64", "aarch64"}:
        pytest.skip("the numbers of system calls are those of x86_64 and aarch64")
    ended = subprocess.run([sys.executable, "-c", _ATTEMPTS], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        "unshare EPERM", "mount EPERM", "setns EPERM", "bpf EPERM", "clone3 ENOSYS", "namespace EPERM", "vsock EPERM",
        "programs 0 0",
    ]  # fmt: skip


@LINUX
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--enclose", "--policies", strength.FILE], "this container cannot be enclosed: the runner must be its first"),
        (["--confined", "--policies", strength.FILE], "this container is not confined: it has the network interfaces"),
        (["--confined", "--policies", strength.FILE, "--policy", "x"], "has no policy x"),
        (["--confined", "--policies", "/nowhere"], "No such file or directory: '/nowhere'"),
        (["--confined", "--policies", "/etc/hostname"], "this container is not confined: "),
    ],
)
def test_a_process_of_this_host_is_no_container(words, said):
    runner = Path(confinement.__file__).parent
    argv = [sys.executable, "-I", "-S", "-B", runner, "--stdio", *words]
    ended = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
