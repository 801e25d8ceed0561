"""Kills at random instants: what the ledger notices, and that the collector passes it."""

from __future__ import annotations

import os
import random
import sys

import pytest

from bench.campaigns import crash_check
from bench.campaigns.ledger import Ledger

KILLS = 20
LINE = b'{"trace_id":"%s"}\n'


def test_the_ledger_notices_a_durable_record_that_is_gone(tmp_path):
    path, ledger = tmp_path / "r.jsonl", Ledger()
    path.write_bytes(LINE % b"a" + LINE % b"b" + b"{")
    ledger.killed(path, "[1/9] demo/0 x: solved\n[2/9] demo/1 y: solved\n")
    assert (ledger.lost, ledger.torn_found) == (0, 1)
    path.write_bytes(LINE % b"a")
    ledger.killed(path, "")
    assert ledger.lost == 1
    assert not ledger.clean


def test_the_ledger_notices_an_announced_record_that_never_was_durable(tmp_path):
    path, ledger = tmp_path / "r.jsonl", Ledger()
    path.write_bytes(LINE % b"a")
    ledger.killed(path, "[2/9] demo/1 y: solved\n")
    assert ledger.lost == 1


def test_the_ledger_notices_missing_torn_and_doubled_lines_at_the_end(tmp_path, trace_line):
    path, ledger = tmp_path / "r.jsonl", Ledger()
    path.write_bytes(trace_line("a") + trace_line("a") + b"{}\n" + b'{"tra')
    ledger.finished(path, ["a", "b"])
    assert (ledger.records, ledger.doubled, ledger.torn, ledger.lost) == (2, 1, 2, 1)


def test_the_ledger_notices_records_that_are_not_valid(tmp_path, trace_line):
    path, ledger = tmp_path / "r.jsonl", Ledger()
    path.write_bytes(trace_line("a"))
    ledger.finished(path, ["a"])
    assert (ledger.records, ledger.doubled, ledger.torn, ledger.lost) == (1, 0, 0, 0)
    assert ledger.findings
    assert not ledger.clean


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="a runner outside a container needs root")
def test_a_collector_killed_at_random_instants_loses_doubles_and_tears_nothing():
    ledger = crash_check.scripted(KILLS, random.Random(), rollouts=4)
    assert ledger.kills == KILLS
    assert ledger.records
    assert ledger.clean, str(ledger)
