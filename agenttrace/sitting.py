"""One sitting of a campaign inside the collector container: plan, check what is there, run, sum up."""

from __future__ import annotations

import gc
import importlib
import os
import re
import resource
import sys
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.environment import image_digests, observe
from agenttrace.errors import StorageError, UsageError, WorkerLostError
from agenttrace.fixture.version import fixture_version
from agenttrace.inputs import replay_facts
from agenttrace.plan import Options, Plan, make_plan, write_run_spec
from agenttrace.records import Record
from agenttrace.sandbox.client import acquire
from agenttrace.serving.cassette import cassette_path
from agenttrace.serving.cassette_log import CassetteLog
from agenttrace.serving.endpoint import answers, check_base_url, check_server, wait_until_ready
from agenttrace.serving.profiles import NOT_REPORTED
from agenttrace.store.jsonl import RecordLog, known_ids, write_whole
from agenttrace.store.read import read_traces, run_spec_path
from agenttrace.tasks import task_set

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from agenttrace.agents import Models
    from agenttrace.collect import Summary
    from agenttrace.records import RunSpec, ServingSpec
    from agenttrace.records.rollout import RolloutSpec
    from agenttrace.sandbox.client import Worker
    from agenttrace.sandbox.reports import WorkerInfo
    from agenttrace.tasks import Task

EXIT_INCOMPLETE = 4
SERVER_START_S = 600.0
ENDPOINT_START_S = 20.0
"""An endpoint of somebody else's runs already, or its address is wrong."""
WORKER_START_S = 120.0
_TRY_S = 0.5
_STAMPED = re.compile(r"_(\d{8}T\d{6}Z)\.jsonl$")


def describe(options_json: str, *, folder: Path) -> list[dict[str, Any]]:
    """Return what each campaign would do: its file, its run id, how many tasks it has and how many are left.

    New files get the time stamp of those that are resumed, so that the files of one campaign share it.
    """
    every = _options(options_json)
    plans = [_plan(options, folder) for options in every]
    stamps = [found[1] for plan in plans if plan.resumes and (found := _STAMPED.search(plan.path.name))]
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    shared = stamps[0] if stamps else now
    described = []
    for options, first in zip(every, plans, strict=True):
        plan = first if first.resumes else _plan(msgspec.structs.replace(options, stamp=shared), folder)
        done = known_ids(plan.path) if plan.path.exists() else {}
        described.append(
            {
                "file": plan.path.name,
                "run_id": plan.spec.run_id,
                "tasks": len(plan.tasks),
                "todo": len(plan.todo(done)),
                "resumes": plan.resumes,
            }
        )
    return described


def _options(text: str) -> tuple[Options, ...]:
    try:
        return msgspec.json.decode(text, type=tuple[Options, ...])
    except msgspec.DecodeError as error:
        raise UsageError(f"--options: {error}") from error


def _plan(options: Options, folder: Path) -> Plan:
    if not os.access(folder, os.W_OK):
        raise StorageError(f"the folder for records ({folder}) is not writable by this user")
    return make_plan(
        options,
        images=image_digests(),
        fixture_version=fixture_version(task_set(options.dataset).fixture),
        folder=folder,
        now=datetime.now(UTC),
    )


class Surroundings(Record, frozen=True, kw_only=True):
    """Where a sitting finds what it needs; none of it shapes a record.

    Attributes:
        folder: where record files lie.
        base_url: the model server, up to and including `/v1`.
        sockets: where sandbox workers listen.
        workers: tasks run at a time.
        report: gets what the sitting cost, as JSON (`None`: nothing is written).
        key: for the model server; recorded nowhere.
    """

    folder: Path
    base_url: str
    sockets: Path
    workers: int = 1
    report: Path | None = None
    key: str | None = None


def collect(options_json: str, around: Surroundings) -> int:
    """Run a campaign to its end and return the exit status (0 when every task has a record).

    Raises:
        AgentTraceError: with the reason, after every finished record is on disk.
    """
    from agenttrace.progress import console  # noqa: PLC0415 - rich

    base_url = check_base_url(around.base_url)
    (options,) = _options(options_json)
    gc.disable()  # until the first task: nothing that starting makes is garbage
    plan = _plan(options, around.folder)
    _begin_importing("openai")
    out = console()
    with RecordLog(plan.path) as log:
        if log.torn_bytes:
            out.print(f"cut off a torn last line of {log.torn_bytes} bytes, left by a killed sitting")
        todo = plan.todo(log.ids)
        if not todo:
            out.print(f"nothing to do: all {len(plan.tasks)} tasks have a record in {plan.path.name}")
            return 0
        if plan.resumes:
            out.print(f"resuming {plan.path.name}: {len(plan.tasks) - len(todo)} tasks done, {len(todo)} to do")
        earlier = cassette_path(plan.path).exists()
        try:
            write_run_spec(plan)
            with _cassette(plan, log) as cassette:
                here = msgspec.structs.replace(around, base_url=base_url)
                return _run(plan, log, cassette, out, here, todo)
        except BaseException:
            if not plan.resumes and not plan.path.stat().st_size:  # it never began: leave no empty campaign behind
                plan.path.unlink()
                run_spec_path(plan.path).unlink(missing_ok=True)
                if not earlier:
                    cassette_path(plan.path).unlink(missing_ok=True)
            raise


def _begin_importing(name: str) -> None:
    """Import a heavy package while this thread reads the files and waits for server and worker."""
    threading.Thread(target=importlib.import_module, args=(name,)).start()


def _cassette(plan: Plan, log: RecordLog) -> CassetteLog:
    """Return the cassette beside the record file, opened for this campaign."""
    return CassetteLog(cassette_path(plan.path), run_spec_sha256=plan.spec.digest, recorded=log.ids)


