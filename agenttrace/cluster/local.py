"""A Ray cluster on this machine, to try things out: head and nodes as processes, with sandbox containers of their own.

What was started stands in one file, by which `down` ends it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec

from agenttrace.campaign.options import Options
from agenttrace.cluster import on_ray
from agenttrace.cluster.local_ray import LocalCluster, end, prepared, start
from agenttrace.errors import UsageError, command
from agenttrace.host import campaign, compose, engine, images, place, weights
from agenttrace.models.reference import is_complete, provisional
from agenttrace.serving.endpoint import wait_until_ready
from agenttrace.show import counted, say
from agenttrace.store.jsonl import write_whole

MOST_NODES = 16
_SERVER_S = 600.0


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


def _engine() -> Any:  # noqa: ANN401 - docker.DockerClient
    engine.check_strength(engine.check())
    return compose.client()


def _keep(cluster: LocalCluster) -> None:
    _file().parent.mkdir(parents=True, exist_ok=True)
    write_whole(_file(), msgspec.json.format(msgspec.json.encode(cluster), indent=2) + b"\n")


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


def tell(cluster: LocalCluster) -> None:
    """Say what runs, and what to do with it."""
    say(f"{counted(len(cluster.nodes), 'node')} of {cluster.workers} sandbox workers at Ray's {cluster.address}")
    for number, node in enumerate(cluster.nodes):
        say(f"  node {number}: process group {node.pid} (kill -9 -{node.pid} ends it as a power cut would)")
    say(f"{cluster.model} at {cluster.base_url}; runs go to {cluster.store}")
    say(f"try it: {command('cluster', 'run', cluster.model, '--dataset', 'demo', '--run-id', 'try-1')}")
    say(f"end it: {command('cluster', 'down')}")
