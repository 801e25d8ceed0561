"""Checks records of kind `Rollout`: schema, ids, plan, order, joins, counts, outcome, metadata, leaks."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.records import SCHEMA_VERSION, digest
from agenttrace.records.rollout import Rollout
from agenttrace.store.kinds import is_failures
from agenttrace.validate import rollout_rules as rules
from agenttrace.validate.findings import Problem
from agenttrace.validate.leaks import leaks
from agenttrace.validate.planned import Planned
from agenttrace.validate.schema import typed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from agenttrace.validate.leaks import Word

_OF_THE_TASK = ("repo", "base_commit", "language", "language_source", "tree_digest", "hidden_tests", "prompt")
"""Fields that are equal in all rollouts of a task."""


def recognises(raw: Any) -> bool:  # noqa: ANN401 - parsed JSON
    """Return whether a parsed line looks like a rollout."""
    return isinstance(raw, dict) and "rollout_id" in raw and "turns" in raw


class Checker:
    """Checks the rollouts of one file, in file order.

    Holds 100 to 200 bytes per rollout for ids that stand twice, a digest per task, and nothing else of the lines.
    """

    def __init__(self, path: Path, words: Sequence[Word], allowed: Sequence[str]) -> None:
        self._words, self._allowed = words, allowed
        self._failures = is_failures(path)
        self._plan = Planned(path)
        self._seen: dict[bytes, int] = {}
        self._tasks: dict[str, tuple[int, tuple[str, ...]]] = {}

    def beside(self) -> Iterator[Problem]:
        """Yield what is wrong with the run spec beside the file."""
        yield from self._plan.problems
        if self._plan.spec is not None:
            yield from leaks(msgspec.to_builtins(self._plan.spec), self._words, self._allowed)

    def check(self, raw: dict[str, Any], number: int) -> Iterator[Problem]:
        """Yield what is wrong with one parsed line."""
        rollout, problems = typed(raw, Rollout)
        yield from problems
        yield from leaks(raw, self._words, self._allowed)
        if rollout is None:
            return
        version = rollout.metadata.get("schema_version")
        if version != SCHEMA_VERSION:
            yield Problem("schema", "metadata.schema_version", f"is {version!r}, this version reads {SCHEMA_VERSION}")
        yield from self._unique(rollout, number)
        yield from self._alike(rollout, number)
        agent = None if self._plan.spec is None else self._plan.spec.agent
        yield from chain(
            rules.ids(rollout),
            self._plan.check(rollout),
            rules.order(rollout),
            rules.joins(rollout, agent),
            rules.counts(rollout, agent),
            rules.outcome(rollout, agent),
        )
        if (rollout.stop == "error") != self._failures:
            where = "only there" if self._failures else "only in a file named NAME.failures.jsonl"
            yield Problem("outcome", "stop", f"is {rollout.stop}: spoilt attempts stand {where}")

    def notes(self) -> list[str]:
        """Return what was not checked, and why; call it after the last line."""
        found = list(self._plan.notes)
        spec = self._plan.spec
        wanted = len(spec.sampling.instance_ids) * spec.sampling.rollouts if spec is not None else 0
        if not self._failures and len(self._seen) < wanted:
            found.append(f"{len(self._seen)} of the {wanted} rollouts of the run spec have a record")
        return found

    def _unique(self, rollout: Rollout, number: int) -> Iterator[Problem]:
        if self._failures:
            return
        key = rollout.rollout_id.encode()[:64]
        if key in self._seen:
            yield Problem("ids", "rollout_id", f"stands in line {self._seen[key]} already")
        self._seen.setdefault(key, number)

    def _alike(self, rollout: Rollout, number: int) -> Iterator[Problem]:
        """Yield what makes a rollout's conditions others than those of the task's first one."""
        found = tuple(digest(getattr(rollout, name))[:16] for name in _OF_THE_TASK)
        first, known = self._tasks.setdefault(rollout.instance_id, (number, found))
        for name, one, other in zip(_OF_THE_TASK, known, found, strict=True):
            if one != other:
                yield Problem("plan", name, f"is not that of line {first}, a rollout of the same task")