def _run(
    plan: Plan, log: RecordLog, cassette: CassetteLog, out: Console, around: Surroundings, todo: list[Task]
) -> int:
    from agenttrace.collect import Campaign  # noqa: PLC0415
    from agenttrace.progress import CampaignDisplay, closing_table  # noqa: PLC0415
    from agenttrace.serving.chat import spec_fixed_part  # noqa: PLC0415
    from agenttrace.serving.tape import Recorder  # noqa: PLC0415

    spec, key = plan.spec, around.key
    facts = wait_until_ready(around.base_url, timeout_s=patience_s(spec.serving), key=key)
    checks = check_server(facts, spec)
    tell_checks(checks, out)
    pool = WorkerPool(around.sockets)
    first = pool.connect()
    check_worker(first.info, spec)
    environment = observe(facts, checks, first.info)
    cassette.note(replay_facts(first, spec))
    pool.give_back(first)
    models = _models(spec, around.base_url, key)
    recorder = Recorder(models, spec_fixed_part(spec), cassette, log)

    with CampaignDisplay(out, total=len(plan.tasks), done=len(plan.tasks) - len(todo)) as display:
        campaign = Campaign(
            plan, recorder, pool.connect, environment, display, lambda: answers(around.base_url, key=key)
        )
        gc.freeze()
        gc.enable()
        summary = campaign.run(recorder, workers=around.workers, todo=todo)
    slots = spec.serving.slots or facts.slots
    solvable = {task.task_id: task.solvable for task in plan.tasks}
    out.print(closing_table(summary, read_traces(plan.path), solvable=solvable, slots=slots))
    if around.report is not None:
        _write_report(around.report, summary, slots)
    if summary.abandoned:
        names = ", ".join(task.name for task in summary.abandoned)
        kept = plan.path.with_suffix(".failures.jsonl").name
        out.print(f"[red]without a record, the same command tries again: {names} (their attempts: {kept})[/]")
        return EXIT_INCOMPLETE
    return 0


def _models(spec: RunSpec, base_url: str, key: str | None) -> Models:
    """Return what gives every trace of a campaign its model."""
    from agenttrace.serving.chat import ChatModel  # noqa: PLC0415

    return ChatModel(
        base_url,
        model=spec.model.name,
        sampler=spec.sampler,
        tools=spec.agent.tools,
        tool_choice=spec.agent.tool_choice,
        cache_prompt=spec.serving.cache_prompt,
        api_key=key,
    )


def patience_s(serving: ServingSpec) -> float:
    """Return how long a server may take until it answers."""
    return ENDPOINT_START_S if serving.engine == "external" else SERVER_START_S


def tell_checks(checks: dict[str, str], out: Console) -> None:
    """Say what could not be checked; a server that reports everything needs no line."""
    for verdict, why in (
        (NOT_REPORTED, "the endpoint does not report, so it was not checked"),
        ("not pinned", "only reported, nothing to check it against"),
    ):
        names = [name for name, found in checks.items() if found == verdict]
        if names:
            out.print(f"[yellow]{why}: {', '.join(names)}[/]")


def _write_report(path: Path, summary: Summary, slots: int | None) -> None:
    """Write what the sitting did and what it cost this process; sizes in bytes."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    document = {
        **msgspec.to_builtins(summary),
        "abandoned": len(summary.abandoned),
        "slots": slots,
        "cpu_ns": round((used.ru_utime + used.ru_stime) * 1e9),
        "peak_rss_bytes": used.ru_maxrss * (1024 if sys.platform == "linux" else 1),
    }
    write_whole(path, msgspec.json.encode(document) + b"\n")


def check_worker(info: WorkerInfo, spec: RunSpec | RolloutSpec) -> None:
    """Refuse a sandbox that was made from another image, or has other limits, than the run spec names."""
    wanted = (spec.sandbox.memory_bytes, spec.sandbox.pids, spec.sandbox.cpus)
    found = (info.limits.memory_bytes, info.limits.pids, info.limits.cpus)
    if any(is_ is not None and is_ != should for is_, should in zip(found, wanted, strict=True)):
        raise UsageError(
            f"the sandbox's limits (memory, processes, processors) are {found}, the run spec names {wanted}"
        )
    expected = spec.images.get("sandbox")
    if None not in {expected, info.environment_digest} and info.environment_digest != expected:
        raise UsageError(
            f"the sandbox has the environment digest {info.environment_digest}, the run spec names {expected}; "
            "build the images anew: scripts/nox -s images"
        )


class WorkerPool:
    """The sandbox workers this sitting holds; safe to use from the threads that run tasks."""

    def __init__(self, sockets: Path) -> None:
        self._sockets = sockets
        self._lock = threading.Lock()
        self._given: list[Worker] = []
        self._spare: list[Worker] = []

    def connect(self) -> Worker:
        """Return an idle worker that nobody here has.

        Raises:
            WorkerLostError: none became free in time.
        """
        deadline = time.monotonic() + WORKER_START_S
        while True:
            try:
                return self._one_try()
            except WorkerLostError:
                if time.monotonic() > deadline:
                    raise

    def _one_try(self) -> Worker:
        with self._lock:  # one thread at a time, so that two do not take the same worker; briefly, so that none starves
            if self._spare:
                return self._spare.pop()
            self._given = [worker for worker in self._given if not worker.closed]
            held = {worker.path for worker in self._given if worker.path is not None}
            (worker,) = acquire(self._sockets, count=1, timeout_s=_TRY_S, held=held)
            self._given.append(worker)
            return worker

    def give_back(self, worker: Worker) -> None:
        """Keep a worker for the next one who asks."""
        self._spare.append(worker)
