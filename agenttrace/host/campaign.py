"""Runs one campaign from the host: images, services, collector, clean-up."""

from __future__ import annotations

import json
import os
import shlex
import urllib.parse
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from agenttrace.campaign.options import check_options, check_size, served
from agenttrace.errors import StorageError, UsageError, command
from agenttrace.host import checkouts, compose, folders, guard, images, own, weights
from agenttrace.host.energy import EnergyMeter, energy_counters
from agenttrace.models.reference import find, is_complete, provisional
from agenttrace.serving import profiles
from agenttrace.serving.endpoint import HOST_NAME, api_key, check_base_url
from agenttrace.show import counted, say
from agenttrace.store.energy import append_energy, begin_energy
from agenttrace.tasks import OWN, SWE, check_name, sources, task_set
from agenttrace.tasks.own.task_set import OwnTasks

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from agenttrace.campaign.options import Options
    from agenttrace.host.checkouts import Places
    from agenttrace.models.reference import ModelRef
    from agenttrace.records import ModelPin
    from agenttrace.serving.profiles import Profile
    from agenttrace.tasks.own.loading import OwnSet

EXIT_INCOMPLETE = 4
_LOOPBACK = {"localhost", "127.0.0.1", "::1", "0.0.0.0"}  # noqa: S104 - compared, not listened on
MAX_WORKERS = 256


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a person asks for: one set of options per file, plus how to run them here.

    Attributes:
        options: of each campaign, all of one model; they share the server.
        folder: where record files lie.
        workers: tasks run at a time; `None` leaves it to the profile.
        base_url: an endpoint that runs already, instead of a server of our own.
        size: bytes that a model without a pin must have.
        sha256: digest that it must have.
        accept_terms: the user has agreed to the model's own terms, if it has any.
        places: where the rows and repositories of tasks over checkouts lie, where they are on this machine.
        sets: task sets of the user's own that options name by their digest.
    """

    options: tuple[Options, ...]
    folder: Path
    workers: int | None = None
    base_url: str | None = None
    size: int | None = None
    sha256: str | None = None
    accept_terms: bool = False
    places: Places | None = None
    sets: tuple[OwnSet, ...] = ()

    @property
    def over_checkouts(self) -> bool:
        """Whether the tasks bring trees of their own."""
        return self.options[0].dataset == SWE

    @property
    def profile(self) -> Profile:
        """The serving profile."""
        return profiles.profile(self.options[0].profile)

    def reference(self) -> ModelRef:
        """Return what `MODEL`, `--size` and `--sha256` mean."""
        return find(self.options[0].model, size=self.size, sha256=self.sha256)


class CampaignsEnd(NamedTuple):
    """How campaigns ended.

    Attributes:
        status: the first exit status that is not 0.
        files: the record file of each, in the order of their options; the last may not be there yet.
    """

    status: int
    files: tuple[Path, ...]


def collect(request: Request) -> CampaignsEnd:
    """Run campaigns one after the other; whatever happens, nothing stays on the engine.

    Raises:
        AgentTraceError: with the reason, after the clean-up.
    """
    request = check(request)
    targets = checkouts.TARGETS if request.over_checkouts else images.TARGETS
    with guard.guarded(targets=targets) as at:
        return _run(request, at)


def check(request: Request) -> Request:
    """Refuse what cannot work before anything is built, and return the request with the task sets that it names.

    Raises:
        AgentTraceError: says what cannot work.
    """
    options, sets = own.named(request.options)
    request = msgspec.structs.replace(request, options=options, sets=(*request.sets, *sets))
    _check(request)
    return request


def _check(request: Request) -> None:
    pin = _served_model(request)
    for options in request.options:
        check_options(msgspec.structs.replace(options, pin=pin))
    _check_sets(request)
    if request.workers is not None and not 1 <= request.workers <= MAX_WORKERS:
        raise UsageError(f"--workers {request.workers}: expected 1 to {MAX_WORKERS}")
    if not request.folder.is_dir():
        raise UsageError(f"the folder for records {request.folder} does not exist; create it first")
    if not os.access(request.folder, os.W_OK | os.X_OK):
        raise StorageError(f"the folder for records {request.folder} is not writable by this user")
    if request.over_checkouts:
        checkouts.check(request.places, request.options[0].of_checkouts)
        return
    for options in request.options:  # last, because it may have to download the task files
        found = next((OwnTasks(one) for one in request.sets if options.dataset == f"{OWN}:{one.sha256}"), None)
        tasks = (found or task_set(options.dataset)).tasks(offset=options.offset, count=options.count)
        check_size(len(tasks), options.rollouts)


def _served_model(request: Request) -> ModelPin:
    """Return what is known of the model by now: by its reference, or by the name that an endpoint gives it."""
    if request.base_url is None:
        weights.ask_terms(request.reference(), accepted=request.accept_terms)
        weights.variables(request.reference())  # refuses a file or a mirror folder that is not there
        return provisional(request.reference())
    if request.size is not None or request.sha256 is not None:
        raise UsageError("--size and --sha256 are for weights that are fetched: give them without --base-url")
    check_base_url(request.base_url)
    return profiles.external_pin(request.options[0].model)


def _check_sets(request: Request) -> None:
    """Refuse task sets that are none, or that cannot share a command."""
    names = [options.dataset for options in request.options]
    for name in names:
        check_name(name)
    if len(set(names)) < len(names):
        raise UsageError(f"--dataset {' '.join(names)}: each may be named once")
    if len(names) > 1 and SWE in names:
        raise UsageError(f"--dataset {SWE} has images of its own: give it alone")
    if len(names) > 1 and request.options[0].output is not None:
        raise UsageError("--output names one file: give it with one --dataset")


def variables(request: Request, at: guard.Engine) -> dict[str, str]:
    """Return what docker-compose.yml is filled with for a request, but for the server's own part."""
    return {
        **collector_variables(request.folder, request.workers or request.profile.workers, at),
        **checkouts.variables(request.places),
        **(weights.variables(request.reference()) if request.base_url is None else {}),
    }


