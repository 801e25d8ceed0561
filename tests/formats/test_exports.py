"""What other formats carry of a record, and that what they carry comes back."""

from __future__ import annotations

import json
import time
import zipfile

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttrace.errors import DataError, UsageError
from agenttrace.formats import FORMATS, atif, mini_swe, otlp, reading, session_rows, session_trace, sharegpt
from agenttrace.formats.conversation import messages, turns
from agenttrace.formats.convert import convert, read
from agenttrace.formats.reading import to_trace
from agenttrace.records import ToolCall
from tests.formats.hostile import NASTY, OURS, RELEASED, hostile, spec, traces

NEW = (
    "atif",
    "session-traces",
    "session-traces-parquet",
    "otlp",
    "mini-swe-agent",
    "mini-swe-agent-1.1",
    "perfetto",
    "adp",
    "inspect",
    "sharegpt",
)


def as_json(value):
    return json.loads(json.dumps(value, allow_nan=False))


@pytest.fixture
def records(tmp_path):
    """A file with records of ours, a hostile one, and the run spec beside it."""
    path = tmp_path / "in" / "all.jsonl"
    path.parent.mkdir()
    lines = [*OURS.read_bytes().splitlines(), msgspec.json.encode(hostile())]
    path.write_bytes(b"\n".join(lines) + b"\n")
    path.with_suffix(".run.json").write_bytes(msgspec.json.encode(spec()))
    return path


@pytest.mark.parametrize("name", NEW)
def test_every_format_takes_every_record_and_gives_the_same_bytes_twice(records, tmp_path, name):
    written = []
    for folder in ("a", "b"):
        suffix = "" if FORMATS[name].layout == "files" else FORMATS[name].suffix
        (tmp_path / folder).mkdir()
        output = tmp_path / folder / f"o{suffix}"
        assert sum(convert([records, RELEASED], name, output).values()) == 6
        files = [output] if output.is_file() else sorted(output.iterdir())
        written.append([file.read_bytes() for file in files])
    assert written[0] == written[1]


def test_a_conversation_has_the_prompt_the_tools_results_and_the_reminder():
    found = messages(hostile(), spec())
    assert [message.role for message in found[:4]] == ["system", "user", "assistant", "user"]
    assert found[3].content == spec().agent.reminder
    assert [turn.reminder for turn in turns(hostile(), None)] == [None, None]
    assert sum(len(turn.spans) for turn in turns(hostile(), None)) == len(hostile().spans)


@pytest.mark.parametrize("trace", [*traces(), hostile()], ids=lambda trace: trace.trace_id)
@pytest.mark.parametrize("run_spec", [None, spec()], ids=["alone", "with run spec"])
def test_a_record_comes_back_from_atif_equal(trace, run_spec):
    assert to_trace(as_json(atif.from_trace(trace, run_spec))) == trace


@given(
    output=st.none() | st.text(),
    thinks=st.none() | st.text(),
    calls=st.lists(st.tuples(st.text(), st.text()), max_size=3),
)
def test_any_text_comes_back_from_atif(output, thinks, calls):
    proposed = tuple(ToolCall(call_id=f"c{n}", name=name, arguments=text) for n, (name, text) in enumerate(calls))
    step = msgspec.structs.replace(
        traces()[0].llm_steps[0], model_output=output, reasoning_content=thinks, tool_calls=proposed or None
    )
    trace = msgspec.structs.replace(traces()[0], llm_steps=(step,))
    assert atif.to_trace(as_json(atif.from_trace(trace))) == trace


