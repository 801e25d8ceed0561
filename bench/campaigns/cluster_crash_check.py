"""`cluster-crash-check`: what makes the shards of a run is killed, or cut off and comes back, at any instant.

    ledger = cluster_crash_check.machines(50, random.Random(1), store="/var/tmp/store")

Runs over a Ray cluster are in `cluster_crash_on_ray`. Here a machine is what a user starts without one: `agenttrace
cluster shard NUMBER`, with the real loop, a real sandbox runner and a model server that answers from a script. Two work
at a time, on shards that they choose blindly; instead of a kill one in ten is stopped, another one makes the same
shard, and then it goes on.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.cluster.merge import merge
from agenttrace.cluster.objects import Store
from agenttrace.cluster.runs import open_run
from agenttrace.errors import AgentTraceError, UsageError
from agenttrace.host import engine
from agenttrace.sandbox import strength
from agenttrace.show import say
from agenttrace.testing import ScriptedServer
from bench.campaigns.crash_check import ROOT, expected, runner, script
from bench.campaigns.ledger import Ledger

if TYPE_CHECKING:
    from agenttrace.cluster.runs import StoredRun
    from bench.campaigns.crash_check import Runner

MACHINES = 2
ROLLOUTS, SHARD, SHARDS = 2, 8, 8
"""Of each of the 32 bundled tasks; of a shard; shards of a run, after which another run follows."""
_EARLY = 0.2
"""Share of the machines that are killed while they still start."""
_STOPPED = 0.1
_PATIENCE_S = 240.0
_TOLD = 10


class _Machine:
    """A process that makes one shard with a runner of its own."""

    def __init__(self, run_id: str, shard: int, store: str, running: Runner, server: ScriptedServer) -> None:
        self.shard = shard
        self.running = running
        self.begun = time.monotonic()
        words = ["cluster", "shard", str(shard), "agenttrace-demo", "--dataset", "demo", "--rollouts", str(ROLLOUTS)]
        words += ["--run-id", run_id, "--store", store, "--shard-rollouts", str(SHARD), "--base-url", server.base_url]
        argv = [sys.executable, "-P", "-m", "agenttrace", *words, "--sockets", str(running.sockets)]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "AGENTTRACE_TERMINAL": "", strength.ANY: "1"}  # no containers
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = engine.start(argv, env=env, output=subprocess.DEVNULL, errors=self._said)

    def send(self, what: signal.Signals) -> None:
        """Send a signal to the process and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, what)

    def kill(self) -> None:
        """End it at once."""
        self.send(signal.SIGKILL)
        self._process.wait()
        self._said.close()

    def ended(self) -> bool:
        """Return whether it has done its work.

        Raises:
            AgentTraceError: it ended with an error, although nobody killed it.
        """
        if (status := self._process.poll()) is None:
            if time.monotonic() - self.begun > _PATIENCE_S:
                raise AgentTraceError(f"shard {self.shard}: a machine that was not killed does not end")
            return False
        self._said.seek(0)
        said = self._said.read().decode(errors="replace")
        self._said.close()
        if status:
            raise AgentTraceError(f"shard {self.shard}: a machine that was not killed ended with {status}: {said}")
        return True


