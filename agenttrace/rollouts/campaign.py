"""A run, read top to bottom: take the rollouts that have no record yet, make each, append its record, sum up.

One thread per rollout in flight: nearly all of its time it waits for the model server or for its sandbox worker, and
neither client has another way to wait.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from agenttrace.errors import ModelServerError, WorkerLostError
from agenttrace.records import Record
from agenttrace.rollouts.attempt import make
from agenttrace.rollouts.order import KEY, Queue, doubtful_last
from agenttrace.rollouts.spec import Job, todo
from agenttrace.store.jsonl import RecordLog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agenttrace.records.rollout import Rollout
    from agenttrace.rollouts.attempt import Conversations, Made
    from agenttrace.rollouts.place import Plan
    from agenttrace.sandbox.client import Worker

ATTEMPTS = 3
BACKOFF_S = (1.0, 4.0)
"""Pauses between the attempts at a rollout that the infrastructure spoilt."""
GIVEN_UP_IN_A_ROW = 3
"""So many rollouts given up one after the other mean that none can be made at all."""


class Display(Protocol):
    """Shows a run while it goes on; see `agenttrace.rollouts.display`."""

    def finished(self, rollout: Rollout) -> None:
        """Count one durable record."""
        ...

    def failed(self, rollout: Rollout, attempt: int) -> None:
        """Tell of an attempt that the infrastructure spoilt."""
        ...


class Resources(Record, frozen=True, kw_only=True):
    """What rollouts need; none of it shapes a record but `environment`.

    Attributes:
        conversations: gives every rollout its model; called from any thread.
        connect: gives an idle sandbox worker, waiting for one if need be.
        trees: folder of the pristine trees.
        environment: stored in every record.
        server_answers: asked after an attempt was spoilt: whether the model server is there at all.
    """

    conversations: Conversations
    connect: Callable[[], Worker]
    trees: Path
    environment: dict[str, Any]
    server_answers: Callable[[], bool]


class Summary(Record, frozen=True, kw_only=True):
    """What a sitting did.

    Attributes:
        appended: records appended.
        abandoned: rollouts that failed for the infrastructure's reasons in every attempt; they have no record.
        elapsed_ns: monotonic time.
        concurrency: rollouts in flight at a time.
        model_ns: time spent waiting for replies, summed over rollouts.
        tools_ns: time spent in commands.
        prepare_ns: time until the trees were ready.
    """

    appended: int
    abandoned: tuple[Job, ...]
    elapsed_ns: int
    concurrency: int
    model_ns: int
    tools_ns: int
    prepare_ns: int


class _Result(Record, frozen=True, kw_only=True):
    job: Job | None = None
    rollout: Rollout | None = None
    attempt: int = 1
    error: BaseException | None = None


class Campaign:
    """Makes the rollouts of a plan."""

    def __init__(self, plan: Plan, resources: Resources, display: Display) -> None:
        self._plan = plan
        self._with = resources
        self._display = display
        self._results: queue.SimpleQueue[_Result | None] = queue.SimpleQueue()
        self._stop = threading.Event()

    def run(self, log: RecordLog, *, concurrency: int) -> Summary:
        """Make every rollout that `log` has no record of and return what was done.

        Rollouts that other threads finish while one of them fails are still appended before the error leaves.

        Raises:
            ModelServerError: the model server is gone for good.
            WorkerLostError: no sandbox worker can be had any more.
            StorageError: a record cannot be made durable.
        """
        started = time.monotonic_ns()
        left = todo(self._plan.spec, self._plan.jobs, log.ids)
        jobs = Queue(doubtful_last(left, self._plan.spec, self._failures))
        threads = [
            threading.Thread(target=self._work, args=(jobs,), daemon=True) for _ in range(min(concurrency, len(left)))
        ]
        for thread in threads:
            thread.start()
        sums = dict.fromkeys(("appended", "model_ns", "tools_ns", "prepare_ns"), 0)
        try:
            abandoned = self._gather(log, sums, running=len(threads))
        finally:
            self._stop.set()
        elapsed_ns = time.monotonic_ns() - started
        return Summary(abandoned=tuple(abandoned), elapsed_ns=elapsed_ns, concurrency=len(threads), **sums)

    @property
    def _failures(self) -> Path:
        return self._plan.path.with_suffix(".failures.jsonl")

    def _gather(self, log: RecordLog, sums: dict[str, int], *, running: int) -> list[Job]:
        """Append records as they come; the only writer of the record file."""
        abandoned: list[Job] = []
        in_a_row = 0
        failure: BaseException | None = None
        while running:
            result = self._results.get()
            if result is None:
                running -= 1
            elif result.error is not None:
                failure = failure or result.error
                self._stop.set()
            elif result.rollout is not None and result.rollout.stop == "error":
                self._keep_spoilt(result.rollout)
                self._display.failed(result.rollout, result.attempt)
                if result.attempt == ATTEMPTS and result.job is not None:
                    abandoned.append(result.job)
                    in_a_row += 1
                    if in_a_row == GIVEN_UP_IN_A_ROW:
                        failure = failure or _given_up(result.rollout)
                        self._stop.set()
            elif result.rollout is not None:
                log.append(result.rollout.rollout_id, result.rollout)
                in_a_row = 0
                _add(sums, result.rollout)
                self._display.finished(result.rollout)
        if failure is not None:
            raise failure
        return abandoned

    def _keep_spoilt(self, rollout: Rollout) -> None:
        """Keep a spoilt attempt beside the records: nothing is lost, and nothing of it counts."""
        with RecordLog(self._failures, unique=False, key=KEY) as failures:
            failures.append(rollout.rollout_id, rollout)

    def _work(self, jobs: Queue) -> None:
        """Make rollouts with one sandbox worker at a time until none is left."""
        worker: Worker | None = None
        tree: str | None = None
        job: Job | None = None
        try:
            while not self._stop.is_set() and (job := jobs.take(tree)) is not None:
                tree = job.ready.tree.name
                for attempt in range(1, ATTEMPTS + 1):
                    worker = worker or self._with.connect()
                    made = self._attempt(job, worker)
                    if not made.usable:
                        worker.close()
                        worker = None
                    self._results.put(_Result(job=job, rollout=made.rollout, attempt=attempt))
                    if made.rollout.stop != "error" or self._stop.is_set():
                        break
                    self._pause(attempt, made.rollout)
                else:
                    jobs.postpone(tree)
                    tree = None
        except BaseException as error:  # noqa: BLE001 - handed to the main thread, which raises it
            self._results.put(_Result(job=job, error=error))
        finally:
            if worker is not None:
                worker.close()
            self._results.put(None)

    def _attempt(self, job: Job, worker: Worker) -> Made:
        with_ = self._with
        return make(self._plan, job, worker, with_.conversations, trees=with_.trees, environment=with_.environment)

    def _pause(self, attempt: int, rollout: Rollout) -> None:
        """Wait before the next attempt; there is none when the model server is gone.

        Raises:
            ModelServerError: it is.
        """
        if not self._with.server_answers():
            raise ModelServerError(f"{rollout.detail}; the model server is gone, so the run stops")
        if attempt <= len(BACKOFF_S):
            self._stop.wait(BACKOFF_S[attempt - 1])


def _add(sums: dict[str, int], rollout: Rollout) -> None:
    sums["appended"] += 1
    sums["prepare_ns"] += round(rollout.prepare_ms * 1e6)
    for turn in rollout.turns:
        sums["model_ns"] += round(turn.duration_ms * 1e6)
        sums["tools_ns"] += round(turn.execution.duration_ms * 1e6) if turn.execution else 0


def _given_up(rollout: Rollout) -> WorkerLostError:
    return WorkerLostError(
        f"{GIVEN_UP_IN_A_ROW} rollouts in a row could not be made for the infrastructure's reasons, so the run stops; "
        f"the last one: {rollout.detail}"
    )