FOREIGN_ATIF = {
    "schema_version": "ATIF-v1.6",
    "session_id": "0193",
    "agent": {"name": "claude-code", "version": "2", "model_name": "m", "extra": {"x": 1}},
    "steps": [
        {"step_id": 1, "source": "system", "message": "be good"},
        {"step_id": 2, "source": "user", "message": [{"type": "text", "text": "do it"}, {"type": "image"}]},
        {
            "step_id": 3, "timestamp": "2026-01-02T03:04:05Z", "source": "agent", "message": "doing",
            "reasoning_content": "hm", "metrics": {"prompt_tokens": 7, "completion_tokens": 2, "cost_usd": 0.1},
            "tool_calls": [{"tool_call_id": "t1", "function_name": "Read", "arguments": {"path": "/x", "n": 2}}],
            "observation": {"results": [{"source_call_id": "t1", "content": "text"}, {"content": None}]},
        },
        {"step_id": 4, "source": "user", "message": "more"},
        {"step_id": 5, "source": "agent", "message": "done", "timestamp": "2026-01-02T03:04:06Z"},
    ],
    "final_metrics": {"total_cost_usd": 0.1},
    "notes": "n",
}  # fmt: skip


def test_a_foreign_trajectory_is_read_and_written_as_it_was():
    trace = to_trace(FOREIGN_ATIF)
    assert trace.prompt == "do it\n[image]"
    assert [span.tool_name for span in trace.spans] == ["Read", "observation"]
    assert trace.llm_steps[0].tool_calls[0].arguments == '{"path": "/x", "n": 2}'
    assert (trace.llm_steps[0].input_tokens, trace.total_duration_ms) == (7, 1000.0)
    assert (trace.outcome.ended, trace.spans[0].telemetry.method) == ("unknown", "not-measured")
    again = msgspec.json.decode(msgspec.json.encode(trace), type=type(trace))
    assert json.dumps(atif.from_trace(again)) == json.dumps(FOREIGN_ATIF)  # order of keys, too


FOREIGN_MINI = {
    "info": {
        "exit_status": "Submitted", "submission": "diff --git", "mini_version": "1.17.5",
        "model_stats": {"instance_cost": 0.5, "api_calls": 2}, "config": {"model": {"model_name": "qwen"}, "agent": {}},
    },
    "messages": [
        {"role": "system", "content": "You are", "timestamp": 1.5},
        {"role": "user", "content": "Fix it", "timestamp": 2.0},
        {
            "role": "assistant", "content": "THOUGHT: look\n\n```bash\nls -la\n```", "timestamp": 3.0,
            "extra": {"response": {"usage": {"prompt_tokens": 11, "completion_tokens": 3}}},
        },
        {"role": "user", "content": "<returncode>2</returncode>\n<output>\nno</output>", "timestamp": 4.0},
        {"role": "assistant", "content": "no block", "timestamp": 5.0},
        {"role": "user", "content": "Please always provide EXACTLY ONE action", "timestamp": 5.5},
        {"role": "assistant", "content": "```bash\necho COMPLETE\n```\n", "timestamp": 6.0},
        {"role": "user", "content": "diff --git", "timestamp": 7.0},
    ],
    "trajectory_format": "mini-swe-agent-1",
    "instance_id": "a__b-1",
}  # fmt: skip


def test_a_mini_swe_agent_trajectory_is_read_and_written_as_it_was():
    trace = to_trace(FOREIGN_MINI)
    assert (trace.prompt, trace.model, trace.outcome.ended) == ("Fix it", "qwen", "final_answer")
    assert [(span.tool_input, span.exit_code) for span in trace.spans] == [
        ('{"command":"ls -la"}', 2),
        ('{"command":"echo COMPLETE"}', None),
    ]
    assert (trace.llm_steps[0].input_tokens, trace.llm_steps[0].output_tokens) == (11, 3)
    again = msgspec.json.decode(msgspec.json.encode(trace), type=type(trace))
    assert as_json(mini_swe.from_trace(again)) == FOREIGN_MINI


