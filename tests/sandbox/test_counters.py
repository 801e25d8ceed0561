"""Kernel files of cgroup v1 and v2, as folders of text."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agenttrace.sandbox.runner import counters

V2 = {
    "cgroup.type": "domain\n",
    "cpu.stat": "usage_usec 1234\nuser_usec 1000\nsystem_usec 234\n",
    "memory.events": "low 0\nhigh 0\nmax 7\noom 1\noom_kill 2\noom_group_kill 0\n",
    "cpu.max": "150000 100000\n",
    "memory.max": "1073741824\n",
    "pids.max": "256\n",
}
V1 = {
    "cpuacct/cpuacct.usage": "5678\n",
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
    "memory/memory.limit_in_bytes": "536870912\n",
    "pids/pids.max": "64\n",
    "cpu/cpu.cfs_quota_us": "50000\n",
    "cpu/cpu.cfs_period_us": "100000\n",
}


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    monkeypatch.setattr(counters, "CGROUP", str(tmp_path))
    monkeypatch.setattr(counters, "PRESSURE", str(tmp_path / "pressure"))

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    return write


def test_version_2(cgroup):
    cgroup(V2)
    assert counters.Gauges().read() == {"cpu_ns": 1_234_000, "oom_kills": 2}
    assert counters.limits() == {"pids": 256, "memory_bytes": 2**30, "cpus": 1.5}


def test_version_2_without_limits(cgroup):
    cgroup(V2 | {"cpu.max": "max 100000\n", "memory.max": "max\n", "pids.max": "max\n"})
    assert counters.limits() == {"pids": None, "memory_bytes": None, "cpus": None}


def test_version_1(cgroup):
    cgroup(V1)
    assert counters.Gauges().read() == {"cpu_ns": 5678, "oom_kills": 3}
    assert counters.limits() == {"pids": 64, "memory_bytes": 2**29, "cpus": 0.5}


def test_version_1_without_limits(cgroup):
    cgroup(V1 | {"memory/memory.limit_in_bytes": "9223372036854771712\n", "cpu/cpu.cfs_quota_us": "-1\n"})
    assert counters.limits() == {"pids": 64, "memory_bytes": None, "cpus": None}


def test_the_root_of_a_hierarchy_is_the_whole_machine_and_not_counted(cgroup):
    cgroup({name: text for name, text in V2.items() if name != "cgroup.type"})
    assert counters.Gauges().read() == {}
    cgroup(V1 | {f"{name}/release_agent": "" for name in ("cpuacct", "memory", "pids", "cpu")})
    assert counters.Gauges().read() == {}
    assert counters.limits() == {"pids": None, "memory_bytes": None, "cpus": None}


def test_nothing_there_is_none(cgroup):
    assert counters.Gauges().read() == {}


@pytest.mark.skipif(not Path("/proc/thread-self/io").exists(), reason="needs Linux: /proc/thread-self/io")
def test_io_of_children_leaves_out_what_this_process_reads():
    before = counters.reaped_io()
    for _ in range(100):
        counters._text("/proc/self/status")
    after = counters.reaped_io()
    assert after["rchar"] - before["rchar"] < 1000


def test_process_numbers_are_counted_until_they_begin_anew(monkeypatch):
    said = iter([100, 130, 150, 20, 400])
    monkeypatch.setattr(counters, "last_pid", lambda: next(said))
    started = counters.Started()
    for expected in (30, 50, None, None):
        started.look()
        assert started.count() == expected
    monkeypatch.setattr(counters, "last_pid", lambda: None)
    nowhere = counters.Started()
    nowhere.look()
    assert nowhere.count() is None


DOWN_AND_UP = """
import fcntl, os, struct, socket
from agenttrace.sandbox.runner.counters import Gauges, interfaces
tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", b"t0", 1 | 0x1000))
print(interfaces(), Gauges().network_bytes)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
    for name in (b"lo", b"t0"):
        fcntl.ioctl(asking, 0x8914, struct.pack("16sh22x", name, 1))
        print(interfaces(), Gauges().network_bytes)
"""


def test_an_interface_that_is_down_is_no_network_as_kernels_with_tunnels_put_some_everywhere():
    argv = ["unshare", "--net", sys.executable, "-c", DOWN_AND_UP]
    if shutil.which("unshare") is None or not Path("/dev/net/tun").exists() or os.geteuid() != 0:
        pytest.skip("needs root, unshare and /dev/net/tun")
    ended = subprocess.run(argv, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    if "unshare:" in ended.stderr or "/dev/net/tun" in ended.stderr:
        pytest.skip(f"not here: {ended.stderr}")
    assert ended.stdout.splitlines() == ["[] 0", "['lo'] 0", "['lo', 't0'] None"], ended.stderr


@pytest.mark.parametrize("name", ["pids.events", "pids/pids.events"])
def test_forks_that_the_limit_refused_are_counted_in_both_versions(cgroup, name):
    cgroup({name: "max 7\n"} | ({"cgroup.type": "domain\n"} if name == "pids.events" else {}))
    assert counters.Gauges().read() == {"refused_forks": 7}
    assert counters.Gauges(basic=True).read() == {}
