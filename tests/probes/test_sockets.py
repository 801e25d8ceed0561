"""The battery against workers behind a folder of sockets: here real runners in no container, which hold little."""

from __future__ import annotations

import json
import subprocess
import time

import pytest

from agenttrace.errors import UsageError, WorkerLostError
from agenttrace.probes import labs, report
from agenttrace.probes.attack import attack
from agenttrace.probes.battery import Probe
from agenttrace.probes.labs import SocketLab
from agenttrace.sandbox.strength import AmongOthersError

HARMLESS = "^(network-interfaces|privilege-identity|privilege-capabilities)$"
"""Probes that only look: here nothing keeps them from the machine."""


def test_workers_in_no_container_are_not_attacked(sandbox, agenttrace, monkeypatch):
    monkeypatch.delenv("AGENTTRACE_ANY_SANDBOX", raising=False)
    sandbox.start()
    with subprocess.Popen(["sleep", "60"]) as stranger:  # whoever else there is
        ended = agenttrace("probe-sandbox", "--socket", sandbox.sockets, "-k", HARMLESS)
        stranger.kill()
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "is in no container of its own (it sees " in ended.stderr


def test_workers_in_no_container_are_told_by_probes_and_by_their_own_words(sandbox, agenttrace, tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTTRACE_ANY_SANDBOX", "1")
    sandbox.start()
    file = tmp_path / "out.json"
    ended = agenttrace("probe-sandbox", "--socket", sandbox.sockets, "-k", HARMLESS, "--json", file)
    assert ended.returncode == 1
    found = json.loads(file.read_text())
    assert [one["policy"] for one in found["results"]] == ["shell"] * 3
    assert found["results"][0]["name"] == "network-interfaces"
    assert any("no writable memory of its own" in one for one in found["shortfalls"])
    assert found["engine_version"] is None
    assert "weaker than docker-compose.yml: " in ended.stdout


def test_a_worker_of_another_policy_or_none_at_all_is_an_error(sandbox, agenttrace, tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTTRACE_ANY_SANDBOX", "1")
    sandbox.start(policy="execution_free")
    ended = agenttrace("probe-sandbox", "--socket", sandbox.sockets, "--policy", "shell")
    assert (ended.returncode, "--policy shell: the worker's policy is execution_free" in ended.stderr) == (2, True)
    both = ("--policy", "shell", "--policy", "execution_free")
    assert agenttrace("probe-sandbox", "--socket", sandbox.sockets, *both).returncode == 2
    with pytest.raises(UsageError, match="no probe's name contains"):
        report.probe_sockets(sandbox.sockets, named="nosuch")
    with pytest.raises(WorkerLostError, match="0 of 1 sandbox workers were free"):
        SocketLab(tmp_path, first_s=0.1).worker  # noqa: B018 - asking is what fails
    ended = agenttrace("probe-sandbox", "--socket", tmp_path / "nosuch")
    assert (ended.returncode, "there is no such folder" in ended.stderr) == (2, True)
    assert labs.FIRST_S < 30  # nobody waits minutes for workers that never were


def test_each_worker_is_asked_whether_it_may_be_attacked_not_the_first_alone(sandbox, monkeypatch):
    class Lab(SocketLab):
        uses = 0

        @property
        def worker(self):
            self.uses += 1
            if self.uses == 3:  # after reset and call
                self.close()
                monkeypatch.delenv("AGENTTRACE_ANY_SANDBOX")
            return super().worker

    monkeypatch.setenv("AGENTTRACE_ANY_SANDBOX", "1")
    lab = Lab(sandbox.start())
    probe = Probe(name="p", policies=("shell",), why="", command=":", then=":", reset=False, breach="x", refused="y")
    with subprocess.Popen(["sleep", "60"]) as stranger:
        with pytest.raises(AmongOthersError, match="is in no container of its own"):
            attack([probe], "shell", lab)
        stranger.kill()
    assert lab.uses == 3


def test_another_worker_is_waited_for_as_long_as_one_takes_to_start_again(sandbox, monkeypatch):
    monkeypatch.setenv("AGENTTRACE_ANY_SANDBOX", "1")
    lab = SocketLab(sandbox.start(), first_s=60, wait_s=0.1)
    assert lab.worker
    sandbox.stop()
    lab.close()
    started = time.monotonic()
    with pytest.raises(WorkerLostError):
        lab.worker  # noqa: B018 - asking is what fails
    assert time.monotonic() - started < 30


def test_what_lies_beside_the_work_tree_is_looked_after(sandbox, monkeypatch):
    monkeypatch.setenv("AGENTTRACE_ANY_SANDBOX", "1")
    lab = SocketLab(sandbox.start())
    lab.plant()
    assert lab.is_untouched()
    assert [path.suffix for path in sandbox.sockets.iterdir()] == [".sock"]
    lab.plant()
    (sandbox.sockets / "canary").write_text("dead\n")
    assert not lab.is_untouched()
    lab.plant()
    (sandbox.sockets / "canary").unlink()
    assert not lab.is_untouched()
    lab.plant()
    next(sandbox.sockets.glob("worker-*")).rename(sandbox.sockets / "moved")
    assert not lab.is_untouched()
    lab.close()
