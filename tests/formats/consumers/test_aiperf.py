"""Workloads in AIPerf: its model of a line, how it makes sessions of lines, and its own analysis of prefixes."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("aiperf", reason="scripts/nox -s formats-check installs aiperf")

from aiperf.dataset.loader.models import MooncakeTrace
from aiperf.dataset.loader.mooncake_trace import MooncakeTraceDatasetLoader
from aiperf.dataset.synthesis.prefix_analyzer import PrefixAnalyzer

from agenttrace.formats.convert import convert
from agenttrace.formats.mooncake import BLOCK
from tests.formats.hostile import OLD, OURS, traces

STEPS = [step for trace in traces() for step in trace.llm_steps]


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_mooncakes_requests_are_read_and_analysed(tmp_path):
    convert([OURS, OLD], "mooncake", tmp_path / "m.jsonl")
    rows = lines(tmp_path / "m.jsonl")
    assert all(MooncakeTraceDatasetLoader.can_load(row) for row in rows)
    for row in map(MooncakeTrace.model_validate, rows):
        assert 0 < row.input_length - (len(row.hash_ids) - 1) * BLOCK <= BLOCK  # what its synthesis asks of the last
    found = PrefixAnalyzer(BLOCK).analyze_file(tmp_path / "m.jsonl")
    assert found.total_requests == len(rows)
    assert found.max_isl == max(row["input_length"] for row in rows)
    ours = convert([OURS], "mooncake", tmp_path / "o.jsonl") and lines(tmp_path / "o.jsonl")
    assert sum(row["input_length"] for row in ours) == sum(step.input_tokens for step in STEPS)
    assert sum(row["output_length"] for row in ours) == sum(step.output_tokens for step in STEPS)


def test_a_session_has_the_turns_of_its_record(tmp_path):
    convert([OURS], "aiperf", tmp_path / "a.jsonl")
    rows = [MooncakeTrace.model_validate(row) for row in lines(tmp_path / "a.jsonl")]
    found = MooncakeTraceDatasetLoader._group_traces(None, rows)
    assert {name: len(turns) for name, turns in found.items()} == {
        trace.trace_id: len(trace.llm_steps) for trace in traces()
    }
    assert MooncakeTraceDatasetLoader._infer_context_mode(None, rows) is None  # it adds up what it hears itself
    assert sum(turn.output_length for turns in found.values() for turn in turns) == sum(
        step.output_tokens for step in STEPS
    )
