"""Records of other formats: what they do not say stays unknown, and what they say comes back of every export."""

from __future__ import annotations

import gzip
import json
import math
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from agenttrace.analysis.compare import compare_runs, task_notes
from agenttrace.analysis.runs import tally
from agenttrace.analysis.sections import statistics_sections
from agenttrace.errors import DataError
from agenttrace.formats import FORMATS
from agenttrace.formats.columns import run_columns
from agenttrace.formats.convert import convert
from agenttrace.formats.entries import entry
from agenttrace.formats.reading import to_trace, traces
from agenttrace.report.index import index_row
from agenttrace.report.view import trace_view

SAMPLES = sorted((Path(__file__).parents[1] / "data" / "foreign").iterdir())
FIGURES = ("input_tokens", "output_tokens", "cost_usd", "tool_ms", "total_duration_ms", "timestamp_utc", "span_count")
BACK = ("atif", "session-traces", "session-traces-parquet", "otlp", "mini-swe-agent-1.1", "inspect", "records-parquet")
USER, REPLY = {"role": "user", "content": "go"}, {"role": "assistant", "content": "ok"}


def figures(found):
    """What a record says of its run, and what it does not."""
    columns = run_columns([entry(0, "", found)], set(FIGURES))
    said = {name: columns[name][0] for name in FIGURES}
    outcome = found.outcome
    return {**said, "steps": len(found.llm_steps), "end": (outcome.ended, outcome.detail), "prompt": found.prompt}


def lines(path, *values):
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def read(path, *values):
    return [found for _, found in traces(lines(path, *values))]


@pytest.mark.parametrize(
    ("path", "target"),
    # Of several blocks, SWE-ZERO runs the first and mini-swe-agent none.
    [(path, name) for path in SAMPLES for name in BACK if ("swe-zero" not in path.name or "mini" not in name)],
    ids=lambda one: getattr(one, "name", one),
)
def test_what_is_known_and_what_is_not_is_the_same_after_an_export(path, target, tmp_path):
    form = FORMATS[target]
    folder = form.layout == "files"
    convert([path], target, out := tmp_path / f"out{'' if folder else form.suffix}")
    found = [one for file in (sorted(out.iterdir()) if folder else [out]) for _, one in traces(file)]
    ours = [one for _, one in traces(path)]
    assert sorted(map(str, map(figures, found))) == sorted(map(str, map(figures, ours)))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_the_report_has_the_figures_of_the_tables(path):
    for _, found in traces(path):
        row, said = index_row(trace_view(found), file=0, chunk=0, place=0), figures(found)
        names = ("input_tokens", "output_tokens", "cost_usd", "total_duration_ms")
        assert (row.tokens_in, row.tokens_out, row.cost, row.ms) == tuple(said[name] for name in names)


@pytest.mark.parametrize("target", ["atif", "session-traces", "session-traces-parquet", "inspect", "otlp"])
def test_a_run_that_ended_before_its_first_reply_is_read_back(target, tmp_path):
    given = lines(tmp_path / "a.jsonl", {"messages": [USER]})
    form = FORMATS[target]
    out = tmp_path / f"out{'' if form.layout == 'files' else form.suffix}"
    convert([given], target, out)
    ((_, found),) = traces(next(out.iterdir()) if out.is_dir() else out)
    assert (found.prompt, found.timestamp_utc, found.total_duration_ms, found.llm_steps) == ("go", None, None, ())


def test_a_start_that_is_not_known_is_none_after_a_row_of_0_3_0(tmp_path):
    convert([lines(tmp_path / "a.jsonl", {"messages": [USER, REPLY]})], "agenttrace-0.3", tmp_path / "old.jsonl")
    ((_, found),) = traces(tmp_path / "old.jsonl")
    assert (found.timestamp_utc, found.total_duration_ms) == (None, None)
    convert([tmp_path / "old.jsonl"], "agenttrace-0.3", tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "old.jsonl").read_bytes()


def test_a_task_that_nobody_named_has_no_name_after_mini_swe_agent(tmp_path):
    convert([lines(tmp_path / "a.jsonl", {"messages": [USER, REPLY]})], "mini-swe-agent", tmp_path / "out")
    ((_, found),) = traces(next((tmp_path / "out").iterdir()))
    assert entry(0, "", found).task is None


def test_a_result_without_a_call_counts_once_in_spans(tmp_path):
    calls = [{"tool_call_id": name, "function_name": "bash", "arguments": {}} for name in "ab"]
    step = {"source": "agent", "message": "x", "tool_calls": calls, "observation": {"results": [{"content": "one"}]}}
    steps = [{"source": "user", "message": "go"}, step, {"source": "agent", "message": "done"}]
    value = {"schema_version": "ATIF-v1.7", "session_id": "s", "agent": {"name": "a"}, "steps": steps}
    convert([lines(tmp_path / "a.jsonl", value)], "otlp", tmp_path / "b.jsonl")
    ((_, found),) = traces(tmp_path / "b.jsonl")
    assert [span.tool_output for span in found.spans] == ["one"]


