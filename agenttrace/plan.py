"""Plans a campaign: the run spec, the record file it belongs to, and which tasks are still to do."""

from __future__ import annotations

import itertools
import re
from datetime import timedelta
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace import __version__
from agenttrace.agents.tool_calling import agent_spec
from agenttrace.errors import DataError, UsageError
from agenttrace.inputs import named
from agenttrace.models import pins
from agenttrace.records import SCHEMA_VERSION, ModelPin, Record, RunSpec, SandboxSpec, derived_id, differences
from agenttrace.sandbox.policies import policies
from agenttrace.serving import profiles
from agenttrace.serving.external import external_pin
from agenttrace.store.jsonl import write_whole
from agenttrace.store.kinds import FAILURES
from agenttrace.store.read import read_run_spec, run_spec_path
from agenttrace.tasks import Task, task_set

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

    from agenttrace.records import Sampler, ServingSpec

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_STAMP = re.compile(r"\d{8}T\d{6}Z")
_STAMP_FORMAT = "%Y%m%dT%H%M%SZ"
_HOTTEST = 10.0
_MOST_RECORDS = 10_000_000


class Options(Record, frozen=True, kw_only=True):
    """What a user asks for; everything else is pinned.

    Attributes:
        model: name of a pinned model, or of one that the endpoint serves.
        pin: what `model` turned out to be, where no table of this package names it.
        dataset: name of one task set.
        profile: serving profile.
        sampler: `greedy` or `recommended`.
        temperature: instead of the sampler's; tokens are then drawn from all that `top_p` leaves.
        seed: instead of the sampler's.
        context: context length in tokens instead of the pinned one.
        external: the model is served by an endpoint that somebody else started.
        offset: first task.
        count: number of tasks; `None` is all that follow.
        rollouts: how often each task is run.
        max_steps: generations per task.
        call_limit_ms: limit of one tool call.
        run_id: name of the campaign; trace ids derive from it.
        output: file name of the records.
        fresh: start a new campaign although one could be resumed.
        stamp: start of the whole campaign (`20261102T030405Z`), in the names of all its files.
    """

    model: str = pins.DEFAULT_MODEL
    pin: ModelPin | None = None
    dataset: str = "demo"
    profile: str = profiles.DEFAULT_PROFILE
    sampler: str = profiles.DEFAULT_SAMPLER
    temperature: float | None = None
    seed: int | None = None
    context: int | None = None
    external: bool = False
    offset: int = 0
    count: int | None = None
    rollouts: int = 1
    max_steps: int = 10
    call_limit_ms: int = 30_000
    run_id: str | None = None
    output: str | None = None
    fresh: bool = False
    stamp: str | None = None


class Plan(Record, frozen=True, kw_only=True):
    """A campaign ready to run.

    Attributes:
        spec: everything that shapes its records.
        path: the record file.
        tasks: all tasks of the campaign, in order: every task once, then every task again for the next rollout.
        resumes: whether the run spec was there before.
    """

    spec: RunSpec
    path: Path
    tasks: tuple[Task, ...]
    resumes: bool

    def trace_id(self, task: Task) -> str:
        """Return the id that this task has in this campaign, always the same."""
        return derived_id("trace", self.spec.run_id, self.spec.dataset.name, task.task_id, task.rollout)

    def todo(self, done: dict[str, None]) -> list[Task]:
        """Return the tasks without a record yet, in order."""
        return [task for task in self.tasks if self.trace_id(task) not in done]


def check_options(options: Options) -> None:
    """Refuse options that no campaign can run with.

    Raises:
        UsageError: names the option, what was given and what is possible.
    """
    for name, value, least, most in (
        ("--max-steps", options.max_steps, 1, 1000),
        ("--call-limit", options.call_limit_ms, 1, 3_600_000),
        ("--rollouts", options.rollouts, 1, 100_000),
        ("--context", 1024 if options.context is None else options.context, 1024, 10_000_000),
    ):
        if not least <= value <= most:
            raise UsageError(f"{name}: {value} is outside {least} to {most}{' ms' if 'limit' in name else ''}")
    if options.temperature is not None and not 0 <= options.temperature <= _HOTTEST:
        raise UsageError(f"--temperature {options.temperature}: expected 0 to {_HOTTEST}")
    if options.run_id is not None and not _RUN_ID.fullmatch(options.run_id):
        raise UsageError(
            f"run id {options.run_id!r}: expected letters, digits, dots, dashes, underscores (at most 100)"
        )
    if options.stamp is not None and not _STAMP.fullmatch(options.stamp):
        raise UsageError(f"stamp {options.stamp!r}: expected the form 20261102T030405Z")
    if options.output is not None and (
        PurePath(options.output).suffix != ".jsonl" or options.output.endswith(FAILURES)
    ):
        raise UsageError(f"--output {options.output}: the name of a record file ends in .jsonl, and not in {FAILURES}")
    if options.fresh and options.output is not None:
        raise UsageError("--fresh starts a new file with a name of its own: give it without --output")


