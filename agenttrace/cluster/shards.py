"""Shards: stretches of a plan, each made by one machine; which they are follows from the run spec and one number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from agenttrace.campaign.plan import Plan, at_rollout, place_of
from agenttrace.errors import UsageError
from agenttrace.records import DatasetSpec, Record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agenttrace.tasks import Task

ROLLOUTS = 100
"""Rollouts of a shard at most: minutes to hours of work, and few objects a shard."""


class Sharding(Record, frozen=True, kw_only=True):
    """The shards of a run: numbers from 0 to `count`, and which jobs each has; nothing is held of any.

    Jobs are numbered in the order of the plan (`agenttrace.campaign.plan.place_of`), and a shard is a stretch of them:
    so records in the order of shards are in the order of the plan. Of tasks with trees of their own, none shares a
    shard with another: a shard needs one tree, and its rollouts share the prefix that a server's cache can use.

    Attributes:
        dataset: of the run spec.
        rollouts: of a shard at most.
    """

    dataset: DatasetSpec
    rollouts: int = ROLLOUTS

    @property
    def jobs(self) -> int:
        """How many records the run has in the end, where every task has a tree."""
        return self.dataset.count * self.dataset.rollouts

    @property
    def _per_task(self) -> int:
        return -(-self.dataset.rollouts // self.rollouts)

    @property
    def count(self) -> int:
        """How many there are."""
        if self.dataset.sampling is UNSET:
            return -(-self.jobs // self.rollouts)
        return self.dataset.count * self._per_task

    def stretch(self, number: int) -> range:
        """Return the jobs of a shard.

        Raises:
            UsageError: there is no such shard.
        """
        if not 0 <= number < self.count:
            raise UsageError(f"shard {number}: this run has the shards 0 to {self.count - 1}")
        if self.dataset.sampling is UNSET:
            start = number * self.rollouts
            return range(start, min(start + self.rollouts, self.jobs))
        task, part = divmod(number, self._per_task)
        first, of_task = task * self.dataset.rollouts, part * self.rollouts
        return range(first + of_task, first + min(of_task + self.rollouts, self.dataset.rollouts))

    def of_job(self, job: int) -> int:
        """Return the shard that a job is in."""
        if self.dataset.sampling is UNSET:
            return job // self.rollouts
        task, rollout = divmod(job, self.dataset.rollouts)
        return task * self._per_task + rollout // self.rollouts

    def place(self, job: int) -> tuple[int, int]:
        """Return which task of the run spec's range (its index), and which rollout of it, a job is."""
        return place_of(job, self.dataset, tasks=self.dataset.count)


class ShardPlan(Plan, frozen=True, kw_only=True):
    """The part of a plan that a shard is; a campaign runs it as it runs a whole one.

    Attributes:
        of_shard: the jobs of the shard, in order. A task that could get no tree has none, in any shard.
    """

    of_shard: tuple[Task, ...]

    @property
    def size(self) -> int:
        """How many records the shard has in the end."""
        return len(self.of_shard)

    def jobs(self) -> Iterator[Task]:
        """Yield every job of the shard, in order."""
        return iter(self.of_shard)


def shard_plan(plan: Plan, shards: Sharding, number: int) -> ShardPlan:
    """Return the part of a plan that a shard is.

    Raises:
        UsageError: there is no such shard.
    """
    places = [shards.place(job) for job in shards.stretch(number)]
    at = {index: _task(plan, index) for index in {index for index, _ in places}}  # each is looked for among all
    found = [(at[index], rollout) for index, rollout in places]
    jobs = tuple(at_rollout(task, rollout) for task, rollout in found if task is not None)
    tasks = {task.task_id: task for task, _ in found if task is not None}
    fields: dict[str, Any] = {name: getattr(plan, name) for name in ("spec", "spec_sha256", "path", "resumes")}
    return ShardPlan(**fields, tasks=tuple(tasks.values()), of_shard=jobs)


def _task(plan: Plan, index: int) -> Task | None:
    """Return a task by its place in the run spec; `None` where it could get no tree."""
    dataset = plan.spec.dataset
    if dataset.sampling is UNSET:
        return plan.tasks[index]
    task_id = dataset.sampling.task_ids[dataset.offset + index]
    return next((task for task in plan.tasks if task.task_id == task_id), None)