def test_a_span_that_was_sent_twice_counts_once(tmp_path):
    convert([lines(tmp_path / "a.jsonl", {"messages": [USER, REPLY]})], "otlp", tmp_path / "b.jsonl")
    (tmp_path / "c.jsonl").write_bytes(2 * (tmp_path / "b.jsonl").read_bytes())
    assert [one for _, one in traces(tmp_path / "c.jsonl")] == [one for _, one in traces(tmp_path / "b.jsonl")]


def test_one_moment_is_no_duration_and_none_of_before_1970_or_after_2262_is_taken():
    def timed(*given):
        steps = [{"source": "agent", "message": "x", "timestamp": one} for one in given]
        value = {"schema_version": "ATIF-v1.7", "session_id": "s", "agent": {"name": "a"}, "steps": steps}
        found = to_trace(value)
        return found.timestamp_utc, found.total_duration_ms

    assert timed("2026-01-01T00:00:00Z") == ("2026-01-01T00:00:00.000000+00:00", None)
    assert timed("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z")[1] == 0.0
    assert timed("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1969-12-31T23:59:59Z") == (None, None)


def test_no_reply_is_not_no_tokens_and_a_mean_over_some_says_so(tmp_path):
    used = {**REPLY, "usage": {"prompt_tokens": 5, "completion_tokens": 3}}
    rows = [{"instance_id": str(n), "messages": said} for n, said in enumerate([[USER, used], [USER, REPLY], [USER]])]
    found = read(tmp_path / "a.jsonl", *rows)
    whole, some = tally(found[:1]), tally(found)
    assert [figures(one)["output_tokens"] for one in found] == [3, None, None]
    assert "tokens, generated (1 of 1 and 1 of 3)" in task_notes(whole, some)[-1]
    assert not any("means are over" in note for note in task_notes(whole, whole))
    means = {row.name: (row.one, row.other) for row in compare_runs(whole, some)}
    assert means["tokens, generated (mean)"] == (3, 3)
    took = [{**one, "timestamp": float(1 + n)} for n, one in enumerate((REPLY, REPLY))]
    timed = read(tmp_path / "b.jsonl", {"messages": [USER, *took]}, rows[1])
    (table,) = (one for one in statistics_sections(tally(timed).statistics()) if "per rollout" in one.header)
    assert dict(table.rows)["seconds"] == "1.00, 1.00, 1.00 to 1.00, of the 1 rollouts that report it"


def test_figures_of_a_whole_sample_count_where_it_has_no_reply():
    sample = {"id": "a", "messages": [], "input": "go", "error": {"message": "boom"}}
    used = {"m": {"input_tokens": 7, "output_tokens": 2}}
    found = to_trace({"version": 2, "eval": {"task": "t"}, "sample": {**sample, "model_usage": used}})
    assert (figures(found)["input_tokens"], figures(found)["output_tokens"]) == (7, 2)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_a_figure_that_is_none_is_unknown_in_lines_too(constant, tmp_path):
    row = {"instance_id": "a", "repo": "r", "exit_status": "Submitted", "duration_sec": "X", "messages": [USER, REPLY]}
    (tmp_path / "a.jsonl").write_text(2 * (json.dumps(row).replace('"X"', constant) + "\n"))
    assert [found.total_duration_ms for _, found in traces(tmp_path / "a.jsonl")] == [None, None]


def test_a_cell_that_json_has_no_type_for_is_what_it_would_be_in_a_line(tmp_path):
    odd = {"at": datetime(2026, 1, 1, tzinfo=UTC), "raw": b"\xff", "duration_sec": math.nan}
    columns = {"instance_id": ["a"], "repo": ["r"], "exit_status": ["x"], "messages": [[USER, REPLY]]}
    table = pa.table({**columns, **{name: [one] for name, one in odd.items()}})
    for kind, value in {pa.timestamp("ns"): 1, pa.uint64(): 2**64 - 1}.items():
        table = table.append_column(str(kind), pa.array([value], type=kind))
    pq.write_table(table, tmp_path / "a.parquet")
    for target in ("agenttrace-1.0", "atif", "session-traces", "mini-swe-agent-1.1"):
        convert([tmp_path / "a.parquet"], target, tmp_path / f"{target}{'.jsonl' * (target == 'agenttrace-1.0')}")
    ((_, found),) = traces(tmp_path / "agenttrace-1.0.jsonl")
    assert (found.total_duration_ms, found.llm_steps[0].model_output) == (None, "ok")


