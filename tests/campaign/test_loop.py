"""What the model server can do to a campaign of either agent: real sandbox runners, a scripted server."""

from __future__ import annotations

import itertools
import json
import threading
from datetime import UTC, datetime

import pytest

from agenttrace.campaign import loop
from agenttrace.campaign.conditions import Conditions
from agenttrace.campaign.loop import ATTEMPTS, GIVEN_UP_IN_A_ROW, Campaign
from agenttrace.campaign.options import Options
from agenttrace.campaign.plan import make_plan
from agenttrace.errors import ModelServerError
from agenttrace.serving.endpoint import answers
from agenttrace.store.jsonl import RecordLog
from agenttrace.store.read import read_traces
from agenttrace.tasks import task_set
from agenttrace.testing import ScriptedServer, fails, says

ANSWERS = {
    "tool_calling": says(calls=[("final_answer", json.dumps({"answer": "20"}))]),
    "bash_block": says("```bash\necho COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT\necho 20\n```"),
}
KIND = '{"code": %d, "type": "server_error"}'


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(loop, "BACKOFF_S", (0.0, 0.0))


@pytest.fixture(params=ANSWERS)
def agent(request):
    return request.param


@pytest.fixture
def answer(agent):
    return ANSWERS[agent]


@pytest.fixture
def plan(tmp_path, agent):
    return make_plan(
        Options(count=6, agent=agent, output="demo.jsonl"),
        images={},
        folder=tmp_path,
        now=datetime(2026, 11, 2, tzinfo=UTC),
    )


@pytest.fixture(scope="module")
def workers(make_sandbox):
    return make_sandbox()


@pytest.fixture
def run(workers, models_of, display):
    def one(plan, server):
        with RecordLog(plan.path) as log, models_of(plan, server) as models:
            tasks = task_set("demo")
            connect, there = workers.connect, lambda: answers(server.base_url)
            return Campaign(plan, tasks, models, connect, {}, display, there).run(log)

    return one


def test_a_tree_that_another_worker_lists_meanwhile_is_listed_here_as_well(plan, answer, workers, models_of, display):
    """Else every file of it would stand in the record as changed."""
    second, listed, numbers = threading.Event(), threading.Event(), itertools.count()

    class Held(Conditions):
        def before(self):
            number = next(numbers)
            if number == 0:
                assert second.wait(30)
            elif number == 1:
                second.set()
                assert listed.wait(30)
            return super().before()

    def script(_):
        listed.set()
        return answer

    workers.start(2)
    with ScriptedServer(script) as server, RecordLog(plan.path) as log, models_of(plan, server) as models:
        campaign = Campaign(plan, task_set("demo"), models, workers.connect, {}, display, conditions=Held())
        campaign.run(log, workers=2)
    assert [trace.outcome.changes for trace in read_traces(plan.path)] == [()] * 6


def ids(path):
    return [trace.metadata["task_id"] for trace in read_traces(path)]


def failures(plan):
    return list(read_traces(plan.path.with_suffix(".failures.jsonl")))


def test_a_task_whose_requests_fail_is_recorded_apart_and_run_again_by_the_next_session(plan, answer, run):
    poisoned = plan.prompt(plan.tasks[2])
    with ScriptedServer(lambda m: fails(500, "crashed") if m[1]["content"] == poisoned else answer) as server:
        summary = run(plan, server)
    assert [task.task_id for task in summary.abandoned] == [2]
    assert ids(plan.path) == [0, 1, 3, 4, 5]
    assert [(trace.metadata["task_id"], trace.outcome.ended) for trace in failures(plan)] == [
        (2, "model_error")
    ] * ATTEMPTS
    with ScriptedServer(lambda _: answer) as server:
        summary = run(plan, server)
    assert (summary.appended, summary.abandoned) == (1, ())
    assert ids(plan.path) == [0, 1, 3, 4, 5, 2]


def test_figures_and_words_that_no_record_could_hold_end_nothing(plan, answer, run):
    poisoned = plan.prompt(plan.tasks[2])
    huge = {
        **answer,
        "usage": {"prompt_tokens": 2**63 - 1, "completion_tokens": 2**63 - 1},
        "timings": {"prompt_ms": 1e308, "predicted_ms": -5.0},
    }
    with ScriptedServer(lambda m: fails(400, "no \ud800") if m[1]["content"] == poisoned else huge) as server:
        summary = run(plan, server)
    assert (summary.appended, [task.task_id for task in summary.abandoned]) == (5, [2])
    assert {(step.input_tokens, step.timings) for one in read_traces(plan.path) for step in one.llm_steps} == {
        (None, None)
    }
    assert all("no \\ud800" in trace.outcome.detail for trace in failures(plan))


def test_a_server_that_is_gone_stops_the_campaign_and_the_attempt_is_kept_apart(plan, answer, run):
    with ScriptedServer(lambda _: answer) as server:
        server.script = lambda messages: (
            server.stop() if messages[1]["content"] == plan.prompt(plan.tasks[3]) else answer
        )
        with pytest.raises(ModelServerError, match="it is gone, so the campaign stops"):
            run(plan, server)
    assert ids(plan.path) == [0, 1, 2]
    assert [(trace.metadata["task_id"], trace.outcome.ended) for trace in failures(plan)] == [(3, "model_error")]


