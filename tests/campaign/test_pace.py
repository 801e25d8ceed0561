"""What a campaign says of its speed and its end."""

from __future__ import annotations

import pytest

from agenttrace.campaign.pace import Pace, clock
from agenttrace.records import LLMStep, Timings


def step(tokens, *, decoding_ms=None):
    timings = None if decoding_ms is None else Timings(
        prompt_n=1, prompt_ms=1.0, predicted_n=tokens, predicted_ms=decoding_ms, cached_n=0
    )  # fmt: skip
    return LLMStep(
        step_id="s", step_number=1, model_output="x", reasoning_content=None, tool_calls=None, duration_ms=1.0,
        input_tokens=1, output_tokens=tokens, start_ns=0, end_ns=1, finish_reason="stop", timings=timings,
    )  # fmt: skip


def run(pace, *tokens):
    steps = [step(one, decoding_ms=one * 10.0) for one in tokens]
    for one in steps:
        pace.generated(one)
    pace.finished(steps)


def test_the_rate_is_of_wall_time_and_that_of_decoding_stands_beside_it():
    pace = Pace()
    assert pace.rates(10.0) == "- tok/s"
    run(pace, 300, 60)
    assert pace.rates(10.0) == "36 tok/s (100 in decoding)"
    pace.generated(step(40))  # a server that reports no timings: no part of the rate of decoding
    assert pace.rates(10.0) == "40 tok/s (100 in decoding)"


def test_the_end_follows_tokens_and_not_tasks():
    pace = Pace()
    assert pace.left(10, 5.0) == "-:--"
    run(pace, 100)
    assert pace.left(9, 10.0) == "about 1:30"
    for _ in range(3):
        run(pace, 100)
    assert pace.left(6, 40.0) == "1:00"
    pace.generated(step(50))  # of a task that is not done yet
    assert pace.left(6, 45.0) == "0:55"
    assert pace.left(0, 45.0) == "0:00"


def test_lengths_that_differ_are_said_to():
    pace = Pace()
    run(pace, 10)
    run(pace, 190)
    assert pace.left(2, 20.0) == "0:20 ±0:25"


def test_a_session_that_goes_on_knows_the_lengths_of_the_sessions_before():
    """After a resume the first task is 20 times as long as the others: the end is not put off twentyfold."""
    blind, knowing = Pace(), Pace([100] * 19)
    for pace in (blind, knowing):
        run(pace, 2000)
    assert blind.left(10, 200.0) == "about 33:20"
    assert knowing.left(10, 200.0).startswith("3:15")


@pytest.mark.parametrize(("seconds", "shown"), [(0.9, "0:00"), (65, "1:05"), (3723, "1:02:03")])
def test_a_time_is_shown_with_hours_where_there_are_any(seconds, shown):
    assert clock(seconds) == shown
