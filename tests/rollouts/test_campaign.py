"""The order of the work, and what a task that can never be made does to the others."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from types import SimpleNamespace

import msgspec
import pytest
from agenttrace.rollouts.place import make_plan, write_spec
from agenttrace.rollouts.spec import rollout_id, spec_of

from agenttrace.errors import WorkerLostError
from agenttrace.rollouts import attempt, campaign, order
from agenttrace.store.jsonl import RecordLog

NAMES = ("cat", "dog", "elk", "fox")


class Counting:
    """Counts what the campaign has dealt with: a real rollout takes far longer than that."""

    def __init__(self):
        self.seen = 0

    def finished(self, rollout):
        self.seen += 1

    def failed(self, rollout, attempt):
        self.seen += 1

    def wait(self, count):
        while self.seen < count:
            time.sleep(0.001)
        time.sleep(0.01)


@pytest.fixture
def sitting(make_source, tmp_path, monkeypatch):
    """Return a function that runs a campaign of four tasks in which attempts at some are spoilt, and says what came."""
    source = make_source(tmp_path, NAMES)
    prepared, options = source.prepare(rollouts=4), source.options(rollouts=4, output="run.jsonl")
    monkeypatch.setattr(campaign, "BACKOFF_S", (0.0, 0.0))

    def run(poisoned=(), stop_after=None):
        plan = make_plan(spec_of(options, prepared, images={}), prepared, options, folder=source.data, now=NOW)
        write_spec(plan, prepared)
        made, display = [], Counting()

        def make(plan, job, worker, conversations, *, trees, environment):
            display.wait(len(made))
            made.append((job.ready.task.instance_id, job.index))
            if stop_after is not None and len(made) > stop_after:
                raise KeyboardInterrupt
            bad = job.ready.task.instance_id.removeprefix("octo__")[:-2] in poisoned
            left = attempt._Left(attempt=attempt._none("refused")) if bad else SUBMITTED
            return attempt.Made(rollout=attempt._record(plan, job, left, "p", 0, {}), usable=True)

        monkeypatch.setattr(campaign, "make", make)
        worker = SimpleNamespace(close=lambda: None)
        resources = campaign.Resources(
            conversations=None, connect=lambda: worker, trees=source.trees, environment={}, server_answers=lambda: True
        )
        failure = None
        with RecordLog(plan.path, key=order.KEY) as log:
            try:
                campaign.Campaign(plan, resources, display).run(log, concurrency=1)
            except (WorkerLostError, KeyboardInterrupt) as error:
                failure = error
            ids = list(log.ids)
        names = {rollout_id(plan.spec, job): (job.ready.task.instance_id, job.index) for job in plan.jobs}
        return [names[one] for one in ids], made, failure

    return run


NOW = datetime(2026, 11, 21, tzinfo=UTC)
SUBMITTED = attempt._Left(
    attempt=attempt.Attempt(
        turns=(), stop="tokens", detail=None, submission=None, timestamp_utc=NOW.isoformat(), elapsed_ns=1
    ),
    patch="",
)


def test_a_fault_whose_message_is_no_text_is_kept_as_a_spoilt_attempt(make_source, tmp_path):
    source = make_source(tmp_path, NAMES[:1])
    prepared, options = source.prepare(), source.options(output="run.jsonl")
    plan = make_plan(spec_of(options, prepared, images={}), prepared, options, folder=source.data, now=NOW)

    def reset(name):
        raise ValueError("bad\udcff name")

    worker = SimpleNamespace(reset=reset, closed=False)
    made = attempt.make(plan, plan.jobs[0], worker, None, trees=source.trees, environment={})
    assert made.rollout.stop == "error"
    assert msgspec.json.decode(msgspec.json.encode(made.rollout))["detail"] == r"ValueError: bad\udcff name"


def test_rollouts_of_a_task_are_made_together(sitting):
    done, made, failure = sitting()
    assert done == made == [(f"octo__{name}-1", index) for name in NAMES for index in range(4)]
    assert failure is None


def test_a_task_that_can_never_be_made_does_not_keep_others_from_being_made(sitting):
    done, _, failure = sitting(poisoned={"cat"})
    assert done == [(f"octo__{name}-1", index) for name in NAMES[1:] for index in range(4)]
    assert "in a row could not be made" in str(failure)


def test_tasks_that_were_spoilt_before_come_last_in_the_next_sitting(sitting):
    first, _, failure = sitting(poisoned=NAMES[:3], stop_after=9)
    assert first == []
    assert isinstance(failure, WorkerLostError)
    done, made, _ = sitting(poisoned=NAMES[:3])
    assert done == made[:4] == [("octo__fox-1", index) for index in range(4)]


def test_a_run_that_can_make_nothing_stops_soon(sitting):
    done, made, failure = sitting(poisoned=NAMES)
    assert done == []
    assert isinstance(failure, WorkerLostError)
    assert len(made) <= 3 * campaign.ATTEMPTS + 1  # one may have begun before the third was counted
