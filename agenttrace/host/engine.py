"""The Docker engine of this machine: is it there, is it new enough, what does it offer."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from agenttrace.errors import AgentTraceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PIPE = subprocess.PIPE
"""For `start`."""
COMPOSE_MINIMUM = (2, 20)
ENGINE_MINIMUM = (25,)
_CHECK_TIMEOUT_S = 30.0
_GRACE_S = 10.0

_LIMITS = {"MemoryLimit": "memory", "PidsLimit": "processes", "CpuCfsQuota": "processor time"}
_GET_IT = (
    "On Debian and Ubuntu `scripts/nox` installs it when root runs it; on macOS install Docker Desktop, "
    "or `brew install colima docker docker-buildx docker-compose` and then `colima start`."
)


class CommandError(AgentTraceError):
    """A command ended with a status other than 0.

    Attributes:
        returncode: its exit status; negative for the signal that killed it.
        output: what it wrote, both streams.
    """

    def __init__(self, argv: Sequence[str], returncode: int, output: str) -> None:
        self.returncode = returncode
        self.output = output
        last = output.strip().splitlines()[-1:] or ["no output"]
        super().__init__(f"`{' '.join(argv[:4])} …` ended with status {returncode}: {last[0]}")


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What the engine says of itself."""

    version: str
    arch: str
    """Debian's name of the processor architecture: `amd64`, `arm64`, …"""
    kernel: str
    rootless: bool
    cgroup_version: int
    cgroup_driver: str
    cpus: int
    memory_bytes: int
    storage_driver: str
    containerd_image_store: bool
    docker_desktop: bool
    selinux: bool
    """Whether its machine labels files, and containers may open none but those with a label of theirs."""
    unlimited: tuple[str, ...]
    """What it cannot limit of what a policy limits, in words; empty where tool calls may run."""
    buildx_version: str
    compose_version: str


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
    timeout_s: float | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Ended process. This function and `start` are the only places of `agenttrace.host` that start any.

    Args:
        argv: the program and its arguments; no shell sees them.
        env: the whole environment, or `None` for this process's own.
        on_line: gets each line as it comes, both streams in one; the result's `stdout` then holds all of them.
        timeout_s: after that long the process is killed. Without `on_line` only.
        check: whether a status other than 0 is an error.

    Raises:
        UsageError: the program does not exist.
        CommandError: it ended with another status than 0 (and `check`), or took too long (status -9).
    """
    try:
        if on_line is None:
            ended = subprocess.run(  # noqa: S603 - an argument list of ours, no shell
                list(argv), env=env, timeout=timeout_s, capture_output=True, text=True, errors="replace", check=False,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        else:
            ended = _stream(argv, env, on_line)
    except FileNotFoundError as error:
        raise UsageError(f"`{argv[0]}` is not installed or not on the PATH") from error
    except subprocess.TimeoutExpired as error:
        raise CommandError(argv, -9, f"no answer within {timeout_s:.0f} s") from error
    if check and ended.returncode != 0:
        raise CommandError(argv, ended.returncode, ended.stdout + (ended.stderr or ""))
    return ended


def check() -> EngineInfo:
    """Engine that answers, builds and composes.

    Raises:
        UsageError: the client, the engine, the permission to use it, buildx or compose is missing or too old, or the
            engine runs Windows containers; the message says what to do.
    """
    if shutil.which("docker") is None:
        raise UsageError(f"Docker is not installed: there is no `docker` on the PATH. {_GET_IT}")
    with ThreadPoolExecutor(max_workers=2) as pool:  # side by side: every reading verb waits for both
        version, info = pool.map(_asked, ("version", "info"))
    server = version.json.get("Server")
    if version.returncode != 0 or not isinstance(server, dict):
        program = run(["docker", "--version"], timeout_s=_CHECK_TIMEOUT_S, check=False).stdout
        raise UsageError(_podman(program.split()[-1]) if "podman" in program else _why_no_engine(version.errors))
    if server.get("Os") == "windows":
        raise UsageError("the Docker engine runs Windows containers: switch Docker Desktop to Linux containers")
    if "Podman" in json.dumps(server.get("Components")):
        raise UsageError(_podman(server["Version"]))
    if _numbers(server["Version"])[:1] < ENGINE_MINIMUM:
        oldest = ENGINE_MINIMUM[0]
        raise UsageError(f"the Docker engine is version {server['Version']}; {oldest} or newer is needed. {_GET_IT}")
    buildx, compose = _plugins(info.json)
    if _numbers(compose)[:2] < COMPOSE_MINIMUM:
        wanted = ".".join(str(number) for number in COMPOSE_MINIMUM)
        raise UsageError(f"`docker compose` is version {compose}; {wanted} or newer is needed. {_GET_IT}")
    return _info(server, info.json, buildx=buildx, compose=compose)


def check_strength(info: EngineInfo) -> None:
    """Refuse an engine on which tool calls could do more than a policy says.

    Raises:
        UsageError: with what it cannot do.
    """
    if info.unlimited:
        which = f"{'rootless ' * info.rootless}engine here (cgroup version {info.cgroup_version})"
        raise UsageError(
            f"the {which} cannot limit a container's {', '.join(info.unlimited)}, so a tool call could take all of "
            "this machine. A rootless engine can where it has cgroup version 2 and is handed the controllers: "
            "docs/engines.md"
        )


def refusal(error: OSError) -> AgentTraceError | None:
    """Return what the SDK raises when the engine refuses or goes away as ours; `None` for any other error."""
    if type(error).__module__.partition(".")[0] not in {"docker", "requests"}:
        return None
    why = getattr(error, "explanation", None) or error
    return AgentTraceError(f"the Docker engine refuses, or went away: {why}; what was finished is kept, run it again")


def _stream(
    argv: Sequence[str], env: Mapping[str, str] | None, on_line: Callable[[str], None]
) -> subprocess.CompletedProcess[str]:
    lines = []
    with subprocess.Popen(  # noqa: S603 - an argument list of ours, no shell
        list(argv), env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", start_new_session=True,
    ) as process:  # fmt: skip
        try:
            for line in process.stdout or ():
                lines.append(line)
                on_line(line.rstrip("\n"))
        except BaseException:
            # Ctrl-C among them: the child gets the time to clean up behind itself, and never outlives us.
            process.terminate()
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    return subprocess.CompletedProcess(list(argv), process.returncode, "".join(lines), "")


class _Answer(NamedTuple):
    returncode: int
    json: dict[str, Any]
    errors: str


def _asked(command: str) -> _Answer:
    """Return what `docker version` or `docker info` says; without an engine it still speaks of the client."""
    try:
        ended = run(["docker", command, "--format", "{{json .}}"], timeout_s=_CHECK_TIMEOUT_S, check=False)
    except CommandError as error:
        raise UsageError("the Docker engine does not answer: restart it (Docker Desktop, or dockerd)") from error
    try:
        answer = json.loads(ended.stdout)
    except ValueError:
        answer = None
    return _Answer(ended.returncode, answer if isinstance(answer, dict) else {}, ended.stderr.strip())


def _podman(version: str) -> str:
    return (
        f"the engine that answers here is Podman {version}, on which the kit does not run: in its sandbox a tool call "
        "could make user namespaces and fill memory with empty files, and it has no BuildKit, which builds the images. "
        "Docker Engine 25 or newer can be installed beside it, rootless too (docs/engines.md); record files are also "
        "read without any engine, by the command `agenttrace` that `pip install .` brings"
    )


def _why_no_engine(said: str) -> str:
    text = said.lower()
    if "permission denied" in text:
        return (
            "no permission to use the Docker engine: ask an administrator for `usermod -aG docker YOUR_NAME` and log "
            "in again, or use a rootless engine (https://docs.docker.com/engine/security/rootless/)"
        )
    if any(part in text for part in ("cannot connect", "failed to connect", "error during connect", "daemon running")):
        if named := os.environ.get("DOCKER_HOST"):
            return f"no engine answers at {named}, which DOCKER_HOST names: start it there, or unset DOCKER_HOST"
        return (
            "Docker is installed but its engine does not run. On Linux: `sudo systemctl start docker` (as root, "
            "`scripts/nox` does it); on macOS: start Docker Desktop, or `colima start`."
        )
    return f"`docker version` does not name an engine: {said.splitlines()[-1] if said else 'no message'}. {_GET_IT}"


def _plugins(info: Mapping[str, Any]) -> tuple[str, str]:
    """Return the versions of buildx and compose."""
    plugins = {str(one.get("Name")): str(one.get("Version")) for one in info.get("ClientInfo", {}).get("Plugins") or ()}
    for plugin, package in (("buildx", "docker-buildx"), ("compose", "docker-compose (version 2)")):
        if not _numbers(plugins.get(plugin, "")):
            missing = f"`docker {plugin}` is missing: install the plugin, Debian's package is {package}"
            raise UsageError(f"{missing}. {_GET_IT}")
    return plugins["buildx"].removeprefix("v"), plugins["compose"].removeprefix("v")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _info(server: Mapping[str, Any], info: Mapping[str, Any], *, buildx: str, compose: str) -> EngineInfo:
    status = json.dumps(info.get("DriverStatus") or [])
    options = [option.split(",")[0] for option in info.get("SecurityOptions") or ()]
    rootless = "name=rootless" in options
    deaf = rootless and str(info.get("CgroupVersion") or "1") == "1"  # it warns, and starts containers all the same
    return EngineInfo(
        version=server["Version"],
        arch=server["Arch"],
        kernel=info.get("KernelVersion", ""),
        rootless=rootless,
        cgroup_version=int(info.get("CgroupVersion") or 1),
        cgroup_driver=info.get("CgroupDriver", ""),
        cpus=int(info.get("NCPU", 0)),
        memory_bytes=int(info.get("MemTotal", 0)),
        storage_driver=info.get("Driver", ""),
        containerd_image_store="io.containerd.snapshotter" in status,
        docker_desktop="Docker Desktop" in info.get("OperatingSystem", ""),
        selinux="name=selinux" in options,
        unlimited=tuple(what for key, what in _LIMITS.items() if deaf or info.get(key) is False),
        buildx_version=buildx,
        compose_version=compose,
    )


def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
    output: int | None = None,
    errors: int | IO[bytes] | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Started process in a session of its own, so that Ctrl-C reaches only us and we decide what follows.

    Args:
        argv: the program and its arguments; no shell sees them.
        env: the whole environment, or `None` for this process's own.
        stdin: `subprocess.PIPE` to write to it.
        output: its standard output: `None` for ours, `subprocess.PIPE` or `subprocess.DEVNULL`.
        errors: its standard error, likewise, or a file.
        pass_fds: descriptors it keeps open.
    """
    return subprocess.Popen(  # noqa: S603 - an argument list of ours, no shell
        list(argv),
        env=env,
        stdin=stdin,
        stdout=output,
        stderr=errors,
        start_new_session=True,
        pass_fds=tuple(pass_fds),
        bufsize=0,
    )
