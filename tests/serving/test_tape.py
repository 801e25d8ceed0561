"""What is recorded is what was sent and what came; a replay says it again and notices another request."""

from __future__ import annotations

import contextlib
import json

import pytest
from msgspec import UNSET

from agenttrace.agents.tool_calling import agent_spec
from agenttrace.errors import DataError
from agenttrace.records import Record
from agenttrace.serving import profiles
from agenttrace.serving.budget import Counters
from agenttrace.serving.cassette import Cassette, CassetteLog, Exchange
from agenttrace.serving.chat import ChatModel, fixed_part
from agenttrace.serving.model import ContextFullError, UnparsableReplyError
from agenttrace.serving.tape import Recorder, RecordingModel, ReplayingModel
from agenttrace.store.ids import IdIndex
from agenttrace.store.jsonl import RecordLog
from agenttrace.testing import ScriptedServer, fails, says

SPEC = agent_spec()
SAMPLER = profiles.sampler()
SETTINGS = {"model": "m", "sampler": SAMPLER, "tools": SPEC.tools, "tool_choice": "auto", "cache_prompt": False}
FIXED = fixed_part(**SETTINGS)
TALK = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]


class Row(Record, frozen=True, kw_only=True):
    trace_id: str


@pytest.fixture
def chat():
    """Return a function that makes models of a server; they are closed at the end."""
    with contextlib.ExitStack() as stack:

        def make(server, fixed=FIXED, counters=None):
            model = ChatModel(server.base_url, fixed, counters=counters, sleep=lambda _: None, timeout_s=20)
            stack.callback(model.close)
            return model

        yield make


def essence(reply):
    return (reply.content, reply.reasoning, reply.tool_calls, reply.finish_reason, reply.input_tokens, reply.timings)


def test_the_fixed_part_and_the_messages_are_what_is_on_the_wire(chat):
    with ScriptedServer([says("x")]) as server:
        RecordingModel(chat(server), FIXED).complete(TALK)
    extra = FIXED["extra_body"]
    plain = {name: value for name, value in FIXED.items() if name != "extra_body"}
    assert server.requests == [{**plain, **extra, "messages": TALK}]


def test_a_replay_says_what_was_said_without_a_server(chat):
    script = [says("x", reasoning="hm", calls=[("bash", "{bad")]), fails(500, "cannot parse this"), says("end")]
    with ScriptedServer(script) as server:
        tape = RecordingModel(chat(server), FIXED)
        first = tape.complete(TALK)
        with pytest.raises(UnparsableReplyError):
            tape.complete(TALK)
        last = tape.complete([*TALK, {"role": "assistant", "content": ""}])
    replay = ReplayingModel(tuple(tape.turns), FIXED, lambda *found: pytest.fail(str(found)))
    assert essence(replay.complete(TALK)) == essence(first)
    with pytest.raises(UnparsableReplyError, match="cannot parse this"):
        replay.complete(TALK)
    assert essence(replay.complete([*TALK, {"role": "assistant", "content": ""}])) == essence(last)
    assert replay.left() == 0


@pytest.mark.parametrize(
    ("fixed", "talk", "field", "recorded", "now"),
    [
        (FIXED, [TALK[0], {"role": "user", "content": "v"}], "request.messages[1].content", '"u"', '"v"'),
        ({**FIXED, "seed": 7}, TALK, "request.seed", str(FIXED["seed"]), "7"),
        (FIXED, TALK[:1], "request.messages[1]", '{"content":"u","role":"user"}', "(absent)"),
        ({**FIXED, "tool_choice": "none"}, TALK, "request.tool_choice", '"auto"', '"none"'),
    ],
)
def test_the_first_other_request_is_named_once(fixed, talk, field, recorded, now):
    told = []
    turn = Exchange(fixed=FIXED, messages=tuple(TALK), kind="context_full", result="full")
    replay = ReplayingModel((turn, turn), fixed, lambda step, found: told.append((step, found)))
    for _ in range(2):
        with pytest.raises(ContextFullError):
            replay.complete(talk)
    ((step, (one,)),) = told
    assert (step, one.field, one.recorded, one.found) == (1, field, recorded, now)


