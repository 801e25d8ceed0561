"""A campaign, read top to bottom: take the tasks that have no record yet, run each, append its record, sum up."""

from __future__ import annotations

import queue
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from agenttrace.agents import agent_kind, whole_run
from agenttrace.agents.run import UNPARSABLE, Run
from agenttrace.campaign.conditions import Conditions
from agenttrace.campaign.meanwhile import LONG_WAIT_NS, run_meanwhile
from agenttrace.campaign.plan import request_seed
from agenttrace.campaign.queue import Queue
from agenttrace.errors import AgentTraceError, ModelServerError, UsageError, WorkerLostError
from agenttrace.records import INFRASTRUCTURE_ENDS, LLMStep, Outcome, Record, Span, Trace
from agenttrace.store.append import ChangedFileError
from agenttrace.store.ids import IdIndex
from agenttrace.store.jsonl import RecordLog, known_ids
from agenttrace.store.opening import FAILURES
from agenttrace.tasks import Finished, Task
from agenttrace.tasks.bench import Bench
from agenttrace.tasks.judging import assessed, lost

if TYPE_CHECKING:
    from collections.abc import Callable

    from agenttrace.campaign.plan import Plan
    from agenttrace.sandbox.client import Worker
    from agenttrace.sandbox.reports import TreeEntry
    from agenttrace.serving.model import Models
    from agenttrace.tasks import TaskSet

ATTEMPTS = 3
BACKOFF_S = (1.0, 4.0)
"""Pauses between the attempts at a task after an infrastructure failure."""
GIVEN_UP_IN_A_ROW = 3
"""So many different tasks given up one after the other mean that no task can be run at all."""


class Display:
    """Shows nothing of a campaign; see `agenttrace.campaign.display` for one that does."""

    def event(self, event: LLMStep | Span) -> None:
        """Count one finished generation or tool call."""

    def finished(self, task: Task, trace: Trace) -> None:
        """Count one durable record."""

    def failed(self, task: Task, trace: Trace, attempt: int) -> None:
        """Tell of an attempt that ended in an infrastructure failure."""

    def waited(self, waited_ns: int) -> None:
        """Tell of a task whose model answered before its tree was there."""


class Log(Protocol):
    """Takes finished traces; see `agenttrace.store.jsonl.RecordLog`."""

    @property
    def ids(self) -> IdIndex:
        """Ids of the traces it has."""
        ...

    def append(self, trace_id: str, trace: Trace) -> None:
        """Keep one trace and return when that is durable."""
        ...

    def give_up(self, trace_id: str) -> None:
        """Forget what is held for a trace that gets no record before this run of the campaign ends."""
        ...


class Summary(msgspec.Struct, kw_only=True):
    """What a session did: sums over its records, which are let go.

    Attributes:
        workers: tasks run at a time.
        appended: records appended since the campaign was started or resumed.
        abandoned: tasks that failed for the infrastructure's reasons in every attempt; they have no record.
        elapsed_ns: monotonic time of the session.
        model_ns: time spent waiting for replies, summed over the workers; of the appended records, as the rest.
        tools_ns: time spent in tool calls.
        slot_ns: time in which a slot of the server worked on a request, as the server reports it.
        tool_cpu_ns: processor time of the tool calls.
        prepare_ns: time that was waited for trees.
        waits: tasks whose model answered well before their tree was there, counted likewise.
        requests: generations.
        failed_tries: answers that were no reply, before those generations.
    """

    workers: int
    appended: int = 0
    abandoned: tuple[Task, ...] = ()
    elapsed_ns: int = 0
    model_ns: int = 0
    tools_ns: int = 0
    slot_ns: int = 0
    tool_cpu_ns: int = 0
    prepare_ns: int = 0
    waits: int = 0
    requests: int = 0
    failed_tries: int = 0

    def add(self, trace: Trace) -> None:
        """Count one appended record."""
        self.appended += 1
        self.requests += len(trace.llm_steps)
        self.prepare_ns += round((trace.prepare_ms or 0.0) * 1e6)
        for step in trace.llm_steps:
            self.model_ns += round((step.duration_ms or 0.0) * 1e6)
            if step.finish_reason != UNPARSABLE:  # of such a reply, why: it is not sent again
                self.failed_tries += len(step.failed_tries or ())
            if (said := step.timings) is not None:
                prefill_ms = (said.first_token_ms or 0.0) if said.prompt_ms is None else said.prompt_ms
                self.slot_ns += round((prefill_ms + (said.predicted_ms or 0.0)) * 1e6)
        for span in trace.spans:
            self.tools_ns += round((span.duration_ms or 0.0) * 1e6)
            self.tool_cpu_ns += (span.telemetry.cpu_user_ns or 0) + (span.telemetry.cpu_system_ns or 0)