def test_a_damaged_table_is_one_line(tmp_path):
    pq.write_table(pa.table({"messages": [[USER, REPLY]]}), tmp_path / "a.parquet")
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[4:40] = b"\xff" * 36
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(DataError, match="cannot be read") as caught:
        list(traces(tmp_path / "a.parquet"))
    assert "\n" not in str(caught.value)


def test_frames_that_are_to_be_passed_over_are(tmp_path):
    skipped = (0x184D2A50).to_bytes(4, "little") + (2).to_bytes(4, "little") + b"ab"
    row = zstandard.compress(json.dumps({"messages": [USER, REPLY]}).encode() + b"\n")
    (tmp_path / "a.jsonl.zst").write_bytes(skipped + row + skipped + row)
    assert len(list(traces(tmp_path / "a.jsonl.zst"))) == 2


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
@pytest.mark.parametrize("name", ["octo__repo-1.traj", "mini-swe-agent-2.traj.json", "openhands.json"])
def test_a_packed_file_is_of_the_same_task_and_run(name, pack, tmp_path):
    (path,) = (one for one in SAMPLES if one.name == name)
    packed = tmp_path / f"{name}{'.gz' if pack is gzip.compress else '.zst'}"
    packed.write_bytes(pack(path.read_bytes()))
    assert [one for _, one in traces(packed)] == [one for _, one in traces(path)]


def test_a_bad_line_of_a_session_is_named_once(tmp_path):
    path = lines(tmp_path / "a.jsonl", {"type": "session", "id": "s"}, {"type": "message", "message": USER})
    path.write_text(path.read_text() + "{bad\n")
    with pytest.raises(DataError, match=r"line 3: not a trace record") as caught:
        list(traces(path))
    assert str(caught.value).count("a.jsonl") == 1


