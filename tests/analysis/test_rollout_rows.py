"""Rollout files give the same three tables and the same page as traces."""

import json
from functools import reduce
from itertools import islice
from operator import getitem
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace as change

from agenttrace.analysis.summary import report
from agenttrace.analysis.tables import Reading, load, write_parquet
from agenttrace.errors import DataError
from agenttrace.formats.columns import TABLES, run_columns, table
from agenttrace.records import Telemetry, Timings, Verdict
from agenttrace.records.rollout_1_0 import Execution, Rollout, RolloutTurn
from agenttrace.report.sources import read_views
from agenttrace.store.read import read_traces
from bench.synthetic.traces import released_size, traces, write

KEPT = Path(__file__).parents[1] / "data" / "records" / "1.0.0"
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


@pytest.fixture
def odd(file):
    first = turn(1, 'printf "\\u00e4\\t\U0001f600"')
    later = change(COST, minor_faults=5, pressure_scope="machine", leftover_names=("sleep",))
    ran = change(first.execution, telemetry=later, cut_chars=3, encoding="backslashreplace")
    lost = change(first.execution, status="lost", lost_bytes=0, duration_ms=1e14)
    lines = (
        rollout(2, change(first, timings=Timings(prompt_n=3), execution=ran), stop="error", verdict="not_gradable"),
        rollout(3, change(first, execution=lost, duration_ms=1e15), turn(7, "cat a"), stop="tokens"),
    )
    file.write_bytes(file.read_bytes() + b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return file


@pytest.fixture(params=["odd", "rollouts.jsonl", "rollouts-compacted.jsonl.zst", "every-stop.jsonl"])
def kept(request):
    return request.getfixturevalue("odd") if request.param == "odd" else KEPT / request.param


@pytest.mark.parametrize("texts", [True, False])
def test_the_tables_are_those_of_the_traces_that_a_rollout_file_is_read_as(kept, texts, tmp_path):
    other = tmp_path / "traces.jsonl"
    other.write_bytes(b"".join(msgspec.json.encode(trace) + b"\n" for trace in read_traces(kept)))
    for first, second in zip(Reading([kept], texts=texts), Reading([other], texts=texts), strict=True):
        for name in TABLES:
            left, right = (found[name].to_pydict() for found in (first, second))
            left.pop("file", None), right.pop("file", None)
            assert left == right
            assert left["run"]


def test_runs_are_the_same_whether_or_not_their_parts_have_ids(kept):
    first, second = ([one for one, _ in Reading([kept]).entries(ids=ids)] for ids in (True, False))
    assert run_columns(first) == run_columns(second)
    for one, two in zip(first, second, strict=True):
        assert one.trace.llm_steps[0].step_id != two.trace.llm_steps[0].step_id
        for left, right in zip(one.trace.spans, two.trace.spans, strict=True):
            assert (left.tool_input, left.exit_code, left.telemetry) == (
                right.tool_input, right.exit_code, right.telemetry,
            )  # fmt: skip


def damaged(line):
    """Yield the line with each of its fields absent or of another value; what is said of it, and the line."""

    def places(value, path):
        if isinstance(value, dict):
            for key, inner in value.items():
                yield [*path, key]
                if key not in {"metadata", "environment", "hidden_tests"}:
                    yield from places(inner, [*path, key])
        elif isinstance(value, list) and value:
            yield from places(value[0], [*path, 0])

    whole = json.loads(line)
    for path in places(whole, []):
        for value in ("absent", None, "latin-1", 5, 1.5, True, [], {}, ["x"]):
            if path == ["timestamp_utc"] and value == "latin-1":
                continue  # no time, which only a column of times refuses
            copy = json.loads(line)
            *way, last = path
            owner = reduce(getitem, way, copy)
            if value == "absent":
                del owner[last]
            else:
                owner[last] = value
            yield (*path, str(value)), msgspec.json.encode(copy) + b"\n"


def test_every_reader_refuses_the_same_lines(file, tmp_path):
    execution = change(turn(1, "ls").execution, telemetry=change(COST, minor_faults=5))
    line = rollout(4, change(turn(1), execution=execution, timings=Timings(prompt_n=3), reasoning_content="so"))
    names, lines = zip(*damaged(msgspec.json.encode(line)), strict=True)
    assert len(lines) > 500
    file.write_bytes(file.read_bytes() + b"".join(lines))
    refused = {"read_traces": [], "load": [], "parquet": []}
    assert list(read_traces(file, refused["read_traces"].append))
    load([file], on_problem=refused["load"].append)
    write_parquet([file], tmp_path / "out", on_problem=refused["parquet"].append)
    said = {reader: {names[problem.line - 3] for problem in problems} for reader, problems in refused.items()}
    assert said["load"] == said["parquet"] == said["read_traces"]
    step, ran = ("turns", 0), ("turns", 0, "execution")
    assert said["load"] >= {
        (*step, "content", "absent"), (*step, "content", "5"), (*step, "observation", "absent"),
        (*step, "counted_tokens", "absent"), (*step, "reasoning_content", "5"), (*ran, "encoding", "latin-1"),
        (*ran, "cut_chars", "latin-1"), (*ran, "status", "None"), (*ran, "telemetry", "method", "latin-1"),
        (*ran, "telemetry", "leftover_names", "5"), (*ran, "telemetry", "minor_faults", "latin-1"),
        ("verdicts", 0, "verdict", "latin-1"), ("timestamp_utc", "absent"), ("stop", "latin-1"),
    }  # fmt: skip
    assert said["load"].isdisjoint({(*ran, "encoding", "absent"), (*step, "observation", "None")})


def test_a_field_that_parts_do_not_have_is_an_error_and_no_column_of_nulls(file):
    ((one, _), *_) = Reading([file]).entries()
    short = msgspec.defstruct("Step", [(name, Any, None) for name in ("tool_calls", "step_id")])()
    for steps in ((short,), (short, *one.trace.llm_steps)):
        trace = change(one.trace, llm_steps=steps)
        with pytest.raises((KeyError, AttributeError), match="step_number"):
            table("steps", [change(one, trace=trace)], texts=False)


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
