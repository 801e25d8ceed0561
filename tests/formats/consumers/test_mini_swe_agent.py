"""Trajectories of both forms in mini-swe-agent's own inspector, and what its agents write in ours."""

from __future__ import annotations

import asyncio
import json
import os

import pytest

pytest.importorskip("minisweagent", reason="scripts/nox -s formats-check installs mini-swe-agent")

from agenttrace.formats import mini_swe
from agenttrace.formats.convert import convert, read
from agenttrace.formats.reading import to_trace
from tests.formats.hostile import OLD, traces


@pytest.fixture(autouse=True)
def config(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "MSWEA_GLOBAL_CONFIG_DIR", str(tmp_path / "config"))


@pytest.mark.parametrize("name", ["mini-swe-agent", "mini-swe-agent-1.1"])
def test_the_inspector_shows_every_message_step_by_step(records, tmp_path, name):
    from minisweagent.run.utilities.inspector import TrajectoryInspector
    from textual.widgets import Static

    convert([records, OLD], name, tmp_path / "o")
    files = sorted((tmp_path / "o").glob("*.traj.json"))
    assert len(files) == 15

    async def walk():
        app = TrajectoryInspector(files)
        async with app.run_test() as pilot:
            shown, headers = [], 0
            for file in files:
                assert app.n_steps > 1
                assert sum(len(step) for step in app.steps) == len(json.loads(file.read_text())["messages"])
                shown += [message["content"] for step in app.steps for message in step]
                for _ in range(app.n_steps):
                    headers += len(app.query(".message-header"))
                    assert all(isinstance(one, Static) for one in app.query(".message-content"))
                    await pilot.press("l")
                await pilot.press("L")
            return shown, headers

    shown, headers = asyncio.run(walk())
    assert headers >= len(shown) - len(files)
    for trace in [*traces(), *(record.trace for record in read(OLD))]:
        assert trace.prompt in shown
        assert all(any(span.tool_output in text for text in shown) for span in trace.spans)


def test_calls_results_and_tokens_of_the_new_form_are_as_many_as_in_the_records(tmp_path):
    convert([OLD.parents[1] / "demo.jsonl"], "mini-swe-agent-1.1", tmp_path / "o")
    said = [json.loads(file.read_text())["messages"] for file in (tmp_path / "o").iterdir()]
    messages = [message for one in said for message in one]
    steps = [step for trace in traces() for step in trace.llm_steps]
    assert sum(len(one.get("tool_calls", ())) for one in messages) == sum(len(step.tool_calls or ()) for step in steps)
    assert sum(one["role"] == "tool" for one in messages) == sum(len(trace.spans) for trace in traces())
    used = [one["extra"]["response"]["usage"] for one in messages if one["role"] == "assistant"]
    assert sum(one["prompt_tokens"] + one["completion_tokens"] for one in used) == sum(
        step.input_tokens + step.output_tokens for step in steps
    )
    assert [one["role"] for one in said[0]][-1] == "exit"


def test_what_its_agent_writes_is_read_back(tmp_path):
    from minisweagent.agents.default import DefaultAgent
    from minisweagent.environments.local import LocalEnvironment
    from minisweagent.models.test_models import DeterministicToolcallModel, make_toolcall_output

    def reply(text, *commands):
        calls = [
            {"id": f"c{n}", "type": "function", "function": {"name": "bash", "arguments": json.dumps({"command": one})}}
            for n, one in enumerate(commands)
        ]
        return make_toolcall_output(
            text, calls, [{"command": one, "tool_call_id": f"c{n}"} for n, one in enumerate(commands)]
        )

    outputs = [
        reply("look", "echo one two", "false"),
        reply(None, "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT; echo done"),
    ]
    agent = DefaultAgent(
        DeterministicToolcallModel(outputs=outputs),
        LocalEnvironment(),
        system_template="You are an agent.",
        instance_template="{{task}}",
        output_path=tmp_path / "a.traj.json",
    )
    agent.run("the task")
    value = json.loads((tmp_path / "a.traj.json").read_text(encoding="utf-8"))
    trace = to_trace(value)
    assert (trace.outcome.ended, trace.outcome.final_answer) == ("final_answer", "done\n")
    assert (trace.prompt, trace.totals.cost_usd) == ("the task", 2.0)
    assert [(json.loads(span.tool_input)["command"], span.exit_code) for span in trace.spans[:2]] == [
        ("echo one two", 0), ("false", 1)
    ]  # fmt: skip
    assert json.loads(json.dumps(mini_swe.from_trace(trace))) == value
