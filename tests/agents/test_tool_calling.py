"""The loop against a scripted model over the real protocol."""

from __future__ import annotations

import json
import time

import msgspec
import pytest

from agenttrace.agents.tool_calling import MOST_CALLS, ToolCallingAgent, agent_spec, tool_text
from agenttrace.errors import ModelServerError, WorkerLostError
from agenttrace.records import NO_PROCESS, Output
from agenttrace.sandbox.reports import CallReport
from agenttrace.serving import profiles
from agenttrace.serving.chat import ChatModel, fixed_part
from agenttrace.serving.model import NoReplyError
from agenttrace.testing import ScriptedServer, fails, says


def report(stdout="", stderr="", exit_code=0, status="ok"):
    def stream(text):
        return Output(text=text, bytes_total=len(text.encode()), bytes_kept=len(text.encode()))

    return CallReport(
        exit_code=exit_code, signal=None, status=status, stdout=stream(stdout), stderr=stream(stderr),
        telemetry=NO_PROCESS, start_ns=1, end_ns=2,
    )  # fmt: skip


class EchoShell:
    """Executes nothing, remembers everything."""

    def __init__(self):
        self.calls = []

    def call(self, kind, code, *, limit_ms, keep_bytes):
        self.calls.append((kind, code))
        if code == "die":
            raise WorkerLostError("the worker is gone")
        return report(f"{kind} {code}\n")


def bash(command):
    return ("bash", json.dumps({"command": command}))


def answer(text):
    return says(calls=[("final_answer", json.dumps({"answer": text}))])


def fixed(tools=()):
    return fixed_part(model="m", sampler=profiles.sampler(), tools=tools)


def run(script, *, max_steps=10, tools=None):
    spec = agent_spec(max_steps=max_steps)
    with ScriptedServer(script) as server:
        model = ChatModel(server.base_url, fixed(spec.tools), sleep=lambda _: None, timeout_s=20)
        result = ToolCallingAgent(spec, model, tools or EchoShell()).run("trace-1", "do it")
    return result, server.requests


def test_a_call_its_output_and_the_final_answer_are_recorded_and_joined_by_id():
    result, requests = run([says(calls=[bash("ls")], reasoning="hm\n"), answer("42")])
    assert result.outcome.ended == "final_answer"
    assert result.outcome.final_answer == "42"
    assert [span.tool_name for span in result.spans] == ["bash", "final_answer"]
    assert [span.call_id for span in result.spans] == ["call_1_1", "call_2_1"]
    assert [span.parent_span_id for span in result.spans] == [step.step_id for step in result.steps]
    assert result.spans[0].tool_input == '{"command":"ls"}'
    assert result.steps[0].reasoning_content == "hm\n"
    assert result.steps[0].timings.predicted_ms == 2.5
    assert requests[1]["messages"][3] == {
        "role": "tool",
        "tool_call_id": "call_1_1",
        "content": "exit_code: 0\nstdout:\nbash ls",
    }


def test_earlier_reasoning_is_not_fed_back():
    _, requests = run([says(calls=[bash("ls")], reasoning="secret thought"), answer("x")])
    assert "secret thought" not in json.dumps(requests[1]["messages"])


def test_every_request_carries_the_pinned_sampler_tools_and_tool_choice():
    _, requests = run([answer("x")])
    assert requests[0]["seed"] == profiles.sampler().seed
    assert requests[0]["temperature"] == 0.0
    assert requests[0]["cache_prompt"] is False
    assert requests[0]["tool_choice"] == "auto"
    assert [tool["function"]["name"] for tool in requests[0]["tools"]] == ["bash", "python_interpreter", "final_answer"]


def test_ids_are_the_same_for_the_same_trace_id():
    first, _ = run([says(calls=[bash("ls")]), answer("42")])
    second, _ = run([says(calls=[bash("ls")]), answer("42")])
    assert [span.span_id for span in first.spans] == [span.span_id for span in second.spans]
    assert [step.step_id for step in first.steps] == [step.step_id for step in second.steps]


