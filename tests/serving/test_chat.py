"""What servers answer, over the real protocol: a reply, another try, or an end of its own; never a fault of ours."""

from __future__ import annotations

import base64
import collections
import gzip
import json
import random
import threading
import time

import pytest

from agenttrace.errors import ModelServerError
from agenttrace.serving import profiles
from agenttrace.serving.chat import ChatModel, fixed_part
from agenttrace.serving.endpoint import scrubbed
from agenttrace.serving.model import ContextFullError, NoReplyError, RequestRefusedError, UnparsableReplyError
from agenttrace.serving.wire import MOST_BYTES, Wire, WireError
from agenttrace.testing import ScriptedServer, answers, fails, says
from tests import odd_replies
from tests.odd_replies import FULL, calls, draw, events, function, message

FIXED = fixed_part(model="m", sampler=profiles.sampler())
TALK = [{"role": "user", "content": "u"}]
KEY = "sk-do-not-show-1234"


@pytest.fixture
def asked():
    """Return a function that asks a scripted server once and returns reply, requests and pauses."""

    def ask(script, *, times=1, timeout_s=20.0, key=None):
        pauses = []
        with ScriptedServer(script) as server:
            model = ChatModel(server.base_url, FIXED, sleep=pauses.append, timeout_s=timeout_s, api_key=key)
            try:
                for _ in range(times):
                    reply = model.complete(TALK)
            finally:
                model.close()
        return reply, server.count, pauses

    return ask


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning": "I think."},
        {"reasoning_content": "I think."},
        {"reasoning_content": "", "reasoning": "I think."},
        {"reasoning_content": "I think.", "reasoning": "I think."},
        {"reasoning_details": [{"type": "reasoning.text", "text": "I think."}]},
        {"reasoning": "I think.", "reasoning_details": [{"text": "I "}, {"text": "think."}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "I think."}, None, {"text": None}]},
        {"reasoning_details": {"text": "I think."}},
        {"reasoning_details": "I think."},
        {"reasoning_details": ["I ", "think."]},
        {"reasoning_details": [{"summary": [{"type": "summary_text", "text": "I think."}]}, {"text": 5}]},
        {"content": [{"type": "thinking", "thinking": ["I ", "think."]}, {"type": "text", "text": ""}]},
        {"thinking_blocks": [{"type": "thinking", "thinking": "I think."}]},
        {"thinking": "I think."},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "I think."}]}]},
    ],
    ids="+".join,
)
def test_thinking_is_found_under_each_of_its_names_and_once(asked, fields):
    assert asked([message(**fields)])[0].reasoning == "I think."


def test_two_texts_of_thinking_are_both_kept(asked):
    assert asked([message(reasoning="b", reasoning_content="a")])[0].reasoning == "a\nb"


@pytest.mark.parametrize(
    ("call", "name", "arguments"),
    [
        ({"function": {"name": "bash"}}, "bash", ""),
        (function("bash", None), "bash", ""),
        (function("bash", {"command": "ls"}), "bash", '{"command": "ls"}'),
        ({"type": "", "function": {"name": "bash", "arguments": "{}"}}, "bash", "{}"),
        ({"function": {"arguments": "{}"}}, "", "{}"),
        ({"id": "a"}, "", '{"id": "a"}'),
        ({"function": None}, "", '{"function": null}'),
        ({"type": ["a"]}, "", '{"type": ["a"]}'),
        ({"type": "custom", "custom": {"name": "x"}}, "x", '{"type": "custom", "custom": {"name": "x"}}'),
        ("ls", "", "ls"),
        (None, "", ""),
    ],
    ids=str,
)
def test_a_call_of_any_form_is_a_call(asked, call, name, arguments):
    (found,) = asked([calls(call)])[0].tool_calls
    assert (found.name, found.arguments) == (name, arguments)


def test_a_stream_of_events_that_was_not_asked_for_is_put_together(asked):
    reply, count, _ = asked([answers(events("think"))])
    assert (reply.reasoning, reply.finish_reason, reply.input_tokens, count) == ("so think", "tool_calls", 10, 1)
    assert [(call.name, call.arguments) for call in reply.tool_calls] == [("bash", '{"command":"ls"}')]


@pytest.mark.parametrize(
    ("content", "text"),
    [([{"type": "text", "text": ""}], None), (["a", {"type": "text", "text": "b"}], "ab"), ([{"x": 1}], '{"x": 1}')],
    ids=["empty", "texts", "unknown"],
)
def test_content_in_parts_is_their_text(asked, content, text):
    reply, _, _ = asked([message(content=content)])
    assert (reply.content or None, reply.reasoning) == (text, None)


