"""A task set, a format and an agent are each one module and one line of a table; everything else knows them then.

Each of the three modules beside this file holds nothing but the extension. The campaigns run with real sandbox workers
and a scripted model server; their records validate, replay, and convert to every format.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agenttrace.agents import AGENTS
from agenttrace.campaign.environment import replay_facts
from agenttrace.campaign.loop import Campaign, Display
from agenttrace.campaign.options import Options, like
from agenttrace.campaign.plan import make_plan, request_part, write_run_spec
from agenttrace.campaign.replay.run import Replay
from agenttrace.errors import DataError, UsageError
from agenttrace.formats import FORMATS, Format
from agenttrace.formats.convert import convert
from agenttrace.serving.cassette import CassetteLog, cassette_path
from agenttrace.serving.chat import ChatModel
from agenttrace.serving.tape import Recorder
from agenttrace.store.jsonl import RecordLog
from agenttrace.store.read import read_run_spec, read_traces, run_spec_path
from agenttrace.tasks import TASK_SETS, task_set
from agenttrace.testing import ScriptedServer, says
from agenttrace.validate import Validation

OF_ROLLOUTS = {"swe-zero-1k-32k", "swe-zero-12m"}
"""Formats with columns for what only a bash-block agent over a repository leaves."""


@pytest.fixture(autouse=True)
def extensions(monkeypatch):
    """The three lines."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setitem(TASK_SETS, "sums", "extra_tasks:Sums")
    monkeypatch.setitem(FORMATS, "answers", Format("extra_format", "lines", ".jsonl", "questions and answers"))
    monkeypatch.setitem(AGENTS, "one_line", "extra_agent:OneLineAgent")


@pytest.fixture
def collected(tmp_path, sandbox):
    """Return a function that runs a campaign to its end and returns the record file."""

    def run(script, **options):
        plan = make_plan(
            Options(output="run.jsonl", **options), images={}, folder=tmp_path, now=datetime(2026, 11, 2, tzinfo=UTC)
        )
        write_run_spec(plan.spec, plan.path)
        spec = plan.spec
        first = sandbox.connect()
        facts = replay_facts(first, spec)
        first.close()
        with (
            ScriptedServer(script) as server,
            RecordLog(plan.path) as log,
            CassetteLog(cassette_path(plan.path), run_spec_sha256=plan.spec_sha256, recorded=log.ids) as cassette,
        ):
            cassette.note(facts)
            models = ChatModel(server.base_url, request_part(spec))
            recorder = Recorder(models, request_part(spec), cassette, log)
            summary = Campaign(plan, task_set(options["dataset"]), recorder, sandbox.connect, {}, Display()).run(
                recorder
            )
            models.close()
        assert (summary.appended, summary.abandoned) == (plan.size, ())
        return plan.path

    return run


def holds(path, sandbox):
    """Assert what every record file keeps: its rules, its replay, its way into every format that has a place for it."""
    validation = Validation(path)
    assert list(validation) == []
    assert validation.records == len(list(read_traces(path)))
    replayed = Replay(path).run(sandbox.connect, Display(), workers=1, repeats=1)
    assert replayed.findings == ()
    assert replayed.passed
    spec = read_run_spec(run_spec_path(path))
    again = make_plan(like(spec), images={}, folder=path.parent / "again", now=datetime(2030, 1, 1, tzinfo=UTC))
    assert again.spec == spec
    for name, found in FORMATS.items():
        target = path.parent / f"as-{name}{found.suffix}"
        if name in OF_ROLLOUTS:
            with pytest.raises(
                DataError, match=r"cannot be written: its (calls are not bash blocks|metadata names no)"
            ):
                convert([path], name, target)
            continue
        assert sum(convert([path], name, target).values()) >= validation.records


def calls(messages):
    if messages[-1]["role"] == "tool":
        return says(calls=[("final_answer", json.dumps({"answer": messages[-1]["content"].split("\n")[-1]}))])
    asked = messages[1]["content"].removeprefix("What is ").removesuffix("?")
    return says(calls=[("bash", json.dumps({"command": f"echo $(({asked}))"}))])


def lines(messages):
    if len(messages) > 2:
        return says("ANSWER " + messages[-1]["content"].split("\n")[-1])
    return says(f"echo $(({messages[1]['content'].removeprefix('Task: What is ').removesuffix('?')}))")


def test_a_new_task_set_is_collected_judged_and_converted(collected, sandbox):
    path = collected(calls, dataset="sums", rollouts=2)
    traces = list(read_traces(path))
    assert [(one.metadata["task_name"], one.outcome.final_answer, one.outcome.solved) for one in traces] == [
        ("sum-0", "5", True), ("sum-1", "28", True), ("sum-2", "0", True),
    ] * 2  # fmt: skip
    holds(path, sandbox)


def test_a_new_format_is_written_with_what_the_run_spec_says(collected, tmp_path):
    path = collected(calls, dataset="sums", count=1)
    assert convert([path], "answers", tmp_path / "a.jsonl") == {"a.jsonl": 1}
    (row,) = map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())
    run_id = read_run_spec(run_spec_path(path)).run_id
    assert row == {"file": "run.jsonl", "question": "What is 2 + 3?", "answer": "5", "run": run_id}


@pytest.mark.parametrize("agent", ["one_line", "bash_block"])
def test_an_agent_works_on_a_task_set_it_was_not_made_for(collected, sandbox, agent):
    def blocks(messages):
        said = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT; echo 5"
        return says(f"```bash\n{said}\n```")

    path = collected({"one_line": lines, "bash_block": blocks}[agent], dataset="sums", agent=agent)
    spec, traces = read_run_spec(run_spec_path(path)), list(read_traces(path))
    assert spec.agent.kind == agent
    assert {trace.metadata["agent"] for trace in traces} == {agent}
    assert [trace.outcome.solved for trace in traces] == [True, agent == "one_line", agent == "one_line"]
    holds(path, sandbox)


def test_the_new_agent_works_on_the_bundled_tasks_and_its_limit_holds(collected, sandbox):
    path = collected(lambda _: says("ls notes"), dataset="demo", agent="one_line", count=2, max_steps=3)
    traces = list(read_traces(path))
    assert [(trace.outcome.ended, len(trace.spans)) for trace in traces] == [("max_steps", 3)] * 2
    assert {verdict.aspect for verdict in traces[0].outcome.verdicts} == {"answer", "state"}
    holds(path, sandbox)


def test_what_is_in_no_table_is_refused_with_what_there_is(tmp_path, monkeypatch):
    for table, name in ((TASK_SETS, "sums"), (AGENTS, "one_line"), (FORMATS, "answers")):
        monkeypatch.delitem(table, name)
    with pytest.raises(UsageError, match="unknown task set 'sums'; known: demo, mbpp, nl2bash, swe"):
        task_set("sums")
    now = datetime(2026, 11, 2, tzinfo=UTC)
    with pytest.raises(UsageError, match="unknown agent 'one_line'; known: tool_calling, bash_block"):
        make_plan(Options(agent="one_line"), images={}, folder=tmp_path, now=now)
    with pytest.raises(UsageError, match=r"unknown format 'answers'; known: agenttrace-1\.0"):
        convert([], "answers", tmp_path / "a.jsonl")