def server_variables(request: Request, pin: ModelPin | None = None) -> dict[str, str]:
    """Return how docker-compose.yml starts the server for a request; `pin` is that of a model no table names."""
    _, serving = served(msgspec.structs.replace(request.options[0], pin=pin))
    return {
        "AGENTTRACE_SERVER_ARGS": shlex.join(serving.args),
        "AGENTTRACE_SERVER_MEMORY": os.environ.get("AGENTTRACE_SERVER_MEMORY") or request.profile.memory,
    }


def collector_variables(folder: Path, workers: int, at: guard.Engine) -> dict[str, str]:
    """Return what docker-compose.yml is filled with for a collector that works in `folder` with so many sandboxes."""
    uid, gid = compose.caller(at.info)
    return {
        **compose.image_variables(at.built.ids),
        "AGENTTRACE_UID": str(uid),
        "AGENTTRACE_GID": str(gid),
        "AGENTTRACE_DATASETS": str(folder.resolve()),
        "AGENTTRACE_SHOWN_FOLDER": str(folder),
        "AGENTTRACE_TASKS": _task_files(),
        "AGENTTRACE_HOST": compose.host_facts(at.info, at.built.base_origin),
        **compose.terminal_variables(),
        "AGENTTRACE_WORKERS": str(workers),
    }


def _run(request: Request, at: guard.Engine) -> CampaignsEnd:
    """Run what is left of every campaign."""
    known = variables(request, at)
    services = compose.Services(at.project, known)
    sandbox = checkouts.SANDBOX if request.over_checkouts else "sandbox"
    own.lay_out(services, request.sets)
    folders.check_shared(services, at, request.folder)
    every = tuple(msgspec.structs.replace(options, cpus=at.info.cpus or None) for options in request.options)
    request = msgspec.structs.replace(request, options=every)
    plans, pin = _planned(request, services)
    files = tuple(request.folder / plan["file"] for plan in plans)
    for plan in plans:
        shown = request.folder / plan["file"]
        for line in plan["said"]:
            say(line)
        if plan["todo"]:
            say(f"{counted(plan['tasks'], 'task')}, {plan['todo']} to do, records go to {shown}")
        else:
            again = "--fresh" if request.options[0].output is None else "another --output"
            say(f"nothing to do: {_all(plan['tasks'])} a record in {shown}; {again} starts a new campaign")
            _say_end(shown)
    left = [(settled(options, plan, pin), plan) for options, plan in zip(every, plans, strict=True) if plan["todo"]]
    if not left:
        return CampaignsEnd(0, files)
    request = msgspec.structs.replace(request, options=tuple(options for options, _ in left))
    _check_threads(request)
    if request.base_url is None:
        if is_complete(request.reference()):
            weights.fetch(services, request.reference())
        services = compose.Services(at.project, {**known, **server_variables(request, pin)})
        services.up("server", sandbox)
    else:
        services.up(sandbox)
    statuses = []
    for number, (options, plan) in enumerate(left):
        name = f"{at.project}-collector-{os.getpid()}-{number}"
        file = request.folder / plan["file"]
        with EnergyMeter(*energy_counters(engine_kernel=at.info.kernel)) as meter:
            begin_energy(file, meter.session(), measures=meter.measures)
            process = start_collector(services, name, request, options)
            statuses.append(guard.follow(process, at, name))
        append_energy(file, meter.session())
        if statuses[-1] == 0:
            _say_end(file)
        if statuses[-1] not in {0, EXIT_INCOMPLETE}:  # server gone, disk full, Ctrl-C: the next one fares no better
            break
    return CampaignsEnd(next(filter(None, statuses), 0), files)


