"""What the records of a file must be by the run spec beside it, and by their tasks wherever these can be had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.agents import agent_kind
from agenttrace.campaign.plan import metadata
from agenttrace.errors import AgentTraceError, DataError, UsageError
from agenttrace.records import RunSpec, SamplingPlan, canonical_json, digest, rollout_1_0
from agenttrace.store.opening import text
from agenttrace.store.read import read_run_spec, run_spec_path
from agenttrace.tasks import OWN, Task, files_of, sources, task_set
from agenttrace.tasks.own.loading import load as load_own
from agenttrace.tasks.own.loading import sidecar
from agenttrace.tasks.own.task_set import OwnTasks
from agenttrace.tasks.swe.rows import BUNDLED, SweTask, load
from agenttrace.tasks.swe.task_set import task_of
from agenttrace.validate.checkouts import OF_THE_TASK
from agenttrace.validate.findings import Violation, parsed, typed, unknown_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from agenttrace.agents import AgentKind
    from agenttrace.records import DatasetSpec, Trace

_UNKNOWN = "\0"
"""Stands for what a task that is not at hand asks."""


class Planned:
    """What the records of one file must be.

    Attributes:
        spec: the run spec beside the file; `None` when there is none, or it cannot be read.
        problems: what is wrong with the run spec itself.
        notes: what could not be checked, and why.
        own: the task set of somebody's own that lies beside it.
    """

    def __init__(self, path: Path) -> None:
        """Read what lies beside a record file; nothing is downloaded."""
        self.spec: RunSpec | None = None
        self.own: OwnTasks | None = None
        self.problems: list[Violation] = []
        self.notes: list[str] = []
        self._digest = ""
        beside = run_spec_path(path)
        beside = beside.with_name(beside.name.replace(".failures.run.json", ".run.json"))  # one spec for both files
        try:
            self.spec = read_run_spec(beside)
            data = text(beside)
            raw = msgspec.json.decode(data)
            self._digest = digest(raw)  # of what stands there: a later version of the kit may know more fields
            known = typed(raw, rollout_1_0.RolloutSpec if rollout_1_0.is_spec(data) else RunSpec)
            for key in unknown_keys(raw, msgspec.to_builtins(known)):
                self.problems.append(Violation("schema", key, f"{beside.name}: no such field in this version"))
            for key in parsed(data)[1]:
                self.problems.append(Violation("json", key, f"{beside.name}: the key is given twice in one object"))
            if not self.problems and self._digest != self.spec.digest:
                what = "a number lacks its point (0.0, not 0), or a key that has no value is left out"
                message = f"{beside.name}: {what}: what stands there has another digest"
                self.problems.append(Violation("schema", "", message))
        except UsageError:
            self.notes.append(f"no run spec ({beside.name}) beside it: plan and metadata were not checked")
        except (DataError, ValueError, RecursionError) as error:  # the last two: of what no reader can hold
            self.problems.append(Violation("schema", "", str(error)))
        self._drawn: frozenset[str] | None = None
        self._known: dict[int | str, Any] = {}
        self._agent: AgentKind | None = None
        if self.spec is not None:
            self._tasks(self.spec.dataset, beside)
            try:
                self._agent = agent_kind(self.spec.agent.kind)
            except UsageError as error:  # somebody else's
                self.notes.append(f"{error}: prompts and metadata were not checked")

    def _tasks(self, dataset: DatasetSpec, beside: Path) -> None:
        """Find the tasks of the run: of a set whose files are here or beside it, or of the bundled checkouts."""
        if isinstance(dataset.sampling, SamplingPlan):
            self._drawn = frozenset(dataset.sampling.task_ids)
            if len(self._drawn) < len(dataset.sampling.task_ids):
                message = f"{beside.name}: a task stands there twice"
                self.problems.append(Violation("plan", "dataset.sampling.task_ids", message))
            if dataset.source == BUNDLED:
                source, rows = load(BUNDLED)
                self._known = {row.instance_id: row for row in rows} if source.sha256 == dataset.sha256 else {}
            if not self._known:
                self.notes.append(f"the tasks of {dataset.source} are not here: problem statements were not compared")
        else:
            try:
                self.own = own_tasks(dataset, beside) if dataset.source == OWN else None
                self._known = {task.task_id: task for task in tasks_here(dataset, beside)}
            except OtherSetError as error:
                self.problems.append(Violation("plan", "dataset.sha256", str(error)))
            except AgentTraceError as error:
                self.notes.append(f"{error}: tasks are taken from the records' words")

    def check(self, trace: Trace, recorded: dict[str, Any] | None) -> Iterator[Violation]:
        """Yield what a record of this campaign cannot be.

        Args:
            trace: the record.
            recorded: the metadata of a rollout of schema 1.0.0 as it stands in the file.
        """
        spec, found = self.spec, trace.metadata
        if spec is None:
            return
        if trace.model != spec.model.name:
            yield Violation("plan", "model", f"is {trace.model[:60]!r}, the run spec gives {spec.model.name!r}")
        task = self._task(spec, found)
        if task is None:
            named = f"{str(found.get('task_id'))[:60]!r} number {found.get('rollout_index')!r}"
            yield Violation("plan", "metadata.task_id", f"{named} is no task of the run spec")
        if task is None or self._agent is None:
            return
        start, unknown, _ = self._agent.prompt(spec.agent, task).partition(_UNKNOWN)
        if not trace.prompt.startswith(start) or not (unknown or trace.prompt == start):
            yield Violation("plan", "prompt", "is not the message of this task, or does not begin as it does")
        expected = metadata(spec, task, spec_sha256=self._digest)
        if recorded is not None:
            for key in ("seed", *OF_THE_TASK):  # stood beside its metadata
                if found[key] != expected[key]:
                    yield Violation(
                        "plan", f"metadata.{key}", f"is {_short(found[key])}, must be {_short(expected[key])}"
                    )
            expected, found = rollout_1_0.recorded(spec, expected), recorded
        yield from differing(expected, found)

    def _task(self, spec: RunSpec, found: dict[str, Any]) -> Task | None:
        """Return the task of a record; of one that is not at hand, and of what its tree says, what the record says."""
        task_id, index, name, kind = (found.get(key) for key in ("task_id", "rollout_index", "task_name", "task_kind"))
        if not isinstance(task_id, (int, str)) or not isinstance(index, int) or not 0 <= index < spec.dataset.rollouts:
            return None
        known = self._known.get(task_id)
        if self._drawn is not None:
            if task_id not in self._drawn:
                return None
            facts = {key: found.get(key) for key in OF_THE_TASK}
            words = {key: str(facts[key]) for key in ("repo", "base_commit")}
            nothing: dict[str, Any] = {"interface": None, "language": None, "test_patch": "", "patch": ""}
            row = known or SweTask(instance_id=str(task_id), problem_statement=_UNKNOWN, **words, **nothing)
            if known is not None:
                facts |= {key: getattr(row, key) for key in words}
            task: Task = msgspec.structs.replace(task_of(row, str(facts["language"])), facts=facts)
        elif known is not None:
            task = known
        elif self._known or not (isinstance(name, str) and isinstance(kind, str)):
            return None
        else:
            brings = spec.dataset.source == OWN and "fixture_digest" in found  # a tree of its own
            facts = {"fixture_digest": found["fixture_digest"]} if brings else {}
            task = Task(task_id=task_id, name=name, prompt=_UNKNOWN, kind=kind, expect={}, facts=facts)
        return msgspec.structs.replace(task, rollout=index)


class OtherSetError(DataError):
    """What lies beside a run spec as its task set is another one, or none."""


def own_tasks(dataset: DatasetSpec, beside: Path) -> OwnTasks:
    """Return the task set of somebody's own that lies beside a run spec or record file.

    Raises:
        OtherSetError: another one lies there, or what is none.
        UsageError: none does.
    """
    path = sidecar(beside)
    if not path.is_file():
        raise UsageError(f"no task set ({path.name}) beside it")
    try:
        found = load_own(path)
    except AgentTraceError as error:
        raise OtherSetError(str(error).replace(f"{path.parent}/", "")) from error
    if found.sha256 != dataset.sha256:
        raise OtherSetError(f"{path.name} is another task set than the run spec names")
    return OwnTasks(found)


def tasks_here(dataset: DatasetSpec, beside: Path) -> Sequence[Task]:
    """Return the tasks of a run as its task set makes them here; nothing is downloaded.

    Args:
        dataset: of its run spec.
        beside: the run spec or the record file: a set of somebody's own lies there.

    Raises:
        AgentTraceError: they are not here, or others are.
    """
    if dataset.source == OWN:
        return own_tasks(dataset, beside).tasks(offset=dataset.offset, count=dataset.count)
    if not all((sources.folder() / source.path).is_file() for source in files_of(dataset.name)):
        raise UsageError(f"the task files of {dataset.name} are not here")
    found = task_set(dataset.name)
    if found.spec(offset=dataset.offset, count=dataset.count).sha256 != dataset.sha256:
        raise DataError(f"the task set {dataset.name} here is another one than the run spec names")
    return found.tasks(offset=dataset.offset, count=dataset.count)


def differing(expected: dict[str, Any], found: dict[str, Any]) -> Iterator[Violation]:
    """Yield every key in which metadata is not what it must be."""
    for key in dict.fromkeys([*expected, *found]):
        if key not in found or key not in expected:
            yield Violation("metadata", f"metadata.{key}", "is missing" if key not in found else "does not belong here")
        elif canonical_json(expected[key]) != canonical_json(found[key]):
            yield Violation("metadata", f"metadata.{key}", f"is {_short(found[key])}, must be {_short(expected[key])}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... (digest {digest(value)[:12]})"  # noqa: PLR2004 - a line's width
