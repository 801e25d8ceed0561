"""`cluster-crash-check`: what a run on a Ray cluster consists of is killed, or cut off and back, at any instant.

    ledger, taken = cluster_crash_on_ray.runs(50, random.Random(1))

The cluster is one of this machine, of three nodes with a real sandbox runner and a network of their own each; the
driver is what a user starts (`agenttrace cluster run`), the store speaks S3 over that network. See `FAULTS` for what
becomes of them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agenttrace.cluster import local_ray
from agenttrace.cluster.merge import merge
from agenttrace.cluster.objects import Store
from agenttrace.cluster.runs import open_run
from agenttrace.errors import AgentTraceError
from agenttrace.host import engine
from agenttrace.sandbox import strength
from agenttrace.show import say
from agenttrace.testing import ScriptedServer
from bench.campaigns import networks, s3
from bench.campaigns.crash_check import ROOT, expected, runner, script
from bench.campaigns.ledger import Ledger

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

NODES = 3
ROLLOUTS, SHARD = 16, 8
"""Of each of the 32 bundled tasks; of a shard."""
FAULTS = {
    "node killed": 0,
    "driver killed": 5,
    "head killed": 10,
    "node stopped and woken": 10,
    "node cut off and back": 10,
}
"""What is done → to one in so many, and once at least; the rest takes nodes.

Nodes are taken that are at work. A killed one goes with all its processes (SIGKILL), and another one takes its place.
A driver or head is killed, and then the same command is given again, for a head on a new cluster. A node that is
stopped (SIGSTOP) or cut off (it reaches the model server, and neither head nor store) comes back when the driver has
given its shard to another one.
"""
_STORE = "s3://bucket/crash"
_START_S = 12.0
"""Within that much of a run the first thing happens to it; a driver that starts has connected by then, or not."""
_BETWEEN_S = 4.0
_AWAY_S = 240.0
_PATIENCE_S = 900.0
_LOST = "its process is gone"
"""What a driver says of an attempt whose node it takes for dead."""


def dealt(kills: int, dice: random.Random) -> list[str]:
    """Return what is done, the last first."""
    deck = [what for what, one_in in FAULTS.items() if one_in for _ in range(max(1, kills // one_in))][:kills]
    deck += ["node killed"] * (kills - len(deck))
    dice.shuffle(deck)
    return deck


class Bed:
    """A cluster whose parts are killed and replaced, and the driver of a run on it.

    Args:
        segments: a network for each node.
        runners: folders with the sandbox runner's socket of each.
        server: model server that answers from a script.
        dice: chooses.
    """

    def __init__(
        self, segments: list[networks.Segment], runners: list[Path], server: ScriptedServer, dice: random.Random
    ) -> None:
        self._segments, self._runners, self._server, self._dice = segments, runners, server, dice
        self._cluster: local_ray.LocalCluster | None = None
        self._driver: subprocess.Popen[bytes] | None = None
        self._run_id = ""
        self._said = Path(tempfile.gettempdir(), f"agenttrace-crash-{os.getpid()}-{dice.randrange(2**32)}.log")
        self.faults: dict[str, Callable[[], bool]] = {
            "node killed": self.kill_node,
            "driver killed": self.kill_driver,
            "head killed": self.kill_head,
            "node stopped and woken": self.stop_node,
            "node cut off and back": self.cut_node,
        }

    @property
    def cluster(self) -> local_ray.LocalCluster:
        """The cluster that runs now."""
        if self._cluster is None:
            raise AgentTraceError("no cluster was started")
        return self._cluster

    def start(self) -> None:
        """Start a cluster."""
        made = local_ray.prepared(
            NODES,
            1,
            host=self._segments[0].host,
            networks=[segment.network for segment in self._segments],
        )
        for number, sockets in enumerate(self._runners):
            Path(made.sockets(number)).rmdir()
            Path(made.sockets(number)).symlink_to(sockets)
        self._keep(made)
        local_ray.start(made, keep=self._keep)

    def _keep(self, cluster: local_ray.LocalCluster) -> None:
        self._cluster = cluster

    def close(self) -> None:
        """End driver and cluster."""
        if self._driver is not None:
            self._driver.kill()
            self._driver.wait()
        if self._cluster is not None:
            local_ray.end(self._cluster)
        self._said.unlink(missing_ok=True)

    def drive(self, run_id: str) -> None:
        """Start the driver of a run."""
        self._run_id = run_id
        words = ["cluster", "run", "agenttrace-demo", "--dataset", "demo", "--rollouts", str(ROLLOUTS)]
        words += ["--run-id", run_id, "--store", _STORE, "--shard-rollouts", str(SHARD), "--ray", self.cluster.address]
        words += ["--base-url", f"http://{self._segments[0].host}:{self._port}/v1"]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        with self._said.open("ab") as said:
            argv = [sys.executable, "-P", "-m", "agenttrace", *words]
            self._driver = engine.start(argv, env=env, output=subprocess.DEVNULL, errors=said)

    def ended(self) -> bool:
        """Return whether the driver has come to its end.

        Raises:
            AgentTraceError: it ended with an error, although nobody killed it.
        """
        status = None if self._driver is None else self._driver.poll()
        if status:
            raise AgentTraceError(f"a driver that was not killed ended with {status}: {self._told()[-2000:]}")
        return status == 0

    def mend(self) -> None:
        """Start nodes again that are gone: under load one misses a limit of Ray's as it starts."""
        now = self.cluster
        nodes = [one if one.runs() else local_ray.start_node(now, number) for number, one in enumerate(now.nodes)]
        self._cluster = msgspec.structs.replace(now, nodes=tuple(nodes))

    def kill_node(self) -> bool:
        """Kill a node that is at work, with all that it started, and start another one."""
        if (number := self.at_work()) is None:
            return False
        self.cluster.nodes[number].send(signal.SIGKILL)
        self.mend()
        return True

    def kill_driver(self) -> bool:
        """Kill the driver, and give its command again."""
        if self._driver is not None:
            self._driver.kill()
            self._driver.wait()
        self.drive(self._run_id)
        return True

    def kill_head(self) -> bool:
        """Kill the head, wait until the driver has ended by itself, and go on on a new cluster."""
        if self.cluster.head is not None:
            self.cluster.head.send(signal.SIGKILL)
        try:
            status = 0 if self._driver is None else self._driver.wait(_AWAY_S)
        except subprocess.TimeoutExpired as error:
            raise AgentTraceError("the head is gone and its driver does not end") from error
        local_ray.end(self.cluster)
        self.start()
        if status:  # else it had come to its end before
            self.drive(self._run_id)
        return bool(status)

    def stop_node(self) -> bool:
        """Stop all processes of a node that is at work, and wake them after it was taken for dead."""
        if (number := self.at_work()) is None:
            return False
        node = self.cluster.nodes[number]
        return self._away(lambda: node.send(signal.SIGSTOP), lambda: node.send(signal.SIGCONT))

    def cut_node(self) -> bool:
        """Cut off a node that is at work, and let it back after it was taken for dead."""
        if (number := self.at_work()) is None:
            return False
        segment = self._segments[number]
        return self._away(lambda: segment.cut(but=self._port), segment.mend)

    def at_work(self) -> int | None:
        """Return a node whose sandbox is in use; `None` where none is."""
        places = zip(self._segments, self._runners, strict=True)
        used = [any(f"{folder}/" in line for line in segment.connected()) for segment, folder in places]
        busy = [number for number, one in enumerate(used) if one]
        return self._dice.choice(busy) if busy else None

    def _away(self, go: Callable[[], None], back: Callable[[], None]) -> bool:
        """Let a node go, and come back when its shard is another one's; false where it had none."""
        before, deadline = self._told().count(_LOST), time.monotonic() + _AWAY_S
        go()
        try:
            while (given := self._told().count(_LOST)) == before and not self.ended() and time.monotonic() < deadline:
                time.sleep(0.2)
            time.sleep(self._dice.random() * _BETWEEN_S)
        finally:
            back()
        return given > before

    @property
    def _port(self) -> int:
        return int(self._server.base_url.rpartition(":")[2].partition("/")[0])

    def _told(self) -> str:
        return self._said.read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def bed(dice: random.Random) -> Iterator[Bed]:
    """Run a cluster with all that it needs meanwhile.

    Raises:
        UsageError: this machine cannot run the sandbox's runner outside a container, or networks, or there is no Ray.
    """
    before = dict(os.environ)
    with contextlib.ExitStack() as stack:
        runners = [stack.enter_context(runner(number)).sockets for number in range(NODES)]
        segments = [stack.enter_context(networks.segment(number)) for number in range(NODES)]
        server = stack.enter_context(ScriptedServer(script(dice), address=("0.0.0.0", 0), remember=False))  # noqa: S104
        store = stack.enter_context(s3.running(segments[0].host))
        os.environ.update({**store.variables, strength.ANY: "1"})  # runners are in no container
        made = Bed(segments, runners, server, dice)
        try:
            made.start()
            yield made
        finally:
            made.close()
            os.environ.clear()
            os.environ.update(before)


