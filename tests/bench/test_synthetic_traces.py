"""Synthetic records: real records, the same each time."""

from __future__ import annotations

import itertools
import json

import pytest

from agenttrace.store.read import read_traces
from bench.synthetic.traces import Campaign, released_size, traces, write


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """1,400 traces as plain dictionaries, read without any code of ours."""
    path = tmp_path_factory.mktemp("synthetic") / "all.jsonl"
    write(path, [row for campaign in released_size() for row in traces(campaign)])
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_they_are_records_and_the_same_each_time(tmp_path):
    rows = list(traces(Campaign(tasks=40)))
    assert write(tmp_path / "a.jsonl", rows) == 40
    assert list(read_traces(tmp_path / "a.jsonl")) == rows == list(traces(Campaign(tasks=40)))
    assert list(traces(Campaign(tasks=40, seed=1))) != rows


def test_spans_join_their_proposals_and_steps(rows):
    for row in rows:
        calls = {call["call_id"]: step["step_id"] for step in row["llm_steps"] for call in step["tool_calls"] or ()}
        assert [(span["call_id"], span["parent_span_id"]) for span in row["spans"]] == list(calls.items())
        assert len({span["span_id"] for span in row["spans"]}) == len(row["spans"])


def test_time_runs_forward_and_adds_up(rows):
    for row in rows:
        events = sorted((part["start_ns"], part["end_ns"]) for part in row["llm_steps"] + row["spans"])
        assert all(end >= start for start, end in events)
        assert all(later[0] >= earlier[1] for earlier, later in itertools.pairwise(events))
        assert sum(part["duration_ms"] for part in row["llm_steps"] + row["spans"]) <= row["total_duration_ms"]


def test_they_hold_what_is_hard_to_show(rows):
    assert {row["outcome"]["solved"] for row in rows} == {True, False, None}
    assert {"ok", "timeout", "oom", "lost", "not_executed"} == {span["status"] for row in rows for span in row["spans"]}
    assert any(step["output_tokens"] is None for row in rows for step in row["llm_steps"])
    assert any("<script>" in (step["reasoning_content"] or "") for row in rows for step in row["llm_steps"])
