"""What the page shows of a record, and that nothing unknown becomes a zero."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from agenttrace.errors import DataError
from agenttrace.formats import agenttrace_0_3_row
from agenttrace.records import Timings
from agenttrace.report.cost import call_cost
from agenttrace.report.index import FIELDS, index_row
from agenttrace.report.sources import read_views, release_view
from agenttrace.report.view import trace_view
from agenttrace.store.read import read_traces
from tests.report.records import (
    QUIET,
    S,
    changed,
    checkout_trace,
    released_row,
    traces,
    turn,
    unmeasured,
    waiting_trace,
)

KEPT = Path(__file__).parents[1] / "data" / "records" / "1.0.0"


def row_of(view):
    return index_row(view, file=0, chunk=0, place=0)


def test_calls_stand_under_the_step_that_proposed_them():
    trace = traces(1)[0]
    view = trace_view(trace)
    proposed = [[call.call_id for call in step.tool_calls or ()] for step in trace.llm_steps]
    assert [len(step.calls) for step in view.steps] == [len(ids) for ids in proposed]
    assert [call.output for call in view.calls] == [span.tool_output for span in trace.spans]
    assert view.stray == []


def test_a_call_without_a_span_and_a_span_without_a_call_are_both_shown():
    trace = traces(1)[0]
    orphan = changed(trace.spans[0], call_id="call_99_1", tool_output="orphan")
    view = trace_view(changed(trace, spans=(orphan, *trace.spans[1:])))
    assert view.steps[0].calls[0].status is None
    assert [call.output for call in view.stray] == ["orphan"]


def test_no_call_is_lost_where_ids_come_twice():
    trace = traces(1)[0]
    spans = tuple(changed(trace.spans[0], tool_output=str(number)) for number in range(3))
    unjoined = tuple(changed(span, call_id=None) for span in spans)
    for found in (trace_view(changed(trace, spans=spans)), trace_view(changed(trace, spans=unjoined))):
        assert sorted(call.output for call in found.calls if call.output is not None) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("timings", "queue_ms", "prompt_ms", "decode_ms"),
    [
        (Timings(prompt_ms=3.0, predicted_ms=9.0), None, 3.0, 9.0),
        (Timings(queue_ms=2.0, first_token_ms=4.0, predicted_ms=9.0), 2.0, 4.0, 9.0),
        (Timings(queue_ms=2.0), 2.0, None, None),
        (None, None, None, None),
    ],
)
def test_a_step_has_the_parts_that_whichever_server_says(timings, queue_ms, prompt_ms, decode_ms):
    trace = traces(1)[0]
    steps = (changed(trace.llm_steps[0], timings=timings), *trace.llm_steps[1:])
    step = trace_view(changed(trace, llm_steps=steps)).steps[0]
    assert (step.queue_ms, step.prompt_ms, step.decode_ms) == (queue_ms, prompt_ms, decode_ms)


def waits_of(cpus=None, **figures):
    return call_cost(changed(QUIET, **figures), cpus).waits


def test_waiting_for_a_processor_is_what_was_not_throttled():
    waits = waits_of(cfs_throttled_ns=S // 4, runqueue_wait_ns=S // 2)
    assert (waits.throttled, waits.processor, waits.memory, waits.disk) == (250.0, 250.0, 0.0, 0.0)
    assert waits_of(cfs_throttled_ns=S // 2, runqueue_wait_ns=S // 4).processor == 0.0
    assert waits_of(runqueue_wait_ns=None, cpu_pressure_ns=S // 4).processor == 250.0
    assert waits_of(runqueue_wait_ns=0, cpu_pressure_ns=S // 4).processor == 0.0


def test_what_all_of_a_machine_waited_for_is_not_the_calls_own():
    waits = waits_of(runqueue_wait_ns=None, cpu_pressure_ns=S, io_pressure_ns=None, pressure_scope="machine")
    assert (waits.processor, waits.memory, waits.disk) == (None, None, None)
    assert waits.machine == {"processor": 1000.0, "memory": 0.0}


def test_the_cause_is_that_of_analyze_with_the_processors_of_the_sandbox():
    waited = {"cpu_user_ns": S, "runqueue_wait_ns": S}
    assert waits_of(**waited).cause == "itself"
    assert waits_of(2.0, **waited).cause == "neighbours"
    trace = waiting_trace()
    limits = {"worker_reported": {"limits": {"cpus": 2.0}}}
    spans = tuple(changed(span, telemetry=changed(QUIET, **waited)) for span in trace.spans)
    for environment, cause in (({}, "itself"), (limits, "neighbours"), ({"worker_reported": 7}, "itself")):
        view = trace_view(changed(trace, spans=spans, environment=environment))
        assert {call.cost.waits.cause for call in view.calls} == {cause}


def test_calls_of_earlier_versions_have_no_waits_and_no_mean():
    for name in ("1.0.0/rollouts.jsonl", "1.0.0/every-stop.jsonl", "1.1.0/traces.jsonl", "1.1.0/every-stop.jsonl"):
        calls = [call for shown in read_views(KEPT.parent / name) for call in shown.view.calls if call.cost]
        assert calls
        assert {(call.cost.waits, call.cost.mean, call.cost.series) for call in calls} == {(None, None, None)}


@pytest.mark.parametrize("series", [((1,),), ((1, 2, 3),), ((-1, 2),), ((1, 2),) * 65, (), None])
def test_a_series_of_others_that_is_none_is_not_drawn(series):
    assert call_cost(changed(QUIET, tree_rss_series=series), None).series is None
    assert call_cost(changed(QUIET, tree_rss_series=((1, 2),)), None).series == ((1, 2),)


def test_times_are_on_one_axis_that_starts_with_the_run():
    for trace in traces(20):
        view = trace_view(trace)
        starts = [timed.start for timed in (*view.steps, *view.calls)]
        assert min(starts) == 0
        first = trace.llm_steps[0].start_ns
        assert [call.start for call in view.calls] == [(span.start_ns - first) / 1e6 for span in trace.spans]


def test_totals_add_what_was_measured():
    trace = next(trace for trace in traces(20) if len(trace.spans) > 2)
    row = row_of(trace_view(trace))
    known = [span.telemetry for span in trace.spans if span.telemetry.read_bytes is not None]
    assert row.read == sum(telemetry.read_bytes for telemetry in known)
    assert row.peak == max(telemetry.max_rss_bytes for telemetry in known)
    assert row.tokens_out == sum(step.output_tokens or 0 for step in trace.llm_steps)


def test_what_was_not_measured_stays_unknown():
    view = trace_view(unmeasured(traces(1)[0]))
    row = row_of(view)
    assert (row.cpu_ms, row.peak, row.read, row.write) == (None, None, None, None)
    assert row.troubles == ["lost"]
    assert view.calls[0].cost.cpu_ms is None


def test_exit_codes_are_those_of_calls_that_ran():
    trace = next(trace for trace in traces(60) if any(span.exit_code > 0 for span in trace.spans))
    row = row_of(trace_view(trace))
    assert row.exits == sorted({span.exit_code for span in trace.spans if span.status != "not_executed"})


def test_the_index_stays_small_whatever_names_a_record_has():
    trace = traces(1)[0]
    spans = tuple(changed(trace.spans[0], tool_name="t" * 5000, call_id=f"call_1_{n}", exit_code=n) for n in range(300))
    huge = {**trace.metadata, "task_name": "n" * 10**6}
    row = row_of(trace_view(changed(trace, model="m" * 10**6, metadata=huge, spans=spans, prompt="p" * 10**6)))
    assert len(msgspec.json.encode(row)) < 2000


def test_the_fields_are_named_once():
    assert FIELDS[:2] == ("id", "file")
    assert len(FIELDS) == len(set(FIELDS))


def released_view(**changes):
    return release_view(agenttrace_0_3_row.convert(released_row(**changes)))


def test_released_rows_have_their_calls_joined_in_order_and_no_outcome():
    view = released_view()
    assert [[call.input for call in step.calls] for step in view.steps] == [
        [],
        ['{"command":"echo \'a\'"}'],
        ['{"answer":"done"}'],
    ]
    assert view.stray == []
    assert (view.solved, view.ended, view.answer, view.axis) == (None, None, "done", "tools")
    assert view.steps[1].ms is None
    assert view.calls[0].cost.cpu_ms == 750
    assert view.calls[0].cost.method == "foreign"
    assert (row_of(view).cpu_ms, row_of(view).peak, row_of(view).read) == (None, None, None)


def test_released_calls_that_do_not_fit_a_proposal_are_not_forced_into_it():
    calls = [{"name": "python_interpreter", "arguments": {"code": "1"}}]
    steps = [{"step_id": "1", "step_number": 1, "tool_calls": calls}]
    view = released_view(llm_steps=steps)
    assert view.steps[0].calls[0].status is None
    assert [call.tool for call in view.stray] == ["bash", "final_answer"]


@pytest.mark.parametrize(
    "text", ["kwargs={", "args=('a', 'b')", "kwargs=__import__('os')", "?", "kwargs=" + "(" * 5000]
)
def test_inputs_that_are_no_plain_literal_stay_as_they_are(text):
    span = {**released_row()["spans"][0], "tool_input": text}
    assert released_view(spans=[span], llm_steps=[]).stray[0].input == text


def test_a_trace_over_a_checkout_has_the_same_view(tmp_path):
    records = [
        checkout_trace(0, turn(1, "grep -n add calc.py"), turn(2), turn(3, "nosuch", 127)),
        checkout_trace(1, turn(1, "ls"), ended="max_steps", verdict="failed", final_answer="as I said"),
    ]
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in records))
    first, second = (shown.view for shown in read_views(path))
    assert (first.task, first.name, first.solved, second.ended) == ("octo__cat-1", "rollout 0", True, "max_steps")
    assert [len(step.calls) for step in first.steps] == [1, 0, 1]
    call = first.steps[2].calls[0]
    assert (call.input, call.exit, call.output) == ('{"command":"nosuch"}', 127, "Observation: seen")
    assert call.cut == {"stdout": (50, 70)}
    assert [step.told for step in first.steps] == [None, "Give exactly one command.", None]
    assert [step.counted for step in first.steps] == [101, 201, 301]
    assert (first.patch, first.answer, first.prepare_ms) == ("diff", None, 2500.0)
    assert (second.patch, second.answer) == ("diff", "as I said")
    assert first.facts["repository"]["base_commit"] == "1" * 40
    assert first.steps[0].start == 0.0


def test_what_only_a_checkout_has_is_absent_elsewhere():
    view = trace_view(traces(1)[0])
    assert (view.patch, view.patch_note, view.prepare_ms, view.facts["repository"]) == (None, None, None, {})
    assert {(step.told, step.counted) for step in view.steps} == {(None, None)}
    empty = changed(traces(1)[0], outcome=changed(traces(1)[0].outcome, final_answer=""))
    assert trace_view(empty).answer == ""


@pytest.mark.parametrize("name", ["rollouts.jsonl", "rollouts-compacted.jsonl.zst"])
def test_rollout_files_of_1_0_have_the_view_of_a_trace(name):
    views = [shown.view for shown in read_views(KEPT / name)]
    assert views == [trace_view(trace) for trace in read_traces(KEPT / name)]
    assert all(view.patch is not None and view.ended == "final_answer" for view in views)
    assert all(call.output for view in views for call in view.calls)


def test_a_line_that_is_no_rollout_is_named(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"rollout_id": 3}\n')
    with pytest.raises(DataError, match="line 1: not a trace record: "):
        list(read_views(path))
