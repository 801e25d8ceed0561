"""Processes of a cluster of this machine, without Ray: what is started again, what a signal reaches, and where."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from agenttrace.cluster import local_ray
from agenttrace.errors import AgentTraceError

psutil = pytest.importorskip("psutil")
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def cluster():
    made = local_ray.prepared(1, 1)
    yield made
    local_ray.end(made)


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """Have a program in Ray's place that says with what it was started, and ends."""
    path = tmp_path / "python"
    path.write_text('#!/bin/sh\necho "started: $*"\n')
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))
    return path


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_head_that_ends_at_once_is_started_again_and_then_told(ray_here, cluster, stand_in):
    with pytest.raises(AgentTraceError, match=r"has not started in 4 tries; what it said last: started: -m ray"):
        local_ray.start(cluster)
    assert Path(cluster.folder, "head.log").read_text().count("started:") == 4


def test_a_node_is_started_in_its_own_network(cluster, stand_in):
    at = local_ray.Network(address="198.18.0.2", enter=("env", "-S", f"{stand_in} there"))
    node = local_ray.start_node(msgspec.structs.replace(cluster, networks=(at,)), 0)
    until(lambda: not node.runs())
    (said,) = Path(cluster.folder, "node-0.log").read_text().splitlines()
    assert said.startswith(f"started: there {stand_in} -m ray")
    assert "--node-ip-address=198.18.0.2 --node-name=node-0" in said
    assert f"--address={cluster.address}" in said


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_signal_reaches_what_works_in_another_process_group(how):
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, start_new_session=True) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        process = local_ray.Process(pid=parent.pid, created_s=psutil.Process(parent.pid).create_time())
        try:
            process.send(how)
            gone = {psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED}
            until(lambda: not child.is_running() or child.status() in gone)
            if how is signal.SIGSTOP:
                process.send(signal.SIGCONT)
                until(lambda: child.status() not in gone)
        finally:
            for pid in (parent.pid, child.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
