"""The services of one campaign on this machine's engine: start, follow, and remove without a trace."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from agenttrace.errors import DOOR, AgentTraceError, UsageError
from agenttrace.host import engine, place
from agenttrace.host.energy import energy_counters
from agenttrace.sandbox.runner import settings
from agenttrace.show import is_plain, is_quiet

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    import docker

ROOT = place.ROOT
PROJECT_LABEL = "org.agenttrace.project"
_IN_USE = {403, 409}
"""What the engine says of a network or a volume that a container uses."""
_IN_USE_S = 15.0
_EMPTY_SWEEPS = 2
_PAUSE_S = 0.3
_AGAIN_S = 0.05
TERMINAL = ("NO_COLOR", "FORCE_COLOR", "TERM")
"""Settings of the caller that containers are given as they are, beside `COLUMNS`."""
_FEW_BYTES = 10_000_000
"""Fetched again in seconds, or bundled."""
FIGURES = "AGENTTRACE_FIGURES"
"""What sandbox workers measure beside the usual figures: some of `settings.FIGURES`, with commas."""
_COMPOSE_LABEL = "com.docker.compose.project"


def project_name(root: Path = ROOT, *, instance: str | None = None) -> str:
    """Return the compose project of a checkout: one checkout runs one campaign, two checkouts do not meet.

    `AGENTTRACE_INSTANCE` (or `instance`) lets several campaigns of one checkout keep apart.
    """
    instance = os.environ.get("AGENTTRACE_INSTANCE", "") if instance is None else instance
    return f"agenttrace-{hashlib.sha256(f'{root}{instance}'.encode()).hexdigest()[:8]}"


def client() -> docker.DockerClient:
    """Return an SDK client for the engine that the `docker` command talks to, whatever its context.

    Raises:
        UsageError: the engine does not answer.
    """
    import docker  # noqa: PLC0415 - heavy

    host = os.environ.get("DOCKER_HOST")
    if not host:
        shown = engine.run(["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"], check=False)
        host = shown.stdout.strip() if shown.returncode == 0 else ""
    try:
        found = docker.DockerClient(base_url=host) if host else docker.from_env()
        found.ping()
    except (docker.errors.DockerException, OSError) as error:
        raise UsageError(f"the Docker engine does not answer: {error}; start it and run again") from error
    return found


def clean_environment() -> dict[str, str]:
    """Return the caller's environment without what could change the services behind the run spec's back."""
    kept = {DOOR, FIGURES, "AGENTTRACE_MODELS_VOLUME", "AGENTTRACE_REPOSITORIES_VOLUME", "AGENTTRACE_SERVER_MEMORY"}
    found = {
        name: value
        for name, value in os.environ.items()
        if name in kept or not name.startswith(("AGENTTRACE_", "COMPOSE_"))
    }
    if unknown := {*filter(None, found.get(FIGURES, "").split(","))} - {*settings.FIGURES}:
        known = ", ".join(settings.FIGURES)
        raise UsageError(f"{FIGURES}: {', '.join(sorted(unknown))} is not one; there are {known}")
    if "cpu_counters" in found.get(FIGURES, ""):
        found["AGENTTRACE_SANDBOX_RIGHT"] = "PERFMON"  # the engine's filter of system calls asks for it
    return found


def argv(project: str, *arguments: str) -> list[str]:
    """Return the command line of `docker compose` for a project and this checkout's services."""
    file = str(ROOT / "docker-compose.yml")
    words = ["docker", "compose", "--project-name", project, "--file", file, "--env-file", os.devnull]
    return [*words, "--progress", "quiet", *arguments]