def test_a_row_of_messages_without_info_is_read_and_written_as_it_was():
    row = {key: FOREIGN_MINI[key] for key in ("instance_id", "messages", "trajectory_format")} | {"exit_status": "x"}
    trace = to_trace(row)
    assert (len(trace.spans), trace.model, trace.outcome.ended) == (2, "unknown", "unknown")
    written = as_json(mini_swe.from_trace(trace))
    assert json.dumps(written) == json.dumps(row)  # order of keys, too


@pytest.mark.parametrize("trace", [*traces(), hostile()], ids=lambda trace: trace.trace_id)
def test_mini_swe_agent_carries_task_commands_and_results(trace):
    value = as_json(mini_swe.from_trace(trace, spec()))
    found = to_trace(value)
    assert (found.prompt, found.model) == (trace.prompt, trace.model)
    assert len(found.llm_steps) == len(trace.llm_steps)
    heard = "\n".join(span.tool_output for span in found.spans)
    for span in trace.spans:
        if span.tool_name == "bash" and span.status == "ok":
            assert span.tool_output in heard
            assert json.loads(span.tool_input)["command"] in str([s.tool_input for s in found.spans])
    assert as_json(mini_swe.from_trace(found)) == value


@pytest.mark.parametrize(
    ("answer", "ended"),
    [
        (
            "The last command <command>ls -la</command> timed out and has been killed.\nThe output was",
            ("timeout", None),
        ),
        ("<returncode>0</returncode>\nThe last command </command> timed out and has been killed.", ("ok", 0)),
    ],
)
def test_a_command_of_mini_swe_agent_that_was_killed_at_its_time_limit_is_a_timeout(answer, ended):
    value = json.loads(json.dumps(FOREIGN_MINI))
    value["messages"][3]["content"] = answer
    trace = to_trace(value)
    assert (trace.spans[0].status, trace.spans[0].exit_code) == ended
    assert as_json(mini_swe.from_trace(trace)) == value


def test_what_we_write_for_mini_swe_agent_says_how_a_call_ended():
    trace = traces()[0]
    late = msgspec.structs.replace(trace.spans[0], status="timeout", exit_code=137)
    written = as_json(mini_swe.from_trace(msgspec.structs.replace(trace, spans=(late, *trace.spans[1:]))))
    assert (to_trace(written).spans[0].status, to_trace(written).spans[0].exit_code) == ("timeout", 137)


def test_reading_an_open_fence_with_many_line_feeds_takes_time_by_their_number():
    value = json.loads(json.dumps(FOREIGN_MINI))
    value["messages"][2]["content"] = "```bash" + "\n" * 1_000_000
    before = time.process_time()
    assert to_trace(value).llm_steps[0].tool_calls is None
    assert time.process_time() - before < 10  # by their square, it would take hours


def test_copied_context_is_no_generation_and_comes_back():
    value = json.loads(json.dumps(FOREIGN_ATIF))
    value["steps"][2] |= {"is_copied_context": True, "timestamp": "2025-01-01T00:00:00Z"}
    trace = to_trace(value)
    assert [(step.step_number, step.model_output) for step in trace.llm_steps] == [(1, "done")]
    assert (trace.prompt, trace.spans, trace.total_duration_ms) == ("do it\n[image]", (), None)
    assert trace.timestamp_utc == "2026-01-02T03:04:06.000000+00:00"
    assert json.dumps(atif.from_trace(trace)) == json.dumps(value)


def test_calls_with_one_id_are_told_apart_and_come_back():
    call = {"tool_call_id": "call_0", "function_name": "bash"}
    results = [{"source_call_id": "call_0", "content": text} for text in ("1", "2", "2, too")]
    step = FOREIGN_ATIF["steps"][2] | {
        "tool_calls": [call | {"arguments": {"command": "one"}}, call | {"arguments": {"command": "two"}}],
        "observation": {"results": results},
    }
    value = FOREIGN_ATIF | {"steps": [FOREIGN_ATIF["steps"][1], step, step]}
    trace = to_trace(as_json(value))
    one, two = '{"command":"one"}', '{"command":"two"}'
    found = [(span.tool_input, span.tool_output) for span in trace.spans]
    assert found == [(one, "1"), (two, "2"), (two, "2, too")] * 2
    assert [span.call_id for span in trace.spans] == [f"call_{n}" for n in ("1_1", "1_2", "1_2", "2_1", "2_2", "2_2")]
    assert json.dumps(atif.from_trace(trace)) == json.dumps(value)


