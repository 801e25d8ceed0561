"""What the model of rollouts learns really happens in the trees of the bundled tasks; its file is the pinned one."""

import hashlib
import json
import random
import sys
import tomllib
from pathlib import Path

import pytest

from agenttrace.agents import AgentOptions, bash_block
from agenttrace.agents.bash_block import BashBlockAgent
from agenttrace.models import pins
from agenttrace.models.gguf import read_facts
from agenttrace.sandbox.policies import policies
from agenttrace.tasks.swe import rows
from agenttrace.tasks.swe.task_set import task_of

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))
from demo_model import swe_messages, swe_record, swe_routes  # noqa: E402 - no package of the kit, so it needs the path

MODEL = "agenttrace-demo-swe"
TASKS = rows.load(rows.BUNDLED)[1]
DIALOGUES = swe_routes.load_dialogues()
RECORDED = json.loads((ROOT / "scripts/demo_model/swe_outputs.json").read_text())
every_dialogue = pytest.mark.parametrize("dialogue", DIALOGUES, ids=[dialogue.id for dialogue in DIALOGUES])


@pytest.mark.slow
@every_dialogue
def test_recorded_outputs_and_edits_are_those_of_the_tree(dialogue, tmp_path):
    task = next(task for task in TASKS if task.instance_id == dialogue.id)
    # It also raises when an edit that should give the reference solution does not, or another one does.
    assert swe_record.record(dialogue, task, tmp_path) == RECORDED[dialogue.id]


@pytest.mark.slow
@every_dialogue
def test_an_edit_that_is_not_the_solution_is_refused(dialogue, tmp_path):
    task = next(task for task in TASKS if task.instance_id == dialogue.id)
    dialogue.edit[:], edits = ["sed -i '1s/$/ /' README.md"], dialogue.edit[:]
    try:
        with pytest.raises(ValueError, match="is no edit of the kind edit"):
            swe_record.record(dialogue, task, tmp_path)
    finally:
        dialogue.edit[:] = edits


@every_dialogue
def test_every_route_edits_once_with_effect_and_submits(dialogue):
    rng = random.Random(3)
    routes = [swe_routes.draw(dialogue, rng) for _ in range(100)]
    assert len({tuple(step.command for step in route) for route in routes}) > 20
    solving = 0
    for route in routes:
        played = list(swe_routes.played(route, RECORDED[dialogue.id]))
        assert [step for step, _ in played] == route
        commands = [step.command for step in route]
        assert commands.index(swe_routes.SUBMIT) == len(commands) - 1
        assert sum(command in {*dialogue.edit, *dialogue.wrong} for command in commands) == 1
        solving += any(command in dialogue.edit for command in commands)
        for step in route:
            assert bash_block.blocks(step.reply()) == [step.command]
    assert solving >= 60


def test_the_messages_are_those_that_the_agent_sends():
    policy = policies()["execution_free"]
    spec = BashBlockAgent.spec(AgentOptions(), policy=policy, context_length=16384, checkout=True)
    assert swe_messages.system_message() == spec.system_template
    for dialogue, task in zip(DIALOGUES, TASKS, strict=True):
        assert swe_messages.task_message(dialogue.row) == BashBlockAgent.prompt(spec, task_of(task, task.language))


def test_the_bundled_model_is_the_pinned_one():
    pin = pins.model_pin(MODEL)
    path = pins.BUNDLED / pin.artifact
    made = tomllib.loads((ROOT / "scripts/demo_model/pinned.toml").read_text())["swe"]
    facts = read_facts(path)
    assert (pin.source, pin.demo, pin.bytes) == ("bundled", True, path.stat().st_size)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == pin.sha256 == made["sha256"]
    assert (facts.quantization, facts.chat_template_sha256) == (pin.quantization, pin.chat_template_sha256)
    assert facts.context_length >= pin.context_length >= 16384
    assert pin.bytes < 1_500_000
    assert (ROOT / "scripts/demo_model/swe_template.jinja").read_bytes().rstrip(b"\n") in path.read_bytes()
