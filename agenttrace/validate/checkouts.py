"""The rules that a trace over a checkout of a repository keeps, whichever agent made it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec import UNSET

from agenttrace.records import INFRASTRUCTURE_ENDS, Record, digest
from agenttrace.store.ids import IdIndex
from agenttrace.tasks.swe.trees import HiddenTests
from agenttrace.validate.findings import Violation, typed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agenttrace.records import RunSpec, Trace
    from agenttrace.records.rollout_1_0 import Rollout

OF_THE_TASK = ("repo", "base_commit", "language", "language_source", "tree_digest", "hidden_tests")
"""Metadata that says what the tree of a task is; it is equal in all rollouts of the task."""


class _HiddenTests(HiddenTests, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class _Facts(Record, frozen=True, kw_only=True):
    """What the metadata must say, and in which types."""

    task_id: str
    rollout_index: int
    seed: int
    repo: str
    base_commit: str
    language: str
    language_source: Literal["dataset", "tree"]
    tree_digest: str
    hidden_tests: _HiddenTests


class Checkouts:
    """Checks the traces of one file; holds 40 bytes a task."""

    def __init__(self) -> None:
        self._tasks = IdIndex()

    def check(self, trace: Trace, spec: RunSpec | None, number: int) -> Iterator[Violation]:
        """Yield what is wrong with a trace, `number` being its line; without the run spec less is known."""
        facts = typed(trace.metadata, _Facts, "metadata")
        if isinstance(facts, Violation):
            yield facts
        else:
            tests, sampling = facts.hidden_tests, UNSET if spec is None else spec.dataset.sampling
            if tests.applied > tests.asked or (tests.asked > tests.applied) != (tests.reason is not None):
                yield Violation("outcome", "metadata.hidden_tests", "asked, applied and reason contradict each other")
            if sampling and tests.asked != sampling.hidden_tests:
                yield Violation("plan", "metadata.hidden_tests", f"asked is {tests.asked}, not as in the run spec")
        yield from self._alike(trace, number)
        found = trace.outcome
        if found.ended not in INFRASTRUCTURE_ENDS:
            if UNSET in (found.patch, found.patch_note):
                yield Violation("schema", "outcome.patch", "is missing, or patch_note is")
            if found.patch is None and not found.patch_note:
                yield Violation("outcome", "outcome.patch_note", "does not say why there is no patch")
        if not found.patch and any(verdict.verdict == "passed" for verdict in found.verdicts):
            yield Violation("outcome", "outcome.verdicts", "passed without a patch")

    def _alike(self, trace: Trace, number: int) -> Iterator[Violation]:
        """Yield that a rollout's conditions are others than those of the task's first one."""
        task = str(trace.metadata.get("task_id"))
        facts = f"{task}\n{digest([trace.prompt, *(trace.metadata.get(name) for name in OF_THE_TASK)])}"
        if (first := self._tasks.add(task, number)) is None:
            self._tasks.add(facts, number)
        elif facts not in self._tasks:
            names = ", ".join(("prompt", *OF_THE_TASK))
            yield Violation("plan", "", f"not all of {names} are those of line {first}, a rollout of the same task")


def recorded(rollout: Rollout) -> Iterator[Violation]:
    """Yield what a rollout of schema 1.0.0 says twice in two ways, or would lose when it is read as a trace."""
    for name in ("instance_id", "rollout_index"):
        if rollout.metadata.get(name) != getattr(rollout, name):
            yield Violation("ids", name, f"is not that of the metadata ({rollout.metadata.get(name)!r})")
    for index, turn in enumerate(rollout.turns):
        one = turn.execution
        if one and one.status == "lost" and (one.stdout_bytes or one.stderr_bytes or one.lost_bytes):
            yield Violation("counts", f"turns[{index}].execution", "has sizes although it is lost")