def test_what_ends_a_line_elsewhere_ends_none_in_a_stream_of_events(asked):
    delta = {"content": "a\u2028b\x85c", "tool_calls": ["x", {"index": 0, "function": {"name": "bash"}}]}
    piece = json.dumps({"choices": [{"delta": delta, "finish_reason": "stop"}]}, ensure_ascii=False)
    reply, _, _ = asked([answers(f"data: {piece}\r\n\r\ndata: [DONE]\r\n".encode())])
    assert reply.content == "a\u2028b\x85c"
    assert [(call.name, call.arguments) for call in reply.tool_calls] == [("bash", '"x"')]


@pytest.mark.parametrize(
    "reply",
    [
        {"choices": [{"message": "the prompt is too long", "finish_reason": "stop"}]},
        {"choices": [{"text": "failed with tool_use_failed", "finish_reason": "stop"}]},
        answers(b'data: {"choices": [{"delta": {"content": "context window exceeded"}}]}\n'),
        fails(503, "too many tokens are asked for at present"),
    ],
    ids=["message", "text", "stream", "load"],
)
def test_words_about_length_that_are_the_models_or_about_load_end_no_conversation(asked, reply):
    assert asked([reply, says("x")])[0].content == "x"


@pytest.mark.parametrize("status", [402, 403])
def test_a_used_up_quota_is_no_full_context(asked, status):
    with pytest.raises(RequestRefusedError, match="token limit exceeded"):
        asked([fails(status, "monthly token limit exceeded")])


@pytest.mark.parametrize("kind", odd_replies.AGAIN)
def test_an_answer_that_is_no_reply_is_asked_for_again_and_kept(asked, kind):
    made = odd_replies.AGAIN[kind](random.Random(1), "odd1000001")
    reply, count, pauses = asked([made, says("good")])
    assert (reply.content, count, pauses) == ("good", 2, [0.5])
    (said,) = reply.failed_tries
    assert "odd1000001" in said or kind in {"nothing", "less than announced", "a bomb"}


def test_a_server_that_only_ever_fails_is_named_with_its_own_words(asked):
    with pytest.raises(NoReplyError, match=r"does not answer after 5 tries \(HTTP 529: overloaded") as failure:
        asked([{"error": {"message": f"overloaded {number}", "code": 529}} for number in range(5)])
    assert "127.0.0.1" in str(failure.value)
    assert all(f"overloaded {number}" in str(failure.value) for number in range(5))  # what was served is kept


def test_a_server_that_says_the_same_each_time_is_quoted_once(asked):
    with pytest.raises(
        NoReplyError, match=r"5 tries \(HTTP 529: overloaded.*before that: HTTP 529: .*\(4 times\)"
    ) as failure:
        asked([{"error": {"message": "overloaded", "code": 529}}] * 5)
    assert str(failure.value).count("overloaded") == 2


@pytest.mark.parametrize("said", FULL)
@pytest.mark.parametrize("status", [400, 500, None])
def test_a_full_context_is_known_by_any_servers_words(asked, said, status):
    body = fails(status, said) if status else {"error": {"message": said, "code": 400}}
    with pytest.raises(ContextFullError):
        asked([body])


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, "unknown parameter top_k"),
        (400, "max_tokens is too large: 200000. This model supports at most 16384 completion tokens"),
        (400, "max_tokens=100000 cannot be greater than max_model_len=4096. Please request fewer output tokens."),
        (422, "context: field required"),
        (403, "flagged by moderation"),
        (404, "no such model"),
    ],
)
def test_another_refusal_is_no_full_context(asked, status, said):
    with pytest.raises(RequestRefusedError, match="HTTP"):
        asked([says("good"), fails(status, said)], times=2)


def test_a_limit_of_requests_is_no_full_context(asked):
    said = "Rate limit reached: maximum context length of tokens per minute exceeded"
    assert asked([fails(429, said), says("x")])[0].content == "x"


@pytest.mark.parametrize("status", [401, 404, 405, 307])
def test_what_refuses_the_first_request_of_all_is_no_server(asked, status):
    with pytest.raises(ModelServerError, match=f"refuses the first request: HTTP {status}"):
        asked([fails(status, "no")])
    with pytest.raises(RequestRefusedError):
        asked([says("x"), fails(status, "no")], times=2)


def test_a_redirect_is_not_followed():
    with ScriptedServer([says("other")]) as other:
        elsewhere = answers(b"", status=307, headers={"Location": f"{other.base_url}/chat/completions"})
        with ScriptedServer([says("x"), elsewhere]) as server:
            model = ChatModel(server.base_url, FIXED)
            model.complete(TALK)
            with pytest.raises(RequestRefusedError, match="HTTP 307"):
                model.complete(TALK)
            model.close()
        assert other.count == 0


def test_a_server_that_sends_a_byte_now_and_then_meets_the_deadline(asked):
    started = time.monotonic()
    with pytest.raises(NoReplyError, match="no reply within the time limit"):
        asked([answers(b" " * 1000, every_s=0.05)], timeout_s=0.6)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("steps", [8, 0])