def test_two_calls_at_once_are_both_executed_in_order():
    tools = EchoShell()
    result, requests = run([says(calls=[bash("a"), bash("b")]), answer("x")], tools=tools)
    assert tools.calls == [("bash", "a"), ("bash", "b")]
    assert [span.call_id for span in result.spans] == ["call_1_1", "call_1_2", "call_2_1"]
    assert [message["role"] for message in requests[1]["messages"]] == ["system", "user", "assistant", "tool", "tool"]


@pytest.mark.parametrize(
    "text",
    ["{", "", "[1]", '"x"', "7", "null", '{"command": "\\ud800"}', "[" * 200_000],
    ids=["cut off", "empty", "list", "text", "number", "null", "lone surrogate", "deeply nested"],
)
def test_malformed_arguments_are_a_span_that_was_not_executed_and_the_model_reads_why(text):
    tools = EchoShell()
    result, requests = run([says(calls=[("bash", text)]), answer("x")], tools=tools)
    assert tools.calls == []
    assert result.spans[0].status == "not_executed"
    assert result.spans[0].exit_code == -1
    assert result.spans[0].tool_input == text
    assert "tool_calls" not in requests[1]["messages"][2]
    assert requests[1]["messages"][3] == {"role": "user", "content": result.spans[0].tool_output}
    assert result.spans[0].tool_output == (
        f"Error: not executed: the arguments of bash are not a JSON object of strings.\n{agent_spec().reminder}"
    )
    assert result.outcome.ended == "final_answer"


@pytest.mark.parametrize(
    ("value", "text"),
    [("42", "42"), ("1.50", "1.50"), ("true", "true"), ("-1e400", "-1e400"), ("7" * 5000, "7" * 5000), ("NaN", "NaN")],
    ids=["number", "fraction", "boolean", "beyond a float", "5000 digits", "no JSON"],
)
def test_a_scalar_is_taken_as_its_text_and_recorded_so(value, text):
    result, _ = run([says(calls=[("final_answer", f'{{"answer": {value}}}')])])
    assert (result.outcome.ended, result.outcome.final_answer) == ("final_answer", text)
    assert result.steps[0].tool_calls[0].arguments == f'{{"answer": {value}}}'
    assert result.spans[0].tool_input == json.dumps({"answer": text}, separators=(",", ":"))


@pytest.mark.parametrize(
    ("value", "sent"), [("NaN", '"NaN"'), ("-1e400", '"-1e400"'), ("7" * 5000, f'"{"7" * 5000}"'), ("1.50", "1.50")]
)
def test_a_number_that_servers_cannot_read_goes_back_as_its_text(value, sent):
    tools = EchoShell()
    result, requests = run([says(calls=[("bash", f'{{"command":{value}}}')]), answer("x")], tools=tools)
    assert tools.calls == [("bash", value)]
    assert result.steps[0].tool_calls[0].arguments == f'{{"command":{value}}}'
    assert requests[1]["messages"][2]["tool_calls"][0]["function"]["arguments"] == f'{{"command":{sent}}}'


@pytest.mark.parametrize(
    ("value", "kind"), [("null", "null"), ('["ls"]', "a list"), ('{"cmd": 1}', "an object")], ids=lambda one: one
)
def test_an_argument_of_another_type_is_answered_by_the_tool_itself(value, kind):
    tools, proposed = EchoShell(), f'{{"command": {value}}}'
    result, requests = run([says(calls=[("bash", proposed)])] * 4 + [answer("x")], tools=tools)
    text = f"Error: bash: the argument 'command' must be a string, not {kind}."
    assert tools.calls == []
    assert result.outcome.ended == "final_answer"
    assert result.spans[0].tool_output == text
    assert result.spans[0].tool_input == proposed
    assert requests[1]["messages"][3] == {"role": "tool", "tool_call_id": "call_1_1", "content": text}


