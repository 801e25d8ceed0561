"""Calls as a campaign makes them: from a collector's container, over the workers' unix sockets in the shared volume.

    with clients(project, env, ("c", "python")) as client:
        samples = client.turn("c", "call", 20)
        sample = client.reset("c", "small", "rm -r src")

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
    from pathlib import Path

_STOP_S = 10.0
# This folder is not in the collector's image; the client is.
_CLIENT = """
import json, sys, time
from agenttrace.sandbox.client import acquire

workers = {worker.info.helper: worker for worker in acquire("/run/agenttrace", count=%d, timeout_s=30)}

def timed(action):
    start = time.perf_counter_ns()
    action()
    return (time.perf_counter_ns() - start) / 1e6

def answer(helper, what, *given):
    worker = workers[helper]
    if what == "reset":
        fixture, change, thinking_ms = given
        worker.call("bash", change, limit_ms=60_000)
        begun_ms = timed(lambda: worker.begin_reset(fixture))
        time.sleep(thinking_ms / 1000)
        return [begun_ms + timed(worker.finish_reset)]
    once = worker.ping if what == "ping" else lambda: worker.call("bash", ":", limit_ms=60_000)
    return [timed(once) for _ in range(given[0])]

print(json.dumps({helper: worker.info.work for helper, worker in workers.items()}), flush=True)
for line in sys.stdin:
    print(json.dumps(answer(*json.loads(line))), flush=True)
"""


class Client:
    """The process in the collector's container that holds the workers and takes the time there.

    Attributes:
        containers: names of its workers' containers, by the helper that was asked for.
        work: the work folder of each worker, by the helper that it named.
        helpers: helpers of its workers, by what these said of themselves, sorted.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], errors: IO[bytes], containers: Mapping[str, str] | None = None
    ) -> None:
        self._process = process
        self._errors = errors
        self.containers = dict(containers or {})
        self.work: dict[str, str] = json.loads(self._line())
        self.helpers = sorted(self.work)

    def turn(self, helper: str, what: Literal["call", "ping"], count: int) -> list[float]:
        """Milliseconds of each of `count` exchanges: calls of `:`, or pings.

        Raises:
            WorkerLostError: the client or its worker died; the message holds what it said.
        """
        return self._answer(helper, what, count)

    def reset(self, helper: str, fixture: str, change: str, *, thinking_ms: int = 0) -> float:
        """Milliseconds that one reset to `fixture` is waited for, after a call that ran `change` with bash.

        Args:
            helper: of the worker.
            fixture: its name.
            change: what a task did.
            thinking_ms: what passes between the begin of the reset and the first call of the next task.

        Raises:
            WorkerLostError: the client or its worker died; the message holds what it said.
        """
        return self._answer(helper, "reset", fixture, change, thinking_ms)[0]

    def _answer(self, *request: str | int) -> list[float]:
        if self._process.stdin is None:  # pragma: no cover - asked for where it is started
            raise WorkerLostError("no pipe to the collector's container")
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
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
def clients(
    project: str, env: Mapping[str, str], helpers: Sequence[str], *flags: str, work: Path | None = None
) -> Iterator[Client]:
    """Yield a client that holds one socket worker for each of `helpers`; all of it is removed afterwards.

    Args:
        project: compose project.
        env: whole environment of `docker compose`.
        helpers: one worker each.
        flags: more flags for every worker.
        work: folder of the engine's machine in which the work trees lie, instead of a volume.

    Raises:
        CommandError: a worker's container could not be started.
        WorkerLostError: the workers did not answer.
    """
    containers: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        for helper in helpers:
            name = containers[helper] = f"{project}-socket-{uuid.uuid4().hex[:8]}"
            stack.callback(engine.run, ["docker", "rm", "--force", "--volumes", name], check=False)
            volume = () if work is None else ("--volume", f"{work.absolute() / name}:/testdata")
            one_off = ("run", "--detach", "--rm", "--no-deps", *volume, "--name", name, "sandbox", "--helper", helper)
            engine.run(compose.argv(project, *one_off, *flags), env=env)
        errors = stack.enter_context(tempfile.TemporaryFile())
        name = f"{project}-client-{uuid.uuid4().hex[:8]}"
        one_off = ("run", "--rm", "--no-deps", "--no-TTY", "--name", name, "--entrypoint", "python", "collector")
        process = engine.start(
            compose.argv(project, *one_off, "-c", _CLIENT % len(helpers)),
            env=env, stdin=subprocess.PIPE, output=subprocess.PIPE, errors=errors,
        )  # fmt: skip
        stack.callback(_stop, process, name)
        yield Client(process, errors, containers)


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
