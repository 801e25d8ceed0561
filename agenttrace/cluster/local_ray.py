"""The processes of a Ray cluster on this machine: head and nodes, started, lost, replaced and ended.

They meet over the loopback address, unless a node is given a network of its own, and ask for a token.
"""

from __future__ import annotations

import contextlib
import functools
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

from agenttrace.cluster import on_ray
from agenttrace.cluster.orders import RESOURCE, SOCKETS
from agenttrace.errors import AgentTraceError, UsageError
from agenttrace.host import engine
from agenttrace.records.base import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import psutil

LOOPBACK = "127.0.0.2"
"""Ray takes 127.0.0.1 for the machine's address in its network, and tells others that."""
_OBJECT_STORE_BYTES = 80_000_000
"""Little more than Ray's least: nothing is put into it."""
_SETTINGS = {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0", "RAY_worker_niceness": "0"}
"""Ray's own niceness of what works for it is 15: shards would wait for everything else on the machine."""
_HEAD_S = 90.0
_NODE_S = 60.0
_TRIES = 4
"""Starts of the head or a node: under load one misses a limit of 30 s that Ray has, and ends."""
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
        """Send a signal to it and all that it started, where it still runs; what works for Ray is in other groups."""
        import psutil  # noqa: PLC0415 - heavy

        if self.runs():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(self.pid)
                for one in (process, *process.children(recursive=True)):
                    with contextlib.suppress(psutil.Error):
                        one.send_signal(number)


class Network(Record, frozen=True, kw_only=True):
    """A network of this machine that a node is started in.

    Attributes:
        address: of the node.
        enter: words before a command that let it run there.
    """

    address: str = LOOPBACK
    enter: tuple[str, ...] = ()


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
        networks: of each node, where they have networks of their own.
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
    networks: tuple[Network, ...] = ()

    @property
    def host(self) -> str:
        """Address of the head without its port."""
        return self.address.rpartition(":")[0]

    def sockets(self, number: int) -> str:
        """Return where the sandbox workers of a node listen."""
        return f"{self.folder}/{number}"

    def enter(self) -> None:
        """Have this process's Ray use the cluster's token."""
        os.environ[on_ray.AUTH_MODE] = on_ray.TOKEN
        os.environ["RAY_AUTH_TOKEN_PATH"] = self.token


def prepared(
    nodes: int,
    workers: int,
    *,
    store: str = "",
    model: str = "",
    host: str = LOOPBACK,
    networks: Iterable[Network] = (),
) -> LocalCluster:
    """Return a cluster that is not started yet, in a folder of its own with a token.

    Args:
        nodes: how many.
        workers: sandbox workers of each.
        store: folder for runs.
        model: that is served.
        host: address of the head.
        networks: of each node, where they do not meet over the loopback address.
    """
    folder = Path(tempfile.mkdtemp(prefix="agenttrace-", dir="/tmp"))  # short, as names of sockets must be
    file = folder / "token"
    file.write_text(_token(), encoding="ascii")
    for number in range(nodes):
        (folder / str(number)).mkdir()
    return LocalCluster(
        address=f"{host}:{_free_port(host)}", token=str(file), folder=str(folder), size=nodes, workers=workers,
        store=store, model=model, networks=tuple(networks),
    )  # fmt: skip


@functools.cache
def _token() -> str:
    """Return the token of all clusters that this process starts: Ray reads it once."""
    return secrets.token_hex(32)


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
    cluster, ray = _with_head(cluster, keep)
    for number in range(cluster.size):
        cluster = _with_node(cluster, number, keep, ray)
    ray.shutdown()
    return cluster


def _with_head(
    cluster: LocalCluster, keep: Callable[[LocalCluster], object]
) -> tuple[LocalCluster, Any]:  # Ray's module
    """Return the cluster with its head, and Ray, connected to it."""
    for _ in range(_TRIES):
        head = _ray(
            cluster, "head", Network(address=cluster.host), "--head", f"--port={cluster.address.rpartition(':')[2]}",
            "--num-cpus=0", "--no-monitor",
        )  # fmt: skip
        tried = msgspec.structs.replace(cluster, head=head)
        keep(tried)
        if (ray := _joined_head(cluster, head)) is not None:
            return tried, ray
        _end_group(cluster, head)
    said = _last_line(cluster, "head")
    raise AgentTraceError(f"Ray's head has not started in {_TRIES} tries; what it said last: {said}")


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
            if sum(count >= cluster.workers for count in on_ray.nodes_have(ray)) > number:
                return tried
            time.sleep(_LOOK_S)
        _end_group(cluster, node)
    said = _last_line(cluster, f"node-{number}")
    raise AgentTraceError(f"node {number} has not joined in {_TRIES} tries; what it said last: {said}")


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


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _ray(
    cluster: LocalCluster,
    name: str,
    at: Network,
    *words: str,
    env: dict[str, str] | None = None,
    package: Path | None = None,
) -> Process:
    """Start Ray as a process that stays in front, and return it; what it says is in a file of that name."""
    import psutil  # noqa: PLC0415 - heavy

    package = package or Path(on_ray.__file__).resolve().parents[2]
    path = os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])])
    argv = [*at.enter, sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
    argv += [f"--node-ip-address={at.address}"]
    argv += [f"--node-name={name}", "--disable-usage-stats", "--include-log-monitor=false"]
    argv += [f"--object-store-memory={_OBJECT_STORE_BYTES}", f"--temp-dir={cluster.folder}/r", *words]
    env = {**os.environ, **_SETTINGS, "PYTHONPATH": path, **(env or {})}
    with Path(cluster.folder, f"{name}.log").open("ab") as said:
        process = engine.start(argv, env=env, output=said.fileno(), errors=subprocess.STDOUT)
    process.returncode = 0  # it is known by its id from here on, and outlives whoever has started it
    return Process(pid=process.pid, created_s=psutil.Process(process.pid).create_time())


def _joined_head(cluster: LocalCluster, head: Process) -> Any:  # noqa: ANN401 - Ray's module
    """Return Ray, connected to the head as soon as that takes a driver: a node that comes before that ends at once.

    `None` where it does not start.
    """
    host, _, port = cluster.address.partition(":")
    deadline = time.monotonic() + _HEAD_S
    while head.runs() and time.monotonic() < deadline:
        with contextlib.suppress(OSError, UsageError), socket.create_connection((host, int(port)), timeout=1):
            return on_ray.connect(cluster.address)
        time.sleep(_LOOK_S)
    return None


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
        cluster.networks[number] if cluster.networks else Network(),
        f"--address={cluster.address}",
        f"--num-cpus={cluster.workers}",
        f"--resources={json.dumps({RESOURCE: cluster.workers})}",
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
