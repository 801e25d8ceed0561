"""Spans as agents, frameworks and their clients leave them: what counts, what belongs together, what is not known."""

from __future__ import annotations

import json

import pytest

from agenttrace.errors import DataError
from agenttrace.formats.reading import traces

BEGIN = 1_772_359_200_000_000_000


def value(one):
    if isinstance(one, list):
        return {"arrayValue": {"values": [value(part) for part in one]}}
    if isinstance(one, dict):
        return {"kvlistValue": {"values": attributes(one)}}
    return {{int: "intValue", float: "doubleValue"}.get(type(one), "stringValue"): one}


def attributes(facts):
    return [{"key": key, "value": value(one)} for key, one in facts.items()]


def span(facts, start=0.0, end=1.0, *, id=None, parent="", trace="a", events=(), **more):  # noqa: A002 - as the field
    times = {} if start is None else {"startTimeUnixNano": str(BEGIN + int(start * 1e9))}
    times |= {} if end is None else {"endTimeUnixNano": str(BEGIN + int(end * 1e9))}
    told = [{"name": name, "attributes": attributes(one)} for name, one in events]
    ids = {"traceId": trace * 32, "spanId": id or "", "parentSpanId": parent}
    return {**ids, **times, "name": "s", "attributes": attributes(facts), "events": told, **more}


def said(role, text, *calls):
    parts = [{"type": "text", "content": text}] if text else []
    return {"role": role, "parts": [*parts, *calls]}


def call(name, key="c1", **arguments):
    return {"type": "tool_call", "id": key, "name": name, "arguments": arguments}


def back(text, key="c1"):
    return {"role": "tool", "parts": [{"type": "tool_call_response", "id": key, "response": text}]}


def chat(given, reply, *times, facts=None, counts=(10, 5), **more):
    texts = {"gen_ai.input.messages": given, "gen_ai.output.messages": reply}
    known = {key: json.dumps(one) for key, one in texts.items() if one is not None}
    if counts:
        known |= dict(zip(("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"), counts, strict=True))
    return span(
        {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", **known, **(facts or {})}, *times, **more
    )


def tool(name, given, result, *times, key=None, **more):
    known = {"gen_ai.tool.call.arguments": given, "gen_ai.tool.call.result": result, "gen_ai.tool.call.id": key}
    facts = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}
    return span(facts | {name: one for name, one in known.items() if one is not None}, *times, **more)


ASKED = said("user", "Fix.")
DONE = said("assistant", "Done.")


@pytest.fixture
def read(tmp_path):
    def read(*spans):
        (tmp_path / "a.jsonl").write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}) + "\n")
        return [trace for _, trace in traces(tmp_path / "a.jsonl")]

    return read


def results(trace):
    return [(one.tool_name, one.tool_input, one.tool_output) for one in trace.spans]