class EndedError(AgentTraceError):
    """Something we started ended with an error that it has told itself; the exit status is its own."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Services:
    """Compose services of one campaign.

    Args:
        project: compose project name; everything in it is removed by `sweep`.
        variables: what docker-compose.yml is filled with.
    """

    def __init__(self, project: str, variables: Mapping[str, str]) -> None:
        self._project = project
        self._env = {**clean_environment(), **variables}

    def _once(self, *arguments: str) -> list[str]:
        return argv(self._project, "run", "--rm", "--no-deps", "--no-TTY", *arguments)

    def up(self, *services: str, anew: bool = False) -> None:
        """Start services in the background, those that run already only if `anew`.

        `AGENTTRACE_WORKERS` says how many sandboxes.
        """
        how = ["--force-recreate"] if anew else []
        engine.run(argv(self._project, "up", "--detach", "--no-build", *how, *services), env=self._env)

    def ask(self, service: str, *arguments: str) -> str:
        """Run a one-off container to its end and return its standard output.

        Raises:
            EndedError: it ended with another status than 0; message and status are the container's own.
            CommandError: it was not the container that said so.
        """
        words = self._once(service, *arguments)
        try:
            return engine.run(words, env=self._env).stdout
        except engine.CommandError as error:
            _, found, message = error.output.rpartition("agenttrace: ")
            if not found:
                raise
            raise EndedError(message.strip(), error.returncode) from error

    def converse(self, service: str, *arguments: str, data: bytes, otherwise: str) -> bytes:
        """Run a one-off container that reads `data` and return its output. Its messages go where ours go.

        Raises:
            EndedError: `otherwise`, where it ended with another status than 0 and has told why.
        """
        words = self._once(service, *arguments)
        process = engine.start(words, env=self._env, stdin=engine.PIPE, output=engine.PIPE)
        try:
            output, _ = process.communicate(data)
        except BaseException:  # Ctrl-C among them; the sweep that follows removes the container
            process.kill()
            process.wait()
            raise
        if process.returncode != 0:
            raise EndedError(otherwise, max(process.returncode, 1))
        return output

    def start(
        self, name: str, service: str, *arguments: str, output: int | None = None, data: bytes | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a one-off container called `name` whose output goes to a descriptor, or where ours goes.

        `data`, of at most a pipe's 64 KiB, is what it reads: the engine shows arguments and environment, but not that.
        """
        words = self._once("--name", name, service, *arguments)
        if data is None:
            return engine.start(words, env=self._env, output=output)
        process = engine.start(words, env=self._env, output=output, stdin=engine.PIPE)
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), process.stdin:  # it may have ended; its status says so
                process.stdin.write(data)
        return process

    def python(self, name: str, service: str, code: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start Python code in a one-off container called `name`; its input and output are pipes."""
        words = self._once("--name", name, "--entrypoint", "python", service)
        return engine.start([*words, "-c", code, *arguments], env=self._env, stdin=engine.PIPE, output=engine.PIPE)


def models_volume() -> str:
    """Return the name of the volume that caches weights (`AGENTTRACE_MODELS_VOLUME` chooses another)."""
    return os.environ.get("AGENTTRACE_MODELS_VOLUME") or "agenttrace-models"


def has_models_volume() -> bool:
    """Return whether the volume of weights is there, or may be: an engine that does not answer is told of later."""
    ended = engine.run(["docker", "volume", "inspect", models_volume()], check=False)
    return ended.returncode == 0 or "no such volume" not in ended.stderr.lower()


def ensure_volumes(sdk: docker.DockerClient) -> None:
    """Create the volumes that outlive campaigns, with the project's label: of weights and of bare repositories."""
    for name in (models_volume(), os.environ.get("AGENTTRACE_REPOSITORIES_VOLUME") or "agenttrace-repositories"):
        sdk.volumes.create(name, labels={PROJECT_LABEL: "agenttrace"})  # one that is there stays as it is


def image_variables(images: Mapping[str, str]) -> dict[str, str]:
    """Return which image each service runs; the collector of tasks over checkouts is the image `rollouts`."""
    found = {f"AGENTTRACE_{target.upper().replace('-', '_')}_IMAGE": image for target, image in images.items()}
    if "rollouts" in images:
        found["AGENTTRACE_COLLECTOR_IMAGE"] = images["rollouts"]
    return found


def sweep(sdk: docker.DockerClient, project: str, *, strict: bool = True) -> int:
    """Remove every container, network and volume of a compose project and return how many there were.

    Containers are killed, not stopped: what they hold is either durable already or meant to vanish.

    Args:
        sdk: client for the engine.
        project: compose project.
        strict: what is in use is an error; else it stays: a container that the engine has only just made may use it.
    """
    import docker.errors  # noqa: PLC0415

    labels: dict[str, str | list[str] | bool] = {"label": f"{_COMPOSE_LABEL}={project}"}
    containers = sdk.containers.list(all=True, filters=labels, ignore_removed=True)

    def remove(container: Any) -> None:  # noqa: ANN401 - docker.models.containers.Container
        with contextlib.suppress(docker.errors.NotFound):
            try:
                container.remove(force=True, v=True)
            except docker.errors.APIError as error:  # "removal already in progress"
                if error.status_code != 409:  # noqa: PLR2004 - Conflict
                    raise
                container.wait(condition="removed", timeout=30)

    if containers:
        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(remove, containers))
    others: list[Any] = [*sdk.networks.list(filters=labels), *sdk.volumes.list(filters=labels)]
    for other in others:
        with contextlib.suppress(docker.errors.NotFound):
            try:
                other.remove()
            except docker.errors.APIError as error:
                if strict or error.status_code not in _IN_USE:
                    raise
    return len(containers) + len(others)