class _Result(Record, frozen=True, kw_only=True):
    task: Task | None
    trace: Trace | None = None
    attempt: int = 1
    error: BaseException | None = None


class Campaign:
    """Runs a plan.

    Args:
        plan: what to run and where the records go.
        tasks: the task set of the plan: judges what is finished.
        models: gives every trace its model; called from one thread per worker.
        connect: gives an idle sandbox worker, waiting for one if need be.
        environment: stored in every record.
        display: shows progress.
        server_answers: asked after a request without a reply: whether the model server is there at all.
        conditions: read before and after each task.
    """

    def __init__(
        self,
        plan: Plan,
        tasks: TaskSet,
        models: Models,
        connect: Callable[[], Worker],
        environment: dict[str, Any],
        display: Display,
        server_answers: Callable[[], bool] = lambda: True,
        conditions: Conditions | None = None,
    ) -> None:
        self._plan = plan
        self._spec = plan.spec
        self._set = tasks
        self._agent_kind = agent_kind(plan.spec.agent.kind)
        self._models = models
        self._connect = connect
        self._environment = environment
        self._display = display
        self._server_answers = server_answers
        self._conditions = conditions or Conditions()
        self._pristine: dict[str | None, tuple[TreeEntry, ...]] = {}
        self._results: queue.SimpleQueue[_Result | None] = queue.SimpleQueue()
        self._waits: list[int] = []
        self._stop = threading.Event()
        self._failures_path = plan.path.with_suffix(FAILURES)
        self._open = ExitStack()

    def run(self, log: Log, *, workers: int = 1, failures: Log | None = None) -> Summary:
        """Run every task that `log` has no record of and return what was done.

        Tasks that other workers finish while one of them fails are still appended before the error leaves.

        Args:
            log: takes the records.
            workers: tasks run at a time.
            failures: takes attempts that ended in an infrastructure failure; `None` is a file beside the records.

        Raises:
            ModelServerError: the model server is gone for good.
            WorkerLostError: no sandbox worker can be had any more.
            ChangedFileError: another program changed a file that is appended to; what it lacks is in its rescue.
            StorageError: a record cannot be made durable.
        """
        started = time.monotonic_ns()
        plan, done = self._plan, log.ids
        self._failures = failures
        failed = self._earlier_failures() if failures is None else failures.ids
        self._jobs = Queue(
            plan.jobs,
            done=lambda job: plan.trace_id(job) in done,
            doubtful=lambda job: bool(failed) and plan.trace_id(job) in failed,
        )
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(min(workers, plan.size))]
        for thread in threads:
            thread.start()
        summary = Summary(workers=len(threads))
        with self._open:
            try:
                self._gather(log, summary)
            finally:
                self._stop.set()
        summary.elapsed_ns, summary.waits = time.monotonic_ns() - started, len(self._waits)
        return summary

    def _earlier_failures(self) -> IdIndex:
        return known_ids(self._failures_path, unique=False) if self._failures_path.exists() else IdIndex()

    def _gather(self, log: Log, summary: Summary) -> None:
        """Append results as they come; the only writer of the record file."""
        running = summary.workers
        in_a_row: set[int | str] = set()
        failure: BaseException | None = None
        while running:
            result = self._results.get()
            if result is None:
                running -= 1
            elif result.error is not None:
                failure = failure or result.error
                self._stop.set()
            elif result.trace is None or result.task is None:
                continue
            elif result.trace.outcome.ended in INFRASTRUCTURE_ENDS:
                failure = self._append(self._failed(), result.trace) or failure
                self._display.failed(result.task, result.trace, result.attempt)
                if result.attempt == ATTEMPTS:
                    log.give_up(result.trace.trace_id)
                    summary.abandoned += (result.task,)
                    in_a_row.add(result.task.task_id)
                    if len(in_a_row) == GIVEN_UP_IN_A_ROW:
                        failure = failure or _given_up(result.trace.outcome)
                        self._stop.set()
            else:
                failure = self._append(log, result.trace) or failure
                self._jobs.settle(result.task)
                in_a_row.clear()
                summary.add(result.trace)
                self._display.finished(result.task, result.trace)
        if failure is not None:
            raise failure

    def _append(self, log: Log, trace: Trace) -> ChangedFileError | None:
        """Make a trace durable; where its file is another one now, begin no more tasks and return what to say."""
        try:
            log.append(trace.trace_id, trace)
        except ChangedFileError as error:
            self._stop.set()
            return error
        return None

    def _failed(self) -> Log:
        """Return where attempts that failed are kept beside the records: nothing is lost, and nothing of it counts."""
        if self._failures is None:
            self._failures = self._open.enter_context(RecordLog(self._failures_path, unique=False))
        return self._failures

    def _work(self) -> None:
        """Run tasks with one sandbox worker at a time until none is left."""
        worker: Worker | None = None
        task: Task | None = None
        tree: str | None = None
        try:
            while not self._stop.is_set() and (task := self._jobs.take(tree)) is not None:
                tree = task.fixture
                died = 0
                for attempt in range(1, ATTEMPTS + 1):
                    worker = worker or self._connect()
                    trace, worker = self._attempt(task, worker)
                    died += trace.outcome.ended == "sandbox_error" and trace.prepare_ms is not UNSET
                    if died == ATTEMPTS and (worker := self._working(task)) is not None:
                        trace = self._taken_down(trace, task)
                    self._results.put(_Result(task=task, trace=trace, attempt=attempt))
                    if trace.outcome.ended not in INFRASTRUCTURE_ENDS or self._stop.is_set():
                        break
                    self._pause(attempt, trace.outcome)
                else:
                    self._jobs.postpone(task)
                    tree = None  # else its next run would be the next of all
        except BaseException as error:  # noqa: BLE001 - handed to the main thread, which raises it
            self._results.put(_Result(task=task, error=error))
        finally:
            if worker is not None:
                worker.close()
            self._results.put(None)

    def _pause(self, attempt: int, outcome: Outcome) -> None:
        """Wait before the next attempt; there is none when the model server is gone.

        Raises:
            ModelServerError: it is.
        """
        if outcome.ended == "model_error" and not self._server_answers():
            raise ModelServerError(f"{outcome.detail}; it is gone, so the campaign stops")
        if attempt <= len(BACKOFF_S):
            self._stop.wait(BACKOFF_S[attempt - 1])

    def _working(self, task: Task) -> Worker | None:
        """Return another worker that was seen to work; `None` when it does not, so that calls are not to blame."""
        worker = self._connect()
        try:
            Bench(worker, self._plan.sandbox(task)).check()
        except WorkerLostError:
            worker.close()
            return None
        return worker

    def _taken_down(self, trace: Trace, task: Task) -> Trace:
        """Return the trace of a task that took its worker with it in every attempt: that is the model's doing.

        What it says is the same in every replay; the workers' last words are kept with the attempts before it.
        """
        call = next((span for span in reversed(trace.spans) if span.status == "lost"), None)
        what = "the tree that it left" if call is None else f"{call.call_id} ({call.tool_name})"
        detail = f"{what} took the worker with it in each of {ATTEMPTS} attempts"
        outcome = self._set.unobserved(Outcome(ended="sandbox_lost", detail=detail), task)
        return msgspec.structs.replace(trace, outcome=lost(detail).on(outcome))

    def _attempt(self, task: Task, worker: Worker) -> tuple[Trace, Worker | None]:
        """Run one task once and return its trace, and a worker that can go on, if there is one."""
        trace_id, prompt = self._plan.trace_id(task), self._plan.prompt(task)
        model = self._models.for_trace(trace_id, seed=request_seed(self._spec, task))
        run = _empty_run()
        prepare_ms: float | UnsetType = UNSET
        bench = Bench(worker, self._plan.sandbox(task), self._pristine.get(task.fixture), connect=self._connect)
        agent = self._agent_kind(self._spec.agent, model, bench, self._display.event)
        before, started = self._conditions.before(), time.monotonic_ns()
        try:
            self._begin_tree(task, bench)
            begun_ns = time.monotonic_ns() - started
            run, waited_ns = run_meanwhile(lambda: whole_run(agent, model, trace_id, prompt), bench)
            prepare_ms = (begun_ns + waited_ns) / 1e6
            if waited_ns > LONG_WAIT_NS:
                self._display.waited(waited_ns)
                self._waits.append(waited_ns)
            outcome = self._judged(task, run, bench)
        except WorkerLostError as error:
            outcome = Outcome(ended="sandbox_error", detail=str(error))
        except (ModelServerError, UsageError):
            raise
        except Exception as error:  # noqa: BLE001 - one task's fault never ends the campaign
            what = str(error) if isinstance(error, AgentTraceError) else f"{type(error).__name__}: {error}"
            # The name of a file can hold bytes that are no text, and a record holds text.
            outcome = Outcome(ended="internal_error", detail=what.encode("utf-8", "backslashreplace").decode())
        trace = self._trace(task, prompt, run, outcome, prepare_ms, self._conditions.since(before))
        if bench.worn or bench.worker.closed or outcome.ended in {"sandbox_error", "internal_error"}:
            bench.worker.close()
            return trace, None
        return trace, bench.worker

    def _begin_tree(self, task: Task, bench: Bench) -> None:
        """Begin to make the task's tree; each is listed once, but for checkouts, of which there may be thousands."""
        if self._spec.dataset.sampling is not UNSET or bench.listed:
            bench.begin()
        else:
            self._pristine[task.fixture] = bench.before()

    def _judged(self, task: Task, run: Run, bench: Bench) -> Outcome:
        if run.outcome.ended in INFRASTRUCTURE_ENDS:
            return run.outcome
        outcome = self._set.observe(run.outcome, task, bench)
        return assessed(self._set, task, Finished(outcome=outcome, spans=run.spans), bench).on(outcome)

    def _trace(
        self, task: Task, prompt: str, run: Run, outcome: Outcome, prepare_ms: float | UnsetType, under: dict[str, Any]
    ) -> Trace:
        return Trace(
            trace_id=self._plan.trace_id(task),
            timestamp_utc=run.timestamp_utc,
            prompt=prompt,
            model=self._spec.model.name,
            spans=run.spans,
            llm_steps=run.steps,
            total_duration_ms=run.elapsed_ns / 1e6,
            metadata=self._plan.metadata(task),
            environment={**self._environment, **under},
            outcome=outcome,
            prepare_ms=prepare_ms,
        )


def _empty_run() -> Run:
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    return Run(steps=(), spans=(), outcome=Outcome(ended="internal_error"), timestamp_utc=now, elapsed_ns=0)


def _given_up(outcome: Outcome) -> AgentTraceError:
    """Return the error that ends a campaign in which nothing works any more."""
    kind = ModelServerError if outcome.ended == "model_error" else WorkerLostError
    return kind(
        f"{GIVEN_UP_IN_A_ROW} tasks in a row could not be run for the infrastructure's reasons, so the campaign stops; "
        f"the last one ended with {outcome.ended}: {outcome.detail}"
    )