def runs(kills: int, dice: random.Random) -> tuple[Ledger, Counter[str]]:
    """Return the ledger of runs meanwhile, and how often each of `FAULTS` took place.

    Raises:
        UsageError: this machine cannot run the sandbox's runner outside a container, or networks, or there is no Ray.
        AgentTraceError: a driver that was not killed failed.
    """
    ledger, taken, deck = Ledger(), Counter[str](), dealt(kills, dice)
    with bed(dice) as made, tempfile.TemporaryDirectory(prefix="agenttrace-crash-") as folder:
        for number in range(kills + 1):
            run_id = f"crash-{number}"
            made.drive(run_id)
            _one(made, deck, dice, taken)
            ledger.kills = taken.total()
            path = Path(folder, f"{number}.jsonl")
            merge(open_run(Store(_STORE), run_id), path)
            ledger.finished(path, expected(path))
            say(f"{ledger.kills} of {kills} kills, {ledger.records} records")
            if not deck:
                break
    return ledger, taken


def _one(made: Bed, deck: list[str], dice: random.Random, taken: Counter[str]) -> None:
    """Let one run come to its end, doing what is next on the deck meanwhile."""
    started = time.monotonic()
    due = started + dice.random() * _START_S
    while not made.ended():
        time.sleep(0.05)
        if time.monotonic() - started > _PATIENCE_S:
            raise AgentTraceError("a run does not end")
        if time.monotonic() < due:
            continue
        made.mend()
        if deck and made.faults[deck[-1]]():
            taken[deck.pop()] += 1
            started = time.monotonic()
        due = time.monotonic() + (0.2 + dice.random()) * _BETWEEN_S


def check(kills: int, dice: random.Random) -> bool:
    """Kill and cut off, print what became of the records and return whether nothing is missing."""
    ledger, taken = runs(kills, dice)
    for what in FAULTS:
        print(f"{what:<24}{taken[what]:>5}")  # noqa: T201 - the session's result
    print(f"Ray: {ledger}")  # noqa: T201
    return ledger.clean and ledger.kills == kills
