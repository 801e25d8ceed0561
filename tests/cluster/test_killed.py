"""Machines that are killed, stopped and woken at any instant: nothing is lost, nothing doubled, ids are as planned."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from agenttrace.cluster.manifest import cassette, every_record, read_manifest, records
from agenttrace.cluster.objects import Store
from agenttrace.cluster.runs import open_run
from agenttrace.records import Trace
from agenttrace.serving.cassette import Cassette

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAUSE_S = 0.02
KILLS = int(os.environ.get("AGENTTRACE_TEST_KILLS", "6"))


@pytest.fixture
def machine(url, tmp_path):
    """Start a machine; all of them are gone at the end."""
    running = []

    def start(name, pause_s=0.004):
        path = os.pathsep.join([str(ROOT), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
        argv = [sys.executable, str(HERE / "writer.py"), url, str(tmp_path), name, str(pause_s)]
        process = subprocess.Popen(
            argv, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def ended(process):
    out, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (0, "")
    return [word for word in out.split()[1::2] if word != "begun"]


def in_the_middle(process, shard):
    """Wait until a machine has made some of a shard's records."""
    while process.stdout.readline() != f"{shard} begun\n":
        assert process.poll() is None
    time.sleep(0.02)


def checked(url, folder):
    """See that a run is whole; return which machines' records it has."""
    sys.path.insert(0, str(HERE))
    try:
        import writer
    finally:
        sys.path.remove(str(HERE))
    plan, run = writer.plan_in(folder), open_run(Store(url), "r1")
    assert [one.trace_id for one in every_record(run)] == [plan.trace_id(job) for job in plan.jobs()]
    seen = set()
    for shard in range(run.shards.count):
        manifest = read_manifest(run, shard)
        tapes = {}
        for part in manifest.parts:
            path = folder / "part.cassette.zst"
            path.write_bytes(cassette(run, manifest, part))
            tape = Cassette(path)
            tapes[part.name] = {trace_id: tape.turns(trace_id) for trace_id in tape.trace_ids}
        for one in records(run, manifest):
            by = msgspec.json.decode(one.line, type=Trace).environment["by"]
            assert tapes[one.part.name][one.trace_id][0].result["content"].endswith(f" {by}")
            seen.add(by)
    return seen


@pytest.mark.slow
def test_machines_killed_at_any_instant_lose_and_double_nothing(url, machine, tmp_path):
    chance = random.Random(20)
    killed = 0
    pair = [machine(f"m{number}", PAUSE_S) for number in range(2)]
    for number in range(2, 2 + KILLS):
        victim = chance.randrange(2)
        pair[victim].stdout.readline()  # it has begun a shard, or has none left
        time.sleep(chance.uniform(0, 0.3))
        killed += pair[victim].poll() is None
        pair[victim].send_signal(signal.SIGKILL)
        pair[victim] = machine(f"m{number}", PAUSE_S)
    for one in pair:
        ended(one)
    assert killed >= KILLS // 2
    assert ended(machine("last")) == []  # the finished run, begun again: nothing is made
    assert checked(url, tmp_path)
    sys.stdout.write(f"{killed} of {KILLS} killed at work\n")


@pytest.mark.slow
def test_a_machine_that_was_cut_off_and_comes_back_changes_nothing(url, machine, tmp_path):
    zombie = machine("zombie")
    in_the_middle(zombie, 1)
    zombie.send_signal(signal.SIGSTOP)
    assert "committed" in ended(machine("second"))
    zombie.send_signal(signal.SIGCONT)
    assert ended(zombie) == ["lost_race"]
    assert checked(url, tmp_path) == {"zombie", "second"}