def test_trajectories_have_an_id_by_what_they_say_and_keep_it_when_a_note_is_added():
    def ids(value, *changes):
        found = {to_trace(value).trace_id}
        for change in changes:
            other = json.loads(json.dumps(value))
            change(other)
            found.add(to_trace(other).trace_id)
        return len(found)

    said = [
        lambda v: v["steps"][2].update(message="x"),
        lambda v: v["steps"][4].update(timestamp="2026-01-02T03:04:07Z"),
        lambda v: v["steps"][2]["observation"]["results"][0].update(content="x"),
    ]
    noted = [lambda v: v.update(notes="other"), lambda v: v["steps"][2].update(extra={"note": 1})]
    assert ids(FOREIGN_ATIF, *said) == 1 + len(said)
    assert ids(FOREIGN_ATIF, *noted) == 1
    assert ids(FOREIGN_MINI, lambda v: v["messages"][2].update(timestamp=3.5)) == 2
    assert ids(FOREIGN_MINI, lambda v: v["messages"][2].update(extra={})) == 1


def test_a_session_is_a_header_and_a_chain_of_entries_by_the_rules_of_pi():
    for trace in [*traces(), hostile()]:
        header, *rest = as_json(session_trace.from_trace(trace, spec()))
        assert (header["type"], header["version"], header["harness"]) == ("session", 3, "agenttrace")
        assert (header["id"], header["cwd"]) == (trace.trace_id, "/" if trace.trace_id == "hostile-1" else "/testdata")
        assert [line["parentId"] for line in rest] == [None, *(line["id"] for line in rest[:-1])]
        assert [line["type"] for line in rest[:4]] == ["session_info", "model_change", "custom", "message"]
        said = [line["message"] for line in rest if line["type"] == "message"]
        assert [one["role"].replace("toolResult", "tool") for one in said] == [
            one.role for one in messages(trace, spec())
        ]
        calls = [part["id"] for one in said if one["role"] == "assistant" for part in one["content"] if "id" in part]
        results = [one["toolCallId"] for one in said if one["role"] == "toolResult"]
        assert len(calls) == sum(len(step.tool_calls or ()) for step in trace.llm_steps)
        assert len(results) == len(trace.spans)
        assert trace.trace_id == "hostile-1" or set(results) <= set(calls)
        usage = [one["usage"] for one in said if one["role"] == "assistant" and "usage" in one]
        assert sum(one["totalTokens"] for one in usage) == sum(
            (step.input_tokens or 0) + (step.output_tokens or 0) for step in trace.llm_steps
        )


def test_a_session_comes_back_with_what_its_calls_cost(tmp_path):
    convert([OURS], "session-traces", tmp_path / "o")
    for trace in traces():
        (record,) = read(tmp_path / "o" / f"{trace.trace_id}.jsonl")
        found = record.trace
        for name in ("telemetry", "exit_code", "status", "start_ns", "end_ns", "duration_ms", "call_id", "tool_output"):
            assert [getattr(span, name) for span in found.spans] == [getattr(span, name) for span in trace.spans], name
        for name in ("input_tokens", "output_tokens", "timings", "finish_reason", "start_ns", "duration_ms"):
            assert [getattr(one, name) for one in found.llm_steps] == [getattr(one, name) for one in trace.llm_steps]
        assert (found.trace_id, found.timestamp_utc, found.total_duration_ms) == (
            trace.trace_id, trace.timestamp_utc, trace.total_duration_ms
        )  # fmt: skip
        assert found.outcome == msgspec.structs.replace(trace.outcome, changes=None)