def test_a_server_that_shows_progress_has_its_time_from_the_last_of_it(steps):
    """The reply takes 1.6 s, twice the limit; the page changes for as long."""
    body = json.dumps(says("long")).encode()
    slow = answers(body + b" " * 16, every_s=1.6 / (len(body) + 16))
    with ScriptedServer([slow]) as server:
        ended = threading.Event()

        def work():
            for number in range(steps):
                server.pages["/slots"] = {"slots": [{"n_decoded": number}]}
                ended.wait(0.25)

        working = threading.Thread(target=work)
        server.pages["/slots"] = {"slots": []}
        working.start()
        model = ChatModel(server.base_url, FIXED, timeout_s=0.8, shows_progress=True)
        try:
            if steps:
                assert model.complete(TALK).content == "long"
            else:
                with pytest.raises(NoReplyError, match=r"not whole within 0\.8 s of the last progress"):
                    model.complete(TALK)
        finally:
            ended.set()
            working.join()
            model.close()


def test_a_server_without_that_page_has_the_limit_as_it_is():
    started = time.monotonic()
    with ScriptedServer([answers(b" " * 1000, every_s=0.05)]) as server:
        model = ChatModel(server.base_url, FIXED, timeout_s=0.6, shows_progress=True)
        with pytest.raises(NoReplyError, match="no reply within the time limit"):
            model.complete(TALK)
        model.close()
    assert time.monotonic() - started < 5


def test_so_does_one_that_never_ends_its_headers():
    import socket

    listening = socket.create_server(("127.0.0.1", 0))

    def drip():
        connection, _ = listening.accept()
        with connection:
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while True:
                    connection.sendall(b"a")
                    time.sleep(0.05)
            except OSError:
                pass

    thread = threading.Thread(target=drip)
    thread.start()
    with Wire() as wire, pytest.raises(WireError, match=r"not whole within 0\.6 s") as failure:
        wire.get(f"http://127.0.0.1:{listening.getsockname()[1]}/", within_s=0.6)
    assert failure.value.overdue
    thread.join(10)
    assert not thread.is_alive()
    listening.close()


def test_an_answer_is_read_up_to_its_limit_and_no_further():
    bomb = gzip.compress(b" " * (64 * 2**20))
    with (
        ScriptedServer([answers(bomb, headers={"Content-Encoding": "gzip"})]) as server,
        Wire() as wire,
        pytest.raises(WireError, match=f"more than {MOST_BYTES >> 20} MiB"),
    ):
        wire.post(f"{server.base_url}/chat/completions", b"{}", within_s=20)


def forms(key):
    data = key.encode()
    yield key
    yield data.hex()
    for before in ("", "a", "ab", "Bearer "):
        yield base64.b64encode(before.encode() + data).decode()
        yield base64.urlsafe_b64encode(before.encode() + data + b"?>").decode()


@pytest.mark.parametrize("form", list(forms(KEY)))
def test_the_key_is_in_no_reply(asked, form):
    said = f"your key is {form}."
    reply, _, _ = asked([message(content=said, reasoning=said, tool_calls=[function(said, said)])], key=KEY)
    for text in (reply.content, reply.reasoning, reply.tool_calls[0].name, reply.tool_calls[0].arguments):
        assert "<API key>" in text
        assert form not in text
        assert KEY not in text
    reply, _, _ = asked([fails(502, said), says("x")], key=KEY)
    assert form not in str(reply.failed_tries)


def test_what_is_too_short_for_a_key_is_left_in_texts():
    assert scrubbed("EMPTY and none", "EMPTY") == "EMPTY and none"
    assert scrubbed("the key sk-e2e, c2st", "sk-e2e") == "the key <API key>, c2st"


@pytest.mark.slow
def test_two_thousand_odd_replies_become_what_they_should():
    """Each of them once, over the real protocol; those after which another try is made are followed by a good one."""
    drawn = draw(20261129)
    current = None
    served = 0

    def script(_messages):
        nonlocal served
        served += 1
        return says("good") if current.becomes == "again" and served > 1 else current.reply

    seen = collections.Counter()
    with ScriptedServer(script, remember=False) as server:
        model = ChatModel(server.base_url, FIXED, sleep=lambda _: None)
        current = next(one for one in drawn if one.kind == "good")
        model.complete(TALK)
        for _ in range(2_000):
            current, served = next(drawn), 0
            found, text = "step", ""
            try:
                reply = model.complete(TALK)
                text = json.dumps([str(reply)])
                found = "again" if reply.failed_tries else "step"
            except (UnparsableReplyError, ContextFullError, RequestRefusedError) as error:
                text = str(error)
                found = {"U": "unparsable", "C": "budget", "R": "refused"}[type(error).__name__[0]]
            assert (found, current.mark.removeprefix("odd") in text) == (current.becomes, True), (current, text)
            seen[current.kind] += 1
        model.close()
    assert set(seen) == set(odd_replies.KINDS)
