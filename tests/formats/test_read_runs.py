"""Runs of others, of agents and as rows of data sets: what the records that they become hold."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agenttrace.analysis.runs import tally
from agenttrace.cli import main
from agenttrace.errors import DataError, UsageError
from agenttrace.formats import atif, mini_swe
from agenttrace.formats.convert import convert
from agenttrace.formats.reading import kind, to_trace, traces
from agenttrace.validate import Validation
from tests.formats.samples import RECORDS, SAMPLE, SAMPLES, ask


class TestSweZero:
    def test_its_figures_are_those_of_the_row(self):
        done, late, broken = (one for _, one in traces(SAMPLES / "swe-zero-1k-32k.jsonl"))
        assert [one.metadata["task_id"] for one in (done, late, broken)] == [
            "octo__repo-1", "octo__repo-1", "octo__repo-2"
        ]  # fmt: skip
        assert [one.total_duration_ms for one in (done, late, broken)] == [12_500, 33_250, 500]
        assert (done.totals.input_tokens, done.totals.output_tokens) == (2400, 96)
        assert [one.outcome.ended for one in (done, late, broken)] == ["final_answer", "unknown", "model_error"]
        assert broken.outcome.detail == "errored: API error at turn 0: HTTP 400"

    def test_the_first_block_is_the_call_and_nothing_unknown_is_a_number(self):
        _, done = next(traces(SAMPLES / "swe-zero-1k-32k.jsonl"))
        first, second = done.spans
        assert (first.tool_input, first.tool_output) == ('{"command":"ls"}', "Observation: loop.sh\n")
        assert (first.exit_code, first.duration_ms, done.timestamp_utc) == (None, None, None)
        assert (first.stdout.bytes_total, second.stdout.bytes_total) == (8, 0)
        assert [step.blocks for step in done.llm_steps] == [2, 0, 1, 1]
        assert done.llm_steps[1].answered.startswith("Please always")

    @pytest.mark.parametrize(
        ("command", "shown", "code"),
        [
            ("python x.py", "/bin/bash: line 1: python: command not found\n", 127),
            ("cd a && python x.py", "/bin/bash: line 1: python: command not found\n", 127),
            ("python x.py | head", "/bin/bash: line 1: python: command not found\n", None),
            ("python x.py; ls", "/bin/bash: line 1: python: command not found\n", None),
            ("python x.py || true", "/bin/bash: line 1: python: command not found\n", None),
            ("grep -r y", "a: /bin/bash: line 1: python: command not found\n", None),
            ("pytest", "command blocked: running code: this is the SWE-ZERO execution-free environment", 126),
            ("ls", "loop.sh\n", None),
        ],
    )
    def test_what_was_blocked_or_not_found_is_known_where_that_is_all(self, command, shown, code, tmp_path):
        row = json.loads((SAMPLES / "swe-zero-1k-32k.jsonl").read_text(encoding="utf-8").splitlines()[0])
        row["messages"] = [
            *row["messages"][:2],
            {"role": "assistant", "content": f"```bash\n{command}\n```"},
            {"role": "user", "content": f"Observation: {shown}"},
        ]
        (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
        ((_, trace),) = traces(tmp_path / "a.jsonl")
        assert trace.spans[0].exit_code == code
        assert tally([trace]).statistics().observations == {"useful" if code is None else "not_found": 1}

    def test_a_stopped_command_is_a_timeout(self):
        _, late = list(traces(SAMPLES / "swe-zero-1k-32k.jsonl"))[1]
        assert late.spans[0].status == "timeout"

    @pytest.mark.parametrize("form", ["swe-zero-1k-32k", "swe-zero-12m"])
    def test_written_again_it_is_as_it_was(self, form, tmp_path):
        rows = [json.loads(line) for line in (SAMPLES / f"{form}.jsonl").read_text(encoding="utf-8").splitlines()]
        rows = [row for row in rows if row["exit_status"] != "errored"]
        (tmp_path / "in.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        convert([tmp_path / "in.jsonl"], form, tmp_path / "out.parquet")
        assert pq.read_table(tmp_path / "out.parquet").to_pylist() == rows
        assert [one for _, one in traces(tmp_path / "out.parquet")] == [one for _, one in traces(tmp_path / "in.jsonl")]

    def test_a_published_run_stands_beside_a_fresh_one_in_one_table(self, tmp_path, capsys):
        lines = (SAMPLES / "swe-zero-1k-32k.jsonl").read_text(encoding="utf-8").splitlines()
        _, fresh = next(traces(RECORDS / "1.0.0" / "rollouts.jsonl"))
        rows = [json.loads(line) | {"instance_id": fresh.metadata["task_id"]} for line in lines]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "published.parquet")
        with pytest.raises(SystemExit):
            main(["compare", str(tmp_path / "published.parquet"), str(RECORDS / "1.0.0" / "rollouts.jsonl")])
        printed = capsys.readouterr().out
        assert "1 tasks are in both" in printed
        table = {line[:60].split("  ")[0]: line for line in printed.splitlines()}
        for name in (
            "errored: infrastructure failures, left out of all else", "Submitted", "turns (mean)", "seconds (mean)",
            "tokens, generated (mean)", "turns that gave: not found",
            "unique, upstream's greedy metric (in file order)",
        ):  # fmt: skip
            assert "not known" not in table[name], name
        for name in ("hours from first to last", "passed, of those judged", "tokens, conversation (mean)"):
            assert table[name].split("  ", 1)[1].split()[:2] == ["not", "known"], name

    def test_errored_rollouts_are_counted(self, tmp_path, capsys):
        ask("stats", SAMPLES / "swe-zero-1k-32k.jsonl", tmp_path)
        assert "left out: 1 (33.3 %) that ended in an infrastructure failure" in capsys.readouterr().out
        ask("compare", SAMPLES / "swe-zero-1k-32k.jsonl", tmp_path)
        assert "errored: infrastructure failures" in capsys.readouterr().out


class TestChatRows:
    def test_results_join_their_calls_by_id_and_a_repeated_id_by_order(self):
        _, trace = next(traces(SAMPLES / "chat-rows.jsonl"))
        assert [(span.tool_input, span.tool_output) for span in trace.spans] == [
            ('{"command": "ls"}', "loop.sh"), ('{"command": "cat loop.sh"}', "echo 1"), ('{"message": "done"}', "")
        ]  # fmt: skip
        assert [span.parent_span_id for span in trace.spans] == [
            trace.llm_steps[0].step_id, trace.llm_steps[0].step_id, trace.llm_steps[1].step_id
        ]  # fmt: skip
        assert (trace.model, trace.outcome.solved, trace.outcome.detail) == ("qwen", True, "submit")
        assert trace.llm_steps[0].reasoning_content == "two at once"
        assert trace.outcome.patch.startswith("diff --git")

    def test_what_a_user_says_later_stands_after_the_reply(self):
        _, trace = list(traces(SAMPLES / "chat-rows.jsonl"))[1]
        assert trace.prompt == "Which file?\n[image_url]"
        assert trace.llm_steps[0].answered == "The loop."

    @pytest.mark.parametrize(
        ("row", "said"),
        [
            ({"messages": 1, "trajectory": []}, "its messages are no list"),
            ({"messages": [{"content": "x"}]}, "message 1 has no role"),
            ({"messages": "not json"}, "not a row of chat messages"),
            ({"messages": ["x"]}, "message 1 has no role"),
        ],
    )
    def test_what_is_none_is_one_message(self, row, said, tmp_path):
        (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
        with pytest.raises((DataError, UsageError), match=said):
            list(traces(tmp_path / "a.jsonl"))

    def test_ten_thousand_calls_in_a_turn_take_time_by_their_number(self, tmp_path):
        calls = [{"id": "same", "function": {"name": "bash", "arguments": "{}"}} for _ in range(10_000)]
        results = [{"role": "tool", "tool_call_id": "same", "content": str(number)} for number in range(10_000)]
        messages = [{"role": "assistant", "content": "", "tool_calls": calls}, *results]
        (tmp_path / "a.jsonl").write_text(json.dumps({"messages": messages}) + "\n")
        ((_, trace),) = traces(tmp_path / "a.jsonl")
        assert [span.tool_output for span in trace.spans] == [str(number) for number in range(10_000)]
        assert len({span.call_id for span in trace.spans}) == 10_000


def test_a_table_of_our_records_is_read_as_they_were(tmp_path):
    convert([SAMPLE["agenttrace-1.0"]], "records-parquet", tmp_path / "a.parquet")
    assert kind(tmp_path / "a.parquet") == ("records-parquet", "row")
    assert [one for _, one in traces(tmp_path / "a.parquet")] == [one for _, one in traces(SAMPLE["agenttrace-1.0"])]


def test_a_table_of_rollouts_is_read_but_for_what_is_null_and_not_absent(tmp_path):
    convert([SAMPLE["rollouts-1.0"]], "records-parquet", tmp_path / "a.parquet")
    for (_, read), (_, ours) in zip(traces(tmp_path / "a.parquet"), traces(SAMPLE["rollouts-1.0"]), strict=True):
        assert (read.trace_id, read.spans, read.outcome.patch) == (ours.trace_id, ours.spans, ours.outcome.patch)
        assert [step.blocks for step in read.llm_steps] == [step.blocks for step in ours.llm_steps]


class TestMiniSweAgent:
    PATH = SAMPLES / "mini-swe-agent-2.traj.json"

    def test_calls_beside_the_text_have_their_results_and_return_codes(self):
        ((_, trace),) = traces(self.PATH)
        assert [(json.loads(span.tool_input)["command"], span.status, span.exit_code) for span in trace.spans] == [
            ("ls", "ok", 0), ("cat none", "ok", 1), ("sleep 60", "timeout", None)
        ]  # fmt: skip
        assert [span.stdout.bytes_total for span in trace.spans] == [8, 37, 0]

    def test_a_reply_that_was_refused_is_a_step_with_what_answered_it(self):
        ((_, trace),) = traces(self.PATH)
        assert [step.model_output for step in trace.llm_steps] == [
            "I look at two files.", "Let me think.", None, "Done."
        ]  # fmt: skip
        assert trace.llm_steps[1].answered == "No tool calls found in the response."

    def test_times_tokens_cost_and_ends_are_those_of_the_file(self):
        ((_, trace),) = traces(self.PATH)
        first = trace.llm_steps[0]
        assert (first.reasoning_content, first.finish_reason) == ("both at once", "tool_calls")
        assert [step.timings.cached_n for step in trace.llm_steps] == [0, 100, 160, 180]
        assert [step.duration_ms for step in trace.llm_steps] == [None, 2000, 2000, 2000]
        assert [span.duration_ms for span in trace.spans] == [None, None, 30_000]
        assert (trace.total_duration_ms, trace.totals.cost_usd) == (37_000, 0.03)
        assert trace.timestamp_utc == "2026-11-28T21:06:42.000000+00:00"

    def test_written_again_it_is_as_it_was(self):
        ((_, trace),) = traces(self.PATH)
        assert mini_swe.from_trace(trace) == json.loads(self.PATH.read_text(encoding="utf-8"))

    def test_replies_of_the_other_api_are_read(self):
        items = [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "message", "content": [{"type": "output_text", "text": "I look."}]},
            {"type": "function_call", "call_id": "c", "name": "bash", "arguments": '{"command": "ls"}'},
        ]
        messages = [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "U"},
            {"object": "response", "output": items, "extra": {"response": {"usage": {"input_tokens": 3}}}},
            {"type": "function_call_output", "call_id": "c", "output": "a", "extra": {"returncode": 0}},
        ]
        trace = to_trace({"messages": messages, "trajectory_format": "mini-swe-agent-1.1"})
        (step,) = trace.llm_steps
        assert (step.model_output, step.reasoning_content, step.input_tokens) == ("I look.", "hm", 3)
        assert [(span.tool_output, span.exit_code, span.call_id) for span in trace.spans] == [("a", 0, "call_1_1")]


class TestAtif:
    PATH = SAMPLES / "atif-1.8.json"

    def test_results_that_name_no_call_stand_in_their_step(self, tmp_path, capsys):
        ((_, trace),) = traces(self.PATH)
        assert [(span.tool_name, span.call_id) for span in trace.spans] == [
            ("observation", None), ("bash_command", None), ("mark_task_complete", "c4")
        ]  # fmt: skip
        ask("show", self.PATH, tmp_path)
        printed = capsys.readouterr().out
        assert printed.index("loop.sh\n") < printed.index("step 2")
        assert printed.count("proposed nowhere") == 1  # of the step in which no model was asked

    def test_a_step_without_a_model_call_is_no_generation(self):
        ((_, trace),) = traces(self.PATH)
        assert [step.model_output for step in trace.llm_steps] == ["I look.", "I am done."]
        assert trace.spans[1].parent_span_id is None

    def test_cost_and_cached_tokens_are_those_of_the_file(self):
        ((_, trace),) = traces(self.PATH)
        assert [step.timings.cached_n for step in trace.llm_steps] == [60, 100]
        assert (trace.totals.cost_usd, trace.totals.cached_tokens) == (0.02, 160)
        assert (trace.spans[0].exit_code, trace.spans[0].duration_ms) == (None, None)

    def test_written_again_it_is_as_it_was(self):
        ((_, trace),) = traces(self.PATH)
        assert atif.from_trace(trace) == json.loads(self.PATH.read_text(encoding="utf-8"))


class TestSweAgent:
    def test_a_traj_file_has_actions_observations_times_and_cost(self):
        ((_, trace),) = traces(SAMPLES / "octo__repo-1.traj")
        assert [(json.loads(span.tool_input)["command"], span.status, span.duration_ms) for span in trace.spans] == [
            ("ls -F", "ok", 250), ("sleep 60", "timeout", 30_500), ("submit", "ok", 500)
        ]  # fmt: skip
        assert (trace.prompt, trace.metadata["task_id"], trace.model) == ("Fix the loop.", "octo__repo-1", "qwen")
        assert trace.llm_steps[1].answered == "Your output was not formatted correctly."
        assert (trace.totals.cost_usd, trace.totals.input_tokens) == (0.12, 900)
        assert (trace.outcome.ended, trace.outcome.patch[:10]) == ("final_answer", "diff --git")
        assert trace.environment["imported"]["system_prompt"] == "SETTING: a shell."

    def test_a_row_has_its_commands_in_the_last_block_of_a_reply(self):
        ((_, trace),) = traces(SAMPLES / "swe-agent-rows.jsonl")
        assert [(span.tool_input, span.tool_output[:7]) for span in trace.spans] == [('{"command":"ls -F"}', "loop.sh")]
        assert [len(step.tool_calls) for step in trace.llm_steps] == [1, 1]
        assert (trace.outcome.solved, trace.model) == (True, "swe-agent-llama-70b")

    @pytest.mark.parametrize("turns", [[{"action": 1}], [{"text": "x"}], [{"text": 1, "role": "ai"}]])
    def test_odd_turns_are_a_message(self, turns):
        with pytest.raises(DataError, match="not a trajectory of SWE-agent"):
            to_trace({"trajectory": turns})


class TestShareGpt:
    def test_thoughts_calls_and_results_stand_between_tags(self):
        (_, first), (_, second) = traces(SAMPLES / "sharegpt.jsonl")
        assert (first.llm_steps[0].reasoning_content, first.llm_steps[0].model_output) == ("two at once", "I look.")
        assert [(span.tool_input, span.tool_output) for span in first.spans] == [
            ('{"command":"ls"}', "loop.sh"), ('{"command":"cat loop.sh"}', "echo 1")
        ]  # fmt: skip
        assert [(span.tool_name, span.tool_output) for span in second.spans] == [("ls", "loop.sh")]
        assert second.environment["imported"]["system_prompt"] == "You help."

    def test_what_we_write_is_read_back(self, tmp_path):
        convert([RECORDS / "demo.jsonl"], "sharegpt", tmp_path / "a.jsonl")
        for (_, read), (_, ours) in zip(traces(tmp_path / "a.jsonl"), traces(RECORDS / "demo.jsonl"), strict=True):
            assert (read.prompt, read.model, read.outcome.solved) == (ours.prompt, ours.model, ours.outcome.solved)
            assert [call.name for step in read.llm_steps for call in step.tool_calls or ()] == [
                call.name for step in ours.llm_steps for call in step.tool_calls or ()
            ]


@pytest.mark.parametrize("more", [{"refusal": None, "provider_specific_fields": {}}, {"role": 5}, {"content": 7}])
def test_a_refused_reply_of_any_server_is_read(more, tmp_path):
    run = json.loads(SAMPLE["mini-swe-agent"].read_bytes())
    refused = [one for one in run["messages"] if (one.get("extra") or {}).get("interrupt_type") == "FormatError"]
    refused[0]["extra"]["response"]["choices"][0]["message"] |= more
    source, out = tmp_path / "in.traj.json", tmp_path / "out.jsonl"
    source.write_text(json.dumps(run))
    convert([source], "agenttrace-1.0", out)
    assert list(Validation(out)) == []
