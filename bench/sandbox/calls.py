"""Benchmarks of calls: what one costs beside its alternatives, how a worker starts, what limits hold."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from functools import partial
from typing import TYPE_CHECKING

from agenttrace.errors import WorkerLostError
from agenttrace.host import compose, engine
from agenttrace.host.workers import SandboxContainer
from agenttrace.sandbox.client import GRACE_S, Worker
from bench.sandbox import collector_client, inside
from bench.verdict import Row, interleaved, row

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import docker

_LIMIT_MS = 60_000
_TURN = 20
_DOCKER_TURN = 3
_OVERHEAD_MS = {"c": 1.0, "python": 5.0}
_SHARE = 1.0
"""Milliseconds depend on how long a machine takes to start any program; against `subprocess.run` of one they do not."""
_CALLS = 10**6 * 150
_BASIC = "basic"
"""A worker whose runner measures what schema 1.1.0 had and nothing else that costs time."""
_HOUR_MS = 3_600_000.0
_START_MS = 400.0
_DESKTOP_OVERHEAD_MS = 10.0
_DESKTOP_START_MS = 1500.0
_PING_MS = 0.5
_PLAIN = """
import json, subprocess, time
def once():
    start = time.perf_counter_ns()
    subprocess.run(["bash", "-c", ":"])
    return (time.perf_counter_ns() - start) / 1e6
once()
print(json.dumps([once() for _ in range(%d)]))
"""
# A tree of six processes in six sessions, every one deaf to SIGTERM.
_STUBBORN = """
stay() { while :; do sleep 60; done; }
export -f stay
trap "" TERM
for i in 1 2 3; do
    setsid bash -c "setsid bash -c stay & stay" &
done
stay
"""
_OURS = (
    "import os; print(sum(os.stat(f'/proc/{p}').st_uid == os.getuid() for p in os.listdir('/proc') if p.isdecimal()))"
)
_STUBBORN_LIMIT_MS = 300
_CLEANUP_MS = 100.0
_OUTPUT_BYTES = 3_000_000_000
_RUNNER_MIB = 32.0


def _timed(action: Callable[[], object]) -> float:
    """Milliseconds."""
    start = time.perf_counter_ns()
    action()
    return (time.perf_counter_ns() - start) / 1e6


def _turn(count: int, action: Callable[[], object]) -> list[float]:
    return [_timed(action) for _ in range(count)]


def _in_container(worker: Worker) -> list[float]:
    """`subprocess.run` of a Python process under the very limits of a call."""
    samples: list[float] = json.loads(worker.call("python", _PLAIN % _TURN, limit_ms=_LIMIT_MS).stdout.text or "")
    return samples


def overhead(
    project: str, env: Mapping[str, str], containers: Mapping[str, SandboxContainer], rounds: int, *, desktop: bool
) -> list[Row]:
    """A call of `:` under every helper, beside `subprocess.run` in the container and on the host, and `docker exec`.

    Calls go the way of a campaign, from a collector's container over a socket; for comparison, also from the host
    through the pipes of the docker client.

    Args:
        project: compose project.
        env: whole environment of `docker compose`.
        containers: workers over pipes, by helper.
        rounds: turns of each side; one turn is 20 calls, of the slow `docker exec` 3.
        desktop: the engine runs in Docker Desktop's virtual machine, which has targets of its own.
    """
    any_container = next(iter(containers.values()))
    inner = ["bash", "-c", ":"]
    with (
        collector_client.clients(project, env, tuple(containers)) as client,
        collector_client.clients(project, env, client.helpers[:1], "--figures", _BASIC) as basic,
    ):
        # The host's side is `subprocess.run` itself, not `engine.run` around it: it is what is measured.
        sides: dict[str, Callable[[], list[float]]] = {
            "host": lambda: _turn(_TURN, partial(subprocess.run, inner, check=True)),
            "container": lambda: _in_container(any_container.worker),
            "exec": lambda: _turn(_DOCKER_TURN, partial(engine.run, ["docker", "exec", any_container.name, *inner])),
            "ping": partial(client.turn, client.helpers[0], "ping", _TURN),
            _BASIC: partial(basic.turn, basic.helpers[0], "call", _TURN),
            "pipe ping": lambda: _turn(_TURN, any_container.worker.ping),
        }
        for helper, container in containers.items():
            sides[helper] = partial(client.turn, helper, "call", _TURN)
            call = partial(container.worker.call, "bash", ":", limit_ms=_LIMIT_MS)
            sides[f"pipe {helper}"] = partial(_turn, _TURN, call)
        for turn in sides.values():
            turn()
        return _overhead_rows(interleaved(sides, rounds), tuple(client.helpers), desktop=desktop)


def _overhead_rows(taken: Mapping[str, Sequence[float]], helpers: Sequence[str], *, desktop: bool) -> list[Row]:
    """The rows of `overhead` from the samples of its sides."""
    plain = statistics.median(taken["container"])
    rows = [
        row("calls", "subprocess.run of bash -c :, on the host", "ms", taken["host"]),
        row("calls", "subprocess.run of bash -c :, in the container", "ms", taken["container"]),
    ]
    for helper in helpers:
        above = [sample - plain for sample in taken[helper]]
        target = _DESKTOP_OVERHEAD_MS if desktop else _OVERHEAD_MS[helper]
        name = f"call of :, {helper} helper, from a collector"
        rows.append(row("calls", name, "ms", taken[helper], against=taken["exec"], note="exec"))
        rows.append(row("calls", f"… over subprocess.run, {helper} helper", "ms", above, target=target))
        if helper == helpers[0]:
            name = f"… as a share of subprocess.run, {helper} helper"
            rows.append(row("calls", name, "x", [one / plain for one in above], target=_SHARE))
            old, usual = [sample - plain for sample in taken[_BASIC]], statistics.median(taken[helper])
            name = f"… over subprocess.run, {helper} helper, figures of schema 1.1.0 alone"
            ratio = f"{usual / statistics.median(taken[_BASIC]):.2f} times the call with these"
            rows.append(row("calls", name, "ms", old, note=ratio))
            for what, samples in ((f"by {helper} helper", taken[helper]), ("by docker exec", taken["exec"])):
                added = [(sample - plain) * _CALLS / _HOUR_MS for sample in samples]
                rows.append(row("calls", f"per 10⁶ rollouts of 150 calls: hours added {what}", "h", added))
    rows.append(row("calls", "ping from a collector", "ms", taken["ping"], target=_PING_MS))
    rows += [
        row("calls", f"call of :, {helper} helper, through docker's pipes", "ms", taken[f"pipe {helper}"])
        for helper in helpers
    ]
    rows.append(row("calls", "ping through docker's pipes", "ms", taken["pipe ping"]))
    rows.append(row("calls", "docker exec of bash -c : (client)", "ms", taken["exec"]))
    return rows


def starts(
    project: str, env: Mapping[str, str], template: SandboxContainer, rounds: int, *, desktop: bool
) -> list[Row]:
    """From creating a worker's container to its greeting: by the engine, and by compose as in `SandboxContainer`."""
    sdk = compose.client()

    def composed() -> list[float]:
        made: list[SandboxContainer] = []
        taken = _timed(lambda: made.append(SandboxContainer(project, env)))
        made[0].close()
        return [taken]

    target = _DESKTOP_START_MS if desktop else _START_MS
    taken = interleaved({"engine": lambda: [_start_ms(sdk, template.name)], "compose": composed}, rounds)
    return [
        row("start", "container created to first answer", "ms", taken["engine"], target=target),
        row("start", "the same with docker compose run", "ms", taken["compose"]),
    ]


