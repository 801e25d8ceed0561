"""Kernel files of cgroup v1 and v2, as folders of text."""

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
