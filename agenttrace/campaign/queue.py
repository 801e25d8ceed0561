"""In which order the runs of a campaign are made: those over one tree together, doubtful tasks last."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from agenttrace.tasks import Task

_WINDOW = 1024
"""Runs looked ahead for one over the tree that a worker has at hand."""


class Queue:
    """What is left to do; a worker gets the next run over the tree that it has at hand, then the next of all.

    A task is doubtful when an attempt at it ended in an infrastructure failure, now or in an earlier session: its runs
    come when all others are done, so that a task which can never be run (an endpoint refuses its prompt) does not keep
    the others from it. The jobs are walked through twice at most; held are a window of them and the names of doubtful
    tasks.

    Args:
        jobs: gives every run of the campaign, in order, each time from the start.
        done: whether a run has its record.
        doubtful: whether an attempt at a run ended in an infrastructure failure in an earlier session.
    """

    def __init__(
        self,
        jobs: Callable[[], Iterable[Task]],
        *,
        done: Callable[[Task], bool],
        doubtful: Callable[[Task], bool] = lambda _: False,
    ) -> None:
        self._lock = threading.Lock()
        self._done = done
        self._doubtful = doubtful
        self._postponed: set[int | str] = set()
        self._taken: set[tuple[int | str, int]] = set()
        self._window: deque[Task] = deque()
        self._passes = [self._first(jobs), self._last(jobs)]

    def _first(self, jobs: Callable[[], Iterable[Task]]) -> Iterator[Task]:
        for job in jobs():
            if job.task_id in self._postponed or self._done(job):
                continue
            if self._doubtful(job):
                self._postponed.add(job.task_id)
            else:
                yield job

    def _last(self, jobs: Callable[[], Iterable[Task]]) -> Iterator[Task]:
        again = frozenset(self._postponed)
        for job in jobs() if again else ():
            if job.task_id in again and _key(job) not in self._taken and not self._done(job):
                yield job

    def take(self, tree: str | None) -> Task | None:
        """Return a run and take it out; `None` when there is none left."""
        with self._lock:
            self._fill()
            if not self._window:
                return None
            at = 0
            if tree is not None:
                at = next((number for number, job in enumerate(self._window) if job.fixture == tree), 0)
            found = self._window[at]
            del self._window[at]
            self._taken.add(_key(found))
            return found

    def _fill(self) -> None:
        """Look ahead; the last pass begins when nothing of the first is left, since until then tasks are postponed."""
        while self._passes and len(self._window) < _WINDOW:
            job = next(self._passes[0], None)
            if job is not None:
                self._window.append(job)
            elif self._window:
                return
            else:
                self._passes.pop(0)

    def settle(self, job: Task) -> None:
        """Forget a run whose record is durable: `done` knows of it from now on."""
        with self._lock:
            self._taken.discard(_key(job))

    def postpone(self, task: Task) -> None:
        """Leave the rest of a task for the end: a run of it was given up, and others may be possible."""
        with self._lock:
            self._postponed.add(task.task_id)
            others = deque(job for job in self._window if job.task_id != task.task_id)
            if len(self._passes) < 2:  # noqa: PLR2004 - the last pass has begun: none follows that would find them again
                others.extend(job for job in self._window if job.task_id == task.task_id)
            self._window = others


def _key(job: Task) -> tuple[int | str, int]:
    return job.task_id, job.rollout
