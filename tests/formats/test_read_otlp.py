"""Spans of OpenTelemetry by each convention: what the records that they become hold."""

from __future__ import annotations

import json

import pytest

from agenttrace.errors import DataError
from agenttrace.formats.convert import convert
from agenttrace.formats.reading import traces
from tests.formats.samples import RECORDS, SAMPLES


class TestOtlp:
    def test_spans_of_a_trace_are_gathered_from_all_requests(self):
        (_, trace), _ = traces(SAMPLES / "otlp.jsonl")
        first, second = trace.llm_steps
        assert (first.reasoning_content, first.timings.cached_n, first.duration_ms) == ("two at once", 60, 2000)
        assert second.model_output == "It is fixed."
        assert [(span.tool_output, span.exit_code, span.duration_ms) for span in trace.spans] == [
            ("loop.sh", 0, 1000), ("cat: none", None, None)
        ]  # fmt: skip
        assert (trace.prompt, trace.total_duration_ms, trace.metadata["agent"]) == ("Fix the loop.", 7000, "fixer")

    def test_openinference_is_read_and_a_result_counts_once(self):
        _, (_, trace) = traces(SAMPLES / "otlp.jsonl")
        assert [(span.tool_name, span.tool_input, span.tool_output) for span in trace.spans] == [
            ("find", '{"q": "loop"}', "loop.sh")
        ]  # fmt: skip
        assert (trace.environment["imported"]["system_prompt"], trace.llm_steps[0].input_tokens) == (
            "You are an agent.", 30
        )  # fmt: skip

    def test_what_we_write_is_read_back(self, tmp_path):
        convert([RECORDS / "demo.jsonl"], "otlp", tmp_path / "spans.jsonl")
        for (_, read), (_, ours) in zip(traces(tmp_path / "spans.jsonl"), traces(RECORDS / "demo.jsonl"), strict=True):
            assert (read.trace_id, read.prompt, read.model) == (ours.trace_id, ours.prompt, ours.model)
            assert [(span.tool_output, span.exit_code) for span in read.spans] == [
                (span.tool_output, None if span.status == "not_executed" else span.exit_code) for span in ours.spans
            ]
            assert [step.input_tokens for step in read.llm_steps] == [step.input_tokens for step in ours.llm_steps]
            assert [step.start_ns for step in read.llm_steps] == [step.start_ns for step in ours.llm_steps]

    @pytest.mark.parametrize(
        "spans",
        [
            1, [1], [{"attributes": 1}], [{"attributes": [{"key": "openinference.span.kind", "value": {}}]}],
            [{"startTimeUnixNano": "9" * 400, "attributes": [{"key": "a", "value": {"intValue": "9" * 5000}}]}],
        ],
    )  # fmt: skip
    def test_odd_spans_are_one_message(self, spans, tmp_path):
        request = {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}
        (tmp_path / "a.jsonl").write_text(json.dumps(request) + "\n")
        with pytest.raises(DataError, match="no span of a model or a tool"):
            list(traces(tmp_path / "a.jsonl"))

    def test_deeply_named_and_nested_attributes_end(self, tmp_path):
        deep = {"stringValue": "x"}
        for _ in range(300):
            deep = {"arrayValue": {"values": [deep]}}
        pairs = [
            {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
            {"key": "llm.output_messages." + "0." * 50_000, "value": {"stringValue": "x"}},
            {"key": "gen_ai.output.messages", "value": deep},
        ]
        request = {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "t", "attributes": pairs}]}]}]}
        (tmp_path / "a.jsonl").write_text(json.dumps(request) + "\n")
        ((_, trace),) = traces(tmp_path / "a.jsonl")
        assert len(trace.llm_steps) == 1


ARGUMENTS = '{"command":"ls"}'
ASKED = {"system": "You fix.", "user": "Fix the loop."}


def pairs(facts):
    """Attributes in OTLP/JSON."""
    kinds = {str: "stringValue", int: "intValue", list: "arrayValue"}
    value = {"arrayValue": lambda one: {"values": [{"stringValue": part} for part in one]}}
    return [
        {"key": key, "value": {(kind := kinds[type(one)]): value.get(kind, lambda same: same)(one)}}
        for key, one in facts.items()
    ]