@pytest.mark.parametrize(("tool", "parameter"), [("bash", "command"), ("python_interpreter", "code")])
def test_code_with_a_nul_is_not_executed_and_the_model_reads_why(tool, parameter):
    tools = EchoShell()
    result, requests = run([says(calls=[(tool, json.dumps({parameter: "printf 'a\0b'"}))]), answer("x")], tools=tools)
    assert tools.calls == []
    assert result.spans[0].status == "not_executed"
    assert "NUL character in it, at position 9" in result.spans[0].tool_output
    assert requests[1]["messages"][3]["content"] == result.spans[0].tool_output


def test_of_one_reply_no_more_calls_are_carried_out_than_stated_and_the_others_are_told():
    tools = EchoShell()
    result, requests = run([says(calls=[bash(str(n)) for n in range(300)]), answer("x")], tools=tools)
    assert [code for _, code in tools.calls] == [str(n) for n in range(MOST_CALLS)]
    answered = [message["content"] for message in requests[1]["messages"][3:]]
    assert answered == [span.tool_output for span in result.spans[:300]]
    assert answered[MOST_CALLS] == f"Error: not executed: of one reply at most {MOST_CALLS} calls are."
    assert {span.status for span in result.spans[MOST_CALLS:]} == {"not_executed"}


@pytest.mark.parametrize("name", ["", "functions.bash", "b ash", "x" * 65])
def test_a_name_that_servers_refuse_in_a_conversation_goes_back_as_text(name):
    result, requests = run([says(calls=[(name, "{}")]), answer("x")])
    assert "tool_calls" not in requests[1]["messages"][2]
    assert f"there is no tool {name[:64]!r}; the tools are bash, " in requests[1]["messages"][3]["content"]
    assert requests[1]["messages"][3]["content"] == result.spans[0].tool_output


def test_text_with_lone_surrogates_is_kept_as_escapes_that_any_file_can_hold():
    result, _ = run([says("\ud800", reasoning="a\udfffb"), answer("x")])
    assert result.steps[0].model_output == r"\ud800"
    assert result.steps[0].reasoning_content == r"a\udfffb"


def test_an_answer_before_another_call_ends_the_run_and_the_other_call_has_a_span():
    final = ("final_answer", '{"answer": "42"}')
    tools = EchoShell()
    result, _ = run([says(calls=[final, bash("ls")])], tools=tools)
    assert result.outcome.final_answer == "42"
    assert tools.calls == []
    assert [(span.call_id, span.status) for span in result.spans] == [
        ("call_1_1", "not_executed"),
        ("call_1_2", "not_executed"),
    ]


def test_a_refused_request_ends_the_task_and_keeps_its_steps():
    result, _ = run([says(calls=[bash("ls")]), fails(400, "no such field")])
    assert result.outcome.ended == "model_error"
    assert "no such field" in result.outcome.detail
    assert len(result.steps) == 1


def test_a_wrong_key_stops_the_campaign():
    with pytest.raises(ModelServerError, match="HTTP 401"):
        run([fails(401, "who are you")])


def test_a_fault_of_our_own_ends_the_task_and_keeps_what_it_has_done():
    class Broken(EchoShell):
        def call(self, kind, code, **limits):
            raise ZeroDivisionError("oops")

    result, _ = run([says(calls=[bash("ls")])], tools=Broken())
    assert result.outcome.ended == "internal_error"
    assert result.outcome.detail == "ZeroDivisionError: oops"
    assert len(result.steps) == 1


def test_nothing_of_a_reply_with_one_malformed_call_is_executed():
    tools = EchoShell()
    result, _ = run([says(calls=[bash("rm -rf x"), ("bash", "{")]), answer("x")], tools=tools)
    assert tools.calls == []
    assert [span.status for span in result.spans[:2]] == ["not_executed", "not_executed"]