class TestChatRows:
    @pytest.mark.parametrize(
        "reply", [{"content": None, "refusal": "no"}, {"content": [{"type": "refusal", "refusal": "no"}]}]
    )
    def test_a_refusal_is_what_the_model_said(self, reply):
        assert to_trace({"messages": [USER, {**REPLY, **reply}]}).llm_steps[0].model_output == "no"

    def test_a_call_of_a_custom_tool_has_its_name_and_input(self):
        call = {"id": "c", "type": "custom", "custom": {"name": "patch", "input": "*** Begin"}}
        found = to_trace({"messages": [USER, {**REPLY, "tool_calls": [call]}]})
        assert [(one.name, one.arguments) for one in found.llm_steps[0].tool_calls] == [
            ("patch", '{"input":"*** Begin"}')
        ]

    def test_calls_beside_a_text_are_calls_whatever_columns_the_row_has(self):
        called = {**REPLY, "tool_calls": [{"id": "c", "function": {"name": "bash", "arguments": "{}"}}]}
        back = {"role": "tool", "tool_call_id": "c", "content": "x"}
        row = {"instance_id": "a", "exit_status": "Submitted", "duration_sec": 1.0, "messages": [USER, called, back]}
        for given in (row, {"conversations": [USER, called, back]}):
            assert [span.tool_output for span in to_trace(given).spans] == ["x"]

    def test_a_system_prompt_beside_the_messages_is_one(self):
        found = to_trace({"system": "be good", "messages": [USER, REPLY]})
        assert (found.environment["imported"]["system_prompt"], found.prompt) == ("be good", "go")

    def test_tokens_that_were_cached_are_known(self):
        usage = {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}
        assert to_trace({"messages": [USER, {**REPLY, "usage": usage}]}).llm_steps[0].timings.cached_n == 4

    def test_blocks_of_anthropic_are_thoughts_calls_and_results(self):
        said = [
            {"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "b", "name": "bash", "input": {"command": "ls"}},
            {"type": "tool_use", "id": "a", "name": "bash", "input": {"command": "pwd"}},
        ]  # fmt: skip
        back = [{"type": "tool_result", "tool_use_id": name, "content": name} for name in "ab"]
        messages = [USER, {**REPLY, "content": said}, {**USER, "content": back}, {**USER, "content": "and?"}, REPLY]
        found = to_trace({"messages": messages})
        first = found.llm_steps[0]
        assert (first.model_output, first.reasoning_content, first.answered) == ("I look.", "hm", "and?")
        assert [(span.tool_name, span.tool_input, span.tool_output) for span in found.spans] == [
            ("bash", '{"command":"ls"}', "b"), ("bash", '{"command":"pwd"}', "a")
        ]  # fmt: skip


class TestSessions:
    """How a session ended is what it ended with; what was tried again is not."""

    def test_codex(self, tmp_path):
        def item(kind, **payload):
            return {"timestamp": "2026-01-01T00:00:00Z", "type": kind, "payload": payload}

        def said(role):
            return item("response_item", type="message", role=role, content=[{"type": "input_text", "text": role}])

        begun = [item("session_meta", id="s"), said("user")]
        aborted = item("event_msg", type="turn_aborted", reason="interrupted")
        (ended,) = read(tmp_path / "a.jsonl", *begun, aborted)
        assert (ended.prompt, ended.outcome.detail) == ("user", "turn_aborted: interrupted")
        (during,) = read(tmp_path / "a.jsonl", *begun, said("assistant"), aborted)
        assert during.outcome.detail == "turn_aborted: interrupted"
        (on,) = read(tmp_path / "a.jsonl", *begun, aborted, said("assistant"), item("compacted", message=""))
        assert (on.outcome.detail, [step.model_output for step in on.llm_steps]) == (None, ["assistant"])
        assert not on.llm_steps[0].answered

    def test_claude_code(self, tmp_path):
        def said(number, role, text, **more):
            message = {"id": str(number), "role": role, "content": text, **more.pop("message", {})}
            return {"type": role, "uuid": str(number), "sessionId": "s", "message": message, **more}

        failed = said(2, "assistant", "529", isApiErrorMessage=True, message={"model": "<synthetic>"})
        begun = [said(1, "user", "go"), failed]
        (ended,) = read(tmp_path / "a.jsonl", *begun)
        assert (ended.prompt, ended.outcome.detail, ended.llm_steps) == ("go", "error: 529", ())
        (on,) = read(tmp_path / "a.jsonl", *begun, said(3, "assistant", "done"))
        assert (on.prompt, on.outcome.detail, len(on.llm_steps)) == ("go", None, 1)

    def test_pi(self, tmp_path):
        def said(**message):
            return {"type": "message", "message": message}

        begun = [{"type": "session", "id": "s"}, said(**USER), said(role="assistant", content=[], errorMessage="429")]
        (ended,) = read(tmp_path / "a.jsonl", *begun)
        assert ended.outcome.detail == "error: 429"
        (on,) = read(tmp_path / "a.jsonl", *begun, said(**REPLY))
        assert on.outcome.detail is None

    def test_openhands(self, tmp_path):
        def event(**more):
            return {"id": len(more), "source": "agent", **more}

        begun = event(source="user", action="message", args={"content": "go"})
        failed = event(observation="agent_state_changed", content="", extras={"agent_state": "error", "reason": "429"})
        new = event(kind="ConversationErrorEvent", code="LLMError", detail="429")
        for error in (failed, new):
            (ended,) = read(tmp_path / "a.jsonl", begun, error)
            assert (ended.prompt, ended.outcome.detail) == ("go", "error: 429")
            (on,) = read(tmp_path / "a.jsonl", begun, error, event(action="message", args={"content": "ok"}))
            assert (on.outcome.detail, len(on.llm_steps)) == (None, 1)


def test_calls_of_openhands_with_results_between_them_are_one_reply(tmp_path):
    ids = ("a", "b")
    calls = [{"id": name, "function": {"name": "run", "arguments": "{}"}} for name in ids]
    response = {
        "id": "r",
        "choices": [{"message": {"content": "x", "tool_calls": calls}}],
        "usage": {"prompt_tokens": 5},
    }
    events = [{"id": 0, "source": "user", "action": "message", "args": {"content": "go"}}]
    for name in ids:
        told = {"tool_call_id": name, "model_response": response}
        events += [
            {"id": 1, "source": "agent", "action": "run", "args": {}, "tool_call_metadata": told},
            {
                "id": 2,
                "source": "agent",
                "observation": "run",
                "content": name,
                "extras": {},
                "tool_call_metadata": told,
            },
        ]
    (tmp_path / "trajectory.json").write_text(json.dumps(events, indent=1))
    ((_, found),) = traces(tmp_path / "trajectory.json")
    assert [len(step.tool_calls) for step in found.llm_steps] == [2]
    assert ([span.tool_output for span in found.spans], figures(found)["input_tokens"]) == (["a", "b"], 5)


def test_what_swe_agent_says_of_its_end_is_no_reply():
    turns = [
        {"action": "ls", "observation": "a", "response": "I look."},
        {"action": "", "observation": "Exited", "response": "", "thought": "Exit due to cost limit"},
    ]
    found = to_trace({"trajectory": turns, "history": [{"role": "user", "content": "go"}], "info": {}})
    assert [(step.model_output, step.answered or None) for step in found.llm_steps] == [("I look.", "Exited")]
    only = to_trace({"trajectory": turns[1:], "history": [{"role": "user", "content": "go"}], "info": {}})
    assert (only.prompt, only.llm_steps) == ("go", ())
