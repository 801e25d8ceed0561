"""Numbers and what they stand for: every job is in one shard, in the order of the plan."""

from __future__ import annotations

import tracemalloc

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from agenttrace.cluster.shards import Sharding, shard_plan
from agenttrace.errors import UsageError
from agenttrace.records import DatasetSpec
from agenttrace.records.run_spec import SamplingPlan

DRAWN = SamplingPlan(seed=1, repos=None, per_repo=None, languages=(), hidden_tests=False, task_ids=("b", "a", "c"))


def dataset(count, rollouts, *, drawn=False):
    sampling = DRAWN if drawn else UNSET
    return DatasetSpec(
        name="n", split="s", source="o", sha256="0", offset=0, count=count, rollouts=rollouts, sampling=sampling
    )


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 50), st.booleans())
def test_every_job_is_in_one_shard_and_shards_are_in_the_order_of_the_plan(count, rollouts, size, drawn):
    shards = Sharding(dataset=dataset(count, rollouts, drawn=drawn), rollouts=size)
    jobs = [(number, job) for number in range(shards.count) for job in shards.stretch(number)]
    assert [job for _, job in jobs] == list(range(count * rollouts))
    assert all(shards.of_job(job) == number for number, job in jobs)
    assert all(0 < len(shards.stretch(number)) <= size for number in range(shards.count))
    places = [shards.place(job) for _, job in jobs]
    assert len(set(places)) == count * rollouts
    if drawn:
        assert all(len({shards.place(job)[0] for job in shards.stretch(one)}) == 1 for one in range(shards.count))


def test_jobs_of_shards_are_those_of_the_whole_plan(plan):
    shards = Sharding(dataset=plan.spec.dataset, rollouts=20)
    parts = [shard_plan(plan, shards, number) for number in range(shards.count)]
    assert [part.size for part in parts] == [20, 20, 2]
    assert [job for part in parts for job in part.jobs()] == list(plan.jobs())
    first, whole = parts[1], next(iter(parts[1].jobs()))
    assert (first.trace_id(whole), first.metadata(whole)) == (plan.trace_id(whole), plan.metadata(whole))


def test_a_drawn_task_that_could_get_no_tree_leaves_its_shards_empty_and_no_other(plan):
    drawn = msgspec.structs.replace(plan.spec.dataset, count=3, rollouts=5, sampling=DRAWN)
    tasks = tuple(msgspec.structs.replace(plan.tasks[0], task_id=name) for name in ("b", "c"))
    some = msgspec.structs.replace(plan, spec=msgspec.structs.replace(plan.spec, dataset=drawn), tasks=tasks)
    shards = Sharding(dataset=drawn, rollouts=3)
    found = [[(job.task_id, job.rollout) for job in shard_plan(some, shards, one).jobs()] for one in range(6)]
    b, c = ([[(name, 0), (name, 1), (name, 2)], [(name, 3), (name, 4)]] for name in "bc")
    assert found == [*b, [], [], *c]


def test_all_tasks_are_looked_through_once_for_a_shard(plan):
    looks = []

    class Tasks(tuple):
        __slots__ = ()

        def __iter__(self):
            looks.append(self)
            return super().__iter__()

    drawn = msgspec.structs.replace(plan.spec.dataset, count=3, rollouts=50, sampling=DRAWN)
    tasks = Tasks(msgspec.structs.replace(plan.tasks[0], task_id=name) for name in ("b", "a", "c"))
    some = msgspec.structs.replace(plan, spec=msgspec.structs.replace(plan.spec, dataset=drawn), tasks=tasks)
    assert shard_plan(some, Sharding(dataset=drawn, rollouts=50), 2).size == 50
    assert len(looks) == 1


@pytest.mark.parametrize("number", [-1, 3])
def test_a_shard_that_is_not_there_is_told_with_those_that_are(plan, number):
    with pytest.raises(UsageError, match=f"shard {number}: this run has the shards 0 to 2"):
        Sharding(dataset=plan.spec.dataset, rollouts=20).stretch(number)


def test_twelve_million_rollouts_take_no_memory():
    shards = Sharding(dataset=dataset(122_908, 100, drawn=True))
    tracemalloc.start()
    assert shards.count == 122_908
    assert shards.of_job(12_290_799) == 122_907
    assert shards.stretch(122_907) == range(12_290_700, 12_290_800)
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()