def test_an_unknown_tool_is_answered_with_the_tools_there_are():
    result, requests = run([says(calls=[("browser", "{}")]), answer("x")])
    assert result.spans[0].tool_name == "browser"
    assert "there is no tool 'browser'" in requests[1]["messages"][3]["content"]


def test_wrong_parameters_are_answered_with_the_right_ones():
    _, requests = run([says(calls=[("bash", '{"cmd": "ls"}')]), answer("x")])
    assert requests[1]["messages"][3]["content"] == "Error: bash takes exactly command."


def test_a_reply_with_nothing_in_it_is_a_format_error_and_three_in_a_row_end_the_run():
    result, requests = run([says(""), says(None), says("no tool")])
    assert result.outcome.ended == "format_error"
    assert len(result.steps) == 3
    assert [message["role"] for message in requests[2]["messages"][2:]] == ["assistant", "user"] * 2


def test_a_good_call_forgives_earlier_format_errors():
    replies = [says("a"), says("b"), says(calls=[bash("ls")]), says("c"), says("d"), answer("x")]
    assert run(replies)[0].outcome.ended == "final_answer"


def test_endless_text_is_cut_by_the_token_limit_and_ends_the_run():
    result, requests = run([says("la " * 2000, finish_reason="length")] * 3)
    assert result.outcome.ended == "format_error"
    assert {step.finish_reason for step in result.steps} == {"length"}
    assert requests[0]["max_tokens"] == profiles.sampler().max_tokens


def test_a_model_that_never_ends_is_stopped_at_the_step_limit():
    result, _ = run(lambda _: says(calls=[bash("ls")]), max_steps=4)
    assert result.outcome.ended == "max_steps"
    assert len(result.steps) == 4


def test_a_call_that_the_server_cannot_parse_is_the_models_fault():
    replies = [fails(500, "Failed to parse tool call arguments as JSON"), answer("x")]
    result, _ = run(replies)
    assert result.outcome.ended == "final_answer"
    assert result.steps[0].finish_reason == "unparsable"


def test_a_full_context_ends_the_run_as_token_budget():
    message = "request (20000 tokens) exceeds the available context size (16384 tokens)"
    result, _ = run([says(calls=[bash("ls")]), fails(400, message)])
    assert result.outcome.ended == "token_budget"
    assert "20000" in result.outcome.detail


def test_a_worker_that_dies_leaves_a_lost_span_and_ends_the_run():
    result, _ = run([says(calls=[bash("die")])])
    assert result.outcome.ended == "sandbox_error"
    assert result.spans[0].status == "lost"
    assert result.spans[0].telemetry.method == "not-measured"
    assert result.spans[0].telemetry.max_rss_bytes is None
    assert result.spans[0].duration_ms > 0


def test_a_passing_server_error_is_tried_again():
    result, requests = run([fails(503, "loading"), answer("x")])
    assert result.outcome.ended == "final_answer"
    assert len(requests) == 2


def test_a_request_without_a_reply_ends_the_attempt_and_keeps_what_was_done():
    replies = [says(calls=[bash("ls")])]
    result, requests = run(lambda messages: replies[0] if len(messages) == 2 else fails(503, "loading"))
    assert result.outcome.ended == "model_error"
    assert "does not answer after 5 tries (HTTP 503" in result.outcome.detail
    assert len(result.steps) == 1
    assert len(requests) == 6


def test_a_request_that_takes_too_long_is_not_sent_again():
    def script(messages):
        time.sleep(1)
        return answer("x")

    spec = agent_spec()
    with ScriptedServer(script) as server:
        model = ChatModel(server.base_url, fixed(spec.tools), timeout_s=0.2)
        result = ToolCallingAgent(spec, model, EchoShell()).run("trace-1", "do it")
        assert len(server.requests) == 1
    assert result.outcome.ended == "model_error"
    assert "no reply within the time limit" in result.outcome.detail


