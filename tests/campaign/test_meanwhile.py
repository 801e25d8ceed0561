"""The tree of a task is made while its model thinks: real runners, a scripted server that looks at their trees."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from agenttrace.campaign import loop
from agenttrace.campaign.display import CampaignDisplay, closing_table
from agenttrace.campaign.loop import Campaign, Display
from agenttrace.campaign.options import Options
from agenttrace.campaign.plan import make_plan
from agenttrace.errors import UsageError
from agenttrace.store.jsonl import RecordLog
from agenttrace.store.read import read_traces
from agenttrace.tasks import task_set
from agenttrace.testing import ScriptedServer, says
from agenttrace.validate import Validation

MESS = "rm -rf *; mkdir mess; cd mess; seq 8000 | xargs touch"
LOOK = "find . -mindepth 1 | wc -l"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(loop, "BACKOFF_S", (0.0, 0.0))


@pytest.fixture
def plan(tmp_path):
    return make_plan(
        Options(count=2, output="demo.jsonl"), images={}, folder=tmp_path, now=datetime(2026, 11, 2, tzinfo=UTC)
    )


def bash(command):
    return says(calls=[("bash", json.dumps({"command": command}))])


ANSWER = says(calls=[("final_answer", json.dumps({"answer": "20"}))])


def script(plan, thinks=lambda: None, second=LOOK):
    """The first task makes a mess. The second one's model thinks, then looks."""

    def reply(messages):
        if messages[-1]["role"] == "tool":
            return ANSWER
        if messages[1]["content"] == plan.tasks[0].prompt:
            return bash(MESS)
        thinks()
        return ANSWER if second is None else bash(second)

    return reply


def run(plan, sandbox, models_of, reply, display):
    with ScriptedServer(reply) as server, RecordLog(plan.path) as log, models_of(plan, server) as models:
        return Campaign(plan, task_set("demo"), models, sandbox.connect, {}, display).run(log)


def paths(sandbox):
    """How many paths the fixture has, as the call sees them."""
    return sum(1 for _ in (sandbox.base / "fixtures" / "demo").rglob("*"))


def replace(sandbox):
    """Kill the worker and start another one."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdecimal() else [b"sh"]
            if words[0] != b"sh" and any(os.fsencode(sandbox.base) in word for word in words):
                os.kill(int(entry.name), signal.SIGKILL)
    sandbox.start()


def until_back(sandbox):
    """Think until the tree of the worker is the fixture again, to the time of its folder."""
    fixture = sandbox.base / "fixtures" / "demo"
    deadline = time.monotonic() + 60
    while True:
        (work,) = sandbox.base.glob("worker-*/work")
        if sum(1 for _ in work.rglob("*")) == paths(sandbox) and work.stat().st_mtime_ns == fixture.stat().st_mtime_ns:
            time.sleep(1)  # to be checked
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_model_that_thinks_finds_its_tree_without_waiting(plan, sandbox, models_of):
    summary = run(plan, sandbox, models_of, script(plan, lambda: until_back(sandbox)), Display())
    _, second = read_traces(plan.path)
    assert second.spans[0].stdout.text == f"{paths(sandbox)}\n"
    assert second.prepare_ms < 1000 < second.total_duration_ms
    assert summary.waits == 0
    assert [one.rule for one in Validation(plan.path)] == []


@pytest.mark.parametrize("second", [LOOK, None])
def test_a_model_that_answers_at_once_waits_for_the_rest_and_that_is_said_once_and_counted(
    plan, sandbox, models_of, capsys, second
):
    out = Console(stderr=True, soft_wrap=True)
    summary = run(
        plan,
        sandbox,
        models_of,
        script(plan, second=second),
        CampaignDisplay(out, total=2, done=0, agent=plan.spec.agent),
    )
    first, last = traces = list(read_traces(plan.path))
    assert summary.waits == 1
    assert summary.prepare_ns == round(sum(one.prepare_ms for one in traces) * 1e6)
    parts = [item.duration_ms for item in (*last.spans, *last.llm_steps)]
    assert last.prepare_ms > 15
    assert last.total_duration_ms - sum(parts) < last.prepare_ms
    if second is not None:
        assert last.spans[0].stdout.text == f"{paths(sandbox)}\n"
        assert last.spans[0].telemetry.write_bytes in {0, None}  # nothing of the reset
    said = capsys.readouterr().err
    assert said.count("answered before the work tree was back") == 1
    out.print(closing_table(summary, traces, solvable={}, planned=2, given_up=0))
    assert "tasks that waited for their tree" in capsys.readouterr().err
    assert first.prepare_ms > 0


def test_a_worker_killed_while_it_makes_the_tree_is_replaced_and_no_call_is_blamed(plan, sandbox, models_of):
    killed = []

    def kill():
        if not killed:
            killed.append(replace(sandbox))

    summary = run(plan, sandbox, models_of, script(plan, kill), Display())
    assert not summary.abandoned
    assert [trace.spans[0].stdout.text for trace in read_traces(plan.path)][1:] == [f"{paths(sandbox)}\n"]
    (lost,) = read_traces(plan.path.with_suffix(".failures.jsonl"))
    assert (lost.outcome.ended, lost.spans) == ("sandbox_error", ())


def test_another_tree_than_the_run_spec_names_ends_the_campaign_before_a_call_is_made(plan, sandbox, models_of):
    file = sandbox.base / "fixtures" / "demo" / "words.txt"

    def change():
        if file.read_text() != "other":
            file.write_text("other")
            replace(sandbox)

    with pytest.raises(UsageError, match="has another tree 'demo' than the run spec"):
        run(plan, sandbox, models_of, script(plan, change), Display())
