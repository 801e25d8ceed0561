"""Campaigns of both agents against a server of all kinds of odd replies: every task gets a record that is true."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest

from agenttrace.campaign import loop
from agenttrace.campaign.loop import Campaign
from agenttrace.campaign.options import Options
from agenttrace.campaign.plan import make_plan, request_part, request_seed, write_run_spec
from agenttrace.campaign.replay.run import Replay
from agenttrace.errors import DataError
from agenttrace.formats import FORMATS
from agenttrace.formats.convert import convert
from agenttrace.serving.cassette import Cassette, CassetteLog, cassette_path
from agenttrace.serving.chat import ChatModel
from agenttrace.serving.tape import Recorder
from agenttrace.store.jsonl import RecordLog
from agenttrace.store.read import read_traces
from agenttrace.tasks import task_set
from agenttrace.testing import ScriptedServer, fails, says
from agenttrace.validate import Validation
from tests.odd_replies import draw

TASKS, ROLLOUTS = 25, 8
NOW = datetime(2026, 11, 2, tzinfo=UTC)
GOOD = {
    "tool_calling": (
        says(calls=[("bash", json.dumps({"command": "ls"}))]),
        says(calls=[("final_answer", json.dumps({"answer": "20"}))]),
    ),
    "bash_block": (
        says("```bash\nls\n```"),
        says("```bash\necho COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT\necho 20\n```"),
    ),
}


class Odd:
    """A script that answers with what is drawn every second time, and remembers what it drew."""

    def __init__(self, agent, seed):
        self.drawn, self.good, self.served, self.turn = draw(seed), GOOD[agent], [], 0

    def __call__(self, messages):
        self.turn += 1
        if self.turn % 2:
            return self.good[len(messages) > 2]
        self.served.append(next(self.drawn))
        return self.served[-1].reply


@pytest.fixture(scope="module")
def sandbox(make_sandbox):
    return make_sandbox()


@pytest.fixture(params=GOOD)
def plan(tmp_path, request):
    options = Options(count=TASKS, rollouts=ROLLOUTS, agent=request.param, output="demo.jsonl")
    return make_plan(options, images={}, folder=tmp_path, now=NOW)


@pytest.fixture
def campaign(monkeypatch, plan, sandbox, models_of, display):
    """A finished campaign: its summary, what was drawn, and the requests."""
    monkeypatch.setattr(loop, "BACKOFF_S", (0.0, 0.0))
    script = Odd(plan.spec.agent.kind, seed=7)
    write_run_spec(plan.spec, plan.path)
    with (
        ScriptedServer(script) as server,
        models_of(plan, server) as models,
        RecordLog(plan.path) as log,
        CassetteLog(cassette_path(plan.path), run_spec_sha256=plan.spec_sha256, recorded=log.ids) as cassette,
    ):
        recorder = Recorder(models, request_part(plan.spec), cassette, log)
        summary = Campaign(plan, task_set("demo"), recorder, sandbox.connect, {}, display).run(recorder)
    return summary, script.served, server.requests


def answered(requests):
    """Return, by prompt and seed, what was sent in answer to replies, as the last request of a conversation has it."""
    return {
        (request["messages"][1]["content"], request["seed"]): [
            message["content"] for message in request["messages"][2:] if message["role"] != "assistant"
        ]
        for request in requests
    }


@pytest.mark.slow
def test_every_task_gets_a_record_that_shows_what_was_odd_and_is_true(plan, campaign, sandbox, display, tmp_path):
    summary, served, requests = campaign
    records = list(read_traces(plan.path))
    failures = plan.path.with_suffix(".failures.jsonl")
    assert (summary.appended, summary.abandoned) == (TASKS * ROLLOUTS, ())
    assert len(records) == len({trace.trace_id for trace in records}) == TASKS * ROLLOUTS
    kept = plan.path.read_text() + (failures.read_text() if failures.exists() else "")
    assert len({one.kind for one in served}) > 50
    assert [one for one in served if one.mark and one.mark.removeprefix("odd") not in kept] == []
    assert summary.failed_tries > 40
    assert list(Validation(plan.path)) == []

    sent = answered(requests)
    seeds = {plan.trace_id(job): request_seed(plan.spec, job) for job in plan.jobs()}
    for trace in records:
        answers = sent[trace.prompt, seeds[trace.trace_id]]
        early = {step.step_id for step in trace.llm_steps[:-1]}
        read = {span.tool_output for span in trace.spans if span.parent_span_id in early}
        assert read <= set(answers)
        fixed = {getattr(plan.spec.agent, "reminder", ""), getattr(plan.spec.agent, "format_error_template", "")}
        assert set(answers) - fixed <= {span.tool_output for span in trace.spans}

    for name in FORMATS:
        if name.startswith("swe-zero"):
            continue  # it holds tasks over checkouts alone
        output = tmp_path / f"converted-{name}{FORMATS[name].suffix}"
        if name in {"mooncake", "aiperf"}:  # a workload of which a part is not known would be another workload
            with pytest.raises(DataError, match="no generation whose tokens are known, so it is no workload"):
                convert([plan.path], name, output)
            assert not output.exists()
            continue
        convert([plan.path], name, output)
    found = Replay(plan.path).run(sandbox.connect, display, workers=1, repeats=1)
    assert (found.identical, found.findings) == (TASKS * ROLLOUTS, ())


@pytest.mark.parametrize(("lines", "whole"), [(30_000, True), (300_000, False)])
def test_a_submission_of_a_real_command_is_whole_or_absent(tmp_path, sandbox, models_of, display, lines, whole):
    options = Options(count=1, agent="bash_block", output="demo.jsonl")
    plan = make_plan(options, images={}, folder=tmp_path, now=NOW)
    write_run_spec(plan.spec, plan.path)
    command = f"echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT; seq -f 'line %.0f' {lines}"
    with (
        ScriptedServer([says(f"```bash\n{command}\n```")]) as server,
        models_of(plan, server) as models,
        RecordLog(plan.path) as log,
    ):
        Campaign(plan, task_set("demo"), models, sandbox.connect, {}, display).run(log)
    (trace,) = read_traces(plan.path)
    assert trace.outcome.ended == "final_answer"
    if whole:
        assert trace.outcome.final_answer == "".join(f"line {number}\n" for number in range(1, lines + 1))
    else:
        assert trace.outcome.final_answer is None
        assert "the submission is not recorded: of its 3488933 bytes 1048576 were kept" in trace.outcome.detail
    assert list(Validation(plan.path)) == []


@pytest.mark.parametrize("agent", GOOD)
def test_a_key_that_the_endpoint_repeats_is_in_no_file(tmp_path, sandbox, display, agent):
    key = "sk-do-not-show-1234"
    plan = make_plan(Options(count=1, agent=agent, output="demo.jsonl"), images={}, folder=tmp_path, now=NOW)
    shown = f"{key} {base64.b64encode(f'Bearer {key}'.encode()).decode()}"
    command = json.dumps({"command": f"echo {shown}"})
    script = [
        fails(502, shown),
        says(f"{shown}\n```bash\necho {shown}\n```", reasoning=shown, calls=[("bash", command)]),
        says(shown, calls=[("bash", command.replace("sk-", "\\u0073k-")), (shown, shown)]),
        GOOD[agent][1],
        fails(400, shown),
    ]
    with (
        ScriptedServer(script) as server,
        RecordLog(plan.path) as log,
        CassetteLog(cassette_path(plan.path), run_spec_sha256=plan.spec_sha256, recorded=log.ids) as cassette,
    ):
        models = ChatModel(server.base_url, request_part(plan.spec), api_key=key, sleep=lambda _: None)
        recorder = Recorder(models, request_part(plan.spec), cassette, log)
        Campaign(plan, task_set("demo"), recorder, sandbox.connect, {}, display).run(recorder)
        models.close()
    (trace,) = read_traces(plan.path)
    turns = Cassette(cassette_path(plan.path)).turns(trace.trace_id)
    for text in (plan.path.read_text(), str(turns)):
        assert text.count("<API key>") >= 6
        assert key not in text
        assert shown.split()[1][8:-4] not in text
