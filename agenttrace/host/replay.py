"""`replay`: runs a record file again from its cassette, with the real sandbox and no model."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import StorageError, UsageError
from agenttrace.host import campaign, compose
from agenttrace.host.follow import follow
from agenttrace.store.opening import the_file

if TYPE_CHECKING:
    from pathlib import Path


MAX_WORKERS = 64


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a person asks for."""

    file: Path
    workers: int
    repeats: int = 1
    json: Path | None = None


def replay(request: Request) -> int:
    """Replay a record file and return the exit status: 0 when every trace is byte-identical but for measured fields.

    Raises:
        AgentTraceError: the file, its run spec, its cassette, its tasks or a worker cannot be had.
    """
    request = msgspec.structs.replace(request, file=the_file(request.file))
    if not 1 <= request.workers <= MAX_WORKERS:
        raise UsageError(f"--workers {request.workers}: expected 1 to {MAX_WORKERS}")
    if request.repeats < 1:
        raise UsageError(f"--repeat {request.repeats}: expected 1 or more")
    return campaign.guarded(lambda at: _run(request, at))


def _run(request: Request, at: campaign.Engine) -> int:
    services = compose.Services(
        at.project, campaign.collector_variables(request.file.parent, request.workers, at.info, at.built)
    )
    compose.ensure_models_volume(at.sdk)
    services.up("sandbox")
    name = f"{at.project}-collector-{os.getpid()}"
    asked = ("--workers", str(request.workers), "--repeat", str(request.repeats))
    with tempfile.TemporaryFile() as output:
        process = services.start(
            name, "collector", "replay", f"/data/{request.file.name}", *asked, output=output.fileno()
        )
        status = follow(process, at.sdk, at.project, name)
        output.seek(0)
        found = output.read()
    if request.json is not None and found:
        try:
            request.json.write_bytes(found)
        except OSError as error:
            raise StorageError(f"cannot write {request.json}: {error.strerror}") from error
    return status
