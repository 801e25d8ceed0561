"""One session of a campaign inside the collector container: plan, check what is there, run, sum up."""

from __future__ import annotations

import gc
import importlib
import itertools
import os
import re
import resource
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from agenttrace.agents import agent_kind
from agenttrace.campaign.conditions import Conditions
from agenttrace.campaign.environment import image_digests, observe, replay_facts, said_of_server
from agenttrace.campaign.live import Live
from agenttrace.campaign.options import Options
from agenttrace.campaign.plan import STAMP_FORMAT, Plan, make_plan, request_part, write_run_spec
from agenttrace.campaign.rescued import take_in
from agenttrace.campaign.server_load import SERVER_LOAD, ServerLoad
from agenttrace.campaign.workers import WorkerPool, check_worker
from agenttrace.errors import DataError, StorageError, UsageError
from agenttrace.records import BashBlockSpec, Record
from agenttrace.serving.cassette import CassetteLog, cassette_path
from agenttrace.serving.endpoint import answers, check_base_url, check_server, wait_until_ready
from agenttrace.serving.profiles import NOT_REPORTED, threads_of, told_of_sampling
from agenttrace.serving.template import abilities
from agenttrace.show import printable
from agenttrace.store.append import rescued_path
from agenttrace.store.jsonl import RecordLog, known_ids, write_whole
from agenttrace.store.opening import FAILURES
from agenttrace.store.read import read_traces, run_spec_path
from agenttrace.tasks import set_name, task_set
from agenttrace.tasks.own.loading import sidecar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rich.console import Console

    from agenttrace.campaign.loop import Summary
    from agenttrace.records import RunSpec, ServingSpec
    from agenttrace.sandbox.reports import WorkerInfo
    from agenttrace.serving.budget import Counters
    from agenttrace.serving.chat import ChatModel
    from agenttrace.serving.endpoint import ServerFacts
    from agenttrace.serving.wire import Answer
    from agenttrace.store.ids import IdIndex

EXIT_INCOMPLETE = 4
SERVER_START_S = 600.0
ENDPOINT_START_S = 20.0
"""An endpoint of somebody else's runs already, or its address is wrong."""
_LOOKED_AT = 100
"""Records of earlier sessions that say how long a task is."""
_STAMPED = re.compile(r"_(\d{8}T\d{6}Z)\.jsonl$")


class Surroundings(Record, frozen=True, kw_only=True):
    """Where a session finds what it needs; none of it shapes a record.

    Attributes:
        folder: where record files lie.
        base_url: the model server, up to and including `/v1`.
        sockets: where sandbox workers listen.
        trees: prepared tasks over checkouts and their trees.
        workers: tasks run at a time.
        report: gets what the session cost, as JSON (`None`: nothing is written).
        key: for the model server; recorded nowhere.
        request_limit_s: time of one request, or since the last progress on it; `None` is the usual one.
        confined: whether sandbox workers are refused that fall short of docker-compose.yml; those of a campaign on one
            machine are started from it.
    """

    folder: Path
    base_url: str
    sockets: Path
    trees: Path | None = None
    workers: int = 1
    report: Path | None = None
    key: str | None = None
    request_limit_s: int | None = None
    confined: bool = False


def describe(options_json: str, *, folder: Path, trees: Path | None = None) -> list[dict[str, Any]]:
    """Return what each campaign would do: its file, run id, how many records it has in the end, how many are left.

    New files get the time stamp of those that are resumed, so that the files of one campaign share it, and the threads,
    as they share the server. What an earlier
    session rescued is taken in before records are counted.
    """
    every = _options(options_json)
    plans = [_plan(options, folder, trees) for options in every]
    said = [take_in(plan) for plan in plans]
    stamps = [found[1] for plan in plans if plan.resumes and (found := _STAMPED.search(plan.path.name))]
    shared: dict[str, Any] = {"stamp": stamps[0] if stamps else datetime.now(UTC).strftime(STAMP_FORMAT)}
    if threads := [threads_of(plan.spec.serving) for plan in plans if plan.resumes]:
        shared["threads"] = threads[0]
    described = []
    for options, first, lines in zip(every, plans, said, strict=True):
        plan = first if first.resumes else _plan(msgspec.structs.replace(options, **shared), folder, trees)
        done = known_ids(plan.path) if plan.path.exists() else None
        described.append(
            {
                "file": plan.path.name,
                "run_id": plan.spec.run_id,
                "tasks": plan.size,
                "todo": plan.size - _done(plan, done),
                "resumes": plan.resumes,
                "threads": threads_of(plan.spec.serving),
                "said": lines,
            }
        )
    return described


def _options(text: str) -> tuple[Options, ...]:
    try:
        return msgspec.json.decode(text, type=tuple[Options, ...])
    except msgspec.DecodeError as error:
        raise UsageError(f"--options: {error}") from error


def _plan(options: Options, folder: Path, trees: Path | None) -> Plan:
    if not os.access(folder, os.W_OK):
        raise StorageError(f"the folder for records ({folder}) is not writable by this user")
    plan = make_plan(options, images=image_digests(), folder=folder, now=datetime.now(UTC), trees=trees)
    if not plan.tasks:
        raise DataError(
            f"{trees} has the ids of the tasks, and no task: prepared.json is of a run over several machines, whose "
            "tasks lie in its store; prepare the trees here"
        )
    return plan


