"""Sessions of coding agents: what the records that they become hold."""

from __future__ import annotations

import json

import pytest

from agenttrace.errors import DataError
from agenttrace.formats.convert import convert
from agenttrace.formats.reading import to_trace, traces
from agenttrace.validate import Validation
from tests.formats.samples import RECORDS, SAMPLE, SAMPLES


class TestClaudeCode:
    def test_blocks_of_one_message_are_one_reply_although_results_stand_between(self):
        (_, trace), _ = traces(SAMPLES / "claude-code.jsonl")
        first, second = trace.llm_steps
        assert (first.reasoning_content, first.model_output) == ("Two things at once.", "I look.")
        assert (first.input_tokens, first.output_tokens, first.timings.cached_n) == (100, 25, 70)
        assert (first.finish_reason, first.duration_ms) == ("tool_use", 5000)
        assert [(span.tool_name, span.exit_code) for span in trace.spans] == [("Bash", None), ("Bash", 1)]
        assert {span.parent_span_id for span in trace.spans} == {first.step_id}
        assert second.model_output == "It is fixed."
        assert (trace.prompt, trace.model) == ("Fix the loop.", "claude-sonnet-4-5")

    def test_a_side_chain_is_a_record_of_its_own(self):
        _, (number, trace) = traces(SAMPLES / "claude-code.jsonl")
        assert (number, trace.prompt, trace.metadata["agent_id"]) == (9, "Look for other loops.", "agent-1")
        assert [step.model_output for step in trace.llm_steps] == ["There is none."]

    def test_a_session_that_is_still_written_is_partial(self, tmp_path):
        text = (SAMPLES / "claude-code.jsonl").read_bytes()
        (tmp_path / "a.jsonl").write_bytes(text + b'{"type": "user", "mess')
        seen = []
        assert len(list(traces(tmp_path / "a.jsonl", seen.append))) == 2
        assert [problem.line for problem in seen] == [13]

    def test_a_file_without_a_message_is_named(self, tmp_path):
        (tmp_path / "a.jsonl").write_text('{"type": "summary", "summary": "x", "leafUuid": "y"}\n')
        with pytest.raises(DataError, match=r"a session (of .*)?without a message"):
            list(traces(tmp_path / "a.jsonl"))


class TestCodex:
    def test_exit_codes_and_times_of_commands_are_those_of_the_text(self):
        ((_, trace),) = traces(SAMPLES / "codex.jsonl")
        assert [(span.tool_name, span.exit_code, span.duration_ms) for span in trace.spans] == [
            ("shell", 0, 100), ("exec_command", 1, 250), ("apply_patch", None, None)
        ]  # fmt: skip
        assert trace.spans[0].tool_output == "loop.sh\n"

    def test_what_came_at_once_is_one_reply_and_has_its_tokens(self):
        ((_, trace),) = traces(SAMPLES / "codex.jsonl")
        assert [len(step.tool_calls or ()) for step in trace.llm_steps] == [2, 1, 0]
        assert [step.input_tokens for step in trace.llm_steps] == [100, 150, None]
        assert (trace.llm_steps[0].timings.cached_n, trace.llm_steps[0].duration_ms) == (60, 2000)
        assert trace.prompt.endswith("Fix the loop.")
        assert (trace.model, trace.environment["imported"]["system_prompt"]) == ("gpt-5-codex", "You are Codex.")


