"""A Ray cluster on this machine, to try things out: head and nodes as processes, with sandbox containers of their own.

Its parts meet over the loopback address and ask for a token. What was started stands in one file, by which `down` ends
it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.campaign.options import Options
from agenttrace.cluster import on_ray
from agenttrace.cluster.orders import SOCKETS
from agenttrace.errors import AgentTraceError, UsageError, command
from agenttrace.host import campaign, compose, engine, images, place, weights
from agenttrace.models.reference import is_complete, provisional
from agenttrace.records.base import Record
from agenttrace.serving.endpoint import wait_until_ready
from agenttrace.show import counted, say
from agenttrace.store.jsonl import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psutil

MOST_NODES = 16
_HOST = "127.0.0.2"
"""Loopback; Ray takes 127.0.0.1 for the machine's address in its network, and tells others that."""
_OBJECT_STORE_BYTES = 80_000_000
"""Little more than Ray's least: nothing is put into it."""
_SERVER_S = 600.0
_HEAD_S = 90.0
_NODE_S = 60.0
_TRIES = 4
"""Starts of a node: under load one misses a limit of 30 s that Ray has, and ends."""
_END_S = 5.0
_LOOK_S = 0.3


class Process(Record, frozen=True, kw_only=True):
    """A process that was started here, the first of its group.

    Attributes:
        pid: its id, which may be another one's by now.
        created_s: when it was made, so that it is known again.
    """

    pid: int
    created_s: float

    def runs(self) -> bool:
        """Return whether it still does."""
        import psutil  # noqa: PLC0415 - heavy

        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid)
            return process.create_time() == self.created_s and process.status() != psutil.STATUS_ZOMBIE
        return False

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it and all of its group, where it still runs."""
        if self.runs():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)


class LocalCluster(Record, frozen=True, kw_only=True):
    """What `up` has started.

    Attributes:
        address: of Ray's head.
        token: file with its token.
        folder: of sockets, logs and Ray's own files; removed at the end.
        size: nodes in it.
        workers: sandbox workers of each.
        store: folder for runs; it stays.
        base_url: of the model server.
        model: that it serves.
        projects: compose projects of server and sandbox workers.
        head: the first process of the head.
        nodes: likewise of the nodes.
    """

    address: str
    token: str
    folder: str
    size: int
    workers: int
    store: str = ""
    base_url: str = ""
    model: str = ""
    projects: tuple[str, ...] = ()
    head: Process | None = None
    nodes: tuple[Process, ...] = ()

    def sockets(self, number: int) -> str:
        """Return where the sandbox workers of a node listen."""
        return f"{self.folder}/{number}"

    def enter(self) -> None:
        """Have this process's Ray use the cluster's token."""
        os.environ[on_ray.AUTH_MODE] = on_ray.TOKEN
        os.environ["RAY_AUTH_TOKEN_PATH"] = self.token


def _file() -> Path:
    return compose.ROOT / ".nox" / f"{compose.project_name()}-cluster.json"


def found() -> LocalCluster | None:
    """Return the cluster that runs on this machine for this checkout, if there is one."""
    try:
        return msgspec.json.decode(_file().read_bytes(), type=LocalCluster)
    except (OSError, msgspec.DecodeError):
        return None


def up(*, nodes: int, workers: int, model: str, store: Path | None = None) -> LocalCluster:
    """Start a model server, and a head and nodes with sandbox workers, and return what was started.

    Raises:
        UsageError: one runs already, or Ray or the engine is not there.
        AgentTraceError: something could not be started; what had been is ended.
    """
    if found() is not None:
        raise UsageError(f"a local cluster was started already; {command('cluster', 'down')} ends it")
    if not 1 <= nodes <= MOST_NODES or workers < 1:
        raise UsageError(f"--nodes: expected 1 to {MOST_NODES}, --workers: 1 or more")
    os.environ[on_ray.AUTH_MODE] = on_ray.TOKEN  # Ray looks at it when it is imported
    on_ray.ray_module()
    place.unfold()
    compose.ensure_volumes(_engine())
    built = images.build(targets=images.TARGETS)
    project = f"{compose.project_name()}-cluster"
    cluster = prepared(nodes, workers, store=str((store or place.datasets() / "cluster").resolve()), model=model)
    cluster = msgspec.structs.replace(cluster, projects=(project, *(f"{project}-{one}" for one in range(nodes))))
    known = compose.image_variables(built.ids)
    _keep(cluster)
    try:
        cluster = msgspec.structs.replace(cluster, base_url=_serve(project, model, known))
        for number, one in enumerate(cluster.projects[1:]):
            _sandboxes(one, Path(cluster.sockets(number)), workers, known)
        return start(cluster, keep=_keep)
    except BaseException:
        down()
        raise


def prepared(nodes: int, workers: int, *, store: str = "", model: str = "") -> LocalCluster:
    """Return a cluster that is not started yet, in a folder of its own with a token."""
    folder = Path(tempfile.mkdtemp(prefix="agenttrace-", dir="/tmp"))  # short, as names of sockets must be
    token = folder / "token"
    token.write_text(secrets.token_hex(32), encoding="ascii")
    for number in range(nodes):
        (folder / str(number)).mkdir()
    return LocalCluster(
        address=f"{_HOST}:{_free_port()}", token=str(token), folder=str(folder), size=nodes, workers=workers,
        store=store, model=model,
    )  # fmt: skip


def start(cluster: LocalCluster, *, keep: Callable[[LocalCluster], object] = lambda _: None) -> LocalCluster:
    """Start the processes of Ray and return the cluster with them.

    Args:
        cluster: as `prepared`; in `sockets` sandbox workers of its nodes listen.
        keep: gets it again whenever something was started.

    Raises:
        AgentTraceError: they do not start.
    """
    cluster.enter()
    on_ray.ray_module()
    cluster = msgspec.structs.replace(cluster, head=_ray_head(cluster))
    keep(cluster)
    ray = _joined_head(cluster)
    for number in range(cluster.size):
        cluster = _with_node(cluster, number, keep, ray)
    ray.shutdown()
    return cluster


def _with_node(
    cluster: LocalCluster,
    number: int,
    keep: Callable[[LocalCluster], object],
    ray: Any,  # noqa: ANN401 - Ray's module
) -> LocalCluster:
    """Return the cluster with one node more, which has joined."""
    for _ in range(_TRIES):
        node = start_node(cluster, number)
        tried = msgspec.structs.replace(cluster, nodes=(*cluster.nodes, node))
        keep(tried)
        deadline = time.monotonic() + _NODE_S
        while node.runs() and time.monotonic() < deadline:
            if sum(count >= cluster.workers for count in on_ray.sandboxes(ray)) > number:
                return tried
            time.sleep(_LOOK_S)
        _end_group(cluster, node)
    said = _last_line(cluster, f"node-{number}")
    raise AgentTraceError(f"node {number} has not joined in {_TRIES} tries; what it said last: {said}")


def down() -> bool:
    """End what `up` has started, and return whether there was anything; the store stays."""
    cluster = found()
    if cluster is None:
        return False
    end(cluster)
    sdk = compose.client()
    for project in cluster.projects:
        compose.sweep_for_good(sdk, project)
    _file().unlink(missing_ok=True)
    return True


def end(cluster: LocalCluster) -> None:
    """End the processes of Ray and remove the folder."""
    every = [*cluster.nodes, *([cluster.head] if cluster.head else [])]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in every:
            process.send(number)
        deadline = time.monotonic() + _END_S
        while any(one.runs() for one in every) and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
    _end_what_is_left(cluster)
    shutil.rmtree(cluster.folder, ignore_errors=True)


def _end_what_is_left(cluster: LocalCluster) -> None:
    """End processes of Ray that lost the one that started them; each names the cluster's folder in its words."""
    for process in _of_folder(cluster):
        _kill(process)


