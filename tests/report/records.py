"""Records to show, some of them hostile."""

from __future__ import annotations

from itertools import islice

import msgspec

from agenttrace.records import LLMStep, Outcome, Output, Span, Telemetry, Timings, ToolCall, Trace, Verdict, derived_id
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


MEASURED = Telemetry(
    user_time_s=0.002, system_time_s=0.001, max_rss_bytes=3 << 20, read_bytes=0, write_bytes=4096, method="c-helper",
    wall_ns=5_000_000, cpu_user_ns=2_000_000, cpu_system_ns=1_000_000,
)  # fmt: skip


S = 10**9
QUIET = Telemetry(
    user_time_s=0.5, system_time_s=0.0, max_rss_bytes=8 << 20, read_bytes=0, write_bytes=4096, method="c-helper",
    wall_ns=S, cpu_user_ns=S // 2, cpu_system_ns=0, cfs_throttled_ns=0, runqueue_wait_ns=0, tree_rss_samples=50,
    tree_rss_peak_bytes=8 << 20, tree_rss_mean_bytes=4 << 20, memory_pressure_ns=0, io_pressure_ns=0,
    cpu_pressure_ns=0, pressure_scope="container",
)  # fmt: skip
"""A call of a second that never waited."""
SAWTOOTH = tuple((20 * n, (n % 25 + 1) << 20) for n in range(1, 50))
WAITING = (
    {"cfs_throttled_ns": S * 2 // 5, "runqueue_wait_ns": S * 2 // 5},
    {"runqueue_wait_ns": S * 3 // 10},
    {"memory_pressure_ns": S // 5, "io_pressure_ns": S // 4},
    {"tree_rss_series": SAWTOOTH, "tree_rss_peak_bytes": 25 << 20, "tree_rss_mean_bytes": 12 << 20},
    {"pressure_scope": "machine", "io_pressure_ns": S // 2, "cpu_pressure_ns": S // 10},
    {"cfs_throttled_ns": None, "runqueue_wait_ns": None, "pressure_scope": "machine", "tree_rss_mean_bytes": None},
)
"""What differs in calls that a limit, a neighbour, memory and a disk held up, in one whose memory was followed, in one
on a busy machine, and in one of which nothing of that is known."""


def waiting_trace():
    """A trace of such calls, each a second long, whose requests waited for the server, too."""
    turns = [turn(number, f"command {number}") for number in range(1, len(WAITING) + 1)]
    server = Timings(queue_ms=50.0, first_token_ms=100.0, predicted_ms=200.0)
    spans = [
        changed(
            span, telemetry=changed(QUIET, **figures), duration_ms=1000.0, start_ns=step.end_ns + 10**6,
            end_ns=step.end_ns + 10**6 + S,
        )
        for (step, span), figures in zip(turns, WAITING, strict=True)
    ]  # fmt: skip
    trace = checkout_trace(8, *turns)
    steps = tuple(changed(step, timings=server) for step, _ in turns)
    return changed(trace, spans=tuple(spans), llm_steps=steps, total_duration_ms=9000.0)


def odd_trace():
    """The same with figures that no call and no server can have."""
    trace = waiting_trace()
    odd = {
        "cfs_throttled_ns": 2**62, "runqueue_wait_ns": -5, "io_pressure_ns": 2**62, "tree_rss_mean_bytes": 2**62,
        "tree_rss_series": ((0, 2**62), (2**62, 1)), "tree_rss_peak_bytes": None,
    }  # fmt: skip
    spans = tuple(changed(span, telemetry=changed(QUIET, **odd)) for span in trace.spans)
    said = Timings(queue_ms=-50.0, prompt_ms=1e300, predicted_ms=-1.0)
    steps = tuple(changed(step, timings=said) for step in trace.llm_steps)
    cpus = {"worker_reported": {"limits": {"cpus": 1e308}}}
    return changed(trace, trace_id=derived_id("odd"), spans=spans, llm_steps=steps, environment=cpus)


def turn(number, command=None, exit_code=0, **step):
    """A step of a bash-block agent and the span of its command; without a command the reply was answered."""
    call_id, start = f"call_{number}_1", 10**18 + number * 2 * 10**9
    written = msgspec.json.encode({"command": command}).decode()
    span = command and Span(
        span_id=f"span-{number}", type="TOOL", tool_name="bash", tool_input=written, tool_output="Observation: seen",
        start_ns=start + 500, end_ns=start + 500 + 5_000_000, duration_ms=5.0, telemetry=MEASURED, exit_code=exit_code,
        parent_span_id=f"step-{number}", call_id=call_id, status="ok", cut_chars=0,
        stdout=Output(text=None, bytes_total=70, bytes_kept=50),
        stderr=Output(text=None, bytes_total=30, bytes_kept=30),
    )  # fmt: skip
    own = LLMStep(
        step_id=f"step-{number}", step_number=number, model_output="THOUGHT: <b>x</b>", reasoning_content=None,
        tool_calls=(ToolCall(call_id=call_id, name="bash", arguments=written),) if command else None,
        duration_ms=400.0, input_tokens=100 * number, output_tokens=7, start_ns=start, end_ns=start + 400_000_000,
        finish_reason="stop", counted_tokens=100 * number + 1, blocks=1 if command else 0,
        answered=None if command else "Give exactly one command.",
    )  # fmt: skip
    return changed(own, **step), span or None


def checkout_trace(index, *turns, verdict="passed", task="octo__cat-1", **outcome):
    """A trace of a bash-block agent over a checkout."""
    ended = {"ended": "final_answer", "final_answer": "", "patch": "diff", "patch_note": None}
    return Trace(
        trace_id=f"00000000-0000-5000-8000-00000000000{index}", timestamp_utc="2026-01-02T03:04:05.000006+00:00",
        prompt="fix it", model="m", spans=tuple(span for _, span in turns if span),
        llm_steps=tuple(step for step, _ in turns), total_duration_ms=1234.5, prepare_ms=2500.0, environment={},
        metadata={
            "schema_version": "1.1.0", "run_id": "r", "dataset_name": "bundled", "demo": True, "task_id": task,
            "task_name": task, "rollout_index": index, "seed": index, "repo": "octo/cat", "base_commit": "1" * 40,
            "language": "python", "tree_digest": "2" * 64, "hidden_tests": {"asked": False, "applied": False},
        },
        outcome=Outcome(
            verdicts=(Verdict(aspect="patch", verdict=verdict, method="gold-tree-v1"),) if verdict else (),
            solved={"passed": True, "failed": False}.get(verdict), **(ended | outcome),
        ),
    )  # fmt: skip