def _planned(request: Request, services: compose.Services) -> tuple[list[dict[str, Any]], ModelPin | None]:
    """Return the plan of every campaign, and the pin of a model that this machine serves.

    A finished campaign needs no weights; but what a model is that no table describes, its file says.
    """
    pin = None
    if request.base_url is None:
        ref = request.reference()
        pin = provisional(ref) if is_complete(ref) else weights.fetch(services, ref)
    every = tuple(msgspec.structs.replace(options, pin=pin) for options in request.options)
    for options in every if request.over_checkouts else ():
        checkouts.prepare(services, options.of_checkouts, request.places)
    text = services.ask("collector", "plan", "--options", msgspec.json.encode(every).decode())
    return json.loads(text.splitlines()[-1]), pin


def _all(tasks: int) -> str:
    return "the one task has" if tasks == 1 else f"all {tasks} tasks have"


def _say_end(shown: Path) -> None:
    say(f"records: {shown}")
    say(f"look at one: {command('show', shlex.quote(str(shown)))}")


def settled(options: Options, plan: dict[str, Any], pin: ModelPin | None) -> Options:
    """Return options with the plan's file, run id and threads, so that what was announced is what is written."""
    threads = plan["threads"] and tuple(plan["threads"])
    return msgspec.structs.replace(
        options, output=plan["file"], run_id=plan["run_id"], fresh=False, pin=pin, threads=threads
    )


def _check_threads(request: Request) -> None:
    """Refuse campaigns that one server cannot serve: they were begun with other threads each."""
    if len({options.threads for options in request.options}) > 1:
        names = " ".join(f"{one.dataset} {one.threads[0]},{one.threads[1]}" for one in request.options if one.threads)
        raise UsageError(f"begun with different threads ({names}): go on with one --dataset at a time")


def start_collector(
    services: compose.Services, name: str, request: Request, options: Options, *more: str
) -> subprocess.Popen[bytes]:
    """Start the container `name` that runs one campaign, with `more` arguments of the verb `collect`."""
    words = ["collect", "--options", msgspec.json.encode((options,)).decode()]
    words += ["--workers", str(request.workers or request.profile.workers), *more]
    if request.base_url is None:
        return services.start(name, "collector", *words)
    words += ["--base-url", inside(request.base_url)]
    key = api_key()
    if key is None:
        return services.start(name, "collector-endpoint", *words)
    return services.start(name, "collector-endpoint", *words, "--key-from-stdin", data=f"{key}\n".encode())


def inside(base_url: str) -> str:
    """Return the address of an endpoint as a container reaches it: `localhost` there is the container itself."""
    if not _on_this_machine(base_url):
        return base_url
    parts = urllib.parse.urlsplit(check_base_url(base_url))
    port = "" if parts.port is None else f":{parts.port}"
    return urllib.parse.urlunsplit(parts._replace(netloc=f"{HOST_NAME}{port}"))


def _on_this_machine(base_url: str) -> bool:
    return urllib.parse.urlsplit(base_url).hostname in _LOOPBACK


def _task_files() -> str:
    """Return the folder of task files that the collector, which has no network, gets to read."""
    try:
        folder = sources.folder()
    except sources.SourceError:  # the chosen set has no files, or its own reading had ended the campaign by now
        return str(compose.ROOT / "agenttrace" / "tasks")
    return str(folder.resolve() if folder.is_dir() else compose.ROOT / "agenttrace" / "tasks")