def _start_ms(sdk: docker.DockerClient, template: str) -> float:
    """A copy of a worker's container: created by the engine's API, started and spoken to by `docker start`."""
    told = sdk.api.inspect_container(template)
    config = {**told["Config"], "HostConfig": told["HostConfig"], "Cmd": ["--stdio"]}
    start = time.perf_counter_ns()
    made = sdk.api.create_container_from_config(config)["Id"]  # type: ignore[no-untyped-call]
    argv = ["docker", "start", "--attach", "--interactive", made]
    process = engine.start(argv, stdin=subprocess.PIPE, output=subprocess.PIPE)
    try:
        if process.stdout is None or process.stdin is None:  # pragma: no cover - asked for above
            raise RuntimeError("no pipes to the container")
        with Worker.over_pipes(process.stdout, process.stdin, timeout_s=30):
            return (time.perf_counter_ns() - start) / 1e6
    except WorkerLostError:
        process.kill()
        raise
    finally:
        process.wait(30)


def time_limit(containers: Mapping[str, SandboxContainer], rounds: int) -> list[Row]:
    """How long past limit and grace until TERM-ignoring grandchildren in sessions of their own are dead."""
    rows = []
    for helper, container in containers.items():
        worker, late, survivors = container.worker, [], []
        for _ in range(rounds):
            taken = _timed(partial(worker.call, "bash", _STUBBORN, limit_ms=_STUBBORN_LIMIT_MS))
            late.append(taken - _STUBBORN_LIMIT_MS - GRACE_S * 1000)
            # The look is itself one process of the tools' user.
            survivors.append(int(worker.call("python", _OURS, limit_ms=_LIMIT_MS).stdout.text or "") - 1)
        name = f"limit and grace to all dead, {helper} helper"
        rows.append(row("limits", name, "ms", late, target=_CLEANUP_MS, judged="max"))
        rows.append(row("limits", f"survivors, {helper} helper", "", survivors, target=0, judged="max"))
    return rows


def output_memory(containers: Mapping[str, SandboxContainer]) -> list[Row]:
    """The runner's peak memory after a call that wrote 3 GB."""
    rows = []
    for helper, container in containers.items():
        code = f"head -c {_OUTPUT_BYTES} /dev/zero"
        report = container.worker.call("bash", code, limit_ms=_LIMIT_MS)
        written = f"{report.stdout.bytes_total / 1e9:.1f} GB"
        peak = inside.state(container.name).peak_kib / 1024
        rows.append(row("limits", f"runner's peak after {written} of output, {helper} helper", "MiB", [peak],
                        target=_RUNNER_MIB))  # fmt: skip
    return rows


def all_of(
    project: str, env: Mapping[str, str], containers: Mapping[str, SandboxContainer], rounds: int, *, desktop: bool
) -> Sequence[Row]:
    """Every row of this module."""
    template = next(iter(containers.values()))
    return [
        *overhead(project, env, containers, rounds, desktop=desktop),
        *starts(project, env, template, rounds, desktop=desktop),
        *time_limit(containers, max(1, rounds // 2)),
        *output_memory(containers),
    ]
