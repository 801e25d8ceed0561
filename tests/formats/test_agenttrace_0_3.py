"""AgentTrace 0.3.0: a row that is read is written again as it was; metadata equals the released one byte for byte."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttrace.campaign.options import Options
from agenttrace.campaign.plan import make_plan, metadata
from agenttrace.errors import DataError
from agenttrace.formats import commands
from agenttrace.formats.agenttrace_0_3 import from_trace, to_trace
from agenttrace.formats.agenttrace_0_3_row import KEYS, compose
from agenttrace.formats.agenttrace_0_3_view import row_of, view
from agenttrace.formats.patch import difference, patched
from agenttrace.records import Trace
from agenttrace.tasks import Task
from agenttrace.validate.rules import counts, joins, order, outcome

ROW = Path(__file__).parents[1] / "data" / "records" / "agenttrace-0.3-composed.jsonl"
OURS = ROW.with_name("demo.jsonl")


@pytest.fixture
def row():
    return json.loads(ROW.read_text(encoding="utf-8"))


def again(row):
    """Read, store as a record file does, and write."""
    stored = msgspec.json.decode(msgspec.json.encode(to_trace(row)), type=Trace)
    return from_trace(stored)


def same(left, right):
    assert json.dumps(left) == json.dumps(right)


def test_a_row_is_written_again_as_it_was(row):
    same(again(row), row)


def test_only_what_a_record_has_no_place_for_is_kept_apart(row):
    patch = to_trace(row).environment["imported"]["patch"]
    assert set(patch["in"]) == {"spans"}
    assert {key for span in patch["in"]["spans"]["at"].values() for key in span["in"]} == {"start_ns", "end_ns"}


def test_a_row_becomes_a_record_that_keeps_the_rules(row):
    trace = to_trace(row)
    assert (trace.trace_id, trace.prompt, trace.model) == (row["trace_id"], row["prompt"], row["model"])
    assert [list(rule(trace)) for rule in (order, joins, counts, outcome)] == [[], [], [], []]
    assert trace.outcome.ended == "final_answer"
    assert [(span.call_id, span.status) for span in trace.spans] == [
        ("call_2_1", "not_executed"), ("call_3_1", "ok"), ("call_4_1", "not_executed"),
    ]  # fmt: skip
    assert json.loads(trace.spans[1].tool_input) == {"code": "print('it\\'s', \"x\")\n"}
    assert trace.spans[1].telemetry.method == "foreign"
    assert trace.spans[0].start_ns is None
    assert trace.environment["hardware"]["cpu"] == "Apple M3 Pro"
    assert "hardware" not in trace.metadata


def released_spec(folder):
    """Return the run spec of the campaign that the released row comes from, as far as the row tells."""
    spec = make_plan(Options(), images={}, folder=folder, now=datetime(2026, 4, 7, tzinfo=UTC)).spec
    change = msgspec.structs.replace
    return change(
        spec,
        run_id="collect-1_7B-20260407-nl2bash",
        collector_version="0.3.0",
        model=change(
            spec.model,
            name="Qwen/Qwen3-1.7B",
            artifact="Qwen_Qwen3-1.7B-GGUF_Qwen3-1.7B-Q8_0.gguf",
            quantization="Q8_0",
            chat_template_sha256="57f1fd00f001" + "0" * 52,
            context_length=16384,
        ),
        serving=change(
            spec.serving,
            engine_version="b5840-75c91de6",
            args=("--port", "8080", "--jinja", "--flash-attn", "on"),
        ),
        dataset=change(
            spec.dataset,
            name="nl2bash",
            split="train",
            offset=9,
            prompt_sanitization_version="local-testdata-path-rewrite-v1",
        ),
        sandbox=change(
            spec.sandbox, fixture_version="c1d892a693784e68e56e762c9f208b96a459b2a7dac2554f2bc125935deff941"
        ),
    )


def test_metadata_composed_from_a_run_spec_equals_the_released_bytes(row, tmp_path):
    spec = released_spec(tmp_path)
    task = Task(task_id=138, name="fs_3.1", prompt=row["prompt"], kind="shell", expect={})
    environment = {
        "hardware": {**row["metadata"]["hardware"], "cpu_flags_sha256": "x"},
        "python_version": "3.10.17",
        "platform": "darwin-arm64",
        "host": {"git_dirty": True, "git_commit": row["metadata"]["git_commit"], "engine_version": "1"},
        "server_reported": {"build": "b5840", **row["metadata"]["server_reported"]},
    }
    composed = compose(msgspec.to_builtins(metadata(spec, task, spec_sha256=spec.digest)), environment, spec)
    assert json.dumps(composed) == json.dumps(row["metadata"])


def test_our_records_become_rows_with_exactly_the_keys_and_types_of_the_format(row):
    def shape(value):
        if isinstance(value, dict):
            return {key: shape(item) for key, item in value.items()}
        return shape(value[0]) if isinstance(value, list) and value else type(value)

    for line in OURS.read_bytes().splitlines():
        ours = from_trace(msgspec.json.decode(line, type=Trace))
        assert list(ours) == list(row)
        assert tuple(ours["metadata"]) == KEYS == tuple(row["metadata"])
        for span in ours["spans"]:
            assert shape(span) == shape(row["spans"][0])
            assert span["duration_ms"] == pytest.approx((span["end_ns"] - span["start_ns"]) / 1e6)
        same(again(json.loads(json.dumps(ours))), ours)


def test_calls_that_the_format_has_no_form_for_are_left_out_and_the_rest_stays_joined():
    trace = msgspec.json.decode(OURS.read_bytes().splitlines()[0], type=Trace)
    bad = msgspec.structs.replace(trace.spans[0], tool_input='{"command": ', status="not_executed")
    call = msgspec.structs.replace(trace.llm_steps[0].tool_calls[0], arguments='{"command": ')
    step = msgspec.structs.replace(trace.llm_steps[0], tool_calls=(call,))
    found = from_trace(
        msgspec.structs.replace(trace, spans=(bad, trace.spans[1]), llm_steps=(step, trace.llm_steps[1]))
    )
    assert [span["tool_name"] for span in found["spans"]] == ["final_answer"]
    assert [step["tool_calls"] and len(step["tool_calls"]) for step in found["llm_steps"]] == [None, 1]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
TEXT = st.text(max_size=20)
CALL = st.fixed_dictionaries({"name": st.sampled_from(["bash", "final_answer", "x"]), "arguments": JSON})
INPUT = (
    st.builds("kwargs={!r}".format, st.dictionaries(TEXT, JSON, max_size=2))
    | st.builds("args=({!r},)".format, TEXT)
    | st.builds("args=({!r},), kwargs={!r}".format, TEXT, st.dictionaries(TEXT, TEXT, max_size=1))
    | TEXT
)
SPAN = st.fixed_dictionaries(
    {"span_id": TEXT, "tool_name": st.sampled_from(["bash", "final_answer", "x"]), "tool_input": INPUT},
    optional={
        "type": st.just("TOOL"), "tool_output": TEXT, "start_ns": st.integers(0, 2**60),
        "end_ns": st.integers(0, 2**60),
        "duration_ms": st.floats(0, 1e6) | st.integers(0, 9), "exit_code": st.integers(-1, 127), "parent_span_id": JSON,
        "telemetry": st.fixed_dictionaries(
            {}, optional={"user_time_s": st.floats(0, 9), "read_bytes": st.integers(0, 9), "new": JSON}
        ),
        "unknown": JSON,
    },
)  # fmt: skip
STEP = st.fixed_dictionaries(
    {"step_id": TEXT, "step_number": st.integers(1, 20)},
    optional={"tool_calls": st.none() | st.lists(CALL, max_size=2), "model_output": st.none() | TEXT, "unknown": JSON},
)
ROWS = st.fixed_dictionaries(
    {
        "trace_id": TEXT, "timestamp_utc": TEXT, "prompt": TEXT, "model": TEXT, "spans": st.lists(SPAN, max_size=3),
        "llm_steps": st.lists(STEP, max_size=3),
        "metadata": st.dictionaries(st.sampled_from(KEYS) | TEXT, JSON, max_size=6).map(
            lambda metadata: {**metadata, "schema_version": "0.3.0"}
        ),
    },
    optional={"total_duration_ms": st.floats(0, 1e9) | st.integers(0, 9), "dataset_name": JSON, "": JSON},
)  # fmt: skip


@settings(deadline=None)
@given(ROWS)
def test_any_row_of_that_form_is_written_again_as_it_was(row):
    before = copy.deepcopy(row)
    same(again(row), before)
    assert row == before


@given(JSON, JSON)
def test_a_patch_makes_the_one_value_of_the_other(left, right):
    patch = msgspec.json.decode(msgspec.json.encode(difference(left, right)))
    same(patched(left, patch), right)
    assert difference(right, copy.deepcopy(right)) is None


@given(JSON, st.dictionaries(st.sampled_from(["is", "in", "at", "keys"]), JSON))
def test_a_patch_that_fits_nothing_breaks_nothing(value, patch):
    json.dumps(patched(value, patch))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda r: r.pop("spans"), "spans"),
        (lambda r: r.update(spans="x"), "spans"),
        (lambda r: r.update(metadata=[]), "metadata"),
        (lambda r: r["spans"][0].pop("span_id"), "span_id"),
        (lambda r: r["spans"][0].update(exit_code="0"), "exit_code"),
        (lambda r: r["llm_steps"][0].update(step_number=None), "step_number"),
        (lambda r: r["metadata"].update(schema_version="0.4.0"), "0.4.0.*schema_version"),
        (lambda r: r["metadata"].pop("schema_version"), "nothing as `schema_version`"),
    ],
)
def test_another_row_is_refused_by_the_name_of_its_field(row, change, field):
    change(row)
    with pytest.raises(DataError, match=f"(?s)not a row of AgentTrace 0.3.0.*{field}"):
        to_trace(row)


@pytest.mark.parametrize("patch", [{"is": 3}, {"in": {"metadata": {"is": None}}}, {"in": {"spans": {"is": 3}}}])
def test_a_record_whose_kept_patch_was_tampered_with_is_a_message(patch):
    trace = msgspec.json.decode(OURS.read_bytes().splitlines()[0], type=Trace)
    imported = {"format": "agenttrace-0.3", "patch": patch}
    trace = msgspec.structs.replace(trace, environment={**trace.environment, "imported": imported})
    if patch == {"is": 3}:
        with pytest.raises(DataError, match="makes no row"):
            from_trace(trace)
    else:
        with pytest.raises(DataError, match="as the view needs them"):
            view(from_trace(trace), "x")


@pytest.mark.parametrize("value", [None, 1, [], {}, "x"])
def test_anything_else_is_refused(value):
    with pytest.raises(DataError):
        to_trace(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kwargs={'command': 'ls'}", {"command": "ls"}),
        ("args=('ls',)", {"command": "ls"}),
        ("args=(), kwargs={'command': 'ls'}", {"command": "ls"}),
        ("args=('ls',), kwargs={'limit': 3}", {"command": "ls", "limit": 3}),
        ("kwargs={'command': '\\d'}", {"command": "\\d"}),
        ("args=('a', 'b')", None),
        ("kwargs={'command': __import__('os').system('id')}", None),
        ("kwargs={'command': 'a'}, other=1", None),
        ("kwargs={'command': 'a'})(x", None),
        ("kwargs={1: 'a'}", None),
        ("kwargs={'a': {1, 2}}", None),
        ("kwargs={'a': '\\ud800'}", None),
        ("kwargs={'a': 1e999}", None),
        ("**{'a': 1}", None),
        ("", {}),
        ("kwargs=" + "[" * 10_000, None),
        ("kwargs={'a': " + "-" * 100_000 + "1}", None),
        ("kwargs={'a': " + "(" * 150 + ")" * 150 + "}", None),
        ("kwargs={'a': '" + "x" * commands.LONGEST + "'}", None),
        ("\x00", None),
    ],
)
def test_the_repr_of_a_call_is_parsed_as_literals_only(text, expected):
    assert commands.call_arguments(text, "bash") == expected


def test_nothing_is_ever_executed(tmp_path):
    for code in (f"open({str(tmp_path / 'x')!r}, 'w')", "(lambda: 1)()", "[x for x in ()]", "f'{1}'", "().__class__"):
        assert commands.call_arguments(f"kwargs={{'a': {code}}}", "bash") is None
    assert list(tmp_path.iterdir()) == []


def test_the_view_has_fourteen_columns_and_gives_the_row_back(row):
    found = view(row, "datasets/a.jsonl")
    assert list(found) == [
        "trace_id", "timestamp_utc", "prompt", "model", "dataset_name", "task_id", "run_id", "total_duration_ms",
        "tool_span_count", "llm_step_count", "spans_json", "llm_steps_json", "metadata_json", "raw_file",
    ]  # fmt: skip
    assert (found["dataset_name"], found["task_id"], found["tool_span_count"], found["llm_step_count"]) == (
        "nl2bash",
        138,
        3,
        4,
    )
    same(row_of(found), row)
