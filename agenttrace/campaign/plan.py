"""Turns options into a plan: run spec, record file, tasks in order; ids, seeds and metadata follow from these alone."""

from __future__ import annotations

import itertools
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from agenttrace import __version__
from agenttrace.agents import agent_kind
from agenttrace.campaign.environment import spec_differences
from agenttrace.campaign.options import Options, check_options, check_size, sampler_of, served
from agenttrace.errors import DataError, UsageError
from agenttrace.records import (
    BashBlockSpec,
    Record,
    RunSpec,
    SandboxSpec,
    ToolCallingSpec,
    derived_id,
    digest,
)
from agenttrace.sandbox.policies import policies
from agenttrace.serving import profiles
from agenttrace.serving.chat import fixed_part
from agenttrace.store.jsonl import write_whole
from agenttrace.store.read import read_run_spec, run_spec_path
from agenttrace.tasks import task_set

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

    from agenttrace.records import AgentSpec, DatasetSpec
    from agenttrace.tasks import Task, TaskSet

STAMP_FORMAT = "%Y%m%dT%H%M%SZ"
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9.-]+")
_SEEDS = 2**31


class Plan(Record, frozen=True, kw_only=True):
    """A campaign ready to run.

    Attributes:
        spec: everything that shapes its records.
        spec_sha256: `spec.digest`, which takes long where a plan has many tasks.
        path: the record file.
        tasks: the tasks, each once, in order.
        resumes: whether the run spec was there before.
    """

    spec: RunSpec
    spec_sha256: str
    path: Path
    tasks: tuple[Task, ...]
    resumes: bool

    @property
    def size(self) -> int:
        """How many records the campaign has in the end."""
        return len(self.tasks) * self.spec.dataset.rollouts

    def jobs(self) -> Iterator[Task]:
        """Yield every run of every task, in order.

        Tasks that share a fixture are run once each, then again for the next rollout. Of tasks with trees of their own
        the runs stand together: they share the longest prefix that a server's cache can use, and a sandbox worker
        meets the tree that it has at hand.
        """
        tasks, dataset = self.tasks, self.spec.dataset
        for number in range(self.size):
            index, rollout = place_of(number, dataset, tasks=len(tasks))
            yield at_rollout(tasks[index], rollout)

    def trace_id(self, task: Task) -> str:
        """Return the id that this task has in this campaign, always the same."""
        return derived_id("trace", self.spec.run_id, self.spec.dataset.name, task.task_id, task.rollout)

    def prompt(self, task: Task) -> str:
        """Return the message that puts a task to the model."""
        return agent_kind(self.spec.agent.kind).prompt(self.spec.agent, task)

    def metadata(self, task: Task) -> dict[str, Any]:
        """Return the `metadata` of the task's trace."""
        return metadata(self.spec, task, spec_sha256=self.spec_sha256)

    def sandbox(self, task: Task) -> SandboxSpec:
        """Return where the task's tools run."""
        return task.sandbox(self.spec.sandbox)


def place_of(job: int, dataset: DatasetSpec, *, tasks: int) -> tuple[int, int]:
    """Return which task (its index of `tasks`), and which rollout of it, a job is; jobs have numbers from 0 on."""
    if dataset.sampling is UNSET:
        rollout, task = divmod(job, tasks)
        return task, rollout
    return divmod(job, dataset.rollouts)


def at_rollout(task: Task, rollout: int) -> Task:
    """Return a run of a task, the one with this index."""
    return msgspec.structs.replace(task, rollout=rollout) if rollout else task


def make_plan(
    options: Options, *, images: dict[str, str], folder: Path, now: datetime, trees: Path | None = None
) -> Plan:
    """Return the plan of a campaign, resuming the newest one in `folder` that had the same spec.

    Args:
        options: what the user asked for.
        images: environment digest per image.
        folder: where record files lie.
        now: names a new campaign; used for nothing else.
        trees: folder of prepared tasks, for a task set that needs one.

    Raises:
        UsageError: unknown model, data set, agent, profile or range; or the file belongs to a campaign with another
            spec.
    """
    check_options(options)
    chosen = task_set(options.dataset, trees=trees)
    tasks = chosen.tasks(offset=options.offset, count=options.count)
    draft = _draft(options, chosen, images)
    check_size(draft.dataset.count, options.rollouts)
    spec, path, resumes = _placed(draft, options, folder, now)
    return Plan(spec=spec, spec_sha256=spec.digest, path=path, tasks=tasks, resumes=resumes)


