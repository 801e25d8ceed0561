"""Every run is handed out once, doubtful tasks last, those over one tree together; what is held does not grow."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttrace.campaign import queue
from agenttrace.campaign.options import Options
from agenttrace.campaign.plan import make_plan
from agenttrace.campaign.queue import Queue
from agenttrace.tasks import Task

WINDOW = 4


def key(job):
    return job.task_id, job.rollout


def runs(tasks, rollouts, *, together):
    """Return the runs of a plan; together as over checkouts, else rollout by rollout."""
    pairs = [(task, index) for task in range(tasks) for index in range(rollouts)]
    if not together:
        pairs.sort(key=lambda pair: pair[::-1])
    return [
        Task(
            task_id=task,
            name="",
            prompt="",
            kind="",
            expect={},
            rollout=index,
            fixture=f"tree-{task}" if together else None,
        )
        for task, index in pairs
    ]


class Shop:
    """A queue with what is known of it from outside; the iterator counts what was looked at."""

    def __init__(self, jobs, done, doubtful):
        self.jobs, self.done, self.doubtful = jobs, set(done), set(doubtful)
        self.looked, self.passes = 0, 0
        self.out = []
        self.queue = Queue(
            self.walk, done=lambda job: key(job) in self.done, doubtful=lambda job: key(job) in self.doubtful
        )

    def walk(self):
        self.passes += 1
        self.looked = 0
        for job in self.jobs:
            self.looked += 1
            yield job

    def take(self, tree=None):
        job = self.queue.take(tree)
        if job is not None:
            self.out.append(key(job))
        return job

    def settle(self, job):
        self.done.add(key(job))
        self.queue.settle(job)


@pytest.fixture(autouse=True, scope="module")
def small_window():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue, "_WINDOW", WINDOW)
        yield


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_every_run_is_handed_out_once_whatever_is_put_off_and_when(data):
    """Workers take, settle and give up in any order, over any tree, with runs done or failed before."""
    tasks, rollouts = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 4))
    jobs = runs(tasks, rollouts, together=data.draw(st.booleans()))
    keys = [key(job) for job in jobs]
    done = data.draw(st.sets(st.sampled_from(keys)))
    doubtful = data.draw(st.sets(st.sampled_from(keys))) - done
    shop, working, put_off = Shop(jobs, done, doubtful), [], {task for task, _ in doubtful}
    trees = st.none() | st.sampled_from([f"tree-{task}" for task in range(tasks)])
    while True:
        waiting = [key(job) for job in shop.queue._window]
        assert len(waiting) <= WINDOW
        tree = data.draw(trees)
        job = shop.take(tree)
        if job is None:
            break
        if tree in {f"tree-{task}" for task, _ in waiting} and job.fixture is not None:
            assert job.fixture == tree
        if shop.passes < 2:
            assert job.task_id not in put_off or key(job) not in doubtful
        working.append(job)
        while working and data.draw(st.booleans()):
            ended = working.pop(data.draw(st.integers(0, len(working) - 1)))
            if data.draw(st.integers(0, 3)):
                shop.settle(ended)
            else:
                put_off.add(ended.task_id)
                shop.queue.postpone(ended)
    assert sorted(shop.out) == sorted(set(keys) - done)
    assert shop.passes <= 2


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_doubtful_tasks_come_last(data):
    tasks, rollouts = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 3))
    jobs = runs(tasks, rollouts, together=data.draw(st.booleans()))
    bad = data.draw(st.sets(st.integers(0, tasks - 1)))
    shop = Shop(jobs, (), {(task, 0) for task in bad})
    while (job := shop.take()) is not None:
        shop.settle(job)
    assert [task in bad for task, _ in shop.out] == sorted(task in bad for task, _ in shop.out)
    for half in (bad, set(range(tasks)) - bad):
        assert [one for one in shop.out if one[0] in half] == [key(job) for job in jobs if job.task_id in half]


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 8), st.integers(1, 3), st.booleans(), st.data())
def test_a_task_given_up_comes_after_all_others(tasks, rollouts, together, data):
    jobs = runs(tasks, rollouts, together=together)
    bad = data.draw(st.sets(st.integers(0, tasks - 1)))
    shop, began = Shop(jobs, (), ()), set()
    while (job := shop.take()) is not None:
        if job.task_id in bad:
            assert job.task_id not in began or {task for task, _ in shop.out} == set(range(tasks))
            began.add(job.task_id)
            shop.queue.postpone(job)
        else:
            shop.settle(job)
    assert len(set(shop.out)) == len(shop.out) == tasks * rollouts
    again = [task in bad for task, _ in shop.out[-len(bad) * (rollouts - 1) :]] if rollouts > 1 and bad else []
    assert all(again)


def test_of_doubtful_tasks_one_that_is_given_up_again_comes_after_the_others():
    shop = Shop(runs(3, 2, together=True), (), {(task, 0) for task in range(3)})
    while (job := shop.take()) is not None:
        if job.task_id == 0:
            shop.queue.postpone(job)
        else:
            shop.settle(job)
    assert shop.out == [(0, 0), (1, 0), (1, 1), (0, 1), (2, 0), (2, 1)]  # as far as the window reaches


def test_a_worker_stays_with_its_tree_as_far_as_the_window_reaches():
    shop = Shop(runs(3, 3, together=True), (), ())
    assert [key(shop.take("tree-1")) for _ in range(3)] == [(1, 0), (1, 1), (1, 2)]
    assert key(shop.take("tree-9")) == (0, 0)
    assert shop.looked <= WINDOW + len(shop.out)


@pytest.mark.slow
def test_a_campaign_of_many_runs_is_never_held_whole(tmp_path, monkeypatch):
    """200,000 runs of as many tasks as a plan has; what is held are the tasks, a window and the ids."""
    monkeypatch.setattr(queue, "_WINDOW", 1024)
    options = Options(count=20, rollouts=10_000, output="a.jsonl")
    plan = make_plan(options, images={}, folder=tmp_path, now=datetime(2026, 11, 2, tzinfo=UTC))
    spec = msgspec.structs.replace(plan.spec, run_id="run")
    plan = msgspec.structs.replace(plan, spec=spec)
    assert plan.size == 200_000
    jobs = Queue(plan.jobs, done=lambda _: False)
    tracemalloc.start()
    taken = 0
    while (job := jobs.take(None)) is not None:
        taken += 1
        jobs.settle(job)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken == plan.size
    assert peak < 2 * 2**20
    assert held < 2**19