def _done(plan: Plan, ids: IdIndex | None) -> int:
    """Return how many of a plan's jobs have a record."""
    return sum(plan.trace_id(job) in ids for job in plan.jobs()) if ids else 0


def collect(options_json: str, around: Surroundings) -> int:
    """Run a campaign to its end and return the exit status (0 when every task has a record).

    Raises:
        AgentTraceError: with the reason, after every finished record is on disk.
    """
    from agenttrace.campaign.display import console  # noqa: PLC0415 - rich

    around = msgspec.structs.replace(around, base_url=check_base_url(around.base_url))
    (options,) = _options(options_json)
    around = msgspec.structs.replace(around, request_limit_s=options.request_limit_s)
    gc.disable()  # until the first task: nothing that starting makes is garbage
    plan = _plan(options, around.folder, around.trees)
    _begin_importing("openai")
    out = console()
    for line in take_in(plan):
        out.print(line)
    with RecordLog(plan.path) as log:
        if log.torn_bytes:
            out.print(f"cut off a torn last line of {log.torn_bytes} bytes, left by a killed session")
        done = _done(plan, log.ids)
        if done == plan.size:
            out.print(f"nothing to do: all {plan.size} tasks have a record in {plan.path.name}")
            return 0
        if plan.resumes:
            out.print(f"resuming {plan.path.name}: {done} tasks done, {plan.size - done} to do")
        earlier = cassette_path(plan.path).exists()
        try:
            if not plan.resumes:
                write_run_spec(plan.spec, plan.path)
            with CassetteLog(cassette_path(plan.path), run_spec_sha256=plan.spec_sha256, recorded=log.ids) as cassette:
                return _run(plan, log, cassette, out, around, done)
        except BaseException:
            if not log.ids:  # what was recorded may be in a file that somebody removed, and is rescued only after this
                _leave_nothing_empty(plan, cassette_too=not earlier)
            raise


def _leave_nothing_empty(plan: Plan, *, cassette_too: bool) -> None:
    """Remove the files of a campaign that never began; attempts that are kept need their run spec."""
    failures = plan.path.with_suffix(FAILURES)
    kept = (failures, *map(rescued_path, (plan.path, failures, cassette_path(plan.path))))
    if plan.resumes or any(path.exists() for path in kept) or (plan.path.exists() and plan.path.stat().st_size):
        return
    for path in (
        plan.path,
        run_spec_path(plan.path),
        _skipped_path(plan),
        sidecar(plan.path),
        plan.path.with_suffix(SERVER_LOAD),
    ):
        path.unlink(missing_ok=True)
    if cassette_too:
        cassette_path(plan.path).unlink(missing_ok=True)


def _begin_importing(name: str) -> None:
    """Import a heavy package while this thread reads the files and waits for server and worker."""
    threading.Thread(target=importlib.import_module, args=(name,)).start()


def _run(plan: Plan, log: RecordLog, cassette: CassetteLog, out: Console, around: Surroundings, done: int) -> int:
    from agenttrace.campaign.display import CampaignDisplay, closing_table, label  # noqa: PLC0415
    from agenttrace.campaign.loop import Campaign  # noqa: PLC0415
    from agenttrace.serving.tape import Recorder  # noqa: PLC0415

    spec, key = plan.spec, around.key
    tasks = task_set(set_name(spec.dataset), trees=around.trees)
    if (packed := tasks.packed()) is not None:
        write_whole(sidecar(plan.path), packed)
    skipped = _write_skipped(plan, getattr(tasks, "skipped", ()))
    server = get_server(spec, around, out, within_s=patience_s(spec.serving))
    sandbox = get_workers(spec, around)
    cassette.note(sandbox.recorded)
    recorder = Recorder(server.models, request_part(spec), cassette, log)

    looked_at = itertools.islice(read_traces(plan.path), _LOOKED_AT if done else 0)
    earlier = [sum(step.output_tokens or 0 for step in trace.llm_steps) for trace in looked_at]
    display = CampaignDisplay(out, total=plan.size, done=done, agent=spec.agent, earlier=earlier)
    load = ServerLoad(around.base_url, plan.path.with_suffix(SERVER_LOAD), key=key)
    with display.bar, load, Live(around.base_url, display.generating, key=key):
        campaign = Campaign(
            plan, tasks, recorder, sandbox.pool.connect, {**observe(sandbox.info), **server.environment}, display,
            lambda: answers(around.base_url, key=key), Conditions(load),
        )  # fmt: skip
        gc.freeze()
        gc.enable()
        summary = campaign.run(recorder, workers=around.workers)
    recorder.check()
    slots = spec.serving.slots or server.facts.slots
    solvable = {task.task_id: task.solvable for task in plan.tasks if not task.solvable}
    failures = plan.path.with_suffix(FAILURES)
    given_up = len(known_ids(failures, unique=False, without=log.ids)) if failures.exists() else 0
    out.print(
        closing_table(
            summary, read_traces(plan.path), solvable=solvable, slots=slots, skipped=skipped, planned=plan.size,
            given_up=given_up,
        )
    )  # fmt: skip
    if around.report is not None:
        _write_report(around.report, summary, slots)
    kept = plan.path.with_suffix(FAILURES).name
    if summary.abandoned:
        names = ", ".join(label(task) for task in summary.abandoned[:10])
        what = "without a record" if log.ids else "no task has a record"
        out.print(f"[red]{what}, the same command tries again: {names} (their attempts: {kept})[/]")
        return EXIT_INCOMPLETE
    return 0