class _Campaign:
    """The machines of one run, until it is done."""

    def __init__(
        self, run_id: str, store: str, runners: list[Runner], server: ScriptedServer, dice: random.Random
    ) -> None:
        self._run_id, self._store, self._server, self._dice = run_id, store, server, dice
        self._free = list(runners)
        self._machines: list[_Machine] = []
        self._when: dict[int, float] = {}
        self._asleep: _Machine | None = None
        self.killed = self.woken = 0

    def _start(self, shard: int) -> None:
        machine = _Machine(self._run_id, shard, self._store, self._free.pop(), self._server)
        early = self._dice.random() < _EARLY
        self._when[id(machine)] = self._dice.random() if early else 1.5 + self._dice.random() * 3
        self._machines.append(machine)

    def run(self, kills: int) -> StoredRun:
        """Make the run, killing so many machines at most, and return it."""
        found = None
        try:
            while True:
                found = found or self._opened()
                left = sorted({*range(SHARDS)} - (found.done() if found else set()))
                if not left and not self._machines and self._asleep is None and found is not None:
                    return found
                while left and len(self._machines) < MACHINES:
                    self._start(self._dice.choice(left))
                for machine in list(self._machines):
                    self._look(machine, kills)
                time.sleep(0.02)
        finally:
            for machine in (*self._machines, *filter(None, [self._asleep])):
                machine.kill()

    def _opened(self) -> StoredRun | None:
        with contextlib.suppress(UsageError):  # the first machine makes it
            return open_run(Store(self._store), self._run_id)
        return None

    def _look(self, machine: _Machine, kills: int) -> None:
        """Let a machine end, kill it, or put it to sleep until another has made its shard."""
        if machine.ended():
            self._leave(machine)
            if self._asleep is not None and self._asleep.shard == machine.shard:
                self._asleep.send(signal.SIGCONT)
                self._machines.append(self._asleep)
                self._asleep = None
                self.woken += 1
        elif id(machine) in self._when and time.monotonic() - machine.begun > self._when[id(machine)]:
            del self._when[id(machine)]
            if self._asleep is None and self._dice.random() < _STOPPED:
                machine.send(signal.SIGSTOP)
                self._machines.remove(machine)
                self._asleep = machine
                self._start(machine.shard)
                self._when.clear()  # its successor is left alone, so that it wakes up
            elif self.killed < kills:
                machine.kill()
                self._leave(machine)
                self.killed += 1

    def _leave(self, machine: _Machine) -> None:
        self._machines.remove(machine)
        self._free.append(machine.running)


def machines(kills: int, dice: random.Random, *, store: str) -> tuple[Ledger, int]:
    """Return the ledger of runs whose machines are killed `kills` times in all, and how many slept and came back.

    Raises:
        UsageError: this machine cannot run the sandbox's runner outside a container.
        AgentTraceError: a machine that was not killed failed.
    """
    ledger, woken = Ledger(), 0
    with contextlib.ExitStack() as stack:
        # One more than there are machines awake: who sleeps holds its own.
        runners = [stack.enter_context(runner(number)) for number in range(MACHINES + 1)]
        server = stack.enter_context(ScriptedServer(script(dice), remember=False))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agenttrace-crash-")))
        stamp = f"crash-{os.getpid()}-{dice.randrange(2**32)}"
        for number in range(kills + 1):
            campaign = _Campaign(f"{stamp}-{number}", store, runners, server, dice)
            run = campaign.run(kills - ledger.kills)
            ledger.kills += campaign.killed
            woken += campaign.woken
            path = folder / f"{number}.jsonl"
            merge(run, path)
            ledger.finished(path, expected(path))
            if (number + 1) % _TOLD == 0:
                say(f"{ledger.kills} of {kills} kills")
            if ledger.kills >= kills:
                break
    return ledger, woken


def check(*, kills: int, without_ray: int = 0, store: str | None = None, seed: int | None = None) -> int:
    """Kill, print what became of the records and return the exit status: 1 when anything is missing.

    Args:
        kills: of what a Ray cluster consists of.
        without_ray: of machines that make shards by number.
        store: where their runs go; `None` is a new folder.
        seed: chooses what, and the moments.
    """
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    say(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="agenttrace-store-", dir="/var/tmp") as folder:
        dice = random.Random(seed)  # noqa: S311 - moments, not secrets
        clean = True
        if without_ray:
            ledger, woken = machines(without_ray, dice, store=store or folder)
            print(f"machines: {ledger}, {woken} cut off and back")  # noqa: T201 - the session's result
            clean = ledger.clean and ledger.kills == without_ray
        if kills:
            from bench.campaigns import cluster_crash_on_ray  # noqa: PLC0415 - Ray may not be there

            clean = cluster_crash_on_ray.check(kills, dice) and clean
    return 0 if clean else 1