def _draft(options: Options, chosen: TaskSet, images: dict[str, str]) -> RunSpec:
    """Return the run spec without a name of its own, unless one was asked for."""
    pin, serving = served(options)
    dataset = chosen.spec(offset=options.offset, count=options.count)
    kind = agent_kind(options.agent or chosen.agent)
    if options.constrained is None:
        options = msgspec.structs.replace(options, constrained="on" if pin.template_tools is False else "off")
    agent = kind.spec(
        options,
        policy=policies()[chosen.policy],
        context_length=pin.context_length,
        checkout=dataset.sampling is not UNSET,
    )
    sampler = sampler_of(options)
    longest = kind.options(agent).max_output_tokens
    return RunSpec(
        run_id=options.run_id or "",
        dataset=msgspec.structs.replace(dataset, rollouts=options.rollouts),
        model=pin,
        serving=serving,
        sampler=sampler if longest is None else msgspec.structs.replace(sampler, max_tokens=longest),
        agent=agent,
        sandbox=sandbox_of(chosen),
        images=images,
        collector_version=__version__,
    )


def sandbox_of(chosen: TaskSet) -> SandboxSpec:
    """Return where the tools of a task set run, with the limits of its policy."""
    limits = policies()[chosen.policy].limits
    return SandboxSpec(
        policy=chosen.policy,
        fixture=chosen.fixture,
        fixture_version=chosen.fixture_version(),
        memory_bytes=limits.memory_bytes,
        pids=limits.pids,
        cpus=limits.cpus,
        clock=chosen.clock,
    )


def request_seed(spec: RunSpec, task: Task) -> int:
    """Return the seed of every request of a task's run.

    It is the sampler's plus the rollout's index; of drawn tasks 31 bits of a digest of seed, task and index, so that no
    two runs of a large set share one.
    """
    if spec.dataset.sampling is UNSET:
        return spec.sampler.seed + task.rollout
    return int(digest([spec.sampler.seed, task.task_id, task.rollout])[:16], 16) % _SEEDS


def request_part(spec: RunSpec) -> dict[str, Any]:
    """Return what every request of a campaign holds beside its conversation, but for the seed of a rollout."""
    form = _form(spec.agent)
    return fixed_part(
        model=spec.model.name,
        sampler=spec.sampler,
        tools=() if form else getattr(spec.agent, "tools", ()),
        tool_choice=getattr(spec.agent, "tool_choice", "auto"),
        cache_prompt=spec.serving.cache_prompt if spec.serving.prompt_reuse is UNSET else None,
        form=form,
    )


def _form(agent: AgentSpec) -> dict[str, Any]:
    """Return the part of every request that holds replies to a form; empty where nothing does."""
    if isinstance(agent, ToolCallingSpec) and agent.reply_form is not UNSET:
        schema = {"name": "reply", "strict": True, "schema": agent.reply_form.schema}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    if isinstance(agent, BashBlockSpec) and agent.grammar is not UNSET:
        return {"grammar": agent.grammar}
    return {}


def metadata(spec: RunSpec, task: Task, *, spec_sha256: str) -> dict[str, Any]:
    """Return the `metadata` of a trace: a pure function of (run spec, task), the same bytes on any machine.

    Keys of AgentTrace 0.3.0 keep their names; what 0.3.0 mixed in from the host is in `environment`.
    """
    return {
        "schema_version": spec.schema_version,
        "collector_version": spec.collector_version,
        "run_id": spec.run_id,
        "run_spec_sha256": spec_sha256,
        "dataset_name": spec.dataset.name,
        "dataset_split": spec.dataset.split,
        "dataset_offset": spec.dataset.offset,
        "dataset_sha256": spec.dataset.sha256,
        "source": spec.dataset.name,
        "task_id": task.task_id,
        "task_name": task.name,
        "task_kind": task.kind,
        "rollout_index": task.rollout,
        "model_family": spec.model.name,
        "model_artifact": spec.model.artifact,
        "model_sha256": spec.model.sha256,
        "quantization": spec.model.quantization,
        "demo": spec.model.demo,
        "chat_template": _short_digest(spec.model.chat_template_sha256),
        "serving_engine": spec.serving.engine,
        "serving_engine_version": spec.serving.engine_version,
        "serving_profile": spec.serving.profile,
        "context_length": spec.model.context_length,
        **agent_kind(spec.agent.kind).metadata(spec.agent),
        "sampler": spec.sampler.name,
        "seed": request_seed(spec, task),
        "temperature": spec.sampler.temperature,
        **({} if spec.sampler.thinking is UNSET else {"thinking": spec.sampler.thinking}),
        "prompt_sanitization_version": spec.dataset.prompt_sanitization_version,
        "sandbox_policy": spec.sandbox.policy,
        "sandbox_clock": spec.sandbox.clock,
        "fixture_version": spec.sandbox.fixture_version,
        "images": spec.images,
        **task.facts,
    }


def _short_digest(sha256: str) -> str:
    return sha256 if sha256 == profiles.NOT_REPORTED else f"sha256:{sha256[:12]}"


