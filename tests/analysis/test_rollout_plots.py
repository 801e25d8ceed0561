"""Figures of rollouts: each is drawn from what rollouts have, the same bytes each time, or left out with a reason."""

from __future__ import annotations

import hashlib
import random

import msgspec
import pytest

from agenttrace.analysis.plots import draw
from agenttrace.analysis.plots.calls import resources
from agenttrace.analysis.plots.distributions import durations
from agenttrace.analysis.plots.drawing import _parts
from agenttrace.analysis.plots.outcomes import outcomes
from agenttrace.analysis.tables import load
from tests.analysis.test_rollout_rows import COST, rollout, turn

COMMANDS = ("grep -rn add .", "cat calc.py", "sed -i s/a/b/ calc.py", "nosuch", "git diff")
change = msgspec.structs.replace


def some(count=120, seed=1):
    """Rollouts of ten tasks that read, fail, are cut off at their limits, and of which the machine spoilt some."""
    chance = random.Random(seed)
    for number in range(count):
        turns, clock = [], 10**18
        for place in range(1, chance.randint(2, 9)):
            command = chance.choice(COMMANDS) if chance.random() < 0.85 else None
            took = chance.lognormvariate(6.5, 0.5)
            one = change(
                turn(place, command, 127 if command == "nosuch" else 0), start_ns=clock, duration_ms=took,
                input_tokens=900 + 150 * place, output_tokens=chance.randint(20, 400),
            )  # fmt: skip
            clock += round(took * 1e6)
            if one.execution:
                ran = chance.lognormvariate(2.5, 0.8)
                cost = change(
                    COST, user_time_s=ran / 2000, system_time_s=0.0, max_rss_bytes=chance.randint(2 << 20, 9 << 20)
                )
                one = change(one, execution=change(one.execution, start_ns=clock, duration_ms=ran, telemetry=cost))
                clock += round(ran * 1e6)
            turns.append(one)
        stop = chance.choice(["submitted", "submitted", "submitted", "turns", "tokens", "format", "error"])
        found = rollout(0, *turns, stop=stop, verdict="passed" if chance.random() < 0.4 else "failed")
        yield change(
            found, rollout_id=f"{number:08d}-0000-5000-8000-000000000000", instance_id=f"octo__cat-{number % 10}",
            rollout_index=number // 10, duration_ms=(clock - 10**18) / 1e6 + 20,
            verdicts=() if stop == "error" else found.verdicts,
        )  # fmt: skip


def stored(path, rollouts):
    path.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in rollouts))
    return path


@pytest.fixture
def file(tmp_path):
    return stored(tmp_path / "rollouts.jsonl", some())


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.mark.slow
def test_every_figure_is_drawn_and_the_same_bytes_again(tmp_path, file):
    found = draw(load([file]), tmp_path / "a", formats=["svg"])
    assert found.left_out == {}
    assert {path.stem for path in found.paths} == {
        "time-split", "durations", "tokens", "tools", "exit-codes", "commands", "outcomes", "success-cost", "timeline",
    }  # fmt: skip
    draw(load([file]), tmp_path / "b", formats=["svg"])
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_what_the_infrastructure_spoilt_is_not_unsolved(file):
    tables = load([file])
    figure = outcomes(_parts(tables, "file"))
    counted = [one for one in some() if one.stop != "error"]
    solved = sum(one.verdicts[0].verdict == "passed" for one in counted)
    (text,) = [text.get_text() for text in figure.axes[0].texts]
    assert text.startswith(f"{100 * solved / len(counted):.1f} % [")
    assert text.endswith(f" of {len(counted)}")


def test_rollouts_without_a_verdict_or_a_command_leave_figures_out_with_a_reason(tmp_path):
    quiet = (change(one, verdicts=(), turns=tuple(change(t, execution=None) for t in one.turns)) for one in some(30))
    found = draw(load([stored(tmp_path / "quiet.jsonl", quiet)]), tmp_path / "out", formats=["svg"])
    assert set(found.left_out) == {"tools", "exit-codes", "commands", "outcomes", "success-cost", "timeline"}
    assert all(found.left_out.values())


def test_calls_that_cost_nothing_that_a_clock_sees_count(tmp_path):
    nothing = change(COST, user_time_s=0.0, system_time_s=0.0)
    seen = change(COST, user_time_s=0.004, system_time_s=0.0)
    ls = turn(1, "ls")
    costs = [nothing] * 8 + [seen] * 2
    turns = (change(ls, execution=change(ls.execution, telemetry=cost)) for cost in costs)
    tables = load([stored(tmp_path / "ticks.jsonl", [rollout(0, one) for one in turns])])
    cpu = resources(_parts(tables, "file")).axes[0]
    (bar, median) = cpu.lines
    assert list(median.get_xdata()) == [4.0]  # where the axis shows the smallest
    assert list(bar.get_xdata()) == [4.0, 4.0]
    costs = [nothing] * 4 + [seen] * 2 + [change(COST, user_time_s=0.009, system_time_s=0.0)] * 14
    turns = (change(ls, execution=change(ls.execution, telemetry=cost)) for cost in costs)
    tables = load([stored(tmp_path / "more.jsonl", [rollout(0, one) for one in turns])])
    (bar, median) = resources(_parts(tables, "file")).axes[0].lines
    assert (list(bar.get_xdata()), list(median.get_xdata())) == ([4.0, 9.0], [9.0])


def test_rows_that_do_not_fit_are_said(tmp_path):
    many = [change(one, model=f"model {number:02d}") for number, one in enumerate(some(20))]
    figure = outcomes(_parts(load([stored(tmp_path / "many.jsonl", many)]), "file"))
    assert "4 more rows are not drawn" in figure.axes[0].get_xlabel()


def test_a_curve_begins_at_nothing(file):
    figure = durations(_parts(load([file]), "file"))
    for axes in figure.axes:
        (curve,) = axes.lines
        assert curve.get_ydata()[0] == 0
        assert curve.get_ydata()[-1] == 1
        assert len(curve.get_ydata()) == len(curve.get_xdata())


def test_rollouts_and_traces_are_drawn_side_by_side(tmp_path, file, few):
    assert draw(load([file, few]), tmp_path / "out", formats=["svg"]).left_out == {}