def openllmetry():
    """One conversation by numbered attributes: a request, a call without an id, the next request."""
    first = {
        "llm.request.type": "chat",
        "gen_ai.request.model": "m-1",
        **{
            f"gen_ai.prompt.{n}.{key}": text
            for n, said in enumerate(ASKED.items())
            for key, text in zip(("role", "content"), said, strict=True)
        },
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": "I look.",
        "gen_ai.completion.0.finish_reason": "tool_calls",
        "gen_ai.completion.0.tool_calls.0.id": "c1",
        "gen_ai.completion.0.tool_calls.0.name": "bash",
        "gen_ai.completion.0.tool_calls.0.arguments": ARGUMENTS,
        "gen_ai.usage.prompt_tokens": 10,
        "gen_ai.usage.completion_tokens": 5,
    }
    tool = {
        "traceloop.span.kind": "tool",
        "traceloop.entity.name": "bash",
        "traceloop.entity.input": ARGUMENTS,
        "traceloop.entity.output": "loop.sh",
    }
    last = {
        **{
            key: one
            for key, one in first.items()
            if "prompt." in key or key in {"llm.request.type", "gen_ai.request.model"}
        },
        "gen_ai.prompt.2.role": "assistant",
        "gen_ai.prompt.2.content": "I look.",
        "gen_ai.prompt.3.role": "tool",
        "gen_ai.prompt.3.content": "loop.sh",
        "gen_ai.prompt.3.tool_call_id": "c1",
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": '[{"type": "text", "text": "Done."}]',
        "gen_ai.completion.0.finish_reason": "stop",
        "gen_ai.usage.input_tokens": 20,
        "gen_ai.usage.output_tokens": 3,
    }
    return [(first, []), (tool, []), (last, [])]


def told(first, tool, last, replies, results, more=None):
    """One conversation whose messages are events of its spans."""
    chat = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m-1"}
    usage = [
        {"gen_ai.usage.input_tokens": one, "gen_ai.usage.output_tokens": other} for one, other in ((10, 5), (20, 3))
    ]
    asked = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "bash",
        "gen_ai.tool.call.id": "c1",
        **(more or {}),
    }
    return [
        ({**chat, **usage[0]}, [*first, replies[0]]),
        (asked, tool),
        ({**chat, **usage[1]}, [*first, *last, *results, replies[1]]),
    ]


def strands():
    """Events whose content is a list of Bedrock's blocks."""
    use = {"toolUse": {"toolUseId": "c1", "name": "bash", "input": {"command": "ls"}}}
    first = [(f"gen_ai.{role}.message", {"content": json.dumps([{"text": text}])}) for role, text in ASKED.items()]
    back = {"toolResult": {"toolUseId": "c1", "status": "success", "content": [{"text": "loop.sh"}]}}
    replies = [
        ("gen_ai.choice", {"finish_reason": "tool_calls", "message": json.dumps([{"text": "I look."}, use])}),
        ("gen_ai.choice", {"finish_reason": "stop", "message": json.dumps([{"text": "Done."}])}),
    ]
    return told(
        first,
        [
            ("gen_ai.tool.message", {"role": "tool", "content": ARGUMENTS, "id": "c1"}),
            ("gen_ai.choice", {"message": json.dumps([{"text": "loop.sh"}]), "id": "c1"}),
        ],
        [("gen_ai.assistant.message", {"content": json.dumps([{"text": "I look."}, use])})],
        replies,
        [("gen_ai.tool.message", {"content": json.dumps([back])})],
    )  # fmt: skip


def bodies():
    """Events with their body as JSON in one attribute; the tool's span has its figures in attributes."""

    def event(name, **body):
        return (name, {"gen_ai.system": "openai", "gen_ai.event.content": json.dumps(body)})

    call = {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": ARGUMENTS}}
    reply = {"role": "assistant", "content": "I look.", "tool_calls": [call]}
    return told(
        [event(f"gen_ai.{role}.message", role=role, content=text) for role, text in ASKED.items()],
        [],
        [event("gen_ai.assistant.message", **reply)],
        [
            event("gen_ai.choice", index=0, finish_reason="tool_calls", message=reply),
            event("gen_ai.choice", index=0, finish_reason="stop", message={"role": "assistant", "content": "Done."}),
        ],
        [event("gen_ai.tool.message", role="tool", content="loop.sh", id="c1")],
        {"gen_ai.tool.call.arguments": ARGUMENTS, "gen_ai.tool.call.result": "loop.sh"},
    )


def details():
    """The event of the newer conventions, whose attributes are those that a span may have."""

    def event(**sides):
        return (
            "gen_ai.client.inference.operation.details",
            {f"gen_ai.{side}.messages": json.dumps(one) for side, one in sides.items()},
        )

    text = {role: {"role": role, "parts": [{"type": "text", "content": said}]} for role, said in ASKED.items()}
    call = {"type": "tool_call", "id": "c1", "name": "bash", "arguments": {"command": "ls"}}
    look = {"role": "assistant", "parts": [{"type": "text", "content": "I look."}, call], "finish_reason": "tool_calls"}
    done = {"role": "assistant", "parts": [{"type": "text", "content": "Done."}], "finish_reason": "stop"}
    back = {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "loop.sh"}]}
    spans = told(
        [],
        [event(output=[back])],
        [],
        [event(output=[look]), event(output=[done])],
        [],
        {"gen_ai.tool.call.arguments": ARGUMENTS},
    )
    spans[0][1].append(event(input=list(text.values())))
    spans[2][1].append(event(input=[*text.values(), look, back]))
    return spans