def _end_group(cluster: LocalCluster, node: Process) -> None:
    """End a node that did not start: its first process may be gone, and others of its group may be there."""
    for process in _of_folder(cluster):
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(process.pid) == node.pid:
                _kill(process)


def _of_folder(cluster: LocalCluster) -> Iterator[psutil.Process]:
    import psutil  # noqa: PLC0415 - heavy

    for process in psutil.process_iter(["cmdline"]):
        if any(cluster.folder in word for word in process.info["cmdline"] or ()):
            yield process


def _kill(process: psutil.Process) -> None:
    import psutil  # noqa: PLC0415 - heavy

    with contextlib.suppress(psutil.Error):
        process.kill()


def _engine() -> Any:  # noqa: ANN401 - docker.DockerClient
    engine.check_strength(engine.check())
    return compose.client()


def _keep(cluster: LocalCluster) -> None:
    _file().parent.mkdir(parents=True, exist_ok=True)
    write_whole(_file(), msgspec.json.format(msgspec.json.encode(cluster), indent=2) + b"\n")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _serve(project: str, model: str, known: dict[str, str]) -> str:
    """Start the model server and return its address, as this machine reaches it."""
    request = campaign.Request(options=(Options(model=model),), folder=Path())
    ref = request.reference()
    known = {**known, **compose.terminal_variables(), **weights.variables(ref)}
    pin = weights.fetch(compose.Services(project, known), ref)
    more = campaign.server_variables(request, provisional(ref) if is_complete(ref) else pin)
    compose.Services(project, {**known, **more}).up("server")
    labels = [f"com.docker.compose.project={project}", "com.docker.compose.service=server"]
    (server,) = compose.client().containers.list(filters={"label": labels})
    (network,) = server.attrs["NetworkSettings"]["Networks"].values()
    base_url = f"http://{network['IPAddress']}:8080/v1"
    wait_until_ready(base_url, timeout_s=_SERVER_S)
    return base_url