def sweep_for_good(sdk: docker.DockerClient, project: str) -> None:
    """Remove a compose project, also what the engine is still creating for a client that was cut off."""
    empty, deadline = 0, math.inf
    while empty < _EMPTY_SWEEPS:
        time.sleep(_PAUSE_S if empty else _AGAIN_S)
        empty = 0 if sweep(sdk, project, strict=time.monotonic() > deadline) else empty + 1
        deadline = min(deadline, time.monotonic() + _IN_USE_S)  # killing containers may take long itself


def caches(sdk: docker.DockerClient) -> dict[str, int]:
    """Return the volumes with much that was fetched, weights or bare repositories, and the bytes of each."""
    ours = {one.name for one in sdk.volumes.list(filters={"label": PROJECT_LABEL})}
    sizes = {one["Name"]: one for one in sdk.df().get("Volumes") or () if one["Name"] in ours}
    found = {name: (one.get("UsageData") or {}).get("Size", 0) for name, one in sizes.items()}
    passing = {name for name, one in sizes.items() if _COMPOSE_LABEL in (one.get("Labels") or {})}
    return {name: size for name, size in sorted(found.items()) if size > _FEW_BYTES and name not in passing}


def clean(
    sdk: docker.DockerClient,
    report: Callable[[str], None],
    *,
    images: bool,
    everything: bool = False,
    keep: Collection[str] = (),
) -> bool:
    """Remove all that carries the kit's label, whichever checkout left it, and return whether nothing was left.

    Record files on the host are never touched; nor is BuildKit's cache, which is not the kit's alone.

    Args:
        sdk: client for the engine.
        report: gets a line per thing.
        images: remove the images as well, not only containers, networks and volumes.
        everything: also remove what a running campaign of another checkout uses.
        keep: names of volumes that stay.
    """
    ours: dict[str, str | list[str] | bool] = {"label": PROJECT_LABEL}
    containers = sdk.containers.list(all=True, filters=ours, ignore_removed=True)
    busy = [] if everything else [one for one in containers if one.status == "running" and not _of_this_checkout(one)]
    things: list[tuple[str, Callable[[], Any]]] = [
        (f"container {one.name}", functools.partial(one.remove, force=True, v=True))
        for one in containers
        if one not in busy
    ]
    others: list[Any] = [*sdk.networks.list(filters=ours), *sdk.volumes.list(filters=ours)]
    others = [one for one in others if one.name not in keep]
    things += [(f"{type(one).__name__.lower()} {one.name}", one.remove) for one in others]
    for image in sdk.images.list(filters=ours) if images else ():
        name = ", ".join(image.tags) or image.short_id
        things.append((f"image {name}", functools.partial(sdk.images.remove, str(image.id), force=True)))
    left = [f"container {one.name} (another checkout's campaign runs; --all removes it)" for one in busy]
    left += [f"{what} ({why})" for what, remove in things if (why := _why_left(remove, f"removed {what}", report))]
    for line in left:
        report(f"left alone: {line}")
    if images:
        report("BuildKit's cache is not the kit's alone and stays; docker builder prune empties it")
    return not left


