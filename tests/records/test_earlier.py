"""Record files of earlier schemas: traces come back byte for byte, rollouts are read as traces with nothing lost."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from agenttrace.analysis import tables
from agenttrace.records import Telemetry, Trace, derived_id, digest, rollout_1_0
from agenttrace.records.schema import fields
from agenttrace.store.read import decode, read_run_spec, read_traces, run_spec_path, whole_lines
from agenttrace.validate import Validation

ROOT = Path(__file__).parents[2]
RELEASED = ROOT / "datasets" / "agenttrace-demo" / "records" / "agenttrace-demo.jsonl"
KEPT = ROOT / "tests" / "data" / "records"
ROLLOUTS = [KEPT / "1.0.0" / name for name in ("rollouts.jsonl", "rollouts-compacted.jsonl.zst", "every-stop.jsonl")]
OF_1_1 = KEPT / "1.1.0" / "every-stop.jsonl"
COLLECTED_AT_1_1 = KEPT / "1.1.0" / "traces.jsonl"
ENDED = {"submitted": "final_answer", "turns": "max_steps", "tokens": "token_budget", "format": "format_error"}


@pytest.mark.parametrize("path", [RELEASED, KEPT / "demo.jsonl", OF_1_1, COLLECTED_AT_1_1], ids=lambda path: path.name)
def test_traces_come_back_byte_for_byte(path):
    lines = path.read_bytes().splitlines()
    assert [msgspec.json.encode(trace) for trace in read_traces(path)] == lines != []


@pytest.mark.parametrize("path", [RELEASED, *ROLLOUTS, OF_1_1], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_digest_of_a_run_spec_is_the_one_that_its_records_name(path):
    spec = read_run_spec(run_spec_path(path))
    assert spec.schema_version == ("1.1.0" if path is OF_1_1 else "1.0.0")
    assert {trace.metadata["run_spec_sha256"] for trace in read_traces(path)} == {spec.digest}
    assert digest(json.loads(run_spec_path(path).read_bytes())) == spec.digest


def test_the_run_spec_of_rollouts_has_all_that_stood_in_it():
    path = run_spec_path(ROLLOUTS[0])
    raw, spec = json.loads(path.read_bytes()), msgspec.to_builtins(read_run_spec(path))
    for name in raw.keys() - {"dataset", "sampling"}:
        assert json.loads(json.dumps(spec[name])) == raw[name], name
    plan = raw["sampling"]
    sampling = {**spec["dataset"].pop("sampling")}
    assert list(sampling.pop("task_ids")) == plan["instance_ids"]
    assert sampling == {
        "seed": plan["seed"], "repos": plan["repos"], "per_repo": plan["per_repo"], "languages": (),
        "hidden_tests": raw["dataset"]["hidden_tests"],
    }  # fmt: skip
    assert spec["dataset"] == {
        **{name: raw["dataset"][name] for name in ("name", "split", "source", "sha256")},
        "offset": 0, "count": len(plan["instance_ids"]), "rollouts": plan["rollouts"],
        "prompt_sanitization_version": None,
    }  # fmt: skip


@pytest.mark.parametrize("path", ROLLOUTS, ids=lambda path: path.name)
def test_every_field_of_a_rollout_is_in_its_trace(path):
    found = [(json.loads(line), decode(line)) for _, line in whole_lines(path)]
    assert len(found) >= 6
    for raw, trace in found:
        assert (trace.trace_id, trace.model, trace.prompt) == (raw["rollout_id"], raw["model"], raw["prompt"])
        assert (trace.timestamp_utc, trace.total_duration_ms) == (raw["timestamp_utc"], raw["duration_ms"])
        assert (trace.prepare_ms, trace.environment) == (raw["prepare_ms"], raw["environment"])
        outcome = trace.outcome
        assert outcome.ended == ENDED[raw["stop"]]
        assert (outcome.detail, outcome.final_answer) == (raw["detail"], raw["submission"])
        assert (outcome.patch, outcome.patch_note) == (raw["patch"], raw["patch_note"])
        assert msgspec.to_builtins(outcome.verdicts) == tuple(raw["verdicts"])
        for name in ("rollout_index", "seed", "repo", "base_commit", "language", "language_source", "tree_digest",
                     "hidden_tests"):  # fmt: skip
            assert trace.metadata[name] == raw[name]
        assert trace.metadata["task_id"] == trace.metadata["task_name"] == raw["instance_id"]
        for name, value in raw["metadata"].items():
            assert trace.metadata[rollout_1_0.RENAMED.get(name, name)] == value
        _check_turns(raw, trace)


def _check_turns(raw, trace):
    spans = {span.parent_span_id: span for span in trace.spans}
    assert len(spans) == len([turn for turn in raw["turns"] if turn["execution"]])
    for turn, step in zip(raw["turns"], trace.llm_steps, strict=True):
        assert step.step_number == turn["turn"]
        assert step.step_id == derived_id(trace.trace_id, "step", step.step_number)
        assert (step.model_output or "") == turn["content"]
        for name in ("blocks", "finish_reason", "input_tokens", "counted_tokens", "output_tokens", "start_ns",
                     "duration_ms", "reasoning_content"):  # fmt: skip
            assert getattr(step, name) == turn[name], name
        assert (step.timings and msgspec.to_builtins(step.timings)) == turn["timings"]
        if turn["execution"] is None:
            assert (step.tool_calls, step.answered, step.step_id in spans) == (None, turn["observation"], False)
        else:
            assert step.answered is None
            _check_call(turn, step, spans[step.step_id])


def _check_call(turn, step, span):
    ran = turn["execution"]
    (call,) = step.tool_calls
    assert json.loads(call.arguments) == json.loads(span.tool_input) == {"command": ran["command"]}
    assert (call.name, call.call_id) == (span.tool_name, span.call_id) == ("bash", f"call_{step.step_number}_1")
    assert (span.tool_output, span.exit_code, span.status) == (turn["observation"], ran["exit_code"], ran["status"])
    assert (span.start_ns, span.duration_ms, span.cut_chars) == (ran["start_ns"], ran["duration_ms"], ran["cut_chars"])
    assert json.loads(msgspec.json.encode(span.telemetry)) == ran["telemetry"]
    assert (span.stdout.bytes_total, span.stderr.bytes_total) == (ran["stdout_bytes"], ran["stderr_bytes"])
    lost = sum(out.bytes_total - out.bytes_kept for out in (span.stdout, span.stderr))
    assert (lost, span.stdout.encoding, span.stdout.text) == (ran["lost_bytes"], ran["encoding"], None)


def test_records_of_1_1_are_valid_and_a_field_of_a_later_version_in_them_is_not(tmp_path):
    assert list(Validation(OF_1_1)) == list(Validation(COLLECTED_AT_1_1)) == []
    rows = [json.loads(line) for line in OF_1_1.read_bytes().splitlines()]
    rows[0]["metadata"]["schema_version"] = rows[1]["metadata"]["schema_version"] = "1.0.0"
    rows[1]["llm_steps"][0].pop("blocks")
    path = tmp_path / "every-stop.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = {(finding.line, finding.where) for finding in Validation(path) if "schema 1.0.0" in finding.message}
    assert {(1, "llm_steps[0].blocks"), (1, "prepare_ms"), (2, "llm_steps[0].counted_tokens")} <= found
    assert {line for line, _ in found} == {1, 2}
    assert (2, "llm_steps[0].blocks") not in found


def test_what_a_call_of_an_earlier_version_cost_beyond_its_own_figures_is_unknown_and_never_0():
    later = {name for name in Telemetry.__struct_fields__ if name not in fields("1.1.0")["Telemetry"]}
    assert len(later) > 20
    for path in (RELEASED, OF_1_1, COLLECTED_AT_1_1):
        spans = tables.load([path]).spans
        assert len(spans) > 0
        assert [name for name in later & {*spans.columns} if spans[name].notna().any()] == []
        telemetry = next(span.telemetry for trace in read_traces(path) for span in trace.spans)
        assert {getattr(telemetry, name) for name in later} == {UNSET}


def test_what_a_trace_has_no_use_for_is_absent():
    trace = next(read_traces(RELEASED))
    assert (trace.prepare_ms, trace.outcome.patch, trace.llm_steps[0].blocks, trace.spans[0].cut_chars) == (UNSET,) * 4
    assert b"prepare_ms" not in msgspec.json.encode(trace)


def test_a_rollout_that_was_read_is_written_as_a_trace_and_read_again():
    for line in ROLLOUTS[2].read_bytes().splitlines():
        trace = decode(line)
        assert msgspec.json.decode(msgspec.json.encode(trace), type=Trace) == trace


@given(out=st.integers(0, 200_000), err=st.integers(0, 200_000), ms=st.floats(-1e308, 1e308))
def test_lost_bytes_are_divided_as_the_sandbox_cuts_streams(out, err, ms):
    row = json.loads(ROLLOUTS[2].read_bytes().splitlines()[0])
    lost = max(0, out - 65_536) + max(0, err - 65_536)
    row["turns"][0]["execution"] |= {"stdout_bytes": out, "stderr_bytes": err, "lost_bytes": lost}
    row["turns"][0]["duration_ms"] = ms
    span = decode(json.dumps(row, separators=(",", ":")).encode()).spans[0]
    assert (span.stdout.bytes_kept, span.stderr.bytes_kept) == (min(out, 65_536), min(err, 65_536))