class TestCalls:
    def test_parallel_calls_without_ids_are_told_by_tool_and_arguments(self, read):
        calls = said("assistant", "", call("read", "a", n=1), call("bash", "b", n=1), call("bash", "c", n=2))
        spans = [
            tool(name, f'{{"n": {n}}}', f"{name} {n}", at, 3)
            for name, n, at in (("bash", 2, 1.1), ("bash", 1, 1.2), ("read", 1, 1.3))
        ]
        (trace,) = read(chat([ASKED], [calls], 0, 1), *spans)
        assert results(trace) == [
            ("read", '{"n":1}', "read 1"),
            ("bash", '{"n":1}', "bash 1"),
            ("bash", '{"n":2}', "bash 2"),
        ]
        assert [one.call_id for one in trace.spans] == ["call_1_1", "call_1_2", "call_1_3"]

    def test_a_call_that_a_framework_and_a_client_both_tell_of_counts_once(self, read):
        calls = said("assistant", "", call("fetch", "c1"), call("bash", "c2"))
        (trace,) = read(
            chat([ASKED], [calls], 0, 1),
            tool("fetch", "{}", "F", 1, 3, key="c1", id="f"),
            tool("fetch", None, None, 1.1, 2.9, id="client", parent="f"),
            tool("fetch", None, None, 1.2, 2.8, id="server", parent="client"),
            tool("bash", "{}", "B", 1, 2),
        )
        assert results(trace) == [("fetch", "{}", "F"), ("bash", "{}", "B")]

    def test_what_a_tool_calls_by_itself_takes_the_place_of_no_call(self, read):
        calls = said("assistant", "", call("fetch", "c1"), call("bash", "c2"))
        (trace,) = read(
            chat([ASKED], [calls], 0, 1),
            tool("fetch", "{}", "F", 1, 3, key="c1", id="f"),
            tool("helper", "{}", "H", 1.1, 2, id="h", parent="f"),
            tool("bash", "{}", "B", 2.5, 3),
        )
        assert [(one.call_id, one.tool_output) for one in trace.spans] == [
            ("call_1_1", "F"),
            ("call_1_2", "B"),
            (None, "H"),
        ]

    @pytest.mark.parametrize(
        ("result", "text"),
        [({"n": 1}, '{"n": 1}'), (["a", "b"], "a\nb"), ([{"n": 1}, {"n": 2}], '{"n": 1}\n{"n": 2}')],
    )
    def test_a_result_that_is_no_text_is_kept(self, result, text, read):
        reply = said("assistant", "", call("bash"))
        (apart,) = read(chat([ASKED], [reply], 0, 1), tool("bash", "{}", result, 1, 2, key="c1"))
        (within,) = read(chat([ASKED], [reply], 0, 1), chat([ASKED, reply, back(result)], [DONE], 3, 4))
        assert [one.tool_output for trace in (apart, within) for one in trace.spans] == [text, text]

    def test_what_a_span_does_not_say_of_a_result_the_next_request_does(self, read):
        reply = said("assistant", "", call("bash"))
        failed = tool(
            "bash",
            "{}",
            None,
            1,
            2,
            key="c1",
            status={"code": 2},
            events=[("exception", {"exception.message": "none"})],
        )
        (trace,) = read(chat([ASKED], [reply], 0, 1), failed, chat([ASKED, reply, back("Error: none")], [DONE], 3, 4))
        assert [(one.tool_output, one.duration_ms) for one in trace.spans] == [("Error: none", 1000)]
        (trace,) = read(chat([ASKED], [reply], 0, 1), failed)
        assert [(one.tool_output, one.duration_ms) for one in trace.spans] == [("none", 1000)]

    def test_ids_that_begin_anew_with_every_reply_join_each_with_its_own(self, read):
        first, second = (said("assistant", "", call("bash", "call_0", n=n)) for n in (1, 2))
        (trace,) = read(
            chat([ASKED], [first], 0, 1),
            tool("bash", '{"n":1}', "one", 1, 2, key="call_0"),
            chat([ASKED, first, back("one", "call_0")], [second], 3, 4),
            chat([ASKED, first, back("one", "call_0"), second, back("two", "call_0")], [DONE], 5, 6),
        )
        assert results(trace) == [("bash", '{"n":1}', "one"), ("bash", '{"n":2}', "two")]

    def test_a_call_without_times_is_that_of_the_reply_before_it(self, read):
        (trace,) = read(
            chat([ASKED], [said("assistant", "", call("bash"))], 1, None),
            tool("bash", "{}", "out", None, None, key="c1"),
            chat(None, [DONE], 5, None),
        )
        assert [(one.call_id, one.start_ns, one.end_ns, one.duration_ms) for one in trace.spans] == [
            ("call_1_1", None, None, None)
        ]
        assert [step.duration_ms for step in trace.llm_steps] == [None, None]


