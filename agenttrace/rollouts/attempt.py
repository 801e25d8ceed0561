"""One rollout, from a pristine tree to a record: reset, agent, patch, verdict."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from agenttrace.agents.bash_block import Attempt, BashBlockAgent
from agenttrace.agents.bash_block_spec import task_message
from agenttrace.errors import AgentTraceError, ModelServerError, UsageError, WorkerLostError
from agenttrace.records import Record, Verdict
from agenttrace.records.rollout import Rollout
from agenttrace.rollouts.spec import metadata, rollout_id, seed_of
from agenttrace.rollouts.verdict import judge
from agenttrace.tasks.swe import git, patches

if TYPE_CHECKING:
    from pathlib import Path

    from agenttrace.agents.bash_block import Conversation
    from agenttrace.rollouts.place import Plan
    from agenttrace.rollouts.spec import Job
    from agenttrace.sandbox.client import Worker
    from agenttrace.sandbox.reports import CallReport


class Conversations(Protocol):
    """Where a run's conversations get their model from."""

    def for_rollout(self, seed: int) -> Conversation:
        """Return the model for one conversation, every request of which carries `seed`."""
        ...


class Made(Record, frozen=True, kw_only=True):
    """A rollout's record, and whether its worker can go on."""

    rollout: Rollout
    usable: bool


class _Left(Record, frozen=True, kw_only=True):
    """What the agent left behind, without what the harness found out of it."""

    attempt: Attempt
    patch: str | None = None
    note: str | None = None
    verdicts: tuple[Verdict, ...] = ()


class _Shell:
    """The worker as the agent's shell."""

    def __init__(self, worker: Worker, limit_ms: int) -> None:
        self._worker = worker
        self._limit_ms = limit_ms
        self.hit_memory = False

    def execute(self, command: str) -> CallReport:
        """Run one command."""
        report = self._worker.call("bash", command, limit_ms=self._limit_ms)
        self.hit_memory = self.hit_memory or report.status == "oom"
        return report


def make(
    plan: Plan, job: Job, worker: Worker, conversations: Conversations, *, trees: Path, environment: dict[str, Any]
) -> Made:
    """Return the record of one rollout; its `stop` is `error` when the infrastructure spoilt it.

    Raises:
        ModelServerError: nothing can be had from the server any more.
        UsageError: the sandbox has other trees than the plan.
    """
    started, left, recycle = time.monotonic_ns(), _Left(attempt=_none("never started")), False
    prepare_ns = 0
    shell = _Shell(worker, plan.spec.agent.call_limit_ms)
    prompt = task_message(plan.spec.agent.instance_template, job.ready.task, job.ready.language)
    try:
        report = worker.reset(job.ready.tree.name)
        _check_digest(report.digest, job)
        recycle = report.recycle_after
        prepare_ns = time.monotonic_ns() - started
        agent = BashBlockAgent(plan.spec.agent, conversations.for_rollout(seed_of(plan.spec, job)), shell)
        left = _Left(attempt=agent.run(plan.spec.agent.system_template, prompt))
        if left.attempt.stop != "error":
            left = _judged(left.attempt, job, worker, trees, plan.spec.dataset.source)
    except WorkerLostError as error:
        left = _Left(attempt=_spoilt(left.attempt, str(error)))
    except (ModelServerError, UsageError):
        raise
    except Exception as error:  # noqa: BLE001 - one rollout's fault never ends the run
        what = str(error) if isinstance(error, AgentTraceError) else f"{type(error).__name__}: {error}"
        # The name of a file can hold bytes that are no text, and a record holds text.
        left = _Left(attempt=_spoilt(left.attempt, what.encode("utf-8", "backslashreplace").decode()))
    usable = not recycle and not shell.hit_memory and not worker.closed
    return Made(rollout=_record(plan, job, left, prompt, prepare_ns, environment), usable=usable)


def _check_digest(found: str, job: Job) -> None:
    if found != job.ready.tree.digest:
        raise UsageError(
            f"the sandbox has another tree {job.ready.tree.name} than was prepared "
            f"({found} instead of {job.ready.tree.digest}); run the same command again"
        )


def _judged(attempt: Attempt, job: Job, worker: Worker, trees: Path, source: str) -> _Left:
    """Read the final tree, make the patch from the harness's own objects, judge it."""
    tree = trees / job.ready.tree.name
    changes = worker.changes(without=patches.LEFT_OUT)
    try:
        patch, note = patches.diff(tree, changes)
    except git.GitError as error:
        patch, note = None, str(error)
    verdict = judge(tree, job.ready.task, patch, note, source=source)
    return _Left(attempt=attempt, patch=patch, note=note, verdicts=(verdict,))


def _none(detail: str) -> Attempt:
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    return Attempt(turns=(), stop="error", detail=detail, submission=None, timestamp_utc=now, elapsed_ns=0)


def _spoilt(attempt: Attempt, detail: str) -> Attempt:
    return Attempt(
        turns=attempt.turns,
        stop="error",
        detail=detail,
        submission=attempt.submission,
        timestamp_utc=attempt.timestamp_utc,
        elapsed_ns=attempt.elapsed_ns,
    )


def _record(plan: Plan, job: Job, left: _Left, prompt: str, prepare_ns: int, environment: dict[str, Any]) -> Rollout:
    task, tree, attempt = job.ready.task, job.ready.tree, left.attempt
    return Rollout(
        rollout_id=rollout_id(plan.spec, job),
        instance_id=task.instance_id,
        rollout_index=job.index,
        repo=task.repo,
        base_commit=task.base_commit,
        language=job.ready.language,
        language_source="dataset" if task.language else "tree",
        tree_digest=tree.digest,
        hidden_tests=tree.hidden_tests,
        timestamp_utc=attempt.timestamp_utc,
        model=plan.spec.model.name,
        seed=seed_of(plan.spec, job),
        prompt=prompt,
        turns=attempt.turns,
        stop=attempt.stop,
        detail=attempt.detail,
        submission=attempt.submission,
        patch=left.patch,
        patch_note=left.note,
        duration_ms=attempt.elapsed_ns / 1e6,
        prepare_ms=prepare_ns / 1e6,
        metadata=metadata(plan.spec, job, spec_sha256=plan.spec_sha256),
        environment=environment,
        verdicts=left.verdicts,
    )
