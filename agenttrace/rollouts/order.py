"""In which order the rollouts of a run are made: those of a task together, doubtful tasks last."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from agenttrace.rollouts.spec import rollout_id
from agenttrace.store.jsonl import known_ids

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agenttrace.records.rollout import RolloutSpec
    from agenttrace.rollouts.spec import Job

KEY = "rollout_id"


class Queue:
    """What is left to do; a worker gets the next rollout of the task that it has at hand, then the next of all."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._lock = threading.Lock()
        self._by_task: dict[str, list[Job]] = {}
        for job in reversed(jobs):
            self._by_task.setdefault(job.ready.tree.name, []).append(job)
        self._order = list(reversed(self._by_task))

    def take(self, tree: str | None) -> Job | None:
        """Return a rollout and take it out; `None` when there is none left."""
        with self._lock:
            while self._order:
                name = tree if tree is not None and self._by_task.get(tree) else self._order[0]
                if self._by_task[name]:
                    return self._by_task[name].pop()
                self._order.pop(0)
            return None

    def postpone(self, tree: str) -> None:
        """Leave the rest of a task for the end: a rollout of it was given up, and others may be possible."""
        with self._lock:
            if tree in self._order:
                self._order.remove(tree)
                self._order.append(tree)


def doubtful_last(left: list[Job], spec: RolloutSpec, failures: Path) -> list[Job]:
    """Return the rollouts with those tasks at the end of which an attempt was spoilt in an earlier sitting.

    So a task that can never be made (an endpoint refuses its prompt) does not keep the others from being made.

    Args:
        left: what is to be made, in order.
        spec: of the run.
        failures: the file of spoilt attempts, if there is one.
    """
    if not failures.exists():
        return left
    spoilt = known_ids(failures, unique=False, key=KEY)
    doubtful = {job.ready.tree.name for job in left if rollout_id(spec, job) in spoilt}
    return sorted(left, key=lambda job: job.ready.tree.name in doubtful)