class TestRequests:
    def test_a_request_that_failed_is_no_reply_and_asks_nothing_anew(self, read):
        failed = [chat([ASKED], None, n, n + 1, counts=None, status={"code": 2, "message": "429"}) for n in range(2)]
        (trace,) = read(*failed, chat([ASKED], [DONE], 3, 4))
        assert [(step.model_output, step.input_tokens) for step in trace.llm_steps] == [("Done.", 10)]
        assert (trace.prompt, trace.environment["imported"]["failed_requests"]) == ("Fix.", 2)
        (trace,) = read(*failed)
        assert (trace.prompt, trace.llm_steps, trace.outcome.detail) == ("Fix.", (), "429")

    def test_what_other_traces_said_before_is_part_of_the_prompt(self, read):
        before = [ASKED, said("assistant", "", call("bash", "old", n=1)), back("out", "old"), said("assistant", "Hm.")]
        (trace,) = read(chat([*before, said("user", "Now?")], [DONE], 0, 1))
        assert [step.model_output for step in trace.llm_steps] == ["Done."]
        assert (trace.prompt, trace.spans) == ('Fix.\n\nbash {"n":1}\n\nout\n\nHm.\n\nNow?', ())

    def test_a_reply_without_a_span_whose_call_has_one_is_of_this_trace(self, read):
        reply = said("assistant", "I look.", call("bash"))
        (trace,) = read(tool("bash", "{}", "out", 1, 2, key="c1"), chat([ASKED, reply, back("out")], [DONE], 3, 4))
        assert [(step.model_output, step.input_tokens) for step in trace.llm_steps] == [
            ("I look.", None),
            ("Done.", 10),
        ]
        assert [(one.call_id, one.tool_output) for one in trace.spans] == [("call_1_1", "out")]

    def test_a_span_around_several_requests_is_none_of_a_request(self, read):
        reply = said("assistant", "", call("bash"))
        (trace,) = read(
            chat([ASKED], [DONE], 0, 9, counts=(30, 8), id="loop"),
            chat([ASKED], [reply], 1, 2, parent="loop"),
            tool("bash", "{}", "out", 3, 4, key="c1", parent="loop"),
            chat([ASKED, reply, back("out")], [DONE], 5, 6, parent="loop", counts=(20, 3)),
        )
        assert [(step.input_tokens, step.output_tokens) for step in trace.llm_steps] == [(10, 5), (20, 3)]
        assert results(trace) == [("bash", "{}", "out")]

    def test_two_instrumentations_below_a_framework_tell_of_one_request(self, read):
        spans = [chat([ASKED], [DONE], 1 + n / 10, 2 - n / 10, parent="outer") for n in range(2)]
        (trace,) = read(chat([ASKED], [DONE], 0, 3, id="outer"), *spans)
        assert len(trace.llm_steps) == 1

    def test_agents_reply_where_no_model_has_a_span(self, read):
        facts = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "x", "gen_ai.usage.input_tokens": 7}
        sides = {"gen_ai.input.messages": [ASKED], "gen_ai.output.messages": [DONE]}
        agent = span({**facts, **{key: json.dumps(one) for key, one in sides.items()}}, trace="b")
        other, trace = read(chat([ASKED], [DONE], 0, 1), agent)
        assert [(step.model_output, step.input_tokens) for step in trace.llm_steps] == [("Done.", 7)]
        assert (trace.prompt, trace.metadata["agent"], other.model) == ("Fix.", "x", "m")

    def test_the_agent_below_a_server_names_the_run(self, read):
        agent = span({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "x"}, 0.1, 2, id="b", parent="a")
        (trace,) = read(span({"http.request.method": "POST"}, id="a"), agent, chat([ASKED], [DONE], 1, 2, parent="b"))
        assert trace.metadata["agent"] == "x"

    def test_spans_that_lie_in_each_other_end(self, read):
        spans = [chat([ASKED], [DONE], n, n + 1, id=str(n), parent=str((n + 1) % 3)) for n in range(3)]
        assert len(read(*spans, span({}, id="x", parent="x"), chat([ASKED], [DONE], parent="x"))) == 1

    def test_a_status_of_any_kind_is_read(self, read):
        assert len(read(chat([ASKED], [DONE], status={"code": []}))) == 1