def _of_this_checkout(container: Any) -> bool:  # noqa: ANN401 - docker.models.containers.Container
    return bool(container.labels.get(_COMPOSE_LABEL, "").startswith(project_name()))


def _why_left(remove: Callable[[], Any], removed: str, report: Callable[[str], None]) -> str | None:
    """Remove one thing and return why that could not be; one that is in use does not stop the rest."""
    import docker.errors  # noqa: PLC0415

    try:
        remove()
    except docker.errors.NotFound:
        return None
    except docker.errors.APIError as error:
        return str(error.explanation)
    report(removed)
    return None


def terminal_variables() -> dict[str, str]:
    """Return what docker-compose.yml tells containers of this terminal.

    That is its size where people watch on one that may move its cursor, and whether they want it quiet. What is set of
    `TERMINAL` and `COLUMNS` reaches them from the caller's environment.
    """
    size = shutil.get_terminal_size()
    watched = sys.stderr.isatty() and not is_plain()
    return {
        "AGENTTRACE_TERMINAL": f"{size.columns}x{size.lines}" if watched else "",
        "AGENTTRACE_QUIET": "1" if is_quiet() else "",
    }


def git_state(root: Path = ROOT) -> dict[str, Any]:
    """Return commit and cleanness of the checkout; `None` where it is no git checkout.

    A file that git does not know, such as records that `--output` put here, counts only where images are built from.
    """
    if not (root / ".git").exists():  # a folder of somebody else's repository has nothing to do with it
        return {"git_commit": None, "git_dirty": None}
    try:
        commit = engine.run(["git", "-C", str(root), "rev-parse", "HEAD"], check=False)
        status = engine.run(["git", "-C", str(root), "status", "--porcelain"], check=False)
    except UsageError:  # no git here
        return {"git_commit": None, "git_dirty": None}
    if commit.returncode != 0:
        return {"git_commit": None, "git_dirty": None}
    changed = [line for line in status.stdout.splitlines() if not line.startswith("??") or _shapes_images(line[3:])]
    return {"git_commit": commit.stdout.strip(), "git_dirty": bool(changed)}


def _shapes_images(path: str) -> bool:
    return path.strip('"').startswith(("agenttrace/", "docker", "requirements/", "Dockerfile", ".dockerignore"))


def host_facts(info: engine.EngineInfo, base_origin: str) -> str:
    """Return what the host side saw, as JSON for `AGENTTRACE_HOST`."""
    return json.dumps(
        {
            "engine_version": info.version,
            "engine_kernel": info.kernel,
            "engine_rootless": info.rootless,
            "docker_desktop": info.docker_desktop,
            "cgroup_version": info.cgroup_version,
            "storage_driver": info.storage_driver,
            "base_origin": base_origin,
            "energy": _energy_facts(info),
            **git_state(),
        },
        sort_keys=True,
    )


def _energy_facts(info: engine.EngineInfo) -> dict[str, Any]:
    """Return which counters of energy there are, and of which kinds there are none and why."""
    counters, unknown = energy_counters(engine_kernel=info.kernel)
    return {"counters": sorted(counters), "none": unknown}


def caller(info: engine.EngineInfo) -> tuple[int, int]:
    """Return the uid and gid that make files in bind mounts the caller's own."""
    return (0, 0) if info.rootless else (os.getuid(), os.getgid())
