"""Makes rollouts from the host: images, trees, services, the rollouts' collector, clean-up."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.errors import AgentTraceError, UsageError
from agenttrace.host import campaign, compose, engine, weights
from agenttrace.host.follow import follow
from agenttrace.models.reference import find, is_complete, provisional
from agenttrace.rollouts.options import RolloutOptions, check_options, model_and_serving
from agenttrace.rollouts.surroundings import Surroundings
from agenttrace.serving import profiles
from agenttrace.serving.endpoint import api_key, check_base_url
from agenttrace.tasks.swe.rows import BUNDLED

if TYPE_CHECKING:
    import docker
    from agenttrace.host.images import ImageSet
    from agenttrace.models.reference import ModelRef

TARGETS = ("server", "sandbox-execution-free", "rollouts")
_FETCHING = ("collector",)
_MAX_WORKERS = 256
_SOURCE, _MIRROR = Path("/source"), Path("/mirror")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a person asks for.

    Attributes:
        options: of the run.
        folder: where record files lie.
        source: file or folder on this machine that holds the rows, when it is one.
        repositories: URL with `{repo}`, or a folder of this machine.
        workers: rollouts at a time, each with a sandbox of its own; `None` leaves it to the profile.
        base_url: an endpoint that runs already, instead of a server of our own.
        size: bytes that a model without a pin must have.
        sha256: digest that it must have.
    """

    options: RolloutOptions
    folder: Path
    source: Path | None = None
    repositories: str | None = None
    workers: int | None = None
    base_url: str | None = None
    size: int | None = None
    sha256: str | None = None

    @property
    def concurrency(self) -> int:
        """Rollouts at a time."""
        return self.workers or profiles.profile(self.options.profile).workers

    @property
    def mirror(self) -> Path | None:
        """The folder of repositories on this machine, when it is one."""
        given = self.repositories
        return None if given is None or "://" in given else Path(given)


def rollouts(request: Request) -> int:
    """Make the rollouts and return the exit status; whatever happens, nothing stays on the engine but caches.

    Raises:
        AgentTraceError: with the reason, after the clean-up.
    """
    wanted = _check(request)
    targets = TARGETS if wanted is None else (*TARGETS, *_FETCHING)

    def work(at: campaign.Engine) -> int:
        return _run(request, wanted, at)

    return campaign.guarded(work, None if wanted is None else lambda: weights.check(wanted), targets=targets)


def _check(request: Request) -> ModelRef | None:
    """Refuse what cannot work before anything is built; return the weights to fetch, if any."""
    if request.workers is not None and not 1 <= request.workers <= _MAX_WORKERS:
        raise UsageError(f"--workers {request.workers}: expected 1 to {_MAX_WORKERS}")
    if not request.folder.is_dir():
        raise UsageError(f"the folder for records {request.folder} does not exist; create it first")
    for name, path in (("--source", request.source), ("--repositories", request.mirror)):
        if path is not None and not path.exists():
            raise UsageError(f"{name} {path}: there is no such file or folder")
    if request.repositories is not None and request.mirror is None and "{repo}" not in request.repositories:
        raise UsageError(f"--repositories {request.repositories}: expected {{repo}} in the URL")
    if request.base_url is not None:
        check_base_url(request.base_url)
        check_options(request.options)
        return None
    wanted = find(request.options.model, size=request.size, sha256=request.sha256)
    if is_complete(wanted):
        check_options(msgspec.structs.replace(request.options, pin=provisional(wanted)))
    return wanted


def variables(request: Request, info: engine.EngineInfo, built: ImageSet) -> dict[str, str]:
    """Return what docker-compose.yml is filled with for a request."""
    uid, gid = compose.caller(info)
    found = {
        **{f"AGENTTRACE_{target.upper().replace('-', '_')}_IMAGE": image for target, image in built.ids.items()},
        "AGENTTRACE_SERVER_MEMORY": os.environ.get("AGENTTRACE_SERVER_MEMORY")
        or profiles.profile(request.options.profile).memory,
        "AGENTTRACE_UID": str(uid),
        "AGENTTRACE_GID": str(gid),
        "AGENTTRACE_DATASETS": str(request.folder.resolve()),
        "AGENTTRACE_SHOWN_FOLDER": str(request.folder),
        "AGENTTRACE_HOST": compose.host_facts(info, built.base_origin),
        "AGENTTRACE_TERMINAL": compose.terminal_size(),
        "AGENTTRACE_WORKERS": str(request.concurrency),
    }
    if request.source is not None:
        found["AGENTTRACE_ROLLOUT_SOURCE"] = str(request.source.resolve())
        found["AGENTTRACE_ROLLOUT_SOURCE_TARGET"] = str(_inside(request))
    if request.mirror is not None:
        found["AGENTTRACE_ROLLOUT_MIRROR"] = str(request.mirror.resolve())
    return found