def test_a_request_that_was_never_made_ends_the_run_and_is_told():
    told = []
    replay = ReplayingModel((), FIXED, lambda step, found: told.append((step, found[0].field)))
    with pytest.raises(ContextFullError, match="step 1 was not recorded"):
        replay.complete(TALK)
    assert told == [(1, "request")]


def test_a_recorded_reply_that_is_none_is_an_error_that_says_so():
    turn = Exchange(fixed=FIXED, messages=tuple(TALK), kind="reply", result={"content": 7})
    with pytest.raises(DataError, match="step 1 is not a reply"):
        ReplayingModel((turn,), FIXED, lambda *_: None).complete(TALK)


def test_the_tape_of_the_last_attempt_is_written_before_the_record(tmp_path, chat):
    cassette = CassetteLog(tmp_path / "a.cassette.zst", run_spec_sha256="5", recorded=IdIndex())
    with cassette, RecordLog(tmp_path / "a.jsonl") as log, ScriptedServer([says("lost"), says("kept")]) as server:
        recorder = Recorder(chat(server), FIXED, cassette, log)
        for _ in range(2):
            recorder.for_trace("id", seed=FIXED["seed"] + 1).complete(TALK)
        recorder.append("id", Row(trace_id="id"))
        assert (len(recorder.ids), "id" in recorder.ids) == (1, True)
    ((turn),) = Cassette(tmp_path / "a.cassette.zst").turns("id")
    assert turn.result["content"] == "kept"
    assert turn.fixed["seed"] == FIXED["seed"] + 1
    assert [request["seed"] for request in server.requests] == [FIXED["seed"] + 1] * 2
    assert json.loads((tmp_path / "a.jsonl").read_text()) == {"trace_id": "id"}


def test_what_was_counted_is_replayed_whether_the_prompt_was_sent_or_not(chat):
    settings = {**SETTINGS, "tools": ()}
    fixed = fixed_part(**settings)
    with ScriptedServer([says("x")], counts="vllm") as server:
        counters = Counters(server.base_url, model="m")
        model = chat(server, fixed, counters).for_trace("id", seed=1)
        tape = RecordingModel(model, fixed)
        counted = [tape.count(TALK)]
        tape.complete(TALK, max_tokens=7)
        longer = [*TALK, {"role": "assistant", "content": "x"}, {"role": "user", "content": "a b c"}]
        counted.append(tape.count(longer))
        counters.close()
    assert counted == [2, 6]
    assert [(turn.kind, turn.counted, turn.max_tokens) for turn in tape.turns] == [
        ("reply", 2, 7),
        ("counted", 6, UNSET),
    ]
    replay = ReplayingModel(tuple(tape.turns), fixed, lambda *found: pytest.fail(str(found)))
    assert replay.count(TALK) == 2
    assert replay.complete(TALK, max_tokens=7).content == "x"
    assert replay.count(longer) == 6
    assert replay.left() == 0


def test_another_limit_of_a_reply_is_another_request():
    told = []
    turn = Exchange(fixed=FIXED, messages=tuple(TALK), kind="context_full", result="full", max_tokens=7)
    replay = ReplayingModel((turn,), FIXED, lambda step, found: told.append((step, *found)))
    with pytest.raises(ContextFullError):
        replay.complete(TALK, max_tokens=8)
    ((step, one),) = told
    assert (step, one.field, one.recorded, one.found) == (1, "request.max_tokens", "7", "8")


def test_the_tape_of_a_trace_that_was_given_up_is_dropped(tmp_path):
    class Nobody:
        def for_trace(self, trace_id, *, seed):
            return None

    with RecordLog(tmp_path / "a.jsonl") as log:
        recorder = Recorder(Nobody(), {}, None, log)
        for number in range(3):
            recorder.for_trace(str(number), seed=0)
            recorder.give_up(str(number))
            recorder.give_up(str(number))
        assert recorder._tapes == {}
