"""What 700 tasks take, by rates: shares of a last reply, and the carrying over to other processors."""

from __future__ import annotations

import types

import pytest

from bench.campaigns.bench_estimate import REPLY, Rates, Reading, _carried, _clock, _power, _rates, _ready_s

RATES = Rates(prompt_s=[10.0, 2.0], prompt=150.0, generation=20.0, reused=0.5)


def test_of_a_last_reply_only_its_share_counts():
    assert RATES.task_s(2.0) == pytest.approx(12 + 2 * REPLY / 20)
    assert RATES.task_s(1.25) == pytest.approx(10 + 0.25 * 2 + 1.25 * REPLY / 20)


@pytest.mark.parametrize(("gain", "prompt_s", "generation"), [(2.0, [2.5, 0.5], 140.0), (1.0, [10.0, 2.0], 20.0)])
def test_eight_processors_do_what_the_second_one_did_here(gain, prompt_s, generation):
    pair = tuple(Rates(prompt_s=[1.0], prompt=rate, generation=rate, reused=0.0) for rate in (10.0, 10.0 * gain))
    carried = _carried(RATES, [pair], cpus=2, cores=8)
    assert carried.prompt_s == pytest.approx(prompt_s), "a thread on every processor: four times as many"
    assert carried.generation == pytest.approx(generation), "seven threads for one"
    assert carried.reused == RATES.reused
    assert _carried(RATES, [pair], cpus=2, cores=2) == RATES


def test_the_median_gain_counts():
    assert _power([(1.0, 2.0), (1.0, 1.0), (1.0, 2.0)], 2) == pytest.approx(1.0)


def test_rates_are_medians_over_rounds_and_reuse_is_of_all_prompt_tokens():
    def reply(prompt_ms, cached):
        return {"prompt_n": 100, "cache_n": cached, "prompt_ms": prompt_ms, "prompt_per_second": 1e5 / prompt_ms,
                "predicted_per_second": 20.0}  # fmt: skip

    each = [Reading(replies=[reply(ms, 0), reply(ms, 300)], ready_s=None, peak_bytes=None) for ms in (900, 1000, 5000)]
    found = _rates(each)
    assert (found.prompt_s, found.prompt, found.generation, found.reused) == ([1.0, 1.0], 100.0, 20.0, 0.6)


def test_ready_is_when_the_log_says_that_the_model_is_loaded():
    log = b"2026-11-29T10:00:01.5Z srv load_model: loading\n2026-11-29T10:00:03.123456789Z main: model loaded\n"
    container = types.SimpleNamespace(
        logs=lambda **_: log, attrs={"State": {"StartedAt": "2026-11-29T10:00:01.023456789Z"}}
    )
    assert _ready_s(container) == pytest.approx(2.1, abs=1e-6)
    log = b"2026-11-29T10:00:01.5Z nothing of the kind\n"
    assert _ready_s(container) is None
    assert _clock("2026-11-29T10:00:00Z") == _clock("2026-11-29T10:00:00.000000000Z")