def make_plan(options: Options, *, images: dict[str, str], fixture_version: str, folder: Path, now: datetime) -> Plan:
    """Return the plan of a campaign, resuming the newest one in `folder` that had the same spec.

    Args:
        options: what the user asked for.
        images: environment digest per image.
        fixture_version: digest of the task set's pristine tree.
        folder: where record files lie.
        now: names a new campaign; used for nothing else.

    Raises:
        UsageError: unknown model, data set, profile or range; or the file belongs to a campaign with another spec.
    """
    check_options(options)
    chosen = task_set(options.dataset)
    pin, serving = served(options)
    dataset = chosen.spec(offset=options.offset, count=options.count)
    tasks = rolled_out(chosen.tasks(offset=options.offset, count=options.count), options.rollouts)
    draft = RunSpec(
        run_id=options.run_id or "",
        dataset=msgspec.structs.replace(dataset, rollouts=options.rollouts),
        model=pin,
        serving=serving,
        sampler=_sampler(options, pin.name),
        agent=agent_spec(max_steps=options.max_steps, call_limit_ms=options.call_limit_ms),
        sandbox=sandbox_spec(chosen.fixture, fixture_version, clock=chosen.clock),
        images=images,
        collector_version=__version__,
    )
    path, spec, resumes = _place(draft, options, folder, now)
    return Plan(spec=spec, path=path, tasks=tasks, resumes=resumes)


def served(options: Options) -> tuple[ModelPin, ServingSpec]:
    """Return the model and how it is served.

    Raises:
        UsageError: the model is not pinned and no endpoint serves it, or there is no such profile.
    """
    pin = options.pin or (external_pin if options.external else pins.model_pin)(options.model)
    if options.context is not None:
        pin = msgspec.structs.replace(pin, context_length=options.context)
    if options.external:
        return pin, profiles.external_serving(options.profile)
    return pin, profiles.serving_spec(pin, options.profile)


def _sampler(options: Options, model: str) -> Sampler:
    found = profiles.sampler(options.sampler, model=model)
    if options.seed is not None:
        found = msgspec.structs.replace(found, seed=options.seed)
    if options.temperature is not None:
        found = msgspec.structs.replace(found, name="temperature", temperature=options.temperature, top_k=0)
    return found


def check_size(tasks: int, rollouts: int) -> None:
    """Refuse more records than a campaign can have.

    Raises:
        UsageError: names both numbers.
    """
    if tasks * rollouts > _MOST_RECORDS:
        raise UsageError(f"{tasks} tasks with {rollouts} rollouts: more than {_MOST_RECORDS} records")


def rolled_out(tasks: tuple[Task, ...], rollouts: int) -> tuple[Task, ...]:
    """Return every task once, then every task again for the next rollout.

    Raises:
        UsageError: these are more than a campaign can have; a run spec of somebody else's may say anything.
    """
    check_size(len(tasks), rollouts)
    again = (msgspec.structs.replace(task, rollout=index) for index in range(1, rollouts) for task in tasks)
    return (*tasks, *again)


def sandbox_spec(fixture: str, fixture_version: str, *, clock: str | None, policy: str = "shell") -> SandboxSpec:
    """Return the sandbox's part of a run spec, with the limits of the policy."""
    limits = policies()[policy].limits
    return SandboxSpec(
        policy=policy,
        fixture=fixture,
        fixture_version=fixture_version,
        memory_bytes=limits.memory_bytes,
        pids=limits.pids,
        cpus=limits.cpus,
        clock=clock,
    )