class ServedModel(NamedTuple):
    """A model server that was checked against a run spec.

    Attributes:
        facts: what it says of itself.
        environment: the part of the environment of a trace that tells of it.
        models: gives a trace its model.
    """

    facts: ServerFacts
    environment: dict[str, Any]
    models: ChatModel


class SandboxWorkers(NamedTuple):
    """The sandbox workers of this machine, of which one was checked against a run spec.

    Attributes:
        pool: gives them.
        info: what that one says of itself.
        recorded: for the cassette (see `agenttrace.campaign.environment.replay_facts`).
    """

    pool: WorkerPool
    info: WorkerInfo
    recorded: dict[str, Any]


def get_server(
    spec: RunSpec,
    around: Surroundings,
    out: Console,
    *,
    within_s: float,
    send: Callable[[Callable[[], Answer]], Answer] | None = None,
) -> ServedModel:
    """Wait for the model server and see that it is the one that the run spec names; `send` as `ChatModel` has it.

    Raises:
        ModelServerError: it does not answer in time.
        UsageError: it is another one, or has too little room.
    """
    from agenttrace.serving.chat import REQUEST_LIMIT_S, ChatModel  # noqa: PLC0415

    facts = wait_until_ready(around.base_url, timeout_s=within_s, key=around.key)
    checks = check_server(facts, spec)
    tell_checks(checks, out)
    for line in filter(None, (*abilities(facts, spec), told_of_sampling(spec.model.name, spec.sampler))):
        out.print(printable(line), style="yellow", markup=False)
    fixed = request_part(spec)
    counters = _counters(spec, facts, around, out, template=fixed["extra_body"].get("chat_template_kwargs"))
    environment = said_of_server(facts, checks)
    if counters is not None:
        environment["token_count"] = counters.route
    models = ChatModel(
        around.base_url,
        fixed,
        counters=counters,
        api_key=around.key,
        timeout_s=around.request_limit_s or REQUEST_LIMIT_S,
        shows_progress=facts.slots is not None,
        reuses_own=spec.serving.prompt_reuse == "trace",
        send=send,
    )
    return ServedModel(facts, environment, models)


def get_workers(spec: RunSpec, around: Surroundings) -> SandboxWorkers:
    """Wait for a sandbox worker and see that it is one that the run spec names.

    Raises:
        WorkerLostError: there is no worker.
        UsageError: it is of another image, has other limits or is weaker.
    """
    pool = WorkerPool(around.sockets, only=spec.sandbox.policy if around.confined else None)
    first = pool.connect()
    check_worker(first.info, spec)
    recorded = replay_facts(first, spec)
    pool.give_back(first)
    return SandboxWorkers(pool, first.info, recorded)


def _skipped_path(plan: Plan) -> Path:
    return plan.path.with_suffix(".skipped.json")


def _write_skipped(plan: Plan, skipped: tuple[Record, ...]) -> int:
    """Store beside the records which tasks have no tree, and why; return how many."""
    if skipped:
        write_whole(_skipped_path(plan), msgspec.json.format(msgspec.json.encode(skipped), indent=2) + b"\n")
    else:
        _skipped_path(plan).unlink(missing_ok=True)
    return len(skipped)


def _counters(
    spec: RunSpec, facts: ServerFacts, around: Surroundings, out: Console, *, template: dict[str, Any] | None
) -> Counters | None:
    """Return what counts prompts, where the agent asks for that.

    Raises:
        UsageError: the agent's budget is more than the server can hold; requests would be refused for their length.
    """
    if not agent_kind(spec.agent.kind).counts_tokens:
        return None
    from agenttrace.serving.budget import Counters  # noqa: PLC0415

    room = facts.context_length
    if isinstance(spec.agent, BashBlockSpec) and room is not None and spec.agent.max_total_tokens > room:
        raise UsageError(f"--max-total-tokens {spec.agent.max_total_tokens}: the server has room for {room} tokens")
    found = Counters(around.base_url, model=spec.model.name, template=template, api_key=around.key)
    out.print(f"prompt tokens are counted by: {found.route}")
    return found


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
    """Write what the session did and what it cost this process; sizes in bytes."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    document = {
        **msgspec.to_builtins(summary),
        "abandoned": len(summary.abandoned),
        "slots": slots,
        "cpu_ns": round((used.ru_utime + used.ru_stime) * 1e9),
        "peak_rss_bytes": used.ru_maxrss * (1024 if sys.platform == "linux" else 1),
    }
    write_whole(path, msgspec.json.encode(document) + b"\n")
