"""What the model server can do to a campaign: a real sandbox runner outside a container, a scripted server."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime

import pytest
from agenttrace.collect import ATTEMPTS, GIVEN_UP_IN_A_ROW, Campaign
from agenttrace.plan import Options, make_plan
from agenttrace.sitting import WorkerPool

from agenttrace import collect
from agenttrace.errors import ModelServerError
from agenttrace.fixture.version import fixture_version
from agenttrace.serving.chat import ChatModel
from agenttrace.serving.endpoint import answers
from agenttrace.store.jsonl import RecordLog
from agenttrace.store.read import read_traces
from agenttrace.testing import ScriptedServer, fails, says
from bench.campaigns import crash_check

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="a sandbox runner outside a container needs Linux and root"
)
ANSWER = says(calls=[("final_answer", json.dumps({"answer": "20"}))])


class Silent:
    def event(self, event):
        pass

    def finished(self, task, trace):
        pass

    def failed(self, task, trace, attempt):
        pass


@pytest.fixture(scope="module")
def sockets():
    with crash_check._runner() as runner:
        yield runner.sockets


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(collect, "BACKOFF_S", (0.0, 0.0))


@pytest.fixture
def plan(tmp_path):
    return make_plan(
        Options(count=6, output="demo.jsonl"),
        images={},
        fixture_version=fixture_version("demo"),
        folder=tmp_path,
        now=datetime(2026, 11, 2, tzinfo=UTC),
    )


def run(plan, sockets, server):
    model = ChatModel(
        server.base_url, model="m", sampler=plan.spec.sampler, tools=plan.spec.agent.tools, sleep=lambda _: None
    )
    with RecordLog(plan.path) as log:
        campaign = Campaign(plan, model, WorkerPool(sockets).connect, {}, Silent(), lambda: answers(server.base_url))
        return campaign.run(log)


def ids(path):
    return [trace.metadata["task_id"] for trace in read_traces(path)]


def failures(plan):
    return list(read_traces(plan.path.with_suffix(".failures.jsonl")))


def test_a_task_whose_requests_fail_is_recorded_apart_and_run_again_by_the_next_sitting(plan, sockets):
    poisoned = plan.tasks[2].prompt
    with ScriptedServer(lambda m: fails(500, "crashed") if m[1]["content"] == poisoned else ANSWER) as server:
        summary = run(plan, sockets, server)
    assert [task.task_id for task in summary.abandoned] == [2]
    assert ids(plan.path) == [0, 1, 3, 4, 5]
    assert [(trace.metadata["task_id"], trace.outcome.ended) for trace in failures(plan)] == [
        (2, "model_error")
    ] * ATTEMPTS
    with ScriptedServer(lambda _: ANSWER) as server:
        summary = run(plan, sockets, server)
    assert (summary.appended, summary.abandoned) == (1, ())
    assert ids(plan.path) == [0, 1, 3, 4, 5, 2]


def test_a_server_that_is_gone_stops_the_campaign_and_the_attempt_is_kept_apart(plan, sockets):
    with ScriptedServer(lambda _: ANSWER) as server:
        server.script = lambda messages: server.stop() if messages[1]["content"] == plan.tasks[3].prompt else ANSWER
        with pytest.raises(ModelServerError, match="it is gone, so the campaign stops"):
            run(plan, sockets, server)
    assert ids(plan.path) == [0, 1, 2]
    assert [(trace.metadata["task_id"], trace.outcome.ended) for trace in failures(plan)] == [(3, "model_error")]


def test_a_server_that_refuses_everything_stops_the_campaign_instead_of_failing_every_task(plan, sockets):
    with (
        ScriptedServer(lambda _: fails(400, "unknown parameter top_k")) as server,
        pytest.raises(ModelServerError, match=r"3 tasks in a row .* unknown parameter top_k"),
    ):
        run(plan, sockets, server)
    assert plan.path.read_bytes() == b""
    assert len(failures(plan)) == ATTEMPTS * GIVEN_UP_IN_A_ROW


def test_a_wrong_key_stops_the_campaign_at_once(plan, sockets):
    with ScriptedServer(lambda _: fails(401, "bad key")) as server:
        with pytest.raises(ModelServerError, match="HTTP 401"):
            run(plan, sockets, server)
        assert server.count == 1
