"""Campaigns over checkouts, from rows to records: real trees, real workers, a scripted model."""

import json

import pytest

from agenttrace.campaign.replay.run import Replay
from agenttrace.store.read import read_run_spec, read_traces
from agenttrace.tasks import task_set
from agenttrace.testing import ScriptedServer, says
from agenttrace.validate import Validation

pytestmark = pytest.mark.slow


def test_every_rollout_of_the_plan_becomes_a_record_with_its_patch(source, sandbox, server, collect):
    prepared = source.prepare()
    sandbox.start(2, policy="execution_free", trees=source.trees)
    ended = collect(server.base_url, "--workers", "2", rollouts=3)
    assert ended.returncode == 0, ended.stderr
    made = list(read_traces(source.data / "run.jsonl"))
    assert sorted((one.metadata["task_id"], one.metadata["rollout_index"]) for one in made) == [
        (name, index) for name in ("octo__cat-1", "octo__dog-1") for index in range(3)
    ]
    for trace in made:
        assert trace.outcome.ended == "final_answer"
        assert trace.outcome.patch == source.rows[0]["patch"]
        assert [span.exit_code for span in trace.spans] == [0, 0, 0]
        assert trace.spans[0].tool_output == "Observation: def add(a, b):\n    return a - b\n"
        assert (trace.metadata["language"], trace.metadata["language_source"]) == ("python", "tree")
        assert "{braces stay}" in trace.prompt
        assert [v.reason for v in trace.outcome.verdicts] == ["execution-free: tests are not run"]
    assert len({trace.metadata["seed"] for trace in made}) == 6
    assert len({trace.trace_id for trace in made}) == 6
    assert list(Validation(source.data / "run.jsonl")) == []
    spec = read_run_spec(source.data / "run.run.json")
    assert spec.dataset.sampling == prepared.dataset.sampling
    assert "grep" in spec.agent.system_template


def block(command):
    return f"THOUGHT: so\n```bash\n{command}\n```"


AWKWARD = (
    "cat calc.py >&2; false",
    "printf 'a\\377b'",
    "printf ''",
    "head -c 200000 /dev/zero | tr '\\0' x",
    "echo MINI_SWE_AGENT_FINAL_OUTPUT; echo more; false",
    "echo; echo; echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT >&2",
    "sleep 60",
    "kill -9 $$",
    "mkdir x; echo y > x/.gitattributes; rm calc.py; mkfifo calc.py",
    "echo '  COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT  '; echo what was done",
)


@pytest.mark.slow
@pytest.mark.parametrize("observation", ["swe-zero", "mini-swe-agent"])
def test_records_of_awkward_conversations_validate(source, sandbox, collect, observation):
    def script(messages):
        turn = len(messages) // 2 - 1
        said = block(AWKWARD[min(turn // 2, len(AWKWARD) - 1)])
        return says(("no block", f"{said}\n{said}")[turn // 2 % 2] if turn % 2 == 0 else said)

    source.prepare()
    sandbox.start(policy="execution_free", trees=source.trees)
    fields = {"observation": observation, "call_limit_ms": 1500}
    with ScriptedServer(script) as server:
        ended = collect(server.base_url, **fields)
        assert ended.returncode == 0, ended.stderr
        ended = collect(server.base_url, max_steps=3, **fields | {"output": "short.jsonl"})
        assert ended.returncode == 0, ended.stderr
    for name, ended in (("run", "final_answer"), ("short", "max_steps")):
        validation = Validation(source.data / f"{name}.jsonl")
        assert list(validation) == []
        assert validation.records == 2
        assert {trace.outcome.ended for trace in read_traces(source.data / f"{name}.jsonl")} == {ended}


def test_a_second_session_finds_nothing_to_do(source, sandbox, server, collect):
    source.prepare()
    sandbox.start(policy="execution_free", trees=source.trees)
    assert collect(server.base_url).returncode == 0
    before = (source.data / "run.jsonl").read_bytes()
    again = collect(server.base_url)
    assert (again.returncode, "nothing to do" in again.stderr) == (0, True)
    assert (source.data / "run.jsonl").read_bytes() == before


def test_a_tool_calling_agent_over_a_checkout_is_offered_no_tool_that_its_sandbox_refuses(source, sandbox, collect):
    calls = [("bash", {"command": "sed -i 's/a - b/a + b/' calc.py"}), ("python_interpreter", {"code": "1"})]
    calls += [("bash", {"command": "python3 -c 1"}), ("final_answer", {"answer": "done"})]

    def script(messages):
        name, arguments = calls[sum(message["role"] == "assistant" for message in messages)]
        return says(calls=[(name, json.dumps(arguments))])

    source.prepare()
    sandbox.start(policy="execution_free", trees=source.trees)
    with ScriptedServer(script) as server:
        ended = collect(server.base_url, agent="tool_calling")
    assert ended.returncode == 0, ended.stderr
    for request in server.requests:
        assert [tool["function"]["name"] for tool in request["tools"]] == ["bash", "final_answer"]
        assert "python_interpreter" not in request["messages"][0]["content"]
    for trace in read_traces(source.data / "run.jsonl"):
        assert (trace.outcome.ended, trace.outcome.final_answer) == ("final_answer", "done")
        assert trace.outcome.patch == source.rows[0]["patch"]
        assert trace.prompt == "add() subtracts {braces stay}\n\n## Relevant Interface\n\nadd(a, b)\n"
        assert [span.status for span in trace.spans] == ["ok", "not_executed", "ok", "not_executed"]
        assert trace.metadata["sandbox_policy"] == "execution_free"
    assert list(Validation(source.data / "run.jsonl")) == []
    assert Replay(source.data / "run.jsonl", trees=source.trees).spec.agent.kind == "tool_calling"


def test_a_bash_block_agent_works_on_tasks_of_files_and_answers(source, sandbox, collect):
    said = ("wc -l words.txt; ls notes", "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT; echo 20")
    sandbox.start()
    with ScriptedServer(lambda messages: says(block(said[len(messages) // 2 - 1]))) as server:
        ended = collect(server.base_url, dataset="demo", agent="bash_block", count=3)
    assert ended.returncode == 0, ended.stderr
    assert "tools" not in server.requests[0]
    traces = list(read_traces(source.data / "run.jsonl"))
    assert [trace.metadata["task_id"] for trace in traces] == [0, 1, 2]
    for trace, task in zip(traces, task_set("demo").tasks(count=3), strict=True):
        assert task.prompt in trace.prompt
        assert (trace.outcome.ended, trace.outcome.final_answer) == ("final_answer", "20\n")
        assert {verdict.aspect for verdict in trace.outcome.verdicts} == {"answer", "state"}
        assert trace.outcome.changes == ()
        assert trace.metadata["sandbox_policy"] == "shell"
    assert list(Validation(source.data / "run.jsonl")) == []
