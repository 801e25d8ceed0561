"""`replay`: runs a record file again from its cassette, with the real sandbox and no model."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

import msgspec

from agenttrace.campaign.options import like
from agenttrace.errors import StorageError, UsageError
from agenttrace.host import campaign, checkouts, compose, images
from agenttrace.host.follow import follow
from agenttrace.store.opening import the_file
from agenttrace.store.read import read_run_spec, run_spec_path
from agenttrace.tasks import SWE

if TYPE_CHECKING:
    from pathlib import Path

    from agenttrace.host.checkouts import Places


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a person asks for; see `reproducing` for the arguments."""

    file: Path
    workers: int
    repeats: int = 1
    json: Path | None = None
    places: Places | None = None


def replay(request: Request) -> int:
    """Replay a record file and return the exit status: 0 when every trace is byte-identical but for measured fields.

    Raises:
        AgentTraceError: the file, its run spec, its cassette, its tasks or a worker cannot be had.
    """
    request = msgspec.structs.replace(request, file=the_file(request.file))
    check_workers(request.workers)
    if request.repeats < 1:
        raise UsageError(f"--repeat {request.repeats}: expected 1 or more")
    words = ["--workers", str(request.workers), "--repeat", str(request.repeats)]
    status, found = over_file(request.file, "replay", words, workers=request.workers, places=request.places)
    if request.json is not None and found:
        try:
            request.json.write_bytes(found)
        except OSError as error:
            raise StorageError(f"cannot write {request.json}: {error.strerror}") from error
    return status


def check_workers(workers: int) -> None:
    """Refuse a number of workers that cannot be started.

    Raises:
        UsageError: names the number and what is possible.
    """
    if not 1 <= workers <= campaign.MAX_WORKERS:
        raise UsageError(f"--workers {workers}: expected 1 to {campaign.MAX_WORKERS}")


def over_file(
    file: Path, verb: str, words: list[str], *, workers: int, places: Places | None = None, sandbox: bool = True
) -> tuple[int, bytes]:
    """Run a verb of the collector over a record file, beside sandboxes that fit it; return status and output.

    Args:
        file: the record file; run spec and cassette lie beside it.
        verb: of the command line inside the container.
        words: its arguments after the file.
        workers: sandboxes.
        places: where rows and repositories of tasks over checkouts lie.
        sandbox: whether sandboxes are needed at all.

    Raises:
        AgentTraceError: the run spec cannot be read, or something cannot be started.
    """
    options = like(read_run_spec(run_spec_path(file)))
    over_checkouts = options.dataset == SWE
    checkouts.check(places)
    output = bytearray()

    def work(at: campaign.Engine) -> int:
        variables = campaign.collector_variables(file.parent, workers, at.info, at.built)
        services = compose.Services(at.project, {**variables, **checkouts.variables(places)})
        compose.ensure_volumes(at.sdk)
        if over_checkouts:
            checkouts.prepare(services, options.of_checkouts, places)
        if sandbox:
            services.up(checkouts.SANDBOX if over_checkouts else "sandbox")
        name = f"{at.project}-collector-{os.getpid()}"
        with tempfile.TemporaryFile() as written:
            process = services.start(name, "collector", verb, f"/data/{file.name}", *words, output=written.fileno())
            status = follow(process, at.sdk, at.project, name)
            written.seek(0)
            output.extend(written.read())
        return status

    targets = checkouts.TARGETS if over_checkouts else images.TARGETS
    return campaign.guarded(work, targets=targets), bytes(output)
