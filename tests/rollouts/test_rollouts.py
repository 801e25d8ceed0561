"""Rollouts from rows to records: real trees, real workers, a scripted model."""

import pytest
from agenttrace.rollouts.files import read
from agenttrace.rollouts.place import read_spec

from agenttrace.testing import ScriptedServer, says
from agenttrace.validate import Validation


def test_every_rollout_of_the_plan_becomes_a_record_with_its_patch(source, runners, server, sit):
    prepared = source.prepare(rollouts=3)
    runners.start(source.trees, 2)
    ended = sit(server.base_url, "--concurrency", "2", rollouts=3)
    assert ended.returncode == 0, ended.stderr
    made = list(read(source.data / "run.jsonl"))
    assert sorted((r.instance_id, r.rollout_index) for r in made) == [
        (name, index) for name in ("octo__cat-1", "octo__dog-1") for index in range(3)
    ]
    for rollout in made:
        assert rollout.stop == "submitted"
        assert rollout.patch == source.rows[0]["patch"]
        assert [turn.execution.exit_code for turn in rollout.turns] == [0, 0, 0]
        assert rollout.turns[0].observation == "Observation: def add(a, b):\n    return a - b\n"
        assert (rollout.language, rollout.language_source) == ("python", "tree")
        assert "{braces stay}" in rollout.prompt
        assert [v.reason for v in rollout.verdicts] == ["execution-free: tests are not run"]
    assert len({rollout.seed for rollout in made}) == 6
    assert len({rollout.rollout_id for rollout in made}) == 6
    assert list(Validation(source.data / "run.jsonl")) == []
    spec = read_spec(source.data / "run.run.json")
    assert spec.sampling == prepared.sampling
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
def test_records_of_awkward_conversations_validate(source, runners, sit, observation):
    def script(messages):
        turn = len(messages) // 2 - 1
        said = block(AWKWARD[min(turn // 2, len(AWKWARD) - 1)])
        return says(("no block", f"{said}\n{said}")[turn // 2 % 2] if turn % 2 == 0 else said)

    source.prepare()
    runners.start(source.trees)
    fields = {"observation": observation, "call_limit_ms": 1500}
    with ScriptedServer(script) as server:
        ended = sit(server.base_url, **fields)
        assert ended.returncode == 0, ended.stderr
        ended = sit(server.base_url, max_turns=3, **fields | {"output": "short.jsonl"})
        assert ended.returncode == 0, ended.stderr
    for name, stop in (("run", "submitted"), ("short", "turns")):
        validation = Validation(source.data / f"{name}.jsonl")
        assert list(validation) == []
        assert validation.records == 2
        assert {rollout.stop for rollout in read(source.data / f"{name}.jsonl")} == {stop}


def test_a_second_sitting_finds_nothing_to_do(source, runners, server, sit):
    source.prepare()
    runners.start(source.trees)
    assert sit(server.base_url).returncode == 0
    before = (source.data / "run.jsonl").read_bytes()
    again = sit(server.base_url)
    assert (again.returncode, "nothing to do" in again.stderr) == (0, True)
    assert (source.data / "run.jsonl").read_bytes() == before


def test_rollouts_of_a_task_differ_whatever_the_model():
    from agenttrace.rollouts.options import RolloutOptions, sampler

    known, unknown, greedy = (
        sampler(RolloutOptions(**fields))
        for fields in ({}, {"model": "x/y", "external": True}, {"model": "x/y", "external": True, "sampler": "greedy"})
    )
    assert (known.name, known.temperature) == ("demo-swe", 0.7)
    assert (unknown.name, unknown.temperature, unknown.top_p, unknown.top_k) == ("temperature-1", 1.0, 1.0, 0)
    assert greedy.temperature == 0.0
