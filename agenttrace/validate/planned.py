"""Whether a rollout belongs to the run spec beside its file, and its metadata is what that gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.agents.bash_block_spec import task_message
from agenttrace.errors import DataError, UsageError
from agenttrace.records import digest
from agenttrace.rollouts import derived
from agenttrace.rollouts.place import read_spec
from agenttrace.rollouts.runs import plain
from agenttrace.store.opening import content
from agenttrace.store.read import run_spec_path
from agenttrace.tasks.swe.rows import BUNDLED, load
from agenttrace.tasks.swe.task import SweTask
from agenttrace.validate.findings import Problem
from agenttrace.validate.metadata import differing, records_of
from agenttrace.validate.rules import same
from agenttrace.validate.schema import unknown_keys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agenttrace.records.rollout import Rollout, RolloutSpec

_STATEMENT = "{problem_statement}"


class Planned:
    """What the rollouts of one file must be by their run spec.

    Attributes:
        spec: the run spec beside the file; `None` when there is none, or it cannot be read.
        problems: what is wrong with the run spec itself.
        notes: what could not be checked, and why.
    """

    def __init__(self, path: Path) -> None:
        """Read what lies beside a record file; nothing is downloaded."""
        self.spec: RolloutSpec | None = None
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self._digest = ""
        beside = run_spec_path(records_of(plain(path)))
        try:
            self.spec = read_spec(beside)
            raw = msgspec.json.decode(content(beside))
            self._digest = digest(raw)  # of what stands there: a later version of the kit may know more fields
            for key in unknown_keys(raw, msgspec.to_builtins(self.spec)):
                self.problems.append(Problem("schema", key, f"{beside.name}: no such field in this version"))
        except UsageError:
            self.notes.append(f"no run spec ({beside.name}) beside it: plan and metadata were not checked")
        except DataError as error:
            self.problems.append(Problem("schema", "", str(error)))
        names = self.spec.sampling.instance_ids if self.spec is not None else ()
        self._names = frozenset(names)
        if len(self._names) < len(names):
            self.problems.append(Problem("plan", "sampling.instance_ids", f"{beside.name}: a task stands there twice"))
        self._tasks = self._known_tasks()

    def _known_tasks(self) -> dict[str, SweTask]:
        """Return the bundled tasks, where they are those of the run; others cannot be had without a download."""
        if self.spec is None:
            return {}
        if self.spec.dataset.source == BUNDLED:
            source, tasks = load(BUNDLED)
            if source.sha256 == self.spec.dataset.sha256:
                return {task.instance_id: task for task in tasks}
        self.notes.append(f"the tasks of {self.spec.dataset.source} are not here: problem statements were not compared")
        return {}

    def check(self, rollout: Rollout) -> Iterator[Problem]:
        """Yield what a rollout of this run cannot be."""
        spec = self.spec
        if spec is None:
            return
        name, index = rollout.instance_id, rollout.rollout_index
        if name not in self._names or not 0 <= index < spec.sampling.rollouts:
            yield Problem("plan", "instance_id", f"{name[:60]!r} number {index} is not in the run's sampling plan")
            return
        yield from same("rollout_id", rollout.rollout_id, derived.rollout_id(spec, name, index))
        for field, found, expected in (
            ("model", rollout.model, spec.model.name),
            ("seed", rollout.seed, derived.seed(spec, name, index)),
            ("hidden_tests.asked", rollout.hidden_tests.asked, spec.dataset.hidden_tests),
        ):
            if found != expected:
                yield Problem("plan", field, f"is {found!r}, the run spec gives {expected!r}")
        yield from self._task(spec, rollout)
        expected_metadata = derived.metadata(spec, name, index, spec_sha256=self._digest)
        yield from differing(msgspec.to_builtins(expected_metadata), rollout.metadata)

    def _task(self, spec: RolloutSpec, rollout: Rollout) -> Iterator[Problem]:
        """Yield what is not as the task says; of a task that is not at hand the message's beginning is known."""
        known = self._tasks.get(rollout.instance_id)
        if known is None:
            start = _message(spec.agent.instance_template.partition(_STATEMENT)[0], rollout)
            if not rollout.prompt.startswith(start):
                yield Problem("plan", "prompt", "does not begin as the run spec's template does for this task")
            return
        for field in ("repo", "base_commit"):
            if getattr(rollout, field) != getattr(known, field):
                yield Problem("plan", field, "is not that of the task")
        if rollout.prompt != task_message(spec.agent.instance_template, known, rollout.language):
            yield Problem("plan", "prompt", "is not the message of this task")


def _message(template: str, rollout: Rollout) -> str:
    nothing: dict[str, Any] = {"problem_statement": "", "interface": None, "test_patch": "", "patch": ""}
    task = SweTask(
        instance_id=rollout.instance_id, repo=rollout.repo, base_commit=rollout.base_commit, language=None, **nothing
    )
    return task_message(template, task, rollout.language)
