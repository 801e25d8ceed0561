"""Records to show, some of them hostile."""

from __future__ import annotations

from itertools import islice

import msgspec

from agenttrace.records import Telemetry, derived_id
from bench.synthetic import traces as synthetic

SCRIPTS = "<script>window.hacked=1</script></script><img src=x onerror='window.hacked=1'><svg onload=window.hacked=1>"
CONTROLS = "\x00\x07\x1b[31mred\x1b[0m \x7f\x85 \u202eeldoon\u202c \u200b\U000e0041 --> ]]> {{7*7}} \r\n"
LONG_LINE = "x" * 1_500_000 + "the end of it"


def traces(count=40, **settings):
    return list(islice(synthetic.traces(synthetic.Campaign(tasks=count, **settings)), count))


def changed(trace, **fields):
    return msgspec.structs.replace(trace, **fields)


def hostile_trace():
    """A trace in which whatever a model, a task or a tool can choose tries to run."""
    trace = traces(1)[0]
    nasty = SCRIPTS + CONTROLS
    span = changed(trace.spans[0], tool_name=nasty, tool_input=nasty, tool_output=nasty + LONG_LINE)
    step = changed(trace.llm_steps[0], model_output=nasty, reasoning_content=nasty, finish_reason=nasty)
    outcome = changed(trace.outcome, detail=nasty, final_answer=nasty)
    return changed(
        trace,
        trace_id=derived_id("hostile"),
        prompt=nasty,
        model=nasty,
        spans=(span, *trace.spans[1:]),
        llm_steps=(step, *trace.llm_steps[1:]),
        metadata={**trace.metadata, "dataset_name": nasty, "task_name": nasty, "task_id": nasty, nasty: nasty},
        outcome=outcome,
    )


def unmeasured(trace):
    """The trace as if no cost had been measured."""
    nothing = Telemetry(
        user_time_s=None, system_time_s=None, max_rss_bytes=None, read_bytes=None, write_bytes=None,
        method="not-measured",
    )  # fmt: skip
    return changed(trace, spans=tuple(changed(span, telemetry=nothing, status="lost") for span in trace.spans))


def released_row(**changes):
    span = {
        "span_id": "s", "tool_name": "bash", "tool_input": "kwargs={'command': \"echo 'a'\"}", "tool_output": "a",
        "start_ns": 36999952336291, "end_ns": 36999953336291, "duration_ms": 1.0, "exit_code": 0,
        "telemetry": {"user_time_s": 0.5, "system_time_s": 0.25, "max_rss_bytes": 7, "read_bytes": 0, "write_bytes": 0},
    }  # fmt: skip
    final = {**span, "tool_name": "final_answer", "tool_input": "kwargs={'answer': 'done'}", "tool_output": "done"}
    steps = [
        {"step_id": "1", "step_number": 1, "model_output": "Action:", "tool_calls": None, "duration_ms": None},
        {"step_id": "2", "step_number": 2, "tool_calls": [{"name": "bash", "arguments": {"command": "echo 'a'"}}]},
        {"step_id": "3", "step_number": 3, "tool_calls": [{"name": "final_answer", "arguments": {"answer": "done"}}]},
    ]
    meta = {"schema_version": "0.3.0", "dataset_name": "nl2bash", "task_id": 138, "run_id": "r"}
    return {
        "trace_id": "075a0e63", "timestamp_utc": "t", "prompt": "p", "model": "m", "spans": [span, final],
        "llm_steps": steps, "total_duration_ms": 5.0, "metadata": meta, **changes,
    }  # fmt: skip
