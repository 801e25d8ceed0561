"""A cgroup for each call, on a real cgroup v2 tree: where this machine has one mounted, whatever its controllers."""

import os
import subprocess
from pathlib import Path

import pytest

from agenttrace.sandbox.client import Worker
from agenttrace.sandbox.runner import leaf, processes
from agenttrace.sandbox.runner.errors import FatalError


@pytest.fixture
def cgroup():
    """A cgroup of this test, as a container has one."""
    mounts = Path("/proc/mounts")
    found = [line.split() for line in mounts.read_text().splitlines()] if mounts.exists() else []
    places = [Path(fields[1]) for fields in found if fields[2] == "cgroup2"]
    if not places or os.geteuid() != 0:
        pytest.skip("needs root and a mounted cgroup v2 tree")
    path = places[0] / f"agenttrace-test-{os.getpid()}"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"the cgroup v2 tree is not writable: {error}")
    yield path
    for folder in (path / "call", path / "runner", path):
        if folder.exists():
            folder.rmdir()


@pytest.mark.parametrize("helper", ["c", "python"], indirect=True)
def test_a_call_runs_in_a_cgroup_of_its_own(workplace, cgroup):
    with (
        workplace.start("--stdio", "--cgroup", str(cgroup)) as process,
        Worker.over_pipes(process.stdout, process.stdin) as worker,
    ):
        worker.reset("base")
        for _ in range(3):
            report = worker.call("bash", "grep ^0: /proc/self/cgroup; setsid sleep 65 & sleep 0.1", limit_ms=9000)
            assert report.stdout.text.strip().endswith(f"/{cgroup.name}/call")
            assert report.telemetry.leftover_count == 1
            assert not (cgroup / "call").exists()
            counted = "memory" in (cgroup / "cgroup.subtree_control").read_text().split()
            peak = report.telemetry.cgroup_memory_peak_bytes
            assert peak > 100_000 if counted and peak is not None else peak is None
        assert worker.call("bash", "sleep 9", limit_ms=100).status == "timeout"
    assert not (cgroup / "call").exists()


def test_what_still_runs_in_it_is_killed(cgroup):
    assert leaf.prepare(str(cgroup)) == str(cgroup)
    path = leaf.make(str(cgroup))
    with subprocess.Popen(["sleep", "66"]) as sleeper:
        Path(path, "cgroup.procs").write_text(str(sleeper.pid))
        leaf.finish(path)
        assert sleeper.wait(5) == -9
    assert not Path(path).exists()


def test_what_runs_there_moves_out_of_the_way(cgroup):
    with subprocess.Popen(["sleep", "67"]) as sleeper:
        (cgroup / "cgroup.procs").write_text(str(sleeper.pid))
        assert leaf.prepare(str(cgroup)) == str(cgroup)
        assert (cgroup / "runner" / "cgroup.procs").read_text().split() == [str(sleeper.pid)]
        sleeper.kill()


def test_a_cgroup_of_a_runner_that_died_is_replaced(cgroup):
    leaf.make(str(cgroup))
    assert leaf.finish(leaf.make(str(cgroup))) in {None, 0}


def test_it_is_left_alone_where_it_cannot_work(tmp_path):
    assert leaf.prepare(str(tmp_path)) == ""  # the root of a hierarchy, or no cgroup at all
    (tmp_path / "cgroup.type").write_text("domain\n")
    assert leaf.prepare(str(tmp_path)) == ""  # no cgroup.procs: not a cgroup


def test_peak_memory_is_read_and_what_cannot_be_removed_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE_S", 0.05)
    (tmp_path / "call").mkdir()
    (tmp_path / "call" / "memory.peak").write_text("4096\n")
    monkeypatch.setattr(os, "rmdir", lambda _path: None)
    assert leaf.finish(str(tmp_path / "call")) == 4096
    monkeypatch.undo()
    monkeypatch.setattr(processes, "PATIENCE_S", 0.05)
    with pytest.raises(FatalError, match="cannot be removed"):
        leaf.finish(str(tmp_path / "call"))
