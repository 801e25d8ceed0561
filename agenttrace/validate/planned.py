"""What the records of a file must be by the run spec beside it, and by their tasks wherever these can be had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.agents.bash_block_spec import task_message
from agenttrace.errors import AgentTraceError, DataError, UsageError
from agenttrace.plan import metadata
from agenttrace.records import BashBlockSpec, RunSpec, SamplingPlan, canonical_json, digest, rollout_1_0
from agenttrace.store.opening import content
from agenttrace.store.read import read_run_spec, run_spec_path
from agenttrace.tasks import Task, sources, task_set
from agenttrace.tasks.swe.rows import BUNDLED, load
from agenttrace.tasks.swe.task import SweTask
from agenttrace.validate.bash_block import OF_THE_TASK, Facts
from agenttrace.validate.findings import Problem
from agenttrace.validate.parsing import typed, unknown_keys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agenttrace.records import Trace

_FILES = {"nl2bash": sources.NL2BASH, "mbpp": (sources.MBPP,)}


class Planned:
    """What the records of one file must be.

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
        beside = run_spec_path(path)
        beside = beside.with_name(beside.name.replace(".failures.run.json", ".run.json"))  # one spec for both files
        try:
            self.spec = read_run_spec(beside)
            data = content(beside)
            raw = msgspec.json.decode(data)
            self._digest = digest(raw)  # of what stands there: a later version of the kit may know more fields
            known = typed(raw, rollout_1_0.RolloutSpec if rollout_1_0.is_spec(data) else RunSpec)
            for key in unknown_keys(raw, msgspec.to_builtins(known)):
                self.problems.append(Problem("schema", key, f"{beside.name}: no such field in this version"))
        except UsageError:
            self.notes.append(f"no run spec ({beside.name}) beside it: plan and metadata were not checked")
        except DataError as error:
            self.problems.append(Problem("schema", "", str(error)))
        plan = self.spec.dataset.sampling if self.spec is not None else None
        names = plan.task_ids if isinstance(plan, SamplingPlan) else ()
        self._names = frozenset(names)
        if len(self._names) < len(names):
            message = f"{beside.name}: a task stands there twice"
            self.problems.append(Problem("plan", "dataset.sampling.task_ids", message))
        self._tasks: dict[int | str, Any] = {}
        if self.spec is not None:
            self._tasks = (_checkouts if isinstance(self.spec.agent, BashBlockSpec) else _tasks)(self.spec, self.notes)

    def check(self, trace: Trace, recorded: dict[str, Any] | None) -> Iterator[Problem]:
        """Yield what a record of this campaign cannot be.

        Args:
            trace: the record.
            recorded: the metadata of a rollout of schema 1.0.0 as it stands in the file.
        """
        spec, found = self.spec, trace.metadata
        if spec is None:
            return
        if trace.model != spec.model.name:
            yield Problem("plan", "model", f"is {trace.model[:60]!r}, the run spec gives {spec.model.name!r}")
        if isinstance(spec.agent, BashBlockSpec):
            yield from self._rollout(spec, spec.agent, trace, recorded)
            return
        task = self._task(found, trace.prompt)
        if task is None:
            yield Problem("metadata", "metadata.task_id", f"{found.get('task_id')!r} is no task of the run spec")
            return
        if task.prompt != trace.prompt:
            yield Problem("metadata", "prompt", "is not the prompt of this task")
        expected = msgspec.to_builtins(metadata(spec, task))
        yield from differing(
            {**expected, "run_spec_sha256": self._digest, "schema_version": spec.schema_version}, found
        )

    def _task(self, found: dict[str, Any], prompt: str) -> Task | None:
        """Return the task of a record of the tool-calling agent; of one that is not at hand what the record says."""
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

    def _rollout(
        self, spec: RunSpec, agent: BashBlockSpec, trace: Trace, recorded: dict[str, Any] | None
    ) -> Iterator[Problem]:
        """Yield what a rollout of a drawn task cannot be; of a task not at hand the message's beginning is known."""
        facts = typed(trace.metadata, Facts, "metadata")
        if isinstance(facts, Problem):
            return  # said already
        name, index = facts.task_id, facts.rollout_index
        if name not in self._names or not 0 <= index < spec.dataset.rollouts:
            message = f"{name[:60]!r} number {index} is not in the run's sampling plan"
            yield Problem("plan", "metadata.task_id", message)
            return
        task = self._tasks.get(name)
        if task is None:
            nothing: dict[str, Any] = {"problem_statement": "", "interface": None, "test_patch": "", "patch": ""}
            told = SweTask(instance_id=name, repo=facts.repo, base_commit=facts.base_commit, language=None, **nothing)
            template, _, _ = agent.instance_template.partition("{problem_statement}")
            if not trace.prompt.startswith(task_message(template, told, facts.language)):
                yield Problem("plan", "prompt", "does not begin as the run spec's template does for this task")
        elif trace.prompt != task_message(agent.instance_template, task, facts.language):
            yield Problem("plan", "prompt", "is not the message of this task")
        old = rollout_1_0.metadata(spec, agent, name, index, spec_sha256=self._digest)
        sampling = spec.dataset.sampling
        for where, one, other in (
            ("repo", facts.repo, task and task.repo),
            ("base_commit", facts.base_commit, task and task.base_commit),
            ("hidden_tests.asked", facts.hidden_tests.asked, sampling.hidden_tests if sampling else None),
            ("seed", facts.seed, old["seed"] if recorded is not None else None),
        ):
            if other is not None and one != other:
                yield Problem("plan", f"metadata.{where}", f"is {one!r}, must be {other!r}")
        if recorded is not None:
            yield from differing(old, recorded)
        else:
            yield from differing(bash_block_metadata(spec, agent, trace.metadata, self._digest), trace.metadata)


