"""Real records, put under a run spec of the present version, so that ids and metadata can be computed again."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from agenttrace.campaign.options import Options
from agenttrace.campaign.plan import make_plan, write_run_spec
from agenttrace.records import derived_id

COLLECTED = Path(__file__).parents[1] / "data" / "records" / "demo.jsonl"


@pytest.fixture
def plan(tmp_path):
    return make_plan(
        Options(output="demo.jsonl"),
        images={"sandbox": "5" * 64},
        folder=tmp_path,
        now=datetime(2026, 11, 2, tzinfo=UTC),
    )


def rehomed(row, plan):
    """Return a collected record as the campaign of this plan would have written it."""
    task = next(task for task in plan.tasks if task.task_id == row["metadata"]["task_id"])
    row["trace_id"] = plan.trace_id(task)
    row["metadata"] = msgspec.to_builtins(plan.metadata(task))
    row["prepare_ms"] = 1.0
    for step in row["llm_steps"]:
        old, step["step_id"] = step["step_id"], derived_id(row["trace_id"], "step", step["step_number"])
        for span in row["spans"]:
            if span["parent_span_id"] == old:
                span["parent_span_id"] = step["step_id"]
    for span in row["spans"]:
        span["span_id"] = derived_id(row["trace_id"], span["call_id"])
    return row


@pytest.fixture
def rows(plan):
    collected = [json.loads(line) for line in COLLECTED.read_text(encoding="utf-8").splitlines()]
    planned = {task.task_id for task in plan.tasks}
    return [rehomed(row, plan) for row in collected if row["metadata"]["task_id"] in planned]


@pytest.fixture
def record_file(plan):
    """Return a function that writes rows as a record file with its run spec."""

    def write(rows, name=None):
        write_run_spec(plan.spec, plan.path)
        path = plan.path if name is None else plan.path.with_name(name)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write
