"""Rollout files give the same three tables and the same page as traces."""

import json
from itertools import islice

import msgspec
import pandas as pd
import pytest

from agenttrace.analysis import rollout_rows
from agenttrace.analysis.summary import report
from agenttrace.analysis.tables import load
from agenttrace.errors import DataError
from agenttrace.records import Telemetry, Timings, Verdict
from agenttrace.records.rollout_1_0 import Execution, Rollout, RolloutTurn
from agenttrace.report.sources import read_views
from agenttrace.store.read import read_traces
from bench.synthetic.traces import released_size, traces, write

COST = Telemetry(
    user_time_s=0.002, system_time_s=0.001, max_rss_bytes=3 << 20, read_bytes=0, write_bytes=4096, method="c-helper",
    wall_ns=5_000_000, cpu_user_ns=2_000_000, cpu_system_ns=1_000_000,
)  # fmt: skip


def turn(number, command=None, exit_code=0):
    execution = command and Execution(
        command=command, exit_code=exit_code, status="ok", start_ns=10**18 + number * 10**9 + 500, duration_ms=5.0,
        telemetry=COST, stdout_bytes=70, stderr_bytes=30, lost_bytes=20,
    )  # fmt: skip
    return RolloutTurn(
        turn=number, content="THOUGHT: <b>x</b>", blocks=1 if command else 0, execution=execution,
        observation="Observation: seen", finish_reason="stop", input_tokens=100 * number, counted_tokens=100 * number,
        output_tokens=7, start_ns=10**18 + number * 10**9, duration_ms=400.0,
    )  # fmt: skip


def rollout(index, *turns, stop="submitted", verdict="passed"):
    return Rollout(
        rollout_id=f"00000000-0000-5000-8000-00000000000{index}", instance_id="octo__cat-1", rollout_index=index,
        repo="octo/cat", base_commit="1" * 40, language="python", language_source="dataset", tree_digest="2" * 64,
        hidden_tests={"asked": False, "applied": False}, timestamp_utc="2026-01-02T03:04:05.000006+00:00",
        model="m", seed=index, prompt="fix it", turns=turns, stop=stop, detail=None, submission="", patch="diff",
        patch_note=None, duration_ms=1234.5, prepare_ms=1.0,
        metadata={"schema_version": "1.0.0", "run_id": "r", "dataset_name": "bundled", "demo": True}, environment={},
        verdicts=(Verdict(aspect="patch", verdict=verdict, method="gold-tree-v1"),),
    )  # fmt: skip


@pytest.fixture
def file(tmp_path):
    records = [
        rollout(0, turn(1, "grep -n add calc.py"), turn(2), turn(3, "nosuch", 127)),
        rollout(1, turn(1, "ls"), stop="turns", verdict="failed"),
    ]
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in records))
    return path


def test_a_turn_is_a_step_and_its_command_a_span(file):
    found = load([file])
    assert not found.partial
    assert found.runs["ended"].tolist() == ["final_answer", "max_steps"]
    assert found.runs["solved"].tolist() == [True, False]
    assert found.runs["task_id"].tolist() == ["octo__cat-1"] * 2
    assert found.runs["useful_turns"].tolist() == [1, 1]
    assert found.runs["not_found_turns"].tolist() == [1, 0]
    assert found.runs["format_error_turns"].tolist() == [1, 0]
    assert found.runs["conversation_tokens"].tolist() == [307, 107]
    assert found.steps["tool_call_count"].tolist() == [1, 0, 1, 1]
    assert found.spans["command"].tolist() == ["grep", "nosuch", "ls"]
    assert found.spans["exit_code"].tolist() == [0, 127, 0]
    assert found.spans["cpu_ms"].tolist() == pytest.approx([3.0] * 3)