class TestOpenHands:
    def test_calls_of_one_response_are_one_reply_with_its_tokens(self):
        ((_, trace),) = traces(SAMPLES / "openhands.json")
        first, second = trace.llm_steps
        assert [json.loads(call.arguments)["command"] for call in first.tool_calls] == ["ls", "cat none"]
        assert (first.model_output, first.input_tokens, first.timings.cached_n) == ("I look.", 100, 60)
        assert (first.duration_ms, second.input_tokens) == (3000, 150)
        assert [(span.tool_output[:7], span.exit_code) for span in trace.spans] == [("loop.sh", 0), ("cat: no", 1)]
        assert (trace.prompt, trace.model) == ("Fix the loop.", "claude-sonnet-4-5")
        assert (trace.totals.cost_usd, trace.totals.input_tokens) == (0.002, 250)
        assert (trace.outcome.ended, trace.outcome.final_answer) == ("final_answer", "It is fixed.")
        assert trace.environment["imported"]["system_prompt"] == "You are OpenHands."

    def test_rows_of_evaluations_have_task_patch_and_cost_in_both_generations(self):
        (_, old), (_, new) = traces(SAMPLES / "openhands-output.jsonl")
        assert [(span.tool_name, span.exit_code, span.parent_span_id) for span in old.spans] == [
            ("run", None, old.llm_steps[0].step_id)
        ]  # fmt: skip
        assert (old.metadata["task_id"], old.model, old.totals.cost_usd) == ("octo__repo-1", "openai/gpt-5", 0.5)
        assert (old.outcome.patch[:10], old.outcome.ended) == ("diff --git", "unknown")
        assert old.llm_steps[1].answered == "Please continue."
        assert [(span.status, span.exit_code) for span in new.spans] == [("ok", 0), ("timeout", None), ("ok", None)]
        assert [len(step.tool_calls) for step in new.llm_steps] == [2, 1]
        assert (new.llm_steps[0].reasoning_content, new.outcome.final_answer) == ("two at once", "It is fixed.")

    def test_ten_thousand_calls_of_one_response_take_time_by_their_number(self, tmp_path):
        row = json.loads((SAMPLES / "openhands-output.jsonl").read_text(encoding="utf-8").splitlines()[1])
        called, seen = row["history"][2], row["history"][4]
        row["history"] = [called | {"tool_call_id": f"c{n}"} for n in range(10_000)]
        row["history"] += [seen | {"tool_call_id": f"c{n}"} for n in range(10_000)]
        (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
        ((_, trace),) = traces(tmp_path / "a.jsonl")
        assert (len(trace.llm_steps), len(trace.spans)) == (1, 10_000)


class TestPi:
    def test_the_branch_that_ends_with_the_last_entry_is_the_session(self):
        ((_, trace),) = traces(SAMPLES / "pi.jsonl")
        assert [step.model_output for step in trace.llm_steps] == ["I look.", "It is fixed."]
        assert [span.tool_output for span in trace.spans] == ["loop.sh\n", "cat: none\n\nCommand exited with code 1"]
        assert (trace.llm_steps[0].input_tokens, trace.totals.cost_usd) == (100, 0.02)

    def test_what_is_written_for_the_hub_is_read(self, tmp_path):
        convert([RECORDS / "demo.jsonl"], "session-traces", tmp_path / "out")
        ours = {one.trace_id: one for _, one in traces(RECORDS / "demo.jsonl")}
        for path in (tmp_path / "out").iterdir():
            ((_, read),) = traces(path)
            one = ours[path.stem]
            assert [span.tool_output for span in read.spans] == [span.tool_output for span in one.spans]
            assert [step.model_output or "" for step in read.llm_steps] == [
                step.model_output or "" for step in one.llm_steps
            ]

    def test_entries_that_point_at_each_other_end(self, tmp_path):
        lines = [
            {"type": "session", "id": "s"},
            {
                "type": "message",
                "id": "a",
                "parentId": "b",
                "message": {"role": "user", "content": "x", "timestamp": 1},
            },
            {"type": "message", "id": "b", "parentId": "a", "message": {"role": "assistant", "content": "y"}},
        ]
        (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        ((_, trace),) = traces(tmp_path / "a.jsonl")
        assert (trace.prompt, len(trace.llm_steps)) == ("x", 1)


class TestGeminiCli:
    def test_a_reply_has_its_calls_with_their_results_tokens_and_times(self):
        ((_, trace),) = traces(SAMPLES / "gemini-cli.json")
        first, last = trace.llm_steps
        assert (first.reasoning_content, first.model_output) == ("Looking\nTwo things at once.", "I look.")
        assert (first.input_tokens, first.output_tokens, first.timings.cached_n) == (100, 25, 60)
        assert (first.duration_ms, last.duration_ms, last.input_tokens) == (4000, 3000, None)
        assert [call.name for call in first.tool_calls] == ["run_shell_command", "run_shell_command", "read_file"]
        assert [(span.tool_output[:7], span.exit_code) for span in trace.spans] == [("loop.sh", None), ("Output:", 1)]
        assert (trace.prompt, trace.model) == ("Fix the loop.", "gemini-3-pro")

    def test_as_lines_a_message_grows_is_taken_back_and_the_rest_is_the_session(self, tmp_path):
        whole = json.loads((SAMPLES / "gemini-cli.json").read_bytes())
        head = {key: one for key, one in whole.items() if key != "messages"}
        info, user, reply, last = whole["messages"]
        gone = {**last, "id": "m9", "content": "A way that was left."}
        lines = [head, info, user, {**reply, "toolCalls": []}, reply, gone, {"$rewindTo": "m9"}, last]
        lines.append({"$set": {"summary": "x"}})
        (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        ((_, found),) = traces(tmp_path / "a.jsonl")
        ((_, trace),) = traces(SAMPLES / "gemini-cli.json")
        assert found == trace

    def test_rewinding_again_and_again_takes_time_by_the_number_of_lines(self, tmp_path):
        head = {"sessionId": "s", "projectHash": "p"}
        many = [{"id": f"m{number}", "type": "user", "content": "x"} for number in range(30_000)]
        lines = [head, *many, *({"$rewindTo": f"m{29_999 - number}"} for number in range(29_999))]
        (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        ((_, trace),) = traces(tmp_path / "a.jsonl")
        assert trace.prompt == "x"

    @pytest.mark.parametrize(
        "line", [{}, {"messages": []}, {"$set": {"messages": []}}, {"type": "info", "content": "x"}]
    )
    def test_a_session_without_a_message_is_named(self, line, tmp_path):
        (tmp_path / "a.json").write_text(json.dumps({"sessionId": "s", "projectHash": "p", **line}))
        with pytest.raises(DataError, match=r"a session (of .*)?without a message"):
            list(traces(tmp_path / "a.json"))


class TestSessionRows:
    def test_rows_of_teich_are_the_sessions_that_they_were_made_of(self):
        for name, (_, row) in zip(("pi", "claude-code", "codex"), traces(SAMPLES / "teich-rows.jsonl"), strict=True):
            _, trace = next(traces(SAMPLES / f"{name}.jsonl"))
            assert (row.prompt, row.model, row.totals) == (trace.prompt, trace.model, trace.totals)
            assert [step.input_tokens for step in row.llm_steps] == [step.input_tokens for step in trace.llm_steps]
            assert [span.tool_output for span in row.spans] == [span.tool_output for span in trace.spans]

    @pytest.mark.parametrize("text", [None, 5, "", "x", "{}", "[]", '{"type": "session"}', '"\\ud800"'])
    def test_a_row_without_a_session_is_one_message(self, text):
        with pytest.raises(DataError, match=r"its `trace` is|a session (of .*)?without a message"):
            to_trace({"harness": "pi", "session_id": "s", "trace": text})


@pytest.mark.parametrize("kind", [[], {}, [{"type": "text"}], None, 5])
@pytest.mark.parametrize("name", ["pi", "codex", "claude-code"])
def test_an_event_whose_type_is_no_text_is_passed_over(name, kind, tmp_path):
    lines = SAMPLE[name].read_text().splitlines()
    lines.insert(1, json.dumps({"type": kind}))
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n".join(lines) + "\n")
    convert([source], "agenttrace-1.0", out)
    assert list(Validation(out)) == []