class TestFacts:
    def test_events_and_attributes_that_hold_all_messages(self, read):
        given = json.dumps([{"role": "system", "content": "S"}, {"role": "user", "content": "Fix."}])
        listed = [{"id": "c1", "type": "function", "function": {"name": "bash", "arguments": "{}"}}]
        reply = json.dumps([{"role": "assistant", "content": "Done.", "tool_calls": listed}])
        events = [
            ("gen_ai.content.prompt", {"gen_ai.prompt": given}),
            ("gen_ai.content.completion", {"gen_ai.completion": reply}),
        ]
        for one in (chat(None, None, events=events), chat(None, None, facts=events[0][1] | events[1][1])):
            (trace,) = read(one)
            (step,) = trace.llm_steps
            assert (trace.prompt, trace.environment["imported"]["system_prompt"]) == ("Fix.", "S")
            assert (step.model_output, [call.name for call in step.tool_calls]) == ("Done.", ["bash"])

    def test_the_name_of_a_prompt_is_no_message(self, read):
        events = [("gen_ai.user.message", {"content": "Fix."}), ("gen_ai.choice", {"message": '{"content": "Done."}'})]
        (trace,) = read(chat(None, None, facts={"gen_ai.prompt.name": "p"}, events=events))
        assert (trace.prompt, trace.llm_steps[0].model_output) == ("Fix.", "Done.")

    def test_messages_as_a_list_of_texts(self, read):
        facts = {"gen_ai.input.messages": [json.dumps(ASKED)], "gen_ai.output.messages": [json.dumps(DONE)]}
        (trace,) = read(chat(None, None, facts=facts))
        assert (trace.prompt, trace.llm_steps[0].model_output) == ("Fix.", "Done.")

    def test_a_picture_is_named_and_not_its_bytes(self, read):
        parts = [
            {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "AAAA"},
            {"type": "uri", "modality": "audio", "uri": "x"},
        ]
        (trace,) = read(chat([said("user", "See", *parts)], [DONE]))
        assert trace.prompt == "See\n[image]\n[audio]"

    def test_openinference_says_reasoning_pictures_cost_and_models(self, read):
        user, reply = "llm.input_messages.0.message.", "llm.output_messages.0.message."
        part = "contents.{}.message_content.{}".format
        facts = {
            "openinference.span.kind": "LLM",
            "llm.response.model_name": "m-2",
            "llm.cost.total": 0.25,
            "llm.token_count.completion_details.reasoning": 3,
            f"{user}role": "user",
            f"{user}{part(0, 'type')}": "text",
            f"{user}{part(0, 'text')}": "See",
            f"{user}{part(1, 'type')}": "image",
            f"{reply}role": "assistant",
            f"{reply}{part(0, 'type')}": "reasoning",
            f"{reply}{part(0, 'text')}": "hm",
            f"{reply}{part(1, 'type')}": "text",
            f"{reply}{part(1, 'text')}": "A cat.",
            f"{reply}function_call_name": "bash",
            f"{reply}function_call_arguments_json": '{"n":1}',
        }
        (trace,) = read(span(facts))
        (step,) = trace.llm_steps
        assert (trace.model, trace.prompt, trace.totals.cost_usd) == ("m-2", "See\n[image]", 0.25)
        assert (step.model_output, step.reasoning_content, step.timings.reasoning_n) == ("A cat.", "hm", 3)
        assert [(one.name, one.arguments) for one in step.tool_calls] == [("bash", '{"n":1}')]
        (trace,) = read(span(facts), span({**facts, "llm.cost.total": "free"}, 2, 3))
        assert not trace.totals

    def test_tokens_as_floats_are_tokens(self, read):
        (trace,) = read(chat([ASKED], [DONE], counts=(10.0, 5.5)))
        assert (trace.llm_steps[0].input_tokens, trace.llm_steps[0].output_tokens) == (10, None)

    @pytest.mark.parametrize("kind", ["embeddings", "create_agent", "HTTP"])
    def test_without_model_tool_or_agent_there_is_no_trace(self, kind, read):
        with pytest.raises(DataError, match="no span of a model or a tool"):
            read(span({"gen_ai.operation.name": kind}))
