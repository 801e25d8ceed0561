"""A prompt is counted before it is sent: exactly where the server can, from above where it cannot."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttrace.records import Sampler, Timings
from agenttrace.serving.budget import Counters, EstimatingCounter
from agenttrace.serving.chat import ChatModel, fixed_part
from agenttrace.serving.model import NoReplyError, Reply
from agenttrace.testing import ScriptedServer, says

TALK = [{"role": "system", "content": "be good"}, {"role": "user", "content": "one two three"}]


def reply(content, tokens_in, tokens_out):
    return Reply(
        content=content, reasoning=None, tool_calls=(), finish_reason="stop", input_tokens=tokens_in,
        output_tokens=tokens_out, timings=None, start_ns=1, end_ns=2, elapsed_ns=1,
    )  # fmt: skip


@pytest.mark.parametrize("route", ["llama-server", "vllm"])
def test_the_servers_own_count_is_taken(route):
    with ScriptedServer([], counts=route) as server:
        counters = Counters(server.base_url, model="m")
        assert counters.route == route
        assert counters.new().count(TALK) == 5
        counters.close()


def test_a_server_that_counts_nothing_gives_an_estimate_from_above():
    with ScriptedServer([]) as server:
        counters = Counters(server.base_url, model="m")
        assert counters.route == "estimate"
        assert counters.new().count(TALK) > len("be goodone two three")
        counters.close()


def test_a_server_that_goes_away_is_no_count_of_zero():
    pauses = []
    with ScriptedServer([], counts="vllm") as server:
        counters = Counters(server.base_url, model="m", sleep=pauses.append)
    counters._root = "http://127.0.0.1:1"  # the server's threads outlive it on open connections
    with pytest.raises(NoReplyError, match="does not count a prompt at /tokenize"):
        counters.count(TALK)
    counters.close()
    assert len(pauses) == 4


def test_the_budget_and_the_seed_go_with_the_request():
    sampler = Sampler(name="s", temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, seed=1, max_tokens=1024)
    with ScriptedServer([says("hello")], counts="llama-server") as server:
        counters = Counters(server.base_url, model="m")
        chat = ChatModel(server.base_url, fixed_part(model="m", sampler=sampler), counters=counters)
        model = chat.for_trace("", seed=77)
        assert model.count(TALK) == 5
        model.complete(TALK, max_tokens=9)
        counters.close()
        chat.close()
        (sent,) = server.requests
    assert (sent["max_tokens"], sent["seed"]) == (9, 77)
    assert "tools" not in sent
    assert "tool_choice" not in sent


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": "12", "completion_tokens": 3.5}, [1], "many",
        {"prompt_tokens": -1, "completion_tokens": True},
        {"prompt_tokens": 10**30, "completion_tokens": None},
    ],
)  # fmt: skip
def test_a_count_that_no_record_could_hold_is_not_reported(usage):
    sampler = Sampler(name="s", temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, seed=1, max_tokens=1024)
    timings = {"prompt_n": "x", "prompt_ms": float("nan"), "predicted_n": 3, "predicted_ms": True, "cache_n": [1]}
    with ScriptedServer([{**says("hello"), "usage": usage, "timings": timings}]) as server:
        chat = ChatModel(server.base_url, fixed_part(model="m", sampler=sampler))
        answer = chat.complete(TALK, max_tokens=9)
        chat.close()
    assert (answer.input_tokens, answer.output_tokens) == (None, None)
    assert answer.timings == Timings(predicted_n=3, sources=("timings",))
    assert msgspec.json.decode(msgspec.json.encode(answer), type=Reply) == answer


def test_each_conversation_is_estimated_by_itself_and_from_what_was_reported_of_it():
    sampler = Sampler(name="s", temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, seed=1, max_tokens=1024)
    with ScriptedServer(lambda _: says("hello")) as server:
        counters = Counters(server.base_url, model="m")
        chat = ChatModel(server.base_url, fixed_part(model="m", sampler=sampler), counters=counters)
        one, other = chat.for_trace("a", seed=1), chat.for_trace("b", seed=1)
        before = one.count(TALK)
        one.complete(TALK)
        talk = [*TALK, {"role": "assistant", "content": "hello"}]
        assert one.count(talk) == 10 + 5 + 32  # reported are 10 tokens of prompt; the reply has 5 bytes
        assert other.count(TALK) == before
        counters.close()
        chat.close()


@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60)), min_size=1, max_size=6), st.randoms())
def test_the_estimate_is_never_below_a_tokenizer_of_whole_bytes(turns, dice):
    """The worst tokenizer has a token per byte, and a template puts up to 32 tokens around a message."""

    def truth(messages):
        return sum(len(message["content"].encode()) + overhead for message in messages)

    overhead = dice.randint(0, 32)
    estimate, messages = EstimatingCounter(), [{"role": "system", "content": "s"}]
    for said, seen in turns:
        messages.append({"role": "user", "content": seen})
        assert estimate.count(messages) >= truth(messages)
        answer = reply(said, truth(messages), len(said.encode()))
        estimate.answered(messages, answer)
        messages.append({"role": "assistant", "content": said})