def test_a_pause_that_the_server_asks_for_is_kept():
    pauses = []
    with ScriptedServer([{**fails(429, "slow down"), "_headers": {"Retry-After": "33"}}, answer("x")]) as server:
        model = ChatModel(server.base_url, fixed(), sleep=pauses.append)
        model.complete([{"role": "user", "content": "x"}])
    assert pauses == [33.0]


def test_an_api_key_is_sent_and_never_repeated():
    key = "sk-very-secret"
    spec = agent_spec()
    with ScriptedServer([fails(400, f"bad request of {key}")]) as server:
        model = ChatModel(server.base_url, fixed(spec.tools), api_key=key)
        result = ToolCallingAgent(spec, model, EchoShell()).run("trace-1", "do it")
        assert server.headers[0]["authorization"] == f"Bearer {key}"
    assert key not in str(result)
    assert "bad request of <API key>" in result.outcome.detail


def test_each_trace_has_its_seed():
    with ScriptedServer([answer("x"), answer("y"), answer("z")]) as server:
        models = ChatModel(server.base_url, fixed())
        for seed in (profiles.sampler().seed, 7, 8):
            models.for_trace("trace", seed=seed).complete([{"role": "user", "content": "x"}])
    assert [request["seed"] for request in server.requests] == [profiles.sampler().seed, 7, 8]


@pytest.mark.parametrize("figure", ["12", 10**30, float("nan"), True, [1]])
def test_a_figure_that_is_none_counts_as_not_reported_and_the_record_can_be_read(figure):
    reply = answer("7")
    reply["usage"] = {"prompt_tokens": figure, "completion_tokens": 5}
    reply["timings"] = dict.fromkeys(("prompt_n", "cache_n"), figure) | {"predicted_ms": figure}
    reply["choices"][0]["finish_reason"] = {"odd": 1}
    (step,) = run([reply])[0].steps
    assert (step.input_tokens, step.output_tokens, step.finish_reason) == (None, 5, '{"odd": 1}')
    assert step.timings is None
    assert msgspec.json.decode(msgspec.json.encode(step), type=type(step)).step_id == step.step_id


@pytest.mark.parametrize("rows", [{"usage": [1]}, {"usage": "x", "timings": "x"}, {"usage": None, "timings": [1]}])
def test_figures_of_another_form_count_as_not_reported(rows):
    (step,) = run([answer("7") | rows])[0].steps
    assert (step.input_tokens, step.output_tokens) == (None, None)


def test_a_refused_connection_names_the_address():
    spec = agent_spec()
    with ScriptedServer([]) as server:
        url = server.base_url
    model = ChatModel(url, fixed(spec.tools), sleep=lambda _: None, timeout_s=5)
    with pytest.raises(NoReplyError, match=url):
        model.complete([])


def test_python_code_goes_to_python_and_what_it_printed_comes_back():
    tools = EchoShell()
    result, _ = run([says(calls=[("python_interpreter", '{"code": "1 + 1"}')]), answer("x")], tools=tools)
    assert tools.calls == [("python", "1 + 1")]
    assert result.spans[0].tool_output == "exit_code: 0\nstdout:\npython 1 + 1"
    assert result.spans[0].stdout.text == "python 1 + 1\n"


@pytest.mark.parametrize(
    ("seen", "text"),
    [
        (report("a\n", "b\n", 3), "exit_code: 3\nstdout:\na\nstderr:\nb"),
        (report(), "exit_code: 0"),
        (report(exit_code=-1, status="timeout"), "exit_code: -1\nThe call was stopped at its time limit of 1.5 s."),
        (report(exit_code=-1, status="oom"), "exit_code: -1\nThe call was stopped because it used too much memory."),
    ],
)
def test_the_model_reads_exit_code_and_both_streams(seen, text):
    assert tool_text(seen, limit_ms=1500) == text
