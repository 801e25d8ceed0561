"""Sandbox workers for the host's own use: probes, checks and benchmarks, with exactly the hardening of a campaign."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import uuid
from typing import TYPE_CHECKING

from agenttrace.errors import WorkerLostError
from agenttrace.host import compose, engine, images
from agenttrace.host.guard import guarded
from agenttrace.sandbox.client import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

START_S = 30.0


class SandboxContainer:
    """One worker container, spoken to over its standard input and output.

    Attributes:
        name: name of the container.
        worker: the connected worker.
    """

    def __init__(
        self,
        project: str,
        env: Mapping[str, str],
        *flags: str,
        service: str = "sandbox",
        override: Path | None = None,
    ) -> None:
        """Start the container and shake hands.

        Args:
            project: compose project.
            env: whole environment of `docker compose`.
            flags: flags of the runner, after those of its image.
            service: service of docker-compose.yml.
            override: another compose file, laid over it.

        Raises:
            WorkerLostError: it did not answer; the message holds what it said.
        """
        self.name = f"{project}-worker-{uuid.uuid4().hex[:8]}"
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the container
        more = [] if override is None else ["--file", str(override)]
        argv = compose.argv(
            project, *more, "run", "--rm", "--no-deps", "--no-TTY", "--name", self.name, service, "--stdio"
        )
        self._process = engine.start(
            [*argv, *flags], env=env, stdin=subprocess.PIPE, output=subprocess.PIPE, errors=self._errors
        )
        if self._process.stdout is None or self._process.stdin is None:  # pragma: no cover - asked for above
            raise WorkerLostError("no pipes to the container")
        try:
            self.worker = Worker.over_pipes(self._process.stdout, self._process.stdin, timeout_s=START_S)
        except WorkerLostError as error:
            self._process.kill()
            self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip()
            self._errors.close()
            raise WorkerLostError(f"{error}\n{said}") from error

    def close(self) -> None:
        """Hang up, which ends the container, and wait for it."""
        self.worker.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()


@contextlib.contextmanager
def sandbox_project(purpose: str, targets: Sequence[str] = images.TARGETS) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield a compose project name and the environment for `SandboxContainer`; removes all of it afterwards.

    Args:
        purpose: part of the project's name, such as `probes`.
        targets: images to bring up to date first.

    Raises:
        UsageError: another one for this purpose runs from this checkout.
    """
    with guarded(purpose, targets=targets) as at:
        yield at.project, {**compose.clean_environment(), **compose.image_variables(at.built.names)}
