"""One trace as a transcript: nothing of it is left out, whatever ids it has."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import zstandard

from agenttrace.errors import UsageError
from agenttrace.show import joined, pick, transcript
from agenttrace.store.compact import compact
from agenttrace.store.read import read_traces
from agenttrace.verbs.show import run
from bench.synthetic import traces as synthetic
from tests.report.records import changed, checkout_trace, turn, waiting_trace

KEPT = Path(__file__).parent / "data" / "records" / "1.0.0"


def printed(trace):
    return "\n".join(line for _, line in transcript(trace))


def test_every_call_is_shown_although_ids_come_twice_or_belong_to_no_step():
    trace = next(trace for trace in synthetic.traces(synthetic.Campaign(tasks=20)) if len(trace.spans) > 1)
    spans = [changed(span, tool_output=f"output {number}") for number, span in enumerate(trace.spans)]
    twice = changed(spans[0], tool_output="again")
    nowhere = changed(spans[0], call_id="call_99_1", tool_output="proposed by nobody")
    unnamed = changed(spans[0], call_id=None, tool_output="without an id")
    text = printed(changed(trace, spans=(*spans, twice, nowhere, unnamed)))
    for shown in (*(span.tool_output for span in spans), "again", "proposed by nobody", "without an id"):
        assert text.count(f"| {shown}\n") == 1
    assert text.count("proposed nowhere") == 2  # the one without an id stands in its step


def test_what_kept_a_call_waiting_stands_with_its_cost():
    calls = [line for line in printed(waiting_trace()).splitlines() if "[ok, 1000.0 ms" in line]
    assert "throttled 400 ms, c-helper" in calls[0]
    assert "waited 300 ms for a processor, c-helper" in calls[1]
    assert not any("throttled" in line or "waited" in line for line in calls[2:])
    trace = waiting_trace()
    unknown = changed(trace.spans[1].telemetry, cfs_throttled_ns=None)
    text = printed(changed(trace, spans=(changed(trace.spans[1], telemetry=unknown),)))
    assert "waited 300 ms for a processor or its limit, c-helper" in text


def test_calls_without_an_id_stand_once_although_many_steps_share_one():
    trace = next(trace for trace in synthetic.traces(synthetic.Campaign(tasks=20)) if trace.spans)
    steps = tuple(changed(trace.llm_steps[0], step_number=n, tool_calls=None) for n in range(1, 3001))
    span = changed(trace.spans[0], call_id=None, parent_span_id=steps[0].step_id)
    shown, stray = joined(changed(trace, llm_steps=steps, spans=(span,) * 3000))
    assert ([len(calls) for _, calls in shown], stray) == ([3000] + [0] * 2999, [])


def test_a_trace_over_a_checkout_is_shown_with_what_only_it_has():
    patch = "--- a\n+++ b\n" + "".join(f"+line {number}\n" for number in range(200))
    trace = checkout_trace(1, turn(1, "grep -n add calc.py", 1), turn(2), patch=patch, patch_note="left out: x.bin")
    text = printed(trace)
    assert text.startswith("bundled/octo__cat-1 rollout 1  ")
    assert f"octo/cat at {'1' * 40}, python" in text
    assert "1.234 s, prepared in 2.500 s" in text
    assert "100 -> 7 tokens (101 counted), stop" in text
    assert 'bash | {"command":"grep -n add calc.py"}\n' in text
    assert "result | Observation: seen\n    [ok, 5.0 ms, CPU 3.0 ms, peak 3.0 MiB" in text
    assert "answered | Give exactly one command." in text
    assert "ended: final_answer\n  patch: passed\n" in text
    assert "| +line 97\n" in text
    assert "| +line 98" not in text
    assert text.endswith("102 more lines\n  left out: x.bin")
    assert "no file was changed" in printed(checkout_trace(0, patch=""))
    assert "patch" not in printed(checkout_trace(0, patch=None, verdict=None))


def test_kept_rollout_files_are_shown():
    trace = pick(read_traces(KEPT / "rollouts.jsonl"), None)
    text = printed(trace)
    for span in trace.spans:
        assert span.tool_output.splitlines()[0] in text
    assert trace.outcome.patch.splitlines()[0] in text


def test_a_trace_is_picked_by_a_task_id_of_text_a_name_or_the_start_of_an_id():
    traces = [checkout_trace(0), checkout_trace(1, task="other"), checkout_trace(2)]
    assert pick(traces, "other") is traces[1]
    assert pick(traces, "bundled/other") is traces[1]
    assert pick(traces, "bundled/octo__cat-1 rollout 2") is traces[2]
    assert pick(traces, traces[2].trace_id) is traces[2]
    both = f"{traces[0].trace_id}, {traces[2].trace_id}"
    with pytest.raises(UsageError, match=rf"2 traces match 'octo__cat-1' \({both}\); give the start of one's trace id"):
        pick(traces, "octo__cat-1")


@pytest.mark.parametrize("compacted", [True, False])
def test_a_compressed_file_is_shown_whichever_way_it_was_compressed(tmp_path, capsys, compacted):
    path = tmp_path / "r.jsonl.zst"
    if compacted:
        compact(KEPT / "rollouts.jsonl", path)
    else:
        path.write_bytes(zstandard.compress((KEPT / "rollouts.jsonl").read_bytes()))
    *_, last = read_traces(path)
    for wanted in (last.trace_id, last.trace_id[:13]):
        assert run(argparse.Namespace(file=path, trace=wanted, json=None)) == 0
        assert last.trace_id in capsys.readouterr().out


def test_a_whole_id_is_found_in_a_compacted_file_without_reading_the_others(tmp_path, capsys, monkeypatch):
    path = tmp_path / "r.jsonl.zst"
    compact(KEPT / "rollouts.jsonl", path)
    wanted = next(read_traces(path)).trace_id
    monkeypatch.setattr("agenttrace.store.read.read_traces", None)
    assert run(argparse.Namespace(file=path, trace=wanted, json=None)) == 0
    assert wanted in capsys.readouterr().out
