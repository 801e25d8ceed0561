"""How many requests an endpoint has at a time: held against servers that count, over the real protocol."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from agenttrace.cluster.endpoints import Endpoints, read_addresses
from agenttrace.cluster.pinned import PinnedModels
from agenttrace.cluster.share import EndpointShare
from agenttrace.serving.chat import ChatModel
from agenttrace.serving.model import NoReplyError
from agenttrace.serving.wire import Answer, WireError
from agenttrace.testing import ScriptedServer, answers, says

ASKED = [{"role": "user", "content": "go"}]


class Counting:
    """A script that counts how many requests it has at a time, and sends away those beyond a limit."""

    def __init__(self, limit=1000, **away):
        self.limit, self.away = limit, {"status": 429, "headers": {"Retry-After": "0"}, **away}
        self.now = self.most = self.served = self.sent_away = 0
        self._lock = threading.Lock()

    def __call__(self, _):
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
            too_many = self.now > self.limit
            self.served, self.sent_away = self.served + (not too_many), self.sent_away + too_many
        try:
            time.sleep(0.03)
            return answers(b'{"error": {"message": "busy"}}', **self.away) if too_many else says("yes")
        finally:
            with self._lock:
                self.now -= 1


def asked(server, *, in_flight, conversations=40, at_a_time=16, patience_s=60.0):
    """Hold conversations of one request each through the set of endpoints; return it, its lines and what came."""
    lines = []

    def connect(endpoint):
        fixed = {"model": "m", "extra_body": {}}
        models = ChatModel(endpoint.address.url, fixed, send=endpoint.share.ask, sleep=lambda _: None)
        return SimpleNamespace(models=models, environment={})

    endpoints = Endpoints(
        read_addresses([server.base_url]), connect, answers=lambda _: True, tell=lines.append, patience_s=patience_s
    )
    endpoints.begin(in_flight)
    pinned = PinnedModels(endpoints, {str(number): "t" for number in range(conversations)})

    def hold(number):
        try:
            reply = pinned.for_trace(str(number), seed=0).complete(ASKED)
            return reply.content, pinned.settle(str(number), record=True)
        except NoReplyError as error:
            return error, None

    with ThreadPoolExecutor(at_a_time) as pool:
        return endpoints.every[0].share, lines, [*pool.map(hold, range(conversations))]


def test_an_endpoint_has_no_more_requests_at_a_time_than_its_share():
    script = Counting()
    with ScriptedServer(script) as server:
        _, _, came = asked(server, in_flight=3)
    assert {content for content, _ in came} == {"yes"}
    assert (script.most, script.served) == (3, 40)
    assert not any("requests_sent_away" in said for _, said in came)
    wide = Counting()
    with ScriptedServer(wide) as server:
        asked(server, in_flight=16)
    assert wide.most > 3


def test_a_server_that_takes_four_at_a_time_gets_about_four_and_every_conversation_its_reply():
    script = Counting(4)
    with ScriptedServer(script) as server:
        share, lines, came = asked(server, in_flight=16, conversations=120)
    assert {content for content, _ in came} == {"yes"}
    assert script.served == 120
    assert script.most > 4  # at the beginning
    assert lines == []  # it is not taken for one that fails
    assert 0 < share.sent_away == script.sent_away < 120  # with 16 at a time all along three for each that is served
    assert any(said.get("requests_sent_away") for _, said in came)


def test_503_counts_likewise_where_it_says_when_to_come_again_and_is_a_failure_where_it_does_not():
    said = Counting(4, status=503)
    with ScriptedServer(said) as server:
        _, lines, came = asked(server, in_flight=16)
    assert ({content for content, _ in came}, lines) == ({"yes"}, [])
    silent = Counting(0, status=503, headers={})
    with ScriptedServer(silent) as server:
        share, lines, came = asked(server, in_flight=1, conversations=1, at_a_time=1)
    assert "does not answer after 5 tries" in str(came[0][0])
    assert (share.sent_away, silent.sent_away) == (0, 5)


def test_a_server_that_does_nothing_but_send_away_is_gone_after_the_patience():
    script = Counting(0)
    with ScriptedServer(script) as server:
        share, _, came = asked(server, in_flight=1, conversations=1, at_a_time=1, patience_s=0.5)
    assert "HTTP 429: busy" in str(came[0][0])
    assert 5 <= script.sent_away == share.sent_away < 12


class Clock:
    def __init__(self):
        self.now, self.slept = 0.0, []

    def sleep(self, seconds):
        self.now += seconds
        self.slept.append(seconds)


def share_of(most, clock):
    return EndpointShare(most, patience_s=100, clock=lambda: clock.now, sleep=clock.sleep)


def at_a_time(share):
    return max(1, int(share._now))


FINE, AWAY = Answer(200, {}, b""), Answer(429, {"retry-after": "7"}, b"")


def test_it_is_halved_once_a_round_and_grows_by_one_with_each():
    clock = Clock()
    share = share_of(16, clock)
    first = [share._begin() for _ in range(16)]
    for cuts in first:  # a whole round is sent away
        share._end()
        share._heard(AWAY, cuts)
    assert at_a_time(share) == 8
    share._heard(AWAY, share._begin())
    assert at_a_time(share) == 4
    share._end()
    for expected in (5, 6, 7):
        for _ in range(expected):
            share.ask(lambda: FINE)
        assert at_a_time(share) == expected
    for _ in range(1000):
        share.ask(lambda: FINE)
    assert at_a_time(share) == 16  # what it was given, and no more


def test_the_pause_is_the_one_that_was_asked_for_and_a_second_where_none_was():
    clock = Clock()
    come = iter([AWAY, Answer(429, {}, b""), Answer(503, {"retry-after": "soon"}, b""), FINE])
    assert share_of(4, clock).ask(lambda: next(come)) is FINE
    assert clock.slept == [7.0, 1.0, 0.2]


def test_patience_begins_anew_with_every_other_answer():
    clock = Clock()
    share = share_of(1, clock)
    come = iter([AWAY] * 14 + [FINE])
    assert share.ask(lambda: next(come)) is FINE
    come = iter([AWAY] * 16)
    assert share.ask(lambda: next(come)) is AWAY
    assert clock.now == pytest.approx(29 * 7)


def test_an_error_gives_the_turn_back_and_another_shard_may_have_another_share():
    share = share_of(1, Clock())

    def broken():
        raise WireError("reset")

    for _ in range(3):
        with pytest.raises(WireError):
            share.ask(broken)
    share.limit(6)
    assert at_a_time(share) == 6
    share._heard(AWAY, share._begin())
    share.limit(16)
    assert at_a_time(share) == 3  # what the endpoint has said still holds
    share.limit(2)
    assert at_a_time(share) == 2
