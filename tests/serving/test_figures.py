"""What servers say of their own work arrives as they say it, over the real protocol; nothing is made up."""

from __future__ import annotations

import json
import math
import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from agenttrace.records import Timings
from agenttrace.serving import chat, profiles
from agenttrace.serving.chat import ChatModel, fixed_part
from agenttrace.serving.figures import timings
from agenttrace.serving.replies import read_reply
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


def test_a_wall_clock_that_is_set_back_under_a_request_makes_it_no_shorter(monkeypatch):
    told = iter(range(2 * 10**18, 0, -(10**12)))
    clock = SimpleNamespace(monotonic_ns=time.monotonic_ns, time_ns=lambda: next(told), sleep=time.sleep)
    monkeypatch.setattr(chat, "time", clock)
    with ScriptedServer([says("hello")]) as server:
        model = ChatModel(server.base_url, fixed_part(model="m", sampler=profiles.sampler()))
        reply = model.complete(TALK)
        model.close()
    assert (reply.start_ns, reply.end_ns - reply.start_ns) == (2 * 10**18, reply.elapsed_ns)


def events(*pieces):
    """The body of a stream that nobody asked for."""
    return "".join(f"data: {json.dumps(piece)}\n\n" for piece in [*pieces, "x"]).replace('"x"', "[DONE]").encode()


def of(body):
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_reply(sent, start_ns=0, end_ns=1, elapsed_ns=1)


def test_a_stream_has_what_its_choices_say_beside_their_messages():
    def piece(text, number, logprob, **more):
        row = {"id": number, "token": text, "logprob": logprob, "bytes": [1], "top_logprobs": []}
        choice = {"delta": {"content": text}, "token_ids": [number], "logprobs": {"content": [row]}}
        return {"choices": [choice | more]}

    last = {"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 2}, "metrics": {"queue_time_ms": 3}}
    first = {"prompt_token_ids": [1, 2], "choices": [{"delta": {"role": "assistant"}, "logprobs": None}]}
    found = of(events(first, piece("a", 5, -0.5), piece("b", 6, -0.25, finish_reason="stop"), last))
    assert found.content == "ab"
    assert (found.tokens.prompt_ids, found.tokens.output_ids) == ((1, 2), (5, 6))
    assert found.tokens.output_logprobs == (-0.5, -0.25)
    assert found.timings == Timings(queue_ms=3, sources=("metrics",))


def test_a_stream_has_the_last_figures_of_sglang_and_no_list_that_may_be_whole_or_a_part():
    def piece(**facts):
        return {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop", "meta_info": facts}]}

    pieces = [piece(e2e_latency=0.1), piece(e2e_latency=0.2, output_token_logprobs=[[-0.5, 7, None]])]
    usage = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}
    found = of(events(*pieces, usage, {"choices": [], "usage": {}}))
    assert (found.timings.server_ms, found.input_tokens) == (200.0, 9)
    assert found.tokens.output_ids == (7,)
    assert of(events(*pieces, pieces[1])).tokens is UNSET


def test_a_whole_number_is_a_count_however_it_is_written():
    usage, said = {"prompt_tokens": 10.0, "completion_tokens": 5.0}, {"prompt_n": 1e3, "predicted_n": 4.5}
    found = of({"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "usage": usage, "timings": said})
    assert (found.input_tokens, found.output_tokens) == (10, 5)
    assert found.timings == Timings(prompt_n=1000, sources=("timings",))
    assert {type(found.input_tokens), type(found.timings.prompt_n)} == {int}
