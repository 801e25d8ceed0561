"""Machines that make shards, killed and stopped at random instants: nothing is lost, doubled or torn."""

from __future__ import annotations

import os
import random
import sys

import pytest

from bench.campaigns import cluster_crash_check

KILLS = 4


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="a runner outside a container needs root")
def test_machines_killed_at_random_instants_lose_double_and_tear_nothing(tmp_path):
    ledger, _ = cluster_crash_check.machines(KILLS, random.Random(), store=str(tmp_path / "store"))
    assert ledger.kills == KILLS
    assert ledger.records >= 64
    assert ledger.clean, str(ledger)
