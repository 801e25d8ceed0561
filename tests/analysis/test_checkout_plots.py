"""Figures of traces over checkouts: drawn from what these have, the same bytes each time, or left out with a reason."""

from __future__ import annotations

import hashlib
import random

import msgspec
import pytest

from agenttrace.analysis.plots import _parts, draw
from agenttrace.analysis.plots.calls import resources
from agenttrace.analysis.plots.traces import durations, outcomes
from agenttrace.analysis.tables import load
from tests.report.records import MEASURED, changed, checkout_trace, turn

pytestmark = pytest.mark.slow

LATER = {"requests", "memory", "waiting"}
"""Figures of what these steps and calls do not say."""
COMMANDS = ("grep -rn add .", "cat calc.py", "sed -i s/a/b/ calc.py", "nosuch", "git diff")


def some(count=120, seed=1):
    """Traces of ten tasks that read, fail, are cut off at their limits, and of which the machine spoilt some."""
    chance = random.Random(seed)
    for number in range(count):
        turns, clock = [], 10**18
        for place in range(1, chance.randint(2, 9)):
            command = chance.choice(COMMANDS) if chance.random() < 0.85 else None
            took = chance.lognormvariate(6.5, 0.5)
            step, span = turn(
                place, command, 127 if command == "nosuch" else 0, start_ns=clock, duration_ms=took,
                input_tokens=900 + 150 * place, output_tokens=chance.randint(20, 400),
            )  # fmt: skip
            clock += round(took * 1e6)
            step = changed(step, end_ns=clock)
            if span:
                ran = chance.lognormvariate(2.5, 0.8)
                cost = changed(
                    MEASURED, user_time_s=ran / 2000, system_time_s=0.0, max_rss_bytes=chance.randint(2 << 20, 9 << 20)
                )
                start, clock = clock, clock + round(ran * 1e6)
                span = changed(span, start_ns=start, end_ns=clock, duration_ms=ran, telemetry=cost)
            turns.append((step, span))
        ended = chance.choice([*["final_answer"] * 3, "max_steps", "token_budget", "format_error", "internal_error"])
        passed = "passed" if chance.random() < 0.4 else "failed"
        found = checkout_trace(
            number // 10, *turns, task=f"octo__cat-{number % 10}", ended=ended,
            verdict=None if ended == "internal_error" else passed,
        )  # fmt: skip
        yield changed(
            found, trace_id=f"{number:08d}-0000-5000-8000-000000000000", total_duration_ms=(clock - 10**18) / 1e6 + 20
        )


def stored(path, records):
    path.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in records))
    return path


@pytest.fixture
def file(tmp_path):
    return stored(tmp_path / "rollouts.jsonl", some())


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.mark.slow
def test_every_figure_is_drawn_and_the_same_bytes_again(tmp_path, file):
    found = draw(load([file]), tmp_path / "a", formats=["svg"])
    assert {*found.left_out} == LATER
    assert {path.stem for path in found.paths} == {
        "time-split", "durations", "tokens", "tools", "exit-codes", "commands", "outcomes", "success-cost", "timeline",
    }  # fmt: skip
    draw(load([file]), tmp_path / "b", formats=["svg"])
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_what_the_infrastructure_spoilt_is_not_unsolved(file):
    tables = load([file])
    figure = outcomes(_parts(tables, "file"))
    counted = [one for one in some() if one.outcome.ended != "internal_error"]
    solved = sum(one.outcome.solved for one in counted)
    (text,) = [text.get_text() for text in figure.axes[0].texts]
    assert text.startswith(f"{100 * solved / len(counted):.1f} % [")
    assert text.endswith(f" of {len(counted)}")


def test_traces_without_a_verdict_or_a_command_leave_figures_out_with_a_reason(tmp_path):
    quiet = (checkout_trace(0, *((step, None) for step in one.llm_steps), verdict=None) for one in some(30))
    found = draw(load([stored(tmp_path / "quiet.jsonl", quiet)]), tmp_path / "out", formats=["svg"])
    assert set(found.left_out) == LATER | {"tools", "exit-codes", "commands", "outcomes", "success-cost", "timeline"}
    assert all(found.left_out.values())


def test_calls_that_cost_nothing_that_a_clock_sees_count(tmp_path):
    nothing = changed(MEASURED, user_time_s=0.0, system_time_s=0.0)
    seen = changed(MEASURED, user_time_s=0.004, system_time_s=0.0)
    step, span = turn(1, "ls")

    def tables_of(name, costs):
        records = [checkout_trace(0, (step, changed(span, telemetry=cost))) for cost in costs]
        return load([stored(tmp_path / name, records)])

    tables = tables_of("ticks.jsonl", [nothing] * 8 + [seen] * 2)
    cpu = resources(_parts(tables, "file")).axes[0]
    (bar, median) = cpu.lines
    assert list(median.get_xdata()) == [4.0]  # where the axis shows the smallest
    assert list(bar.get_xdata()) == [4.0, 4.0]
    more = changed(MEASURED, user_time_s=0.009, system_time_s=0.0)
    tables = tables_of("more.jsonl", [nothing] * 4 + [seen] * 2 + [more] * 14)
    (bar, median) = resources(_parts(tables, "file")).axes[0].lines
    assert (list(bar.get_xdata()), list(median.get_xdata())) == ([4.0, 9.0], [9.0])


def test_rows_that_do_not_fit_are_said(tmp_path):
    many = [changed(one, model=f"model {number:02d}") for number, one in enumerate(some(20))]
    figure = outcomes(_parts(load([stored(tmp_path / "many.jsonl", many)]), "file"))
    assert "4 more rows are not drawn" in figure.axes[0].get_xlabel()


def test_a_curve_begins_at_nothing(file):
    figure = durations(_parts(load([file]), "file"))
    for axes in figure.axes:
        (curve,) = axes.lines
        assert curve.get_ydata()[0] == 0
        assert curve.get_ydata()[-1] == 1
        assert len(curve.get_ydata()) == len(curve.get_xdata())


def test_traces_of_both_agents_are_drawn_side_by_side(tmp_path, file, few):
    assert draw(load([file, few]), tmp_path / "out", formats=["svg"]).left_out.keys() == {"memory"}
