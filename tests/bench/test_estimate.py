"""What 700 tasks take, by rates: shares of a last reply, and the carrying over to other processors."""

from __future__ import annotations

import json
import types

import pytest

from bench.campaigns.bench_estimate import (
    REPLY,
    TASKS,
    Rates,
    Reading,
    _carried,
    _clock,
    _fastest,
    _medians,
    _ready_s,
    run,
)
from bench.random_weights import Shape, write

RATES = Rates(evaluated=[1500, 300], prompt=150.0, generation=20.0)


def test_of_a_last_reply_only_its_share_counts():
    assert RATES.hours(2.0) == pytest.approx(TASKS / 3600 * (12 + 2 * REPLY / 20))
    assert RATES.hours(1.25) == pytest.approx(TASKS / 3600 * (10 + 0.25 * 2 + 1.25 * REPLY / 20))


@pytest.mark.parametrize(("gain", "prompt", "generation"), [(2.0, 600.0, 140.0), (1.0, 150.0, 20.0)])
def test_eight_processors_gain_what_the_second_one_gained_here(gain, prompt, generation):
    sides = [Reading(replies=[reply(90_000, 0)], prompt=rate, generation=rate) for rate in (30.0, 30.0 * gain)]
    carried = _carried(RATES, [(sides[0], sides[1])], cpus=2, cores=8)
    assert carried.prompt == pytest.approx(prompt), "a thread on every processor: four times as many"
    assert carried.generation == pytest.approx(generation), "seven threads for one"
    assert _carried(RATES, [(sides[0], sides[1])], cpus=2, cores=2) == RATES


def reply(prompt_ms, cached):
    return {"prompt_n": 100, "cache_n": cached, "prompt_ms": prompt_ms, "predicted_n": 10, "predicted_ms": 500}


def test_medians_are_of_whole_conversations_and_the_fastest_of_short_requests():
    each = [
        Reading(replies=[reply(ms, 0), reply(3 * ms, 300)], prompt=300 - ms / 100, generation=25 + ms / 1000)
        for ms in (900, 1000, 5000)
    ]
    assert _medians(each) == Rates(evaluated=[100, 100], prompt=50.0, generation=20.0)
    assert _fastest(each) == Rates(evaluated=[100, 100], prompt=291.0, generation=30.0)
    each[1].replies[0]["prompt_ms"] = 200
    assert _fastest(each).prompt == 500.0, "one of the conversation may be the fastest"


def test_ready_is_when_the_log_says_that_the_model_is_loaded():
    log = b"2026-11-29T10:00:01.5Z srv load_model: loading\n2026-11-29T10:00:03.123456789Z main: model loaded\n"
    container = types.SimpleNamespace(
        logs=lambda **_: log, attrs={"State": {"StartedAt": "2026-11-29T10:00:01.023456789Z"}}
    )
    assert _ready_s(container) == pytest.approx(2.1, abs=1e-6)
    log = b"2026-11-29T10:00:01.5Z nothing of the kind\n"
    assert _ready_s(container) is None
    assert _clock("2026-11-29T10:00:00Z") == _clock("2026-11-29T10:00:00.000000000Z")


@pytest.mark.docker
def test_a_server_of_the_kits_is_measured_in_both_profiles(own_instance, tmp_path):
    small = Shape(label="0.6B", layers=2, width=64, inner=96, heads=4, kv_heads=2, head_width=32)
    write(tmp_path / "small.gguf", small)
    found = tmp_path / "found.json"
    status = run(model=str(tmp_path / "small.gguf"), rounds=1, reply=8, cores=[8], only=[], json_file=found)
    assert status == 0
    document = json.loads(found.read_bytes())
    stateless, reproducible, *carried = document["rows"]
    assert [stateless["medians"]["evaluated"], reproducible["medians"]["evaluated"]] == [[1495, 1620], [1495, 125]]
    assert (stateless["reused"], round(reproducible["reused"], 2)) == (0, 0.48)
    assert [row["cores"] for row in carried] == [8, 8]
    for row in document["rows"]:
        assert row["fastest"]["hours"] > 0
    assert document["ready_s"] > 0
    assert document["peak_bytes"] > (tmp_path / "small.gguf").stat().st_size