def _place(draft: RunSpec, options: Options, folder: Path, now: datetime) -> tuple[Path, RunSpec, bool]:
    if options.output is not None:
        stamp = options.stamp or now.strftime(_STAMP_FORMAT)
        return _given(folder / options.output, draft, _named(draft, options, stamp), options)
    if not options.fresh:
        for candidate in _newest_first(folder.glob("*.run.json")):
            earlier = _readable_spec(candidate)
            if earlier is not None and _same(earlier, draft, options.run_id):
                path = candidate.with_name(candidate.name.replace(".run.json", ".jsonl"))
                return path, msgspec.structs.replace(draft, run_id=earlier.run_id), True
            if earlier is not None and _taken(earlier, draft):
                raise _other_spec(f"run id {options.run_id} ({candidate.name})", draft, earlier, "--run-id")
    stamps = itertools.chain(
        [options.stamp] if options.stamp else [],
        ((now + timedelta(seconds=late)).strftime(_STAMP_FORMAT) for late in itertools.count()),
    )
    for stamp in stamps:  # the names of another campaign's files are never taken
        path = folder / f"{draft.dataset.name}_{draft.model.size}_{stamp}.jsonl"
        if not path.exists() and not run_spec_path(path).exists():
            break
    return path, _named(draft, options, stamp), False


def _named(draft: RunSpec, options: Options, stamp: str) -> RunSpec:
    name = options.run_id or f"collect-{draft.model.size}-{stamp}-{draft.dataset.name}"
    return msgspec.structs.replace(draft, run_id=name)


def _taken(earlier: RunSpec, draft: RunSpec) -> bool:
    """Return whether an earlier campaign would give other tasks' records the ids of this one's."""
    return bool(draft.run_id) and (earlier.run_id, earlier.dataset.name) == (draft.run_id, draft.dataset.name)


def _other_spec(what: str, wanted: RunSpec, earlier: RunSpec, option: str) -> UsageError:
    lines = "\n  ".join(named(line) for line in differences(wanted, earlier))
    return UsageError(
        f"{what} belongs to a campaign with another run spec; nothing was written. "
        f"It differs in (asked for / in the file):\n  {lines}\nChoose another {option}."
    )


def _newest_first(paths: Iterable[Path]) -> list[Path]:
    return sorted((path for path in paths if path.is_file()), key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _given(path: Path, draft: RunSpec, new: RunSpec, options: Options) -> tuple[Path, RunSpec, bool]:
    if not path.parent.is_dir():
        raise UsageError(f"--output {path}: the folder {path.parent} does not exist")
    beside = run_spec_path(path)
    if beside.exists():
        earlier = read_run_spec(beside)
        if not _same(earlier, draft, options.run_id):
            wanted = draft if options.run_id else msgspec.structs.replace(draft, run_id=earlier.run_id)
            raise _other_spec(path.name, wanted, earlier, "--output")
        return path, msgspec.structs.replace(draft, run_id=earlier.run_id), True
    if path.exists() and path.stat().st_size:
        raise UsageError(f"{path.name} has records but no run spec ({beside.name}) beside it; choose another --output")
    return path, new, False


def _same(earlier: RunSpec, draft: RunSpec, run_id: str | None) -> bool:
    return earlier.campaign_key == draft.campaign_key and (run_id is None or earlier.run_id == run_id)


def _readable_spec(path: Path) -> RunSpec | None:
    try:
        return read_run_spec(path)
    except (DataError, UsageError):  # of another version, or not ours: it cannot be the same campaign
        return None


def write_run_spec(plan: Plan) -> None:
    """Put the run spec beside the record file, before the first record; a resumed campaign keeps the one it has."""
    if not plan.resumes:
        # Not sorted: the order of keys in a tool schema is part of the prompt, and whoever sends it again must know it.
        text = msgspec.json.format(msgspec.json.encode(plan.spec), indent=2)
        write_whole(run_spec_path(plan.path), text + b"\n")


def metadata(spec: RunSpec, task: Task) -> dict[str, Any]:
    """Return the `metadata` of a trace: a pure function of (run spec, task), the same bytes on any machine.

    Keys of AgentTrace 0.3.0 keep their names; what 0.3.0 mixed in from the host is in `environment`.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "collector_version": spec.collector_version,
        "run_id": spec.run_id,
        "run_spec_sha256": spec.digest,
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
        "tool_choice": spec.agent.tool_choice,
        "max_steps": spec.agent.max_steps,
        "sampler": spec.sampler.name,
        "seed": spec.sampler.seed + task.rollout,
        "temperature": spec.sampler.temperature,
        "prompt_sanitization_version": spec.dataset.prompt_sanitization_version,
        "sandbox_policy": spec.sandbox.policy,
        "sandbox_clock": spec.sandbox.clock,
        "fixture_version": spec.sandbox.fixture_version,
        "images": spec.images,
    }


def _short_digest(sha256: str) -> str:
    return sha256 if sha256 == profiles.NOT_REPORTED else f"sha256:{sha256[:12]}"
