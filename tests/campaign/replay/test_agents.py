"""Campaigns of every agent over every kind of tree replay byte for byte, and what changed is found and named."""

from __future__ import annotations

import copy
import json
import shutil

import msgspec
import pytest

from agenttrace.agents import bash_block, tool_calling
from agenttrace.campaign.replay.run import Replay
from agenttrace.serving.cassette import Cassette, CassetteLog, cassette_path
from agenttrace.store.ids import IdIndex
from agenttrace.store.read import read_traces
from agenttrace.testing import says
from agenttrace.validate import Validation

pytestmark = pytest.mark.slow

BLOCK = "THOUGHT: so\n```bash\n{}\n```"
COMMANDS = ("cat *.* | head -20; uname", "echo x > new; ls", "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT; echo 7")
KINDS = [(dataset, agent) for agent in ("tool_calling", "bash_block") for dataset in ("demo", "swe")]
of_blocks = pytest.mark.parametrize("campaign", KINDS[2:], ids="-".join, indirect=True)


def blocks(messages):
    """Say nothing useful once, then look, write and submit."""
    turn = len(messages) // 2 - 1
    return says("no block" if turn == 0 else BLOCK.format(COMMANDS[turn - 1]), reasoning="hm")


def calls(messages):
    turn = sum(message["role"] == "assistant" for message in messages)
    if turn < 2:
        return says(calls=[("bash", json.dumps({"command": COMMANDS[turn]}))], reasoning="hm")
    return says(calls=[("final_answer", json.dumps({"answer": "7"}))])


SCRIPTS = {"bash_block": blocks, "tool_calling": calls}


class Recorded:
    """A campaign's files, and where its tools ran."""

    def __init__(self, path, source, dataset, agent, make_sandbox, display):
        self.path, self.agent, self.dataset = path, agent, dataset
        self._source, self._make, self._display = source, make_sandbox, display

    def sandbox(self):
        made = self._make()
        if self.dataset == "swe":
            made.start(policy="execution_free", trees=self._source.trees)
        return made

    def replay(self, sandbox=None):
        connect = (sandbox or self.sandbox()).connect
        return Replay(self.path, trees=self._source.trees).run(connect, self._display, workers=1, repeats=1)


@pytest.fixture(params=KINDS, ids="-".join, scope="module")
def campaign(request, tmp_path_factory, make_source, make_sandbox, record, display):
    dataset, agent = request.param
    folder = tmp_path_factory.mktemp("campaign")
    source = make_source(folder)
    source.prepare()
    made = Recorded(source.data / "run.jsonl", source, dataset, agent, make_sandbox, display)
    count = 2 if dataset == "demo" else None
    options = source.options(dataset=dataset, agent=agent, count=count, rollouts=2)
    record(options, source.data, made.sandbox(), SCRIPTS[agent], trees=source.trees, counts="vllm")
    return made


@pytest.fixture
def copied(campaign, tmp_path):
    """The files of the campaign, to be changed."""
    for path in campaign.path.parent.iterdir():
        shutil.copy(path, tmp_path)
    other = copy.copy(campaign)
    other.path = tmp_path / campaign.path.name
    return other


def test_a_replay_is_identical(campaign):
    found = campaign.replay()
    assert found.findings == ()
    assert (found.traces, found.replayed, found.identical) == (4, 4, 4)
    assert found.passed
    assert list(Validation(campaign.path)) == []


def test_the_cassette_holds_what_was_counted_and_asked(campaign):
    cassette = Cassette(cassette_path(campaign.path))
    for trace in read_traces(campaign.path):
        turns = cassette.turns(trace.trace_id)
        assert len(turns) == len(trace.llm_steps)
        if campaign.agent == "bash_block":
            assert [turn.counted for turn in turns] == [step.counted_tokens for step in trace.llm_steps]


