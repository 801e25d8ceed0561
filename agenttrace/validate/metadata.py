"""Computes the metadata of a record again from its run spec and task, wherever both can be had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.errors import AgentTraceError, DataError, UsageError
from agenttrace.plan import metadata
from agenttrace.records import RunSpec, canonical_json, digest
from agenttrace.store.kinds import FAILURES, is_failures
from agenttrace.store.opening import content
from agenttrace.store.read import read_run_spec, run_spec_path
from agenttrace.tasks import Task, sources, task_set
from agenttrace.validate.findings import Problem
from agenttrace.validate.schema import unknown_keys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FILES = {"nl2bash": sources.NL2BASH, "mbpp": (sources.MBPP,)}


class Recomputation:
    """What the metadata of the records of one file must be.

    Attributes:
        spec: the run spec beside the file; `None` when there is none, or it cannot be read.
        problems: what is wrong with the run spec itself.
        notes: what could not be checked, and why.
    """

    def __init__(self, path: Path) -> None:
        """Read what lies beside a record file; nothing is downloaded."""
        self.spec: RunSpec | None = None
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self._digest = ""
        self.path = run_spec_path(records_of(path))
        try:
            self.spec = read_run_spec(self.path)
            raw = msgspec.json.decode(content(self.path))
            self._digest = digest(raw)  # of what stands there: a later version of the kit may know more fields
            for key in unknown_keys(raw, msgspec.to_builtins(self.spec)):
                self.problems.append(Problem("schema", key, f"{self.path.name}: no such field in this version"))
        except UsageError:
            self.notes.append(f"no run spec ({self.path.name}) beside it: metadata could not be computed again")
        except DataError as error:
            self.problems.append(Problem("schema", "", str(error)))
        self._tasks = self._known_tasks()

    def _known_tasks(self) -> dict[int, Task]:
        if self.spec is None:
            return {}
        wanted = self.spec.dataset
        missing = [
            source.path for source in _FILES.get(wanted.name, ()) if not (sources.folder() / source.path).is_file()
        ]
        if missing:
            self.notes.append(
                f"the task files of {wanted.name} are not here: tasks are taken from the records' own words"
            )
            return {}
        try:
            found = task_set(wanted.name)
            if found.spec(offset=wanted.offset, count=wanted.count).sha256 == wanted.sha256:
                return {task.task_id: task for task in found.tasks(offset=wanted.offset, count=wanted.count)}
            self.notes.append(f"the task set {wanted.name} here is another one than the run spec names")
        except AgentTraceError as error:
            self.notes.append(f"the tasks of {wanted.name} cannot be had ({error})")
        return {}

    def check(self, raw: dict[str, Any]) -> Iterator[Problem]:
        """Yield every key in which the metadata of a record is not what run spec and task give."""
        if self.spec is None:
            return
        found: dict[str, Any] = raw["metadata"]
        task = self._task(found, raw["prompt"])
        if task is None:
            yield Problem("metadata", "metadata.task_id", f"{found.get('task_id')!r} is no task of the run spec")
            return
        if task.prompt != raw["prompt"]:
            yield Problem("metadata", "prompt", "is not the prompt of this task")
        expected = {**msgspec.to_builtins(metadata(self.spec, task)), "run_spec_sha256": self._digest}
        yield from differing(expected, found)

    def _task(self, found: dict[str, Any], prompt: str) -> Task | None:
        task_id, name, kind = (found.get(key) for key in ("task_id", "task_name", "task_kind"))
        rollout = found.get("rollout_index")
        if not (isinstance(rollout, int) and isinstance(task_id, int)):
            return None
        if self._tasks:
            known = self._tasks.get(task_id)
            return None if known is None else msgspec.structs.replace(known, rollout=rollout)
        if not (isinstance(name, str) and isinstance(kind, str)):
            return None
        return Task(task_id=task_id, name=name, prompt=prompt, kind=kind, expect={}, rollout=rollout)


def differing(expected: dict[str, Any], found: dict[str, Any]) -> Iterator[Problem]:
    """Yield every key in which metadata is not what it must be."""
    for key in dict.fromkeys([*expected, *found]):
        if key not in found or key not in expected:
            yield Problem("metadata", f"metadata.{key}", "is missing" if key not in found else "does not belong here")
        elif canonical_json(expected[key]) != canonical_json(found[key]):
            yield Problem("metadata", f"metadata.{key}", f"is {_short(found[key])}, must be {_short(expected[key])}")


def records_of(path: Path) -> Path:
    """Return the record file that a file of failed attempts belongs to, else the file itself."""
    return path.with_name(path.name.removesuffix(FAILURES) + ".jsonl") if is_failures(path) else path


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... (digest {digest(value)[:12]})"  # noqa: PLR2004 - a line's width
