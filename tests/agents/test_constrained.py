"""Models that know no tools: the server holds their replies to a form, and calls are read from it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttrace.agents.bash_block import blocks
from agenttrace.agents.constrained import BASH_BLOCK_GRAMMAR, read_call, reply_form
from agenttrace.agents.repetition import ends_in_repetition
from agenttrace.agents.tool_calling import ToolCallingAgent, agent_spec
from agenttrace.serving import profiles
from agenttrace.serving.chat import ChatModel, fixed_part
from agenttrace.serving.model import ProposedCall
from agenttrace.testing import ScriptedServer, says

from .test_tool_calling import EchoShell

SPEC = agent_spec(held_tokens=1024)


def said(tool, **arguments):
    return json.dumps({"thought": "so", "tool": tool, "arguments": arguments})


def run(*contents):
    with ScriptedServer([says(content) for content in contents]) as server:
        fixed = fixed_part(model="m", sampler=profiles.sampler(), form={"grammar": "x"})
        model = ChatModel(server.base_url, fixed, sleep=lambda _: None, timeout_s=20)
        shell = EchoShell()
        result = ToolCallingAgent(SPEC, model, shell).run("trace-1", "do it")
    return result, server.requests, shell.calls


def test_calls_are_read_from_the_text_and_go_back_as_text():
    result, requests, calls = run(said("bash", command="ls"), said("final_answer", answer="42"))
    assert calls == [("bash", "ls")]
    assert (result.outcome.ended, result.outcome.final_answer) == ("final_answer", "42")
    assert [call.name for step in result.steps for call in step.tool_calls] == ["bash", "final_answer"]
    assert result.steps[0].model_output == said("bash", command="ls")
    assert "tools" not in requests[0]
    assert requests[0]["messages"][0]["content"] == SPEC.system_message
    assert requests[1]["messages"][2:] == [
        {"role": "assistant", "content": said("bash", command="ls")},
        {"role": "user", "content": "exit_code: 0\nstdout:\nbash ls"},
    ]


def test_a_reply_that_was_cut_off_is_a_format_error():
    result, _, calls = run(*[said("bash", command="ls")[:-4]] * 3)
    assert (result.outcome.ended, calls) == ("format_error", [])
    assert all(step.tool_calls is None for step in result.steps)


def test_the_tools_stand_in_the_system_message_and_the_schema_allows_nothing_else():
    for name in ("bash", "python_interpreter", "final_answer"):
        assert f"- {name} (" in SPEC.system_message
    example = SPEC.reply_form.prompt.split("\n")[1]
    assert read_call(example) == ProposedCall(name="bash", arguments='{"command": "ls -l"}')
    calls = [one["properties"] for one in SPEC.reply_form.schema["anyOf"]]
    assert [(one["tool"], [*one["arguments"]["properties"]]) for one in calls] == [
        ({"const": "bash"}, ["command"]),
        ({"const": "python_interpreter"}, ["code"]),
        ({"const": "final_answer"}, ["answer"]),
    ]
    assert all(one["arguments"]["additionalProperties"] is False for one in calls)
    assert calls[0]["arguments"]["properties"]["command"]["maxLength"] == 724


@pytest.mark.parametrize(("limit", "chars"), [(10, 100), (400, 100), (1024, 724), (99_999, 2000)])
def test_an_argument_ends_within_the_tokens_of_a_reply(limit, chars):
    form = reply_form(SPEC.tools, limit_tokens=limit)
    assert form.schema["anyOf"][0]["properties"]["arguments"]["properties"]["command"]["maxLength"] == chars


@given(st.text(max_size=30) | st.sampled_from(["[]", "1", '{"tool": 1}', "[" * 100_000, '{"tool": "bash"}', "null"]))
def test_any_text_is_a_call_or_none(text):
    found = read_call(text)
    assert found is None or isinstance(found, ProposedCall)


def test_the_form_of_another_set_of_tools_names_them_alone():
    form = reply_form(agent_spec(python=False).tools, limit_tokens=1024)
    assert "python_interpreter" not in form.prompt + json.dumps(form.schema)


def test_the_grammar_s_shortest_reply_is_one_block():
    assert BASH_BLOCK_GRAMMAR.startswith('root ::= "THOUGHT: " thought "\\n```bash\\n" command "\\n```"')
    assert blocks("THOUGHT: look\n```bash\nls `pwd`\n```") == ["ls `pwd`"]


@pytest.mark.parametrize(
    ("text", "repeats"),
    [
        ('sudo -i bash -c "' * 40, True),
        ("The answer is 4. " * 12 + "The ans", True),
        ('{"thought": "' + "ls -l /testdata; " * 30 + '"}}', True),
        ("=" * 200, True),
        ('"The task is completed. ' * 20 + 'The task is a."\n}\n\n}', True),
        ("x" * 100, False),
        ("The answer is 4. " * 3, False),
        ("".join(f"line {number} of a longer text\n" for number in range(100)), False),
        ("", False),
        ("=" * 200 + "".join(map(str, range(100))), False),
    ],
)
def test_a_repetition_at_the_end_is_found(text, repeats):
    assert ends_in_repetition(text) is repeats


def test_replies_that_repeat_are_counted_in_the_outcome_and_stay_whole():
    loop = "sudo -i bash -c " * 100
    result, _, _ = run(loop, "no call", loop)
    assert (result.outcome.ended, result.outcome.repeating_steps) == ("format_error", 2)
    assert result.steps[0].model_output == loop