def _placed(draft: RunSpec, options: Options, folder: Path, now: datetime) -> tuple[RunSpec, Path, bool]:
    """Return the run spec with its name, the record file, and whether that is resumed.

    Raises:
        UsageError: the file or the run id belongs to a campaign with another spec.
    """
    if options.output is not None:
        stamp = options.stamp or now.strftime(STAMP_FORMAT)
        return _given(folder / options.output, draft, _named(draft, options, stamp), options)
    if not options.fresh:
        for candidate in _newest_first(folder.glob("*.run.json")):
            earlier = _readable_spec(candidate)
            if earlier is None:
                continue
            again = _with_threads_of(earlier, draft, options)
            if _same(earlier, again, options.run_id):
                path = candidate.with_name(candidate.name.replace(".run.json", ".jsonl"))
                return msgspec.structs.replace(again, run_id=earlier.run_id), path, True
            if _taken(earlier, draft):
                raise _other_spec(f"run id {options.run_id} ({candidate.name})", draft, earlier, "--run-id")
    stamps = itertools.chain(
        [options.stamp] if options.stamp else [],
        ((now + timedelta(seconds=late)).strftime(STAMP_FORMAT) for late in itertools.count()),
    )
    for stamp in stamps:  # the names of another campaign's files are never taken
        path = folder / f"{_dataset(draft)}_{draft.model.size}_{stamp}.jsonl"
        if not path.exists() and not run_spec_path(path).exists():
            break
    return _named(draft, options, stamp), path, False


def write_run_spec(spec: RunSpec, path: Path) -> None:
    """Put the run spec beside a record file."""
    write_whole(run_spec_path(path), run_spec_text(spec))


def run_spec_text(spec: RunSpec) -> bytes:
    """Return what the file of a run spec holds."""
    # Not sorted: the order of keys in a tool schema is part of the prompt, and whoever sends it again must know it.
    return msgspec.json.format(msgspec.json.encode(spec), indent=2) + b"\n"


def _dataset(draft: RunSpec) -> str:
    """Return what names of files say of the task set."""
    if draft.dataset.sampling is UNSET:
        return draft.dataset.name
    return f"rollouts_{_NOT_IN_NAMES.sub('-', draft.dataset.name.rpartition('/')[2]) or 'tasks'}"


def _named(draft: RunSpec, options: Options, stamp: str) -> RunSpec:
    name = options.run_id or f"collect-{draft.model.size}-{stamp}-{_dataset(draft)}"
    return msgspec.structs.replace(draft, run_id=name)


def _taken(earlier: RunSpec, draft: RunSpec) -> bool:
    """Return whether an earlier campaign would give other tasks' records the ids of this one's."""
    return bool(draft.run_id) and (earlier.run_id, earlier.dataset.name) == (draft.run_id, draft.dataset.name)


def _other_spec(what: str, asked: RunSpec, earlier: RunSpec, option: str) -> UsageError:
    lines = "\n  ".join(map(str, spec_differences(asked, earlier)))
    return UsageError(
        f"{what} belongs to a campaign with another run spec; nothing was written. "
        f"It differs in (asked for / in the file):\n  {lines}\nChoose another {option}."
    )


def _newest_first(paths: Iterable[Path]) -> list[Path]:
    return sorted((path for path in paths if path.is_file()), key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _given(path: Path, draft: RunSpec, new: RunSpec, options: Options) -> tuple[RunSpec, Path, bool]:
    if not path.parent.is_dir():
        raise UsageError(f"--output {path}: the folder {path.parent} does not exist")
    beside = run_spec_path(path)
    if beside.exists():
        earlier = read_run_spec(beside)
        draft = _with_threads_of(earlier, draft, options)
        if not _same(earlier, draft, options.run_id):
            asked = draft if options.run_id else msgspec.structs.replace(draft, run_id=earlier.run_id)
            raise _other_spec(path.name, asked, earlier, "--output")
        return msgspec.structs.replace(draft, run_id=earlier.run_id), path, True
    if path.exists() and path.stat().st_size:
        raise UsageError(f"{path.name} has records but no run spec ({beside.name}) beside it; choose another --output")
    return new, path, False


def _with_threads_of(earlier: RunSpec, draft: RunSpec, options: Options) -> RunSpec:
    """Return the draft with the threads of an earlier campaign, unless some were asked for.

    They were those of the machine that it began on; it may go on where another number would be chosen.
    """
    threads = profiles.threads_of(earlier.serving)
    if options.threads is not None or options.external or threads is None:
        return draft
    model, serving = served(msgspec.structs.replace(options, threads=threads))
    return msgspec.structs.replace(draft, model=model, serving=serving)


def _same(earlier: RunSpec, draft: RunSpec, run_id: str | None) -> bool:
    return earlier.campaign_key == draft.campaign_key and (run_id is None or earlier.run_id == run_id)


def _readable_spec(path: Path) -> RunSpec | None:
    try:
        return read_run_spec(path)
    except (DataError, UsageError):  # of another version, or not ours: it cannot be the same campaign
        return None