def _sandboxes(project: str, sockets: Path, workers: int, known: dict[str, str]) -> None:
    """Start the sandbox workers of a node, whose sockets lie in a folder of this machine."""
    bound = {"type": "none", "o": "bind", "device": str(sockets)}
    override = sockets.with_suffix(".json")  # JSON is YAML
    words = ["--figures", "", "--socket-gid", str(os.getgid())]
    laid_over = {
        "services": {"sandbox": {"command": words}},
        "volumes": {"sockets": {"driver": "local", "driver_opts": bound}},
    }
    override.write_text(json.dumps(laid_over), encoding="utf-8")
    env = {**compose.clean_environment(), **known, "AGENTTRACE_WORKERS": str(workers)}
    engine.run(compose.argv(project, "--file", str(override), "up", "--detach", "--no-build", "sandbox"), env=env)


def _ray(
    cluster: LocalCluster, name: str, *words: str, env: dict[str, str] | None = None, package: Path | None = None
) -> Process:
    """Start Ray as a process that stays in front, and return it; what it says is in a file of that name."""
    import psutil  # noqa: PLC0415 - heavy

    package = package or Path(on_ray.__file__).resolve().parents[2]
    path = os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])])
    argv = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--node-ip-address={_HOST}"]
    argv += [f"--node-name={name}", "--disable-usage-stats", "--include-log-monitor=false"]
    argv += [f"--object-store-memory={_OBJECT_STORE_BYTES}", f"--temp-dir={cluster.folder}/r", *words]
    env = {**os.environ, "PYTHONPATH": path, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0", **(env or {})}
    with Path(cluster.folder, f"{name}.log").open("ab") as said:
        process = engine.start(argv, env=env, output=said.fileno(), errors=subprocess.STDOUT)
    process.returncode = 0  # it is known by its id from here on, and outlives whoever has started it
    return Process(pid=process.pid, created_s=psutil.Process(process.pid).create_time())


def _ray_head(cluster: LocalCluster) -> Process:
    return _ray(
        cluster, "head", "--head", f"--port={cluster.address.rpartition(':')[2]}", "--num-cpus=0", "--no-monitor"
    )


def _joined_head(cluster: LocalCluster) -> Any:  # noqa: ANN401 - Ray's module
    """Return Ray, connected to the head as soon as that takes a driver: a node that comes before that ends at once."""
    host, _, port = cluster.address.partition(":")
    deadline = time.monotonic() + _HEAD_S
    while cluster.head and cluster.head.runs() and time.monotonic() < deadline:
        with contextlib.suppress(OSError, UsageError), socket.create_connection((host, int(port)), timeout=1):
            return on_ray.connect(cluster.address)
        time.sleep(_LOOK_S)
    raise AgentTraceError(f"Ray's head did not start; what it said last: {_last_line(cluster, 'head')}")


def start_node(cluster: LocalCluster, number: int, *, package: Path | None = None) -> Process:
    """Start a node, also in the place of one that is gone, and return it; it may not have joined yet.

    Args:
        cluster: that it joins.
        number: which one.
        package: folder with the kit that it loads, where that is another one.
    """
    return _ray(
        cluster,
        f"node-{number}",
        f"--address={cluster.address}",
        f"--num-cpus={cluster.workers}",
        f"--resources={json.dumps({on_ray.RESOURCE: cluster.workers})}",
        "--min-worker-port=0",
        "--max-worker-port=0",
        "--dashboard-agent-listen-port=0",
        env={SOCKETS: cluster.sockets(number)},
        package=package,
    )


def _last_line(cluster: LocalCluster, name: str) -> str:
    try:
        lines = Path(cluster.folder, f"{name}.log").read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return "nothing"
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing")


def tell(cluster: LocalCluster) -> None:
    """Say what runs, and what to do with it."""
    say(f"{counted(len(cluster.nodes), 'node')} of {cluster.workers} sandbox workers at Ray's {cluster.address}")
    for number, node in enumerate(cluster.nodes):
        say(f"  node {number}: process group {node.pid} (kill -9 -{node.pid} ends it as a power cut would)")
    say(f"{cluster.model} at {cluster.base_url}; runs go to {cluster.store}")
    say(f"try it: {command('cluster', 'run', cluster.model, '--dataset', 'demo', '--run-id', 'try-1')}")
    say(f"end it: {command('cluster', 'down')}")
