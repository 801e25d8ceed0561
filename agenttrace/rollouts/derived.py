"""What follows from a run spec, a task's name and an index alone, the same on any machine: id, seed, metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agenttrace.records.base import SCHEMA_VERSION, derived_id, digest

if TYPE_CHECKING:
    from agenttrace.records.rollout import RolloutSpec

_SEEDS = 2**31


def rollout_id(spec: RolloutSpec, instance_id: str, index: int) -> str:
    """Return the id that a rollout has in this run."""
    return derived_id("rollout", spec.run_id, spec.dataset.name, instance_id, index)


def seed(spec: RolloutSpec, instance_id: str, index: int) -> int:
    """Return the seed of a rollout's requests (31 bits), from the run's seed, the task and the index."""
    return int(digest([spec.sampler.seed, instance_id, index])[:16], 16) % _SEEDS


def metadata(spec: RolloutSpec, instance_id: str, index: int, *, spec_sha256: str) -> dict[str, Any]:
    """Return the `metadata` of a rollout.

    Args:
        spec: of the run.
        instance_id: of the task.
        index: of the rollout within the task.
        spec_sha256: `spec.digest`, which takes long where a plan has many tasks.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "collector_version": spec.collector_version,
        "run_id": spec.run_id,
        "run_spec_sha256": spec_sha256,
        "dataset_name": spec.dataset.name,
        "dataset_source": spec.dataset.source,
        "dataset_sha256": spec.dataset.sha256,
        "instance_id": instance_id,
        "rollout_index": index,
        "model": spec.model.name,
        "model_artifact": spec.model.artifact,
        "model_sha256": spec.model.sha256,
        "model_revision": spec.model.revision,
        "demo": spec.model.demo,
        "serving_engine": spec.serving.engine,
        "serving_engine_version": spec.serving.engine_version,
        "serving_profile": spec.serving.profile,
        "sampler": spec.sampler.name,
        "temperature": spec.sampler.temperature,
        "seed": seed(spec, instance_id, index),
        "prompt_sha256": digest([spec.agent.system_template, spec.agent.instance_template]),
        "observation_template": spec.agent.observation_template,
        "max_turns": spec.agent.max_turns,
        "max_total_tokens": spec.agent.max_total_tokens,
        "sandbox_policy": spec.sandbox.policy,
        "images": spec.images,
    }