@pytest.mark.parametrize("printed", [False, True], ids=["otlp", "console"])
@pytest.mark.parametrize("convention", [openllmetry, strands, bodies, details])
def test_one_conversation_by_every_convention_is_one_record(convention, printed, tmp_path):
    spans = []
    for number, (facts, events) in enumerate(convention(), start=1):
        if printed:
            times = {
                "start_time": f"2026-03-01T10:00:0{number}.000000Z",
                "end_time": f"2026-03-01T10:00:0{number}.500000Z",
            }
            ids = {"context": {"trace_id": "0x" + "a" * 32, "span_id": f"0x{number:016x}"}, "parent_id": None}
            listed = [{"name": name, "attributes": one} for name, one in events]
            spans.append(
                {"name": "s", **ids, **times, "attributes": facts, "events": listed, "status": {"status_code": "UNSET"}}
            )
        else:
            start = 1_772_359_200_000_000_000 + number * 10**9
            ids = {
                "traceId": "a" * 32,
                "spanId": f"{number:016x}",
                "startTimeUnixNano": str(start),
                "endTimeUnixNano": str(start + 5 * 10**8),
            }
            spans.append(
                {
                    **ids,
                    "name": "s",
                    "attributes": pairs(facts),
                    "events": [{"name": name, "attributes": pairs(one)} for name, one in events],
                }
            )
    lines = spans if printed else [{"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}]
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    ((_, trace),) = traces(tmp_path / "a.jsonl")
    first, last = trace.llm_steps
    assert (trace.environment["imported"]["system_prompt"], trace.prompt, trace.model) == (
        "You fix.",
        "Fix the loop.",
        "m-1",
    )
    (call,) = first.tool_calls
    assert (call.name, json.loads(call.arguments)) == ("bash", {"command": "ls"})
    assert (first.model_output, first.finish_reason, first.input_tokens, first.output_tokens) == (
        "I look.",
        "tool_calls",
        10,
        5,
    )
    assert (last.model_output, last.finish_reason, last.input_tokens, last.output_tokens) == ("Done.", "stop", 20, 3)
    (span,) = trace.spans
    assert (span.tool_name, span.call_id, json.loads(span.tool_input), span.tool_output) == (
        "bash",
        call.call_id,
        {"command": "ls"},
        "loop.sh",
    )
    assert span.duration_ms == 500


ODD = (
    None, 5, "x", "[", [], [[]], {}, [{}], [{"type": []}], [{"toolUse": 5}], [{"toolResult": {"content": [5]}}],
    {"tool_calls": [5]},
)  # fmt: skip
KEYS = (
    "gen_ai.output.messages", "gen_ai.completion.0", "llm.output_messages.0.message", "message", "gen_ai.event.content",
)  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("key", KEYS)
def test_messages_that_are_none_leave_a_record(key, odd, tmp_path):
    for value in (
        odd,
        json.dumps(odd),
        json.dumps([{"role": "assistant", "parts": odd, "content": odd}]),
        json.dumps({"message": odd}),
    ):
        facts = {"gen_ai.operation.name": "chat", key: value}
        span = {
            "context": {"trace_id": "a", "span_id": "b"},
            "attributes": facts,
            "events": [{"name": "gen_ai.choice", "attributes": facts}, 5],
        }
        (tmp_path / "a.jsonl").write_text(json.dumps(span) + "\n")
        ((_, trace),) = traces(tmp_path / "a.jsonl")
        assert len(trace.llm_steps) == 1