def test_a_session_of_ours_whose_header_is_anything_is_read(tmp_path):
    lines = as_json(session_trace.from_trace(traces()[0], spec()))
    for odd in (None, [], {"outcome": 1}, {"metadata": {"a": 1}, "total_duration_ms": "x"}, {"metadata": []}):
        lines[0]["agenttrace"] = odd
        (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        (record,) = read(tmp_path / "a.jsonl")
        assert len(record.trace.spans) == len(traces()[0].spans)
    assert session_rows.to_trace(session_rows.from_trace(traces()[0])).spans[0] == msgspec.structs.replace(
        traces()[0].spans[0], stdout=None, stderr=None
    )
    for text in (None, 1, "{", '"{"', '"{}"', "[]", '{"type": "session"}'):
        with pytest.raises(DataError):
            session_rows.to_trace({"trace": text, "harness": "x", "session_id": "y"})


def test_sharegpt_alternates_ends_with_the_model_and_opens_with_datasets(tmp_path):
    from datasets import load_dataset

    convert([OURS], "sharegpt", tmp_path / "s.jsonl")
    rows = load_dataset("json", data_files=str(tmp_path / "s.jsonl"), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(rows) == 4
    for row, trace in zip(rows, traces(), strict=True):
        kinds = [turn["from"] for turn in row["conversations"]]
        assert kinds[0] == "human"
        assert set(kinds[1::2]) == {"gpt"}
        assert kinds[-1] == "gpt"
        assert row["conversations"][0]["value"] == trace.prompt
        assert row["solved"] == trace.outcome.solved
    said = sharegpt.from_trace(traces()[0], spec())["conversations"]
    assert said[0]["from"] == "system"
    assert said[2]["value"] == (
        "<think>\nI list every regular file with find and count the lines.\n</think>\n\n<tool_call>\n"
        '{"name": "bash", "arguments": {"command": "find . -type f | wc -l"}}\n</tool_call>'
    )


@pytest.mark.parametrize("of", [None, spec()])
def test_sharegpt_alternates_where_replies_without_a_call_follow_each_other(of):
    said = sharegpt.from_trace(hostile(), of)["conversations"]
    kinds = [turn["from"] for turn in said if turn["from"] != "system"]
    assert set(kinds[0::2]) <= {"human", "tool"}
    assert set(kinds[1::2]) == {"gpt"}
    texts = "\n".join(turn["value"] for turn in said)
    assert all((step.model_output or "") in texts for step in hostile().llm_steps)


def test_inspect_has_one_sample_per_record_with_the_cost_of_each_call(tmp_path):
    convert([OURS], "inspect", tmp_path / "o.eval")
    with zipfile.ZipFile(tmp_path / "o.eval") as archive:
        assert len(json.loads(archive.read("summaries.json"))) == 4
        events = json.loads(archive.read("samples/1_epoch_1.json"))["events"]
    assert [event["event"] for event in events] == ["model", "tool", "model", "tool"]
    assert events[1]["metadata"]["agenttrace"]["telemetry"]["max_rss_bytes"] == 3571712
    assert [len(event["input"]) for event in events if event["event"] == "model"] == [1, 1]


def test_pretty_printed_files_and_lists_and_lines_are_read(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([FOREIGN_ATIF, FOREIGN_MINI], indent=2), encoding="utf-8")
    (tmp_path / "b.jsonl").write_text(f"{json.dumps(FOREIGN_MINI)}\n{json.dumps(FOREIGN_ATIF)}\n", encoding="utf-8")
    found = [record.trace.model for path in ("a.json", "b.jsonl") for record in read(tmp_path / path)]
    assert found == ["m", "qwen", "qwen", "m"]
    convert([tmp_path / "a.json"], "agenttrace-1.0", tmp_path / "ours.jsonl")
    assert [record.trace for record in read(tmp_path / "ours.jsonl")] == [
        record.trace for record in read(tmp_path / "a.json")
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{", "not JSON"), (b"[" * 100_000, "not JSON"),
        (b'{"schema_version": "ATIF-v1.7"}', "line 1: not a trajectory"),
        (b'{"trajectory_format": "mini-swe-agent-1", "messages": 1}', "line 1: not a trajectory of mini"),
        (b'{"schema_version":"ATIF-v1.7","agent":{"name":"a"},"steps":[],"extra":{"agenttrace":{"outcome":1}}}',
         "line 1: not a trajectory"), (b"7", "line 1: a JSON number is no trace"),
        (b'{"a": "\\ud800", "b": nan}', "not JSON"),
    ],
)  # fmt: skip
def test_what_is_no_trajectory_is_a_message(tmp_path, text, said):
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises((DataError, UsageError), match=said):
        list(read(tmp_path / "a.json"))


def test_a_byte_order_mark_is_passed_over(tmp_path):
    for name in ("a.json", "a.jsonl"):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + json.dumps(FOREIGN_ATIF).encode() + b"\n")
        assert [trace for _, trace in reading.traces(tmp_path / name)] == [to_trace(FOREIGN_ATIF)]


def test_a_run_spec_is_named_as_one(tmp_path):
    (tmp_path / "a.run.json").write_bytes(msgspec.json.encode(spec()))
    with pytest.raises(UsageError, match="it is a run spec"):
        list(read(tmp_path / "a.run.json"))


def test_half_a_surrogate_pair_is_replaced_and_goes_through_every_format(tmp_path):
    value = json.dumps({**FOREIGN_ATIF, "notes": "\ud800 \ud83d\ude00"})
    value = value.replace('"do it"', '"do \\ud83d it \\ud83d\\ude00"')
    (tmp_path / "a.json").write_text(value, encoding="ascii")
    [record] = read(tmp_path / "a.json")
    assert record.trace.prompt == "do \ufffd it \U0001f600\n[image]"
    for name in NEW:
        suffix = "" if FORMATS[name].layout == "files" else FORMATS[name].suffix
        convert([tmp_path / "a.json"], name, tmp_path / f"{name}{suffix}")


def test_a_trace_id_that_comes_twice_loses_no_file(tmp_path):
    with pytest.raises(DataError, match="comes twice"):
        convert([OURS, OURS], "atif", tmp_path / "o")
    assert not list(tmp_path.iterdir())


def test_reports_open_foreign_files(tmp_path):
    from agenttrace.report.sources import read_views

    (tmp_path / "a.json").write_text(json.dumps(FOREIGN_ATIF), encoding="utf-8")
    (tmp_path / "b.jsonl").write_text(json.dumps(FOREIGN_MINI) + "\n", encoding="utf-8")
    [view] = (shown.view for shown in read_views(tmp_path / "a.json"))
    assert (view.format, [call.tool for call in view.calls]) == ("atif", ["Read", "observation"])
    assert (view.calls[0].exit, view.calls[0].ms, view.calls[0].output) == (None, None, "text")
    [view] = (shown.view for shown in read_views(tmp_path / "b.jsonl"))
    assert [call.exit for call in view.calls] == [2, None]
    (tmp_path / "c.jsonl").write_text('{"schema_version": "ATIF-v1.7"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="line 1"):
        list(read_views(tmp_path / "c.jsonl"))


def test_otlp_ids_are_those_of_the_record_and_never_zero():
    trace = traces()[0]
    assert otlp.trace_id_of(trace) == trace.trace_id.replace("-", "")
    for odd in ("", NASTY[:50], "00000000-0000-0000-0000-000000000000"):
        found = otlp.trace_id_of(msgspec.structs.replace(trace, trace_id=odd))
        assert len(found) == 32
        assert found.strip("0")
