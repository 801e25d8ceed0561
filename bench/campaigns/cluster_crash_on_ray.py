"""`cluster-crash-check --ray`: nodes of a real Ray cluster and the driver of its runs are killed at any instant.

    ledger, nodes, drivers = cluster_crash_on_ray.runs(50, random.Random(1), store="/var/tmp/store")

The cluster is one of this machine, of three nodes with a real sandbox runner each; the driver is what a user starts
(`agenttrace cluster run`). Three in four kills take a node, with all its processes, and another one takes its place;
the others take the driver, which is started again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agenttrace.cluster import local_ray
from agenttrace.cluster.merge import merge
from agenttrace.cluster.objects import Store
from agenttrace.cluster.runs import open_run
from agenttrace.errors import AgentTraceError
from agenttrace.host import engine
from agenttrace.show import say
from agenttrace.testing import ScriptedServer
from bench.campaigns.crash_check import ROOT, expected, runner, script
from bench.campaigns.ledger import Ledger

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

NODES = 3
ROLLOUTS, SHARD = 4, 8
"""Of each of the 32 bundled tasks; of a shard."""
_OF_NODES = 0.75
_BETWEEN_S = 4.0
_PATIENCE_S = 900.0


class _Cluster:
    """A cluster whose nodes are killed and replaced."""

    def __init__(self, prepared: local_ray.LocalCluster, dice: random.Random) -> None:
        self.now, self._dice = prepared, dice

    def keep(self, cluster: local_ray.LocalCluster) -> None:
        """Know what runs by now."""
        self.now = cluster

    def kill_a_node(self) -> None:
        """Kill a node with all that it started, and start another one."""
        number = self._dice.randrange(NODES)
        nodes = [*self.now.nodes]
        nodes[number].send(signal.SIGKILL)
        nodes[number] = local_ray.start_node(self.now, number)
        self.now = msgspec.structs.replace(self.now, nodes=tuple(nodes))

    def mend(self) -> None:
        """Start nodes again that did not come up: under load one misses a limit of Ray's."""
        now = self.now
        nodes = [one if one.runs() else local_ray.start_node(now, number) for number, one in enumerate(now.nodes)]
        self.now = msgspec.structs.replace(self.now, nodes=tuple(nodes))


@contextlib.contextmanager
def _running(dice: random.Random) -> Iterator[_Cluster]:
    """Run a cluster meanwhile, whose nodes have a sandbox runner each."""
    with contextlib.ExitStack() as stack:
        cluster = _Cluster(local_ray.prepared(NODES, 1), dice)
        for number in range(NODES):
            sockets = Path(cluster.now.sockets(number))
            sockets.rmdir()
            sockets.symlink_to(stack.enter_context(runner(number)).sockets)
        os.environ["AGENTTRACE_ANY_SANDBOX"] = "1"  # they run in no container
        try:
            local_ray.start(cluster.now, keep=cluster.keep)
            yield cluster
        finally:
            local_ray.end(cluster.now)


def _driver(run_id: str, store: str, cluster: _Cluster, server: ScriptedServer) -> subprocess.Popen[bytes]:
    words = ["cluster", "run", "agenttrace-demo", "--dataset", "demo", "--rollouts", str(ROLLOUTS), "--run-id", run_id]
    words += ["--store", store, "--shard-rollouts", str(SHARD), "--base-url", server.base_url]
    argv = [sys.executable, "-P", "-m", "agenttrace", *words, "--ray", cluster.now.address]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = Path(cluster.now.folder, "driver.log").open("ab")  # noqa: SIM115 - the process writes to it
    with said:
        return engine.start(argv, env=env, output=subprocess.DEVNULL, errors=said)


def runs(kills: int, dice: random.Random, *, store: str) -> tuple[Ledger, int, int]:
    """Return the ledger of runs during which `kills` kills took place, and how many took a node and the driver.

    Raises:
        UsageError: this machine cannot run the sandbox's runner outside a container, or there is no Ray.
        AgentTraceError: a driver that was not killed failed.
    """
    ledger, taken = Ledger(), [0, 0]
    with (
        _running(dice) as cluster,
        ScriptedServer(script(dice), remember=False) as server,
        tempfile.TemporaryDirectory(prefix="agenttrace-crash-") as folder,
    ):
        stamp = f"crash-{os.getpid()}-{dice.randrange(2**32)}"
        for number in range(kills + 1):
            run_id = f"{stamp}-{number}"
            _one(run_id, store, cluster, server, kills - ledger.kills, dice, taken)
            ledger.kills = sum(taken)
            path = Path(folder, f"{number}.jsonl")
            merge(open_run(Store(store), run_id), path)
            ledger.finished(path, expected(path))
            say(f"{ledger.kills} of {kills} kills")
            if ledger.kills >= kills:
                break
    return ledger, taken[0], taken[1]


def _one(
    run_id: str,
    store: str,
    cluster: _Cluster,
    server: ScriptedServer,
    kills: int,
    dice: random.Random,
    taken: list[int],
) -> None:
    """Make one run, killing so many things at most."""
    driver = _driver(run_id, store, cluster, server)
    started, left = time.monotonic(), kills
    due = started + dice.random() * _BETWEEN_S
    try:
        while driver.poll() is None:
            time.sleep(0.05)
            if time.monotonic() - started > _PATIENCE_S:
                raise AgentTraceError(f"run {run_id} does not end")
            if time.monotonic() < due:
                continue
            cluster.mend()
            due = time.monotonic() + (0.2 + dice.random()) * _BETWEEN_S
            if left and dice.random() < _OF_NODES:
                cluster.kill_a_node()
                taken[0], left = taken[0] + 1, left - 1
            elif left:
                driver.kill()
                driver.wait()
                driver = _driver(run_id, store, cluster, server)
                taken[1], left = taken[1] + 1, left - 1
        if driver.returncode:
            said = Path(cluster.now.folder, "driver.log").read_text(encoding="utf-8", errors="replace")[-2000:]
            raise AgentTraceError(f"a driver that was not killed ended with {driver.returncode}: {said}")
    finally:
        driver.kill()
        driver.wait()


def check(kills: int, dice: random.Random, *, store: str) -> bool:
    """Kill nodes and drivers, print what became of the records and return whether nothing is missing."""
    ledger, nodes, drivers = runs(kills, dice, store=store)
    print(f"Ray: {ledger}, {nodes} of a node, {drivers} of the driver")  # noqa: T201 - the session's result
    return ledger.clean and ledger.kills == kills
