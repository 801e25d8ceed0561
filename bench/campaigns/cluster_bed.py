"""What a bench of runs over several machines has on this one: a cluster with real sandbox runners, and programs."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agenttrace.cluster import local_ray
from agenttrace.errors import AgentTraceError
from agenttrace.host import engine
from agenttrace.sandbox import strength
from bench.campaigns.crash_check import ROOT, runner

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Self

MODEL = "scripted/bench-1B"
_LOOK_S = 0.01
_PEAK = re.compile(r"VmHWM:\s+(\d+) kB")


class Used(msgspec.Struct, frozen=True):
    """What a program took from its start to its end, its own processor time alone; `peak_bytes` is resident.

    That is what the kernel says of its memory while it runs, looked at all the time: what it says of a process at its
    end is no less than what the process that started it had then, a store with a million objects for example.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int


class Program:
    """A process of this checkout; use it as a context, at whose end it is killed where it still runs.

    Args:
        module: that is run.
        words: its arguments.
    """

    def __init__(self, module: str, *words: str) -> None:
        self._begun = time.monotonic()
        argv = [sys.executable, "-P", "-m", module, *words]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "AGENTTRACE_TERMINAL": ""}
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = engine.start(argv, env=env, output=subprocess.DEVNULL, errors=self._said.fileno())

    def wait(self) -> Used:
        """Wait for its end and return what it took.

        Raises:
            AgentTraceError: it ended with an error.
        """
        peak = ended = 0
        while not ended:
            with contextlib.suppress(AgentTraceError):  # it may have ended, and not been waited for
                peak = self.peak_bytes()
            ended, status, used = os.wait4(self._process.pid, os.WNOHANG)
            time.sleep(0 if ended else _LOOK_S)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if self._process.returncode:
            self._said.seek(0)
            told = self._said.read().decode(errors="replace")[-2000:]
            raise AgentTraceError(f"a program of the bench ended with {self._process.returncode}: {told}")
        return Used(time.monotonic() - self._begun, used.ru_utime + used.ru_stime, peak)

    def peak_bytes(self) -> int:
        """Return how large it has been so far.

        Raises:
            AgentTraceError: it has ended.
        """
        try:
            return int(_PEAK.findall(Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii"))[0]) * 1024
        except (OSError, IndexError) as error:
            raise AgentTraceError("a program of the bench ended before its time") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()
        self._said.close()


@contextlib.contextmanager
def variables(more: Mapping[str, str]) -> Iterator[None]:
    """Have variables in the environment meanwhile."""
    before = dict(os.environ)
    os.environ.update(more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def cluster(nodes: int, workers: int) -> Iterator[local_ray.LocalCluster]:
    """Run a cluster meanwhile, whose nodes have so many sandbox runners each.

    Raises:
        UsageError: this machine cannot run the sandbox's runner outside a container, or there is no Ray.
    """
    kept = [local_ray.prepared(nodes, workers)]
    with contextlib.ExitStack() as stack:
        stack.enter_context(variables({strength.ANY: "1"}))  # they are in no container
        numbers = itertools.count()
        for node, _ in itertools.product(range(nodes), range(workers)):
            stack.enter_context(runner(next(numbers), Path(kept[0].sockets(node))))
        try:
            yield local_ray.start(kept[0], keep=kept.append)
        finally:
            local_ray.end(kept[-1])


def driver(at: local_ray.LocalCluster, run_id: str, store: str, base_url: str, *more: str) -> Program:
    """Start the driver of a run over a cluster."""
    words = ["cluster", "run", MODEL, "--run-id", run_id, "--store", store, "--base-url", base_url]
    return Program("agenttrace", *words, "--ray", at.address, *more)
