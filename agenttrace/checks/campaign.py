"""Calls as a campaign makes them: from a collector's container, over the workers' unix sockets in the shared volume.

    with clients(project, env, ("c", "python")) as client:
        samples = client.turn("c", "call", 20)

A worker takes one client at a time, so these are workers of their own, beside those that are spoken to over pipes.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import uuid
from typing import IO, TYPE_CHECKING, Literal

from agenttrace.errors import WorkerLostError
from agenttrace.host import compose, engine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_STOP_S = 10.0
# agenttrace.checks is not in the collector's image; the client is.
_CLIENT = """
import json, sys, time
from agenttrace.sandbox.client import acquire

workers = {worker.info.helper: worker for worker in acquire("/run/agenttrace", count=%d, timeout_s=30)}

def timed(worker, what):
    start = time.perf_counter_ns()
    worker.ping() if what == "ping" else worker.call("bash", ":", limit_ms=60_000)
    return (time.perf_counter_ns() - start) / 1e6

print(json.dumps(sorted(workers)), flush=True)
for line in sys.stdin:
    helper, what, count = json.loads(line)
    print(json.dumps([timed(workers[helper], what) for _ in range(count)]), flush=True)
"""


class Client:
    """The process in the collector's container that holds the workers and takes the time there.

    Attributes:
        helpers: helpers of its workers, by what these said of themselves.
    """

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        self._process = process
        self._errors = errors
        self.helpers: list[str] = json.loads(self._line())

    def turn(self, helper: str, what: Literal["call", "ping"], count: int) -> list[float]:
        """Milliseconds of each of `count` exchanges: calls of `:`, or pings.

        Raises:
            WorkerLostError: the client or its worker died; the message holds what it said.
        """
        if self._process.stdin is None:  # pragma: no cover - asked for where it is started
            raise WorkerLostError("no pipe to the collector's container")
        try:
            self._process.stdin.write(json.dumps([helper, what, count]).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerLostError(f"the client in the collector's container ended: {self._said()}") from None
        samples: list[float] = json.loads(self._line())
        return samples

    def _line(self) -> bytes:
        line = b"" if self._process.stdout is None else self._process.stdout.readline()
        if not line:
            raise WorkerLostError(f"the client in the collector's container ended: {self._said()}")
        return line

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip() or "without a word"


@contextlib.contextmanager
def clients(project: str, env: Mapping[str, str], helpers: Sequence[str]) -> Iterator[Client]:
    """Yield a client that holds one socket worker for each of `helpers`; all of it is removed afterwards.

    Raises:
        CommandError: a worker's container could not be started.
        WorkerLostError: the workers did not answer.
    """
    with contextlib.ExitStack() as stack:
        for helper in helpers:
            name = f"{project}-socket-{uuid.uuid4().hex[:8]}"
            stack.callback(engine.run, ["docker", "rm", "--force", "--volumes", name], check=False)
            one_off = ("run", "--detach", "--rm", "--no-deps", "--name", name, "sandbox", "--helper", helper)
            engine.run(compose.argv(project, *one_off), env=env)
        errors = stack.enter_context(tempfile.TemporaryFile())
        name = f"{project}-client-{uuid.uuid4().hex[:8]}"
        one_off = ("run", "--rm", "--no-deps", "--no-TTY", "--name", name, "--entrypoint", "python", "collector")
        process = engine.start(
            compose.argv(project, *one_off, "-c", _CLIENT % len(helpers)),
            env=env, stdin=subprocess.PIPE, output=subprocess.PIPE, errors=errors,
        )  # fmt: skip
        stack.callback(_stop, process, name)
        yield Client(process, errors)


def _stop(process: subprocess.Popen[bytes], name: str) -> None:
    """End the client by the end of its input; its container with it, whatever it does."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        engine.run(["docker", "rm", "--force", name], check=False)
