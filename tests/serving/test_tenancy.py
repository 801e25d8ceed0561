"""A conversation that reuses its own beginning: what is sent, and that the slot holds that and nothing else."""

from __future__ import annotations

import threading
import time

import pytest

from agenttrace.serving import profiles
from agenttrace.serving.chat import ChatModel, fixed_part
from agenttrace.serving.model import NoReplyError, UnparsableReplyError
from agenttrace.serving.tenancy import LOST
from agenttrace.testing import ScriptedServer, fails, says

FIXED = fixed_part(model="m", sampler=profiles.sampler(), cache_prompt=None)


class Slot:
    """A server with one slot, as a script: it says what it has cached, and can lose it or answer with an error."""

    def __init__(self):
        self.held: list = []
        self.odd: dict[int, dict] = {}  # request → another answer
        self.lost_before: set[int] = set()  # requests before which the server is started anew
        self.reuses = True
        self.asked = 0

    def __call__(self, messages):
        self.asked += 1
        if self.asked in self.lost_before:
            self.held = []
        reuse = self.server.requests[-1]["cache_prompt"] and self.reuses
        cached = next((n for n in range(len(messages), 0, -1) if self.held[:n] == messages[:n]), 0) if reuse else 0
        self.held = messages
        # What it says depends on how much it had, as the last bits of a logit do.
        reply = says(f"{len(messages)} messages, {cached} cached")
        reply["timings"]["cache_n"] = cached
        return self.odd.get(self.asked, reply)


@pytest.fixture
def slot():
    made = Slot()
    with ScriptedServer(made) as server:
        made.server = server
        made.models = ChatModel(server.base_url, FIXED, sleep=lambda _: None, reuses_own=True)
        yield made
        made.models.close()


def talk(model, steps=3, name="a"):
    """Return what the model says in a conversation of so many steps, and what failed on the way."""
    messages, said, failed = [{"role": "user", "content": name}], [], []
    for number in range(steps):
        reply = model.complete(messages)
        said.append(reply.content)
        failed += reply.failed_tries or ()
        messages += [{"role": "assistant", "content": reply.content}, {"role": "user", "content": f"{name}{number}"}]
    return said, failed


def flags(slot):
    return [request["cache_prompt"] for request in slot.server.requests]


def test_the_first_request_starts_from_nothing_and_the_later_ones_go_on(slot):
    for name in ("a", "b"):
        model = slot.models.for_trace(name, seed=1)
        assert talk(model, name=name) == (["1 messages, 0 cached", "3 messages, 1 cached", "5 messages, 3 cached"], [])
        model.over()
    assert flags(slot) == [False, True, True] * 2


@pytest.mark.parametrize("odd", [fails(503, "busy"), {"object": "chat.completion", "choices": []}])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_after_a_failed_try_the_conversation_is_sent_again_and_says_the_same(slot, odd, at):
    expected, _ = talk(slot.models.for_trace("a", seed=1))
    first = slot.asked
    slot.models._slot = threading.Lock()  # the conversation before is not over
    slot.odd[first + at] = odd
    said, failed = talk(slot.models.for_trace("a", seed=1))
    assert said == expected
    assert len(failed) == 1
    again = [False, True, True][: at - 1]
    assert flags(slot)[first:] == [*[False, True, True][:at], *again, *[False, True, True][at - 1 :]]


@pytest.mark.parametrize("at", [2, 3])
def test_a_server_that_was_started_anew_is_noticed_and_brought_to_where_it_was(slot, at):
    expected, _ = talk(slot.models.for_trace("a", seed=1))
    slot.models._slot = threading.Lock()
    slot.lost_before.add(slot.asked + at)
    said, failed = talk(slot.models.for_trace("a", seed=1))
    assert said == expected
    assert failed == [LOST]


def test_a_server_that_is_started_anew_while_it_is_brought_to_where_it_was_is_noticed_too(slot):
    expected, _ = talk(slot.models.for_trace("a", seed=1))
    slot.models._slot = threading.Lock()
    first = slot.asked
    slot.odd[first + 3] = fails(503, "busy")
    slot.lost_before.add(first + 5)  # the second of those that are sent again
    said, failed = talk(slot.models.for_trace("a", seed=1))
    assert said == expected
    assert failed[1:] == [LOST]


def test_a_server_that_says_something_else_than_before_ends_the_attempt(slot):
    model = slot.models.for_trace("a", seed=1)
    slot.odd = {3: fails(503, "busy"), 4: says("another server")}
    with pytest.raises(
        NoReplyError, match=r"answers request 1 of a conversation otherwise than before.*before that: .*busy"
    ):
        talk(model)
    model.over()
    assert talk(slot.models.for_trace("a", seed=1), steps=1) == (["1 messages, 0 cached"], [])


def test_a_server_that_never_reuses_is_asked_again_once_and_believed(slot):
    slot.reuses = False
    said, failed = talk(slot.models.for_trace("a", seed=1), steps=4)
    assert said == [f"{number} messages, 0 cached" for number in (1, 3, 5, 7)]
    assert len(failed) == 1


def test_a_reply_that_cannot_be_parsed_is_a_part_of_the_conversation(slot):
    slot.odd = {2: fails(500, "Failed to parse input"), 3: fails(503, "busy"), 5: fails(500, "Failed to parse input")}
    model = slot.models.for_trace("a", seed=1)
    messages = [{"role": "user", "content": "a"}]
    model.complete(messages)
    messages += [{"role": "user", "content": "b"}]
    with pytest.raises(UnparsableReplyError):
        model.complete(messages)
    messages += [{"role": "user", "content": "c"}]
    assert model.complete(messages).content == "3 messages, 2 cached"
    assert flags(slot) == [False, True, True, False, True, True]


def test_a_conversation_waits_until_the_one_before_is_over(slot):
    first, second = (slot.models.for_trace(name, seed=1) for name in ("a", "b"))
    talk(first, steps=1)
    found = []
    other = threading.Thread(target=lambda: found.append(talk(second, name="b")))
    other.start()
    time.sleep(0.1)
    assert (found, slot.asked) == ([], 1)
    first.over()
    first.over()
    other.join(10)
    assert found[0][0][1:] == ["3 messages, 1 cached", "5 messages, 3 cached"]


def test_without_that_mode_every_request_says_what_the_run_spec_says():
    with ScriptedServer([says("x"), says("y")]) as server:
        models = ChatModel(server.base_url, fixed_part(model="m", sampler=profiles.sampler()))
        talk(models.for_trace("a", seed=1), steps=2)
        models.close()
    assert [request["cache_prompt"] for request in server.requests] == [False, False]