def test_a_server_that_refuses_everything_stops_the_campaign_instead_of_failing_every_task(plan, answer, run):
    with (
        ScriptedServer(lambda _: fails(400, "unknown parameter top_k")) as server,
        pytest.raises(ModelServerError, match=r"3 tasks in a row .* unknown parameter top_k"),
    ):
        run(plan, server)
    assert plan.path.read_bytes() == b""
    # One more may have begun before the third was counted.
    assert len(failures(plan)) - ATTEMPTS * GIVEN_UP_IN_A_ROW in {0, 1}


def test_a_wrong_key_stops_the_campaign_at_once(plan, answer, run):
    with ScriptedServer(lambda _: fails(401, "bad key")) as server:
        with pytest.raises(ModelServerError, match="HTTP 401"):
            run(plan, server)
        assert server.count == 1


@pytest.mark.parametrize("status", [403, 404])
def test_one_refused_prompt_costs_its_attempts_and_no_more(plan, answer, run, status):
    refused = plan.prompt(plan.tasks[2])
    script = lambda messages: fails(status, "flagged") if messages[1]["content"] == refused else answer  # noqa: E731
    with ScriptedServer(script) as server:
        summary = run(plan, server)
    assert [task.task_id for task in summary.abandoned] == [2]
    assert ids(plan.path) == [0, 1, 3, 4, 5]
    assert {trace.outcome.detail for trace in failures(plan)} == {f"HTTP {status}: flagged " + KIND % status}


def test_a_403_to_everything_stops_the_campaign(plan, answer, run):
    with (
        ScriptedServer(lambda _: fails(403, "no")) as server,
        pytest.raises(ModelServerError, match=r"3 tasks in a row .* HTTP 403: no"),
    ):
        run(plan, server)


def refusing(plan, task_ids, answer):
    """Return a script that refuses every request about these tasks."""
    prompts = {plan.prompt(task) for task in plan.tasks if task.task_id in task_ids}
    return lambda messages: fails(400, "no") if messages[1]["content"] in prompts else answer


def test_tasks_that_the_endpoint_always_refuses_do_not_keep_later_ones_from_being_run(plan, answer, run):
    """They stop a session that meets nothing else; the next one has them at its end."""
    with ScriptedServer(refusing(plan, {0, 1, 2}, answer)) as server, pytest.raises(ModelServerError, match="in a row"):
        run(plan, server)
    assert ids(plan.path) in ([], [3])  # it may have begun before the third was counted
    with ScriptedServer(refusing(plan, {0, 1, 2}, answer)) as server, pytest.raises(ModelServerError, match="in a row"):
        run(plan, server)
    assert ids(plan.path) == [3, 4, 5]
    with ScriptedServer(lambda _: answer) as server:
        assert run(plan, server).abandoned == ()
    assert ids(plan.path) == [3, 4, 5, 0, 1, 2]


def test_a_refused_task_is_put_off_with_all_its_rollouts_within_a_session(tmp_path, agent, answer, run):
    options = Options(count=3, rollouts=3, agent=agent, output="demo.jsonl")
    plan = make_plan(options, images={}, folder=tmp_path, now=datetime(2026, 11, 2, tzinfo=UTC))
    with ScriptedServer(refusing(plan, {0}, answer)) as server:
        summary = run(plan, server)
    assert ids(plan.path) == [1, 2] * 3
    assert [(task.task_id, task.rollout) for task in summary.abandoned] == [(0, index) for index in range(3)]


def test_a_campaign_over_checkouts_goes_on_with_the_other_tasks(
    make_source, tmp_path, make_sandbox, models_of, display
):
    """The trees of four repositories, four runs each; what is poisoned comes last, within a session and in the next."""
    source, names = make_source(tmp_path, ("cat", "dog", "elk", "fox")), ("cat", "dog", "elk")
    source.prepare()
    sandbox = make_sandbox()
    sandbox.start(policy="execution_free", trees=source.trees)
    now = datetime(2026, 11, 2, tzinfo=UTC)
    plan = make_plan(source.options(rollouts=4), images={}, folder=source.data, now=now, trees=source.trees)

    def session(poisoned):
        script = refusing(plan, {f"octo__{name}-1" for name in poisoned}, ANSWERS["bash_block"])
        with ScriptedServer(script) as server, RecordLog(plan.path) as log, models_of(plan, server) as models:
            tasks = task_set("swe", trees=source.trees)
            Campaign(plan, tasks, models, sandbox.connect, {}, display).run(log)

    def made():
        return [(trace.metadata["task_id"], trace.metadata["rollout_index"]) for trace in read_traces(plan.path)]

    with pytest.raises(ModelServerError, match="3 tasks in a row could not be run"):
        session(names)
    assert made() in ([], [("octo__fox-1", 0)])  # it may have begun before the third was counted
    with pytest.raises(ModelServerError, match="3 tasks in a row could not be run"):
        session(names)
    assert made() == [("octo__fox-1", index) for index in range(4)]
    session(names[:1])  # four runs in a row, but of one task
    assert sorted(made()) == [(f"octo__{name}-1", index) for name in ("dog", "elk", "fox") for index in range(4)]
    session(())
    assert len(set(made())) == len(made()) == 16
    assert made()[-4:] == [("octo__cat-1", index) for index in range(4)]
