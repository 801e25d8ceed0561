"""Figures of what kept calls waiting, of their memory and of the parts of a generation: drawn to the right length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agenttrace.analysis.plots import _figures, _parts, draw
from agenttrace.analysis.plots.style import NothingToDraw
from agenttrace.analysis.tables import load
from agenttrace.records import Timings
from bench.synthetic.traces import write
from tests.report.records import SAWTOOTH, WAITING, changed, odd_trace, waiting_trace

pytestmark = pytest.mark.slow
KEPT = Path(__file__).parents[1] / "data" / "records"


def figure(name, *records, folder):
    write(folder / "records.jsonl", records)
    return _figures(None)[name](_parts(load([folder / "records.jsonl"]), "file"))


def lengths(axes):
    """Parts of the only row, by their names in the legend."""
    handles, names = axes.get_legend_handles_labels()
    return {name: handle.patches[0].get_width() for handle, name in zip(handles, names, strict=True)}


def test_the_time_of_calls_is_divided_as_analyze_divides_it(tmp_path):
    left, right = figure("waiting", waiting_trace(), folder=tmp_path).axes
    # Six calls of a second, one unknown: 400 ms throttled, 200 ms without memory, 300 ms without a processor.
    assert lengths(left) == {
        "by itself": pytest.approx(4.1 / 5), "its limit": pytest.approx(0.6 / 5), "neighbours": pytest.approx(0.3 / 5),
    }  # fmt: skip
    assert "n = 5 of 6 calls" in left.texts[0].get_text()
    assert sorted(right.lines[0].get_xdata()[1:]) == pytest.approx([0, 0, 20, 30, 40])


def test_the_time_of_generations_is_divided_as_the_server_says(tmp_path):
    left, right = figure("requests", waiting_trace(), folder=tmp_path).axes
    assert lengths(left) == pytest.approx({"queue": 0.125, "prefill": 0.25, "decode": 0.5, "rest": 0.125})
    assert "not said" not in left.texts[0].get_text()
    assert {*right.lines[0].get_xdata()[1:]} == {25.0}


def test_a_server_that_does_not_say_its_queue_has_it_in_the_rest(tmp_path):
    trace = waiting_trace()
    said = Timings(prompt_ms=100.0, predicted_ms=200.0)
    trace = changed(trace, llm_steps=tuple(changed(step, timings=said) for step in trace.llm_steps))
    left, _ = figure("requests", trace, folder=tmp_path).axes
    assert lengths(left) == pytest.approx({"queue": 0.0, "prefill": 0.25, "decode": 0.5, "rest": 0.25})
    assert "queue not said" in left.texts[0].get_text()


def test_mean_and_peak_of_a_command_are_medians_of_the_sampled_calls(tmp_path):
    sizes, ratios = figure("memory", waiting_trace(), folder=tmp_path).axes
    mean, peak = ([*line.get_xdata()] for line in sizes.lines)
    assert (mean, peak) == ([4.0], [8.0])
    assert sizes.get_yticklabels()[0].get_text() == "command (5)"
    assert ratios.lines[1].get_xdata() == pytest.approx([2.0])


def test_the_timeline_has_waiting_means_and_memory_over_time(tmp_path):
    lanes, _, waits, memory = figure("timeline", waiting_trace(), folder=tmp_path).axes
    limit, neighbours = (collection.get_segments() for collection in waits.collections)
    assert [round(segment[1][1]) for segment in limit] == [40, 20]
    assert [round(segment[1][1]) for segment in neighbours] == [30]
    (area,) = [one for one in memory.collections if one.get_paths()[0].vertices.shape[0] > len(SAWTOOTH)]
    assert area.get_paths()[0].vertices[:, 1].max() == 25
    means = memory.lines[-1].get_ydata()
    assert [*means[:5], np.isnan(means[5])] == [4.0, 4.0, 4.0, 12.0, 4.0, True]
    assert "queue pale" in lanes.get_yticklabels()[0].get_text()


@pytest.mark.parametrize("name", ["1.0.0/rollouts.jsonl", "1.1.0/traces.jsonl"])
def test_records_of_earlier_versions_have_no_such_figures(tmp_path, name):
    found = draw(load([KEPT / name]), tmp_path, formats=["svg"])
    assert {"waiting", "memory"} <= {*found.left_out}
    waits = _figures(None)["timeline"](_parts(load([KEPT / name]), "file")).axes[2]
    assert [text.get_text() for text in waits.texts] == ["not measured"]


@pytest.mark.parametrize("peak", [None, 0])
def test_a_mean_without_a_peak_is_not_compared(tmp_path, peak):
    trace = waiting_trace()
    spans = tuple(changed(span, telemetry=changed(span.telemetry, tree_rss_peak_bytes=peak)) for span in trace.spans)
    with pytest.raises(NothingToDraw):
        figure("memory", changed(trace, spans=spans), folder=tmp_path)


def test_figures_that_no_call_can_have_are_drawn_or_left_out(tmp_path):
    write(tmp_path / "records.jsonl", [changed(odd_trace(), llm_steps=waiting_trace().llm_steps)])
    assert "timeline" not in draw(load([tmp_path / "records.jsonl"]), tmp_path / "out", formats=["svg"]).left_out


def test_a_trace_whose_figures_are_all_unknown_is_no_figure(tmp_path):
    trace = waiting_trace()
    unknown = (changed(trace.spans[-1], telemetry=changed(trace.spans[-1].telemetry, tree_rss_mean_bytes=None)),)
    steps = tuple(changed(step, timings=None) for step in trace.llm_steps)
    for name in ("waiting", "memory", "requests"):
        with pytest.raises(NothingToDraw):
            figure(name, changed(trace, spans=unknown, llm_steps=steps), folder=tmp_path)
    assert len(WAITING) == len(trace.spans)