def test_another_reply_is_named(copied):
    tape, first = cassette_path(copied.path), next(read_traces(copied.path)).trace_id
    there = Cassette(tape)
    every = {trace_id: list(there.turns(trace_id)) for trace_id in there.trace_ids}
    said = every[first][1]
    every[first][1] = msgspec.structs.replace(said, result={**said.result, "reasoning": "ho"})
    tape.unlink()
    with CassetteLog(tape, run_spec_sha256=there.run_spec_sha256, recorded=IdIndex()) as log:
        log.note(there.facts)
        for trace_id, turns in every.items():
            log.append(trace_id, turns)
    found = copied.replay()
    (one,) = found.findings
    assert (one.trace_id, one.where, one.field) == (first, "step 2", "reasoning_content")
    assert found.identical == 3


def test_another_output_of_a_tool_is_named(campaign):
    sandbox = campaign.sandbox()
    tool = sandbox.base / "tools" / "uname"
    tool.write_text("#!/bin/sh\necho Minix\n")
    tool.chmod(0o755)
    found = campaign.replay(sandbox)
    assert found.identical == 0
    first = next(one for one in found.findings if one.trace_id is not None)
    assert (first.where, first.field) == ("span 1 (bash)", "tool_output")
    assert "Linux" in first.recorded
    assert "Minix" in first.found
    assert not any(one.field.startswith("request") for one in found.findings)


def test_another_template_is_named_with_the_request_it_stands_in(campaign, monkeypatch):
    if campaign.agent == "bash_block":
        real = bash_block._template
        monkeypatch.setattr(bash_block, "_template", lambda name: real(name) + " Hurry.")
    else:
        real = tool_calling._data
        monkeypatch.setattr(tool_calling, "_data", lambda name: real(name).replace("You ", "Do hurry. You ", 1))
    found = campaign.replay()
    assert found.identical == 0
    assert ("step 1", "request.messages[0].content") in {(one.where, one.field) for one in found.findings}
    assert any("agent.system" in note for note in found.notes)


@of_blocks
def test_another_answer_to_a_reply_without_a_call_is_named(campaign, monkeypatch):
    real = bash_block._template
    change = {"format_error": " Hurry."}
    monkeypatch.setattr(bash_block, "_template", lambda name: real(name) + change.get(name, ""))
    found = campaign.replay()
    assert found.identical == 0
    places = {(one.where, one.field) for one in found.findings}
    assert ("step 1", "answered") in places


@of_blocks
def test_another_observation_is_named(campaign, monkeypatch):
    real = bash_block.observe

    def other(report, spec):
        text, cut = real(report, spec)
        return text.replace("Observation:", "Seen:"), cut

    monkeypatch.setattr(bash_block, "observe", other)
    found = campaign.replay()
    assert found.identical == 0
    assert ("span 1 (bash)", "tool_output") in {(one.where, one.field) for one in found.findings}


@pytest.mark.parametrize("counts", ["vllm", "llama-server", None])
def test_a_prompt_that_was_counted_and_not_sent_is_replayed_as_well(
    tmp_path, make_source, make_sandbox, record, display, counts
):
    source = make_source(tmp_path, ("cat",))
    source.prepare()
    sandbox = make_sandbox()
    sandbox.start(policy="execution_free", trees=source.trees)
    options = source.options(max_total_tokens=4000, rollouts=2)

    def script(messages):
        return says(BLOCK.format("yes word | head -1200"))

    path = record(options, source.data, sandbox, script, trees=source.trees, counts=counts)
    traces = list(read_traces(path))
    assert {trace.outcome.ended for trace in traces} == {"token_budget"}
    last = Cassette(cassette_path(path)).turns(traces[0].trace_id)[-1]
    assert (last.kind, last.counted > 3000) == ("counted", True)
    assert len(last.messages) == 2 + 2 * len(traces[0].llm_steps)
    found = Replay(path, trees=source.trees).run(sandbox.connect, display, workers=1, repeats=1)
    assert found.findings == ()
    assert found.identical == found.traces == 2
    assert list(Validation(path)) == []