def _inside(request: Request) -> Path:
    """Return how the container that makes trees calls the source; its name is part of the run spec."""
    return _SOURCE / (request.source or Path()).resolve().name


def _run(request: Request, wanted: ModelRef | None, at: campaign.Engine) -> int:
    """Make trees, start the services, follow the collector to its end."""
    sdk, project, found = at.sdk, at.project, variables(request, at.info, at.built)
    compose.ensure_models_volume(sdk)
    compose.ensure_repositories_volume(sdk)
    options = request.options
    if request.source is not None:
        options = msgspec.structs.replace(options, source=str(_inside(request)))
    services = compose.Services(project, {**found, **(weights.variables(wanted) if wanted is not None else {})})
    if wanted is not None:
        pin = provisional(wanted) if is_complete(wanted) else weights.fetch(services, wanted)
        options = msgspec.structs.replace(options, pin=pin)
        check_options(options)
    prepare(services, request, options)
    plan = _plan(services, options)
    shown = request.folder / plan["file"]
    if not plan["todo"]:
        engine.say(f"nothing to do: all {plan['rollouts']} rollouts have a record in {shown}")
        return 0
    engine.say(f"{plan['rollouts']} rollouts, {plan['todo']} to do, records go to {shown}")
    options = msgspec.structs.replace(options, output=plan["file"], run_id=plan["run_id"], fresh=False)
    if wanted is not None:
        if is_complete(wanted):
            weights.fetch(services, wanted)
        serving = model_and_serving(options)[1]
        services = compose.Services(project, {**found, "AGENTTRACE_SERVER_ARGS": compose.shell_words(serving.args)})
        services.up("server", "sandbox-execution-free")
    else:
        services.up("sandbox-execution-free")
    status = _collect(services, request, options, sdk, project)
    if status == 0:
        engine.say(f"rollouts: {shown}")
        engine.say(f"store them compactly: scripts/nox -s compact -- {shlex.quote(str(shown))} FILE.jsonl.zst")
    return status


def prepare(services: compose.Services, request: Request, options: RolloutOptions) -> None:
    """Draw the tasks and make their trees, with the user's own way to the outside."""
    words = ["rollouts-prepare", "--from-host", "--options", msgspec.json.encode(options).decode()]
    if request.repositories is not None:
        words += ["--repositories", request.repositories if request.mirror is None else str(_MIRROR)]
    local = options.source == BUNDLED and request.repositories is None
    around = Surroundings(
        environment={} if local else weights.user_settings(os.environ),
        certificates=None if local else weights.certificates(),
    )
    status, _ = services.converse("trees", *words, data=msgspec.json.encode(around))
    if status != 0:
        raise NotPreparedError(status if status > 0 else 1)


class NotPreparedError(AgentTraceError):
    """The container that makes trees ended with an error that it has told itself; the exit status is its own."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("the tasks could not be prepared; no rollout was made")
        self.exit_code = exit_code


def _plan(services: compose.Services, options: RolloutOptions) -> dict[str, Any]:
    words = ("rollouts", "--describe", "--options", msgspec.json.encode(options).decode())
    plan: dict[str, Any] = json.loads(campaign.ask(services, "rollouts", *words).splitlines()[-1])
    return plan


def _collect(
    services: compose.Services, request: Request, options: RolloutOptions, sdk: docker.DockerClient, project: str
) -> int:
    name = f"{project}-rollouts-{os.getpid()}"
    words = ["rollouts", "--options", msgspec.json.encode(options).decode()]
    words += ["--concurrency", str(request.concurrency)]
    if request.base_url is None:
        process = services.start(name, "rollouts", *words)
    else:
        words += ["--base-url", campaign.inside(request.base_url), "--key-from-stdin"]
        process = services.start(name, "rollouts-endpoint", *words, data=f"{api_key() or ''}\n".encode())
    return follow(process, sdk, project, name)