def test_the_tables_are_those_of_the_traces_that_a_rollout_file_is_read_as(file, tmp_path):
    odd = turn(1, 'printf "\\u00e4\\t\U0001f600"')
    lost = msgspec.structs.replace(odd.execution, status="lost", lost_bytes=0, duration_ms=1e14)
    whole = rollout(2, msgspec.structs.replace(odd, timings=Timings(prompt_n=3)), stop="error", verdict="not_gradable")
    odd = rollout(3, msgspec.structs.replace(odd, execution=lost, duration_ms=1e15), turn(7, "cat a"), stop="tokens")
    file.write_bytes(file.read_bytes() + b"".join(msgspec.json.encode(one) + b"\n" for one in (whole, odd)))
    other = tmp_path / "traces.jsonl"
    other.write_bytes(b"".join(msgspec.json.encode(trace) + b"\n" for trace in read_traces(file)))
    first, second = load([file]), load([other])
    for name in ("runs", "steps", "spans"):
        left, right = (getattr(one, name).drop(columns="file", errors="ignore") for one in (first, second))
        pd.testing.assert_frame_equal(left, right)


@pytest.mark.parametrize("texts", [True, False])
def test_texts_of_turns_are_read_only_where_they_are_wanted(file, texts):
    for step in rollout_rows.decode(file.read_bytes().splitlines()[0], texts=texts, ids=True).llm_steps:
        assert (getattr(step, "content", getattr(step, "model_output", None)) is not None) is texts


def test_what_the_infrastructure_spoilt_is_counted_apart_and_attempts_at_one_task_are_said(file):
    broken = rollout(2, stop="error", verdict="failed")
    file.write_bytes(file.read_bytes() + msgspec.json.encode(broken) + b"\n")
    (group,) = report(load([file])).groups
    assert (group.infrastructure, group.ungraded, group.solved.count, group.solved.n) == (1, 0, 1, 2)
    assert any(text.startswith("3 attempts at one task:") for text in group.warnings)


def test_the_report_has_what_turns_gave_where_a_record_says_so(file, few):
    first, second = (dict(report(load([path])).groups[0].rates) for path in (file, few))
    assert {name: rate.count for name, rate in first.items() if name.startswith("turns")} == {
        "turns that gave: useful": 2, "turns that gave: empty": 0, "turns that gave: not found": 1,
        "turns that gave: timeout": 0, "turns that gave: format error": 1,
    }  # fmt: skip
    assert first["traces with a patch"].n == 2
    assert first.keys() - second.keys() == {name for name in first if "turns that" in name or "patch" in name}


def test_traces_and_rollouts_may_be_read_together(file, tmp_path):
    other = tmp_path / "t.jsonl"
    write(other, islice(traces(released_size()[0]), 3))
    assert len(load([file, other]).runs) == 5


def test_a_line_whose_keys_stand_in_another_order_is_a_rollout_too(file, tmp_path):
    path = tmp_path / "sorted.jsonl"
    lines = (json.dumps(json.loads(line), sort_keys=True) for line in file.read_text().splitlines())
    path.write_text("".join(f"{line}\n" for line in lines))
    assert load([path]).runs["trace_id"].tolist() == load([file]).runs["trace_id"].tolist()
    assert [shown.view.ended for shown in read_views(path)] == ["final_answer", "max_steps"]


def test_a_line_that_is_no_rollout_is_counted_and_named(file):
    file.write_bytes(file.read_bytes() + b'{"rollout_id": "x"}\n' + b'{"rollout_id":')
    source = load([file]).sources[0]
    assert (source.rows, source.bad_lines) == (2, 2)
    assert "not a trace record" in str(source.problems[0])


def test_the_page_shows_a_rollout(file):
    first, second = (shown.view for shown in read_views(file))
    assert (first.task, first.name, first.solved, second.ended) == ("octo__cat-1", "rollout 0", True, "max_steps")
    assert [len(step.calls) for step in first.steps] == [1, 0, 1]
    call = first.steps[2].calls[0]
    assert (call.input, call.exit, call.output) == ('{"command":"nosuch"}', 127, "Observation: seen")
    assert call.cut == {"stderr": (10, 30)}
    assert [step.told for step in first.steps] == [None, "Observation: seen", None]
    assert (first.patch, first.answer) == ("diff", None)
    assert first.steps[0].start == 0.0
    file.write_bytes(b'{"rollout_id": 3}\n')
    with pytest.raises(DataError, match="line 1"):
        list(read_views(file))
