"""Task sets of the user's own, from the host's side: read and checked here, laid out where sandbox workers see them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import UsageError
from agenttrace.store.read import read_run_spec, run_spec_path
from agenttrace.tasks import OWN
from agenttrace.tasks.own.loading import is_path, load, sidecar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agenttrace.campaign.options import Options
    from agenttrace.host import compose
    from agenttrace.host.checkouts import Places
    from agenttrace.tasks.own.loading import OwnSet


def named(options: Iterable[Options]) -> tuple[tuple[Options, ...], tuple[OwnSet, ...]]:
    """Return options in which a set on disk is named by its digest, which is all that a container knows, and the sets.

    Raises:
        UsageError: one is no task set; the message names every mistake with file and line.
    """
    made: list[Options] = []
    found: list[OwnSet] = []
    for one in options:
        if is_path(one.dataset):
            found.append(load(Path(one.dataset)))
            made.append(msgspec.structs.replace(one, dataset=f"{OWN}:{found[-1].sha256}"))
        else:
            made.append(one)
    return tuple(made), tuple(found)


def of_records(records: Path, places: Places | None = None) -> tuple[OwnSet, ...]:
    """Return the set that the run spec of a record file names, where it is one of somebody's own.

    Args:
        records: the record file.
        places: name the set, where it does not lie beside the records.

    Raises:
        UsageError: it cannot be read, or is another one.
    """
    given = None if places is None else places.tasks
    dataset = read_run_spec(run_spec_path(records)).dataset
    if dataset.source != OWN:
        if given is not None:
            raise UsageError(
                f"--tasks {given}: the tasks of {records.name} are those of {dataset.name}, a set of the kit"
            )
        return ()
    path = given or sidecar(records)
    if given is None and not path.is_file():
        raise UsageError(
            f"{records.name}: its tasks are of the set {dataset.name} (SHA-256 {dataset.sha256}), and {path.name} does "
            "not lie beside it; put it there, or name the set: --tasks PATH"
        )
    found = load(path)
    if found.sha256 != dataset.sha256:
        raise UsageError(
            f"{path}: another task set (SHA-256 {found.sha256}) than the run spec of {records.name} names "
            f"({dataset.name}, SHA-256 {dataset.sha256})"
        )
    return (found,)


def lay_out(services: compose.Services, sets: Iterable[OwnSet]) -> None:
    """Make the trees of sets in the volume that sandbox workers and collector read.

    Raises:
        EndedError: the container said why on standard error.
    """
    for one in sets:
        services.converse(
            "layout", "lay-out", data=one.packed(), otherwise="the tasks could not be laid out; nothing was collected"
        )
