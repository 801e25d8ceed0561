"""The run spec of rollouts, and what follows from it alone: ids, seeds, metadata, the order of the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agenttrace import __version__
from agenttrace.agents.bash_block_spec import POLICY, agent_spec
from agenttrace.plan import sandbox_spec
from agenttrace.records.base import Record
from agenttrace.records.rollout import RolloutSpec
from agenttrace.rollouts import derived
from agenttrace.rollouts.options import model_and_serving, sampler
from agenttrace.rollouts.prepare import ReadyTask
from agenttrace.tasks.swe import trees

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agenttrace.rollouts.options import RolloutOptions
    from agenttrace.rollouts.prepare import Prepared

FIXTURE = "checkout"
"""Name in the run spec; the tree of each task is in its records."""


class Job(Record, frozen=True, kw_only=True):
    """One rollout to make."""

    ready: ReadyTask
    index: int


def spec_of(options: RolloutOptions, prepared: Prepared, *, images: dict[str, str]) -> RolloutSpec:
    """Return the run spec; its run id is the one asked for, or empty.

    Raises:
        UsageError: an option is not possible; see `model_and_serving`.
    """
    pin, serving = model_and_serving(options)
    return RolloutSpec(
        run_id=options.run_id or "",
        dataset=prepared.source,
        sampling=prepared.sampling,
        model=pin,
        serving=serving,
        sampler=sampler(options),
        agent=agent_spec(
            max_total_tokens=options.max_total_tokens or pin.context_length,
            max_turns=options.max_turns,
            max_output_tokens=options.max_output_tokens,
            call_limit_ms=options.call_limit_ms,
            observation=options.observation,
        ),
        sandbox=sandbox_spec(FIXTURE, f"trees-v{trees.VERSION}", clock=None, policy=POLICY),
        images=images,
        collector_version=__version__,
    )


def jobs(prepared: Prepared) -> list[Job]:
    """Return every rollout of the plan whose task has a tree, the rollouts of a task together.

    So the requests that run at a time share the longest prefix a server's cache can use, and a sandbox worker meets
    the tree that it has at hand.
    """
    return [Job(ready=ready, index=index) for ready in prepared.tasks for index in range(prepared.sampling.rollouts)]


def rollout_id(spec: RolloutSpec, job: Job) -> str:
    """Return the id that a rollout has in this run, always the same."""
    return derived.rollout_id(spec, job.ready.task.instance_id, job.index)


def todo(spec: RolloutSpec, every: Iterable[Job], done: dict[str, None]) -> list[Job]:
    """Return the rollouts without a record yet, in order."""
    return [job for job in every if rollout_id(spec, job) not in done]


def seed_of(spec: RolloutSpec, job: Job) -> int:
    """Return the seed of a rollout's requests."""
    return derived.seed(spec, job.ready.task.instance_id, job.index)


def metadata(spec: RolloutSpec, job: Job, *, spec_sha256: str) -> dict[str, Any]:
    """Return the `metadata` of a rollout: a pure function of (run spec, task, index); see `derived.metadata`."""
    return derived.metadata(spec, job.ready.task.instance_id, job.index, spec_sha256=spec_sha256)
