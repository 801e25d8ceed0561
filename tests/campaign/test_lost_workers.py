"""Tasks that take their workers with them: real runners, killed while what the model wrote runs in them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agenttrace.campaign import loop
from agenttrace.campaign.loop import ATTEMPTS, Campaign, Display
from agenttrace.campaign.options import Options
from agenttrace.campaign.plan import make_plan
from agenttrace.campaign.replay.run import Replay
from agenttrace.errors import WorkerLostError
from agenttrace.records import INFRASTRUCTURE_ENDS, Verdict
from agenttrace.sandbox.client import Worker, discover
from agenttrace.store.jsonl import RecordLog
from agenttrace.store.read import read_traces
from agenttrace.tasks import Judgement, demo
from agenttrace.tasks.judging import JUDGINGS, LOST_METHOD
from agenttrace.testing import ScriptedServer, says
from agenttrace.validate import Validation

NOW = datetime(2026, 11, 2, tzinfo=UTC)
DEADLY = "touch doomed; sleep 8"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(loop, "BACKOFF_S", (0.0, 0.0))


class Mortal:
    """Workers that die as soon as a file `doomed` lies in their work tree, at most `lives` times."""

    def __init__(self, sandbox):
        self.sandbox, self.lives, self.deaths, self.ended = sandbox, 10**9, 0, False
        self._held = set()
        self._reaper = threading.Thread(target=self._reap)
        self._reaper.start()

    def connect(self):
        """Connect to an idle worker, or to a new one."""
        for path in discover(self.sandbox.sockets):
            with contextlib.suppress(WorkerLostError):
                return Worker.connect(path, timeout_s=0.5)
        self.sandbox.start()
        return self.sandbox.connect()

    def _reap(self):
        while not self.ended:
            for mark in self.sandbox.base.glob("worker-*/work/doomed"):
                if self.deaths < self.lives:
                    mark.unlink(missing_ok=True)
                    for pid in runners(mark.parent):
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                    self.deaths += 1
            time.sleep(0.01)

    def stop(self):
        self.ended = True
        self._reaper.join()


def runners(work):
    """Return the runner, and whatever forked from it, that has this work tree."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdecimal() else ()
            if os.fsencode(work) in words and words[0] != b"sh":
                yield int(entry.name)


@pytest.fixture
def mortal(make_sandbox):
    made = Mortal(make_sandbox())
    yield made
    made.stop()


def bash(command):
    return says(calls=[("bash", json.dumps({"command": command}))])


def answer(text):
    return says(calls=[("final_answer", json.dumps({"answer": text}))])


@pytest.fixture
def made(record, mortal, tmp_path):
    """Return two traces, the first of a task that is deadly in every attempt, and their file."""
    first = demo.DemoTasks().listed[0].prompt

    def script(messages):
        if messages[1]["content"] != first:
            return answer("20")
        return bash("echo fine" if len(messages) == 2 else DEADLY)

    path = record(Options(count=2, output="demo.jsonl"), tmp_path, mortal, script)
    return list(read_traces(path)), path


def test_a_task_that_takes_every_worker_with_it_has_a_record_that_names_the_call(made):
    (trace, after), path = made
    assert (trace.outcome.ended, trace.outcome.solved, trace.outcome.changes) == ("sandbox_lost", False, None)
    assert trace.outcome.detail == f"call_2_1 (bash) took the worker with it in each of {ATTEMPTS} attempts"
    (verdict,) = trace.outcome.verdicts
    assert (verdict.aspect, verdict.verdict, verdict.method) == ("sandbox", "failed", LOST_METHOD)
    assert [span.status for span in trace.spans] == ["ok", "lost"]
    assert after.outcome.ended == "final_answer"
    assert "sandbox_lost" not in INFRASTRUCTURE_ENDS
    failed = list(read_traces(path.with_suffix(".failures.jsonl")))
    assert [one.outcome.ended for one in failed] == ["sandbox_error"] * (ATTEMPTS - 1)
    assert [one.rule for one in Validation(path)] == []


def test_a_replay_of_it_is_the_same_byte_for_byte(made, mortal):
    report = Replay(made[1]).run(mortal.connect, Display(), workers=1, repeats=1)
    assert report.findings == ()
    assert report.identical == 2


def dies(_bench):
    raise WorkerLostError("x")


def test_workers_that_die_of_nothing_are_not_the_models_doing(mortal, models_of, tmp_path, monkeypatch):
    """A call is only to blame where the worker after it works."""
    monkeypatch.setattr("agenttrace.tasks.bench.Bench.check", dies)
    path, summary = campaign(mortal, models_of, tmp_path, demo.DemoTasks(), lambda _: bash(DEADLY))
    assert [task.task_id for task in summary.abandoned] == [0]
    assert path.read_bytes() == b""


class Running(demo.DemoTasks):
    """A set whose judge runs what the model answered."""

    def assess(self, task, finished, bench):
        bench.pristine()
        report = bench.call("bash", finished.outcome.final_answer or "", limit_ms=20_000)
        return Judgement(verdicts=(Verdict(aspect="a", verdict="passed", method=f"m{report.exit_code}"),))


def campaign(mortal, models_of, folder, tasks, script, count=1):
    plan = make_plan(Options(count=count, output="demo.jsonl"), images={}, folder=folder, now=NOW)
    with ScriptedServer(script) as server, RecordLog(plan.path) as log, models_of(plan, server) as models:
        return plan.path, Campaign(plan, tasks, models, mortal.connect, {}, Display()).run(log)


@pytest.mark.slow
def test_a_run_whose_judge_loses_its_worker_is_judged_again_in_another(mortal, models_of, tmp_path):
    mortal.lives = 1
    path, _ = campaign(mortal, models_of, tmp_path, Running(), lambda _: answer(DEADLY))
    (trace,) = read_traces(path)
    assert mortal.deaths == 1
    assert (trace.outcome.ended, trace.outcome.solved) == ("final_answer", True)
    assert not path.with_suffix(".failures.jsonl").exists()


def test_a_run_that_every_judge_dies_of_is_kept_and_not_solved(mortal, models_of, tmp_path):
    path, summary = campaign(mortal, models_of, tmp_path, Running(), lambda _: answer(DEADLY))
    (trace,) = read_traces(path)
    assert mortal.deaths == JUDGINGS
    assert (trace.outcome.ended, trace.outcome.final_answer, trace.outcome.solved) == ("final_answer", DEADLY, False)
    assert [one.method for one in trace.outcome.verdicts] == [LOST_METHOD]
    assert not summary.abandoned
