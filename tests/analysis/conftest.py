"""Record files for the tests of the analysis: synthetic, hand-made and of AgentTrace 0.3.0."""

from __future__ import annotations

import json

import pytest

from bench.synthetic.traces import Campaign, released_size, traces, write


@pytest.fixture(scope="session")
def thousand(tmp_path_factory):
    """1,400 synthetic traces of two models on two data sets, in one file."""
    path = tmp_path_factory.mktemp("thousand") / "all.jsonl"
    write(path, [row for campaign in released_size() for row in traces(campaign)])
    return path


@pytest.fixture(scope="session")
def rows(thousand):
    """The same as plain dictionaries, read without any code of ours."""
    return [json.loads(line) for line in thousand.read_bytes().splitlines()]


@pytest.fixture
def few(tmp_path):
    path = tmp_path / "few.jsonl"
    write(path, traces(Campaign(tasks=20)))
    return path


@pytest.fixture
def released_row():
    """A row in the form of AgentTrace 0.3.0; texts and figures are made up."""
    telemetry = {
        "user_time_s": 7e-05,
        "system_time_s": 6e-05,
        "max_rss_bytes": 172015616,
        "read_bytes": 0,
        "write_bytes": 0,
    }
    span = {
        "span_id": "s1", "type": "TOOL", "tool_name": "bash", "tool_input": "kwargs={'command': 'cd /testdata && ls'}",
        "tool_output": "exit_code: -1", "start_ns": 1000, "end_ns": 134667, "duration_ms": 0.133667,
        "telemetry": telemetry, "exit_code": -1, "parent_span_id": None,
    }  # fmt: skip
    ran = span | {"span_id": "s2", "tool_input": "kwargs={'command': \"find . -name 'a'\"}", "exit_code": 0}
    final = span | {
        "span_id": "s3",
        "tool_name": "final_answer",
        "tool_input": "kwargs={'answer': '42'}",
        "exit_code": 0,
    }
    step = {
        "step_id": "t1", "step_number": 1, "model_output": "", "reasoning_content": None,
        "tool_calls": [{"name": "bash", "arguments": {"command": "ls"}}], "duration_ms": None, "input_tokens": 1495,
        "output_tokens": 1968,
    }  # fmt: skip
    return {
        "trace_id": "075a0e63-f00a-4b1b-9366-a6882a52e415", "timestamp_utc": "2026-04-08T03:36:54.902259+00:00",
        "prompt": "Count.", "model": "Qwen/Qwen3-1.7B", "spans": [span, ran, final], "llm_steps": [step],
        "total_duration_ms": 353306.027625,
        "metadata": {
            "schema_version": "0.3.0", "run_id": "collect-1_7B-20260407-nl2bash", "dataset_name": "nl2bash",
            "task_id": 138, "platform": "darwin-arm64", "hardware": {"cpu": "Apple M3 Pro"}, "max_steps": 10,
        },
    }  # fmt: skip


@pytest.fixture
def released(tmp_path, released_row):
    path = tmp_path / "released.jsonl"
    path.write_text(json.dumps(released_row) + "\n", encoding="utf-8")
    return path