def bash_block_metadata(spec: RunSpec, agent: BashBlockSpec, found: dict[str, Any], spec_sha256: str) -> dict[str, Any]:
    """Return the metadata of a record of the bash-block agent; what its tree says of the task is its own word."""
    task_id = found["task_id"]
    planned = rollout_1_0.metadata(spec, agent, task_id, found["rollout_index"], spec_sha256=spec_sha256)
    return {
        **{rollout_1_0.RENAMED.get(name, name): value for name, value in planned.items()},
        **{name: found[name] for name in OF_THE_TASK},
        "task_name": task_id,
        "task_kind": "swe",
    }


def differing(expected: dict[str, Any], found: dict[str, Any]) -> Iterator[Problem]:
    """Yield every key in which metadata is not what it must be."""
    for key in dict.fromkeys([*expected, *found]):
        if key not in found or key not in expected:
            yield Problem("metadata", f"metadata.{key}", "is missing" if key not in found else "does not belong here")
        elif canonical_json(expected[key]) != canonical_json(found[key]):
            yield Problem("metadata", f"metadata.{key}", f"is {_short(found[key])}, must be {_short(expected[key])}")


def _tasks(spec: RunSpec, notes: list[str]) -> dict[int | str, Any]:
    """Return the tasks of a range of a set, where its files are here."""
    wanted = spec.dataset
    if not all((sources.folder() / source.path).is_file() for source in _FILES.get(wanted.name, ())):
        notes.append(f"the task files of {wanted.name} are not here: tasks are taken from the records' own words")
        return {}
    try:
        found = task_set(wanted.name)
        if found.spec(offset=wanted.offset, count=wanted.count).sha256 == wanted.sha256:
            return {task.task_id: task for task in found.tasks(offset=wanted.offset, count=wanted.count)}
        notes.append(f"the task set {wanted.name} here is another one than the run spec names")
    except AgentTraceError as error:
        notes.append(f"the tasks of {wanted.name} cannot be had ({error})")
    return {}


def _checkouts(spec: RunSpec, notes: list[str]) -> dict[int | str, Any]:
    """Return the bundled tasks, where they are those of the run; others cannot be had without a download."""
    if spec.dataset.source == BUNDLED:
        source, tasks = load(BUNDLED)
        if source.sha256 == spec.dataset.sha256:
            return {task.instance_id: task for task in tasks}
    notes.append(f"the tasks of {spec.dataset.source} are not here: problem statements were not compared")
    return {}


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... (digest {digest(value)[:12]})"  # noqa: PLR2004 - a line's width
