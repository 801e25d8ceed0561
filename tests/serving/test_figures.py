"""What servers say of their own work arrives as they say it, over the real protocol; nothing is made up."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttrace.records import Timings
from agenttrace.serving import profiles
from agenttrace.serving.chat import ChatModel, fixed_part
from agenttrace.serving.figures import timings
from agenttrace.testing import ScriptedServer, answers, says

TALK = [{"role": "user", "content": "u"}]
VLLM = {
    "usage": {
        "prompt_tokens": 42, "completion_tokens": 128, "total_tokens": 170,
        "prompt_tokens_details": {"cached_tokens": 32}, "completion_tokens_details": {"reasoning_tokens": 36},
    },
    "metrics": {
        "time_to_first_token_ms": 85.2, "generation_time_ms": 1240.5, "queue_time_ms": 12.3, "mean_itl_ms": 9.1,
        "tokens_per_second": 103.2,
    },
}  # fmt: skip
SGLANG = {"queue_time": 0.0125, "e2e_latency": 1.5, "decode_throughput": 88.5, "cached_tokens": 24, "id": "x"}
HOSTILE = [None, True, -1, -0.5, 1e300, math.nan, math.inf, "12", [1], {"a": 1}, 2**70]


def asked(reply):
    """The timings of a scripted reply, given as an object or as bytes."""
    with ScriptedServer([answers(reply) if isinstance(reply, bytes) else reply]) as server:
        model = ChatModel(server.base_url, fixed_part(model="m", sampler=profiles.sampler()))
        try:
            return model.complete(TALK).timings
        finally:
            model.close()


def without_timings(**more):
    reply = {**says("hello"), **more}
    del reply["timings"]
    return reply


def test_vllm_says_queue_first_token_decode_cache_and_reasoning():
    assert asked(without_timings(**VLLM)) == Timings(
        predicted_ms=1240.5, cached_n=32, queue_ms=12.3, first_token_ms=85.2, mean_itl_ms=9.1, tokens_per_second=103.2,
        reasoning_n=36, sources=("metrics", "usage"),
    )  # fmt: skip


def test_vllm_without_its_option_says_what_usage_holds():
    found = asked(without_timings(usage=VLLM["usage"], metrics=None))
    assert found == Timings(cached_n=32, reasoning_n=36, sources=("usage",))


def test_sglang_says_seconds_and_they_become_milliseconds():
    reply = without_timings(usage={"prompt_tokens": 40, "completion_tokens": 9, "reasoning_tokens": 4})
    reply["choices"][0]["meta_info"] = SGLANG
    assert asked(reply) == Timings(
        cached_n=24, queue_ms=12.5, decode_tokens_per_second=88.5, server_ms=1500.0, reasoning_n=4,
        sources=("meta_info", "usage"),
    )  # fmt: skip


def test_llama_cpp_says_prefill_decode_and_cache_once():
    reply = says("hello")
    reply["usage"]["prompt_tokens_details"] = {"cached_tokens": 7}  # newer builds say it there as well
    assert asked(reply) == Timings(
        prompt_n=10, prompt_ms=1.5, predicted_n=5, predicted_ms=2.5, cached_n=0, sources=("timings",)
    )


def test_a_server_that_says_nothing_has_no_timings():
    assert asked(without_timings()) is None


@pytest.mark.parametrize("bad", HOSTILE, ids=repr)
def test_a_figure_that_is_none_is_not_reported(bad):
    reply = without_timings(
        timings=dict.fromkeys(("prompt_n", "prompt_ms", "predicted_n", "predicted_ms", "cache_n"), bad),
        metrics=dict.fromkeys(VLLM["metrics"], bad),
        usage={
            "prompt_tokens": 4, "completion_tokens": 5, "reasoning_tokens": bad,
            "prompt_tokens_details": {"cached_tokens": bad}, "completion_tokens_details": {"reasoning_tokens": bad},
        },
    )  # fmt: skip
    reply["choices"][0]["meta_info"] = dict.fromkeys(SGLANG, bad)
    assert asked(json.dumps(reply).encode()) is None


@pytest.mark.parametrize("bad", HOSTILE, ids=repr)
def test_a_part_of_another_type_is_passed_over(bad):
    reply = without_timings(metrics=bad, timings=bad)
    reply["usage"] |= {"prompt_tokens_details": bad, "completion_tokens_details": bad}
    reply["choices"][0]["meta_info"] = bad
    assert asked(json.dumps(reply).encode()) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*VLLM["metrics"], *SGLANG]), inner),
    max_leaves=20,
)


@given(answer=st.fixed_dictionaries({"timings": JSON, "metrics": JSON, "usage": JSON}), meta_info=JSON)
def test_whatever_stands_there_figures_are_finite_and_not_negative(answer, meta_info):
    found = timings(answer, {"meta_info": meta_info})
    for name in Timings.__struct_fields__ if found else ():
        value = getattr(found, name)
        assert not isinstance(value, (int, float)) or (math.isfinite(value) and value >= 0)
