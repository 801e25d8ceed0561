"""Machines that make shards, killed and stopped at random instants: nothing is lost, doubled or torn."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter

import pytest

from bench.campaigns import cluster_crash_check, cluster_crash_on_ray, networks
from bench.campaigns.crash_check import ROOT, runner

KILLS = 4
HOLD = """
import sys
from agenttrace.sandbox.client import acquire
(worker,) = acquire(sys.argv[1], count=1, timeout_s=60)
print("held", flush=True)
sys.stdin.read()
"""
needs_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="a runner outside a container needs root"
)


def test_what_is_done_to_a_cluster_is_dealt_by_a_seed_and_nothing_is_left_out():
    deck = cluster_crash_on_ray.dealt(50, random.Random(1))
    assert Counter(deck) == {
        "node killed": 25, "driver killed": 10, "head killed": 5, "node stopped and woken": 5,
        "node cut off and back": 5,
    }  # fmt: skip
    assert deck == cluster_crash_on_ray.dealt(50, random.Random(1)) != cluster_crash_on_ray.dealt(50, random.Random(2))
    assert set(cluster_crash_on_ray.dealt(5, random.Random())) == {*cluster_crash_on_ray.FAULTS}
    assert len(cluster_crash_on_ray.dealt(2, random.Random())) == 2


@needs_root
def test_a_node_is_at_work_while_its_sandbox_is_in_use():
    with networks.segment(0) as near, networks.segment(1) as far, runner(0) as one, runner(1) as other:
        bed = cluster_crash_on_ray.Bed([near, far], [one.sockets, other.sockets], None, random.Random(1))
        assert bed.at_work() is None
        argv = [*far.network.enter, sys.executable, "-c", HOLD, str(other.sockets)]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as node:
            assert node.stdout.readline() == "held\n"
            assert bed.at_work() == 1
            node.stdin.close()
        deadline = time.monotonic() + 60
        while bed.at_work() is not None:
            assert time.monotonic() < deadline


@pytest.mark.slow
@needs_root
def test_machines_killed_at_random_instants_lose_double_and_tear_nothing(tmp_path):
    ledger, _ = cluster_crash_check.machines(KILLS, random.Random(), store=str(tmp_path / "store"))
    assert ledger.kills == KILLS
    assert ledger.records >= 64
    assert ledger.clean, str(ledger)
