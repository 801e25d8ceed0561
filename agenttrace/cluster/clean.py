"""What a run has left in its store that counts for nothing: parts of done shards that their manifests do not name."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from agenttrace.cluster.manifest import CASSETTE, RECORDS, read_manifest
from agenttrace.errors import DataError, command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agenttrace.cluster.runs import StoredRun


class Unnamed(NamedTuple):
    """An object that no manifest names, and its bytes."""

    name: str
    bytes: int


def unnamed(run: StoredRun, *, tell: Callable[[str], object]) -> Iterator[Unnamed]:
    """Yield what can be removed: parts that attempts left at shards which have a manifest without them.

    A manifest never changes, so what it does not name never counts. Parts of shards that are not done are no such: the
    next attempt goes on from them.

    Args:
        run: the run.
        tell: gets a line for each shard whose manifest is damaged, or names what is not there; nothing of it is
            yielded.

    Raises:
        StorageError: the store cannot be read.
    """
    for found in run.look_at_done(partial(_of_shard, run)):
        if isinstance(found, DataError):
            tell(str(found))
        else:
            yield from found


def _of_shard(run: StoredRun, shard: int) -> list[Unnamed]:
    manifest = read_manifest(run, shard)
    if manifest is None:  # a person has removed it meanwhile
        return []
    folder = run.parts(shard)
    named = {f"{folder}/{part.name}{RECORDS}": part.bytes for part in manifest.parts}
    named |= {f"{folder}/{part.name}{CASSETTE}": part.cassette_bytes for part in manifest.parts}
    there = dict(run.store.listed(folder))
    if lacking := [name for name, size in named.items() if there.get(name) != size]:
        raise DataError(
            f"{run.store.url}/{lacking[0]} is not there as {run.manifest(shard)} names it, so nothing of shard {shard} "
            f"is removed; {command('cluster', 'check')} says what is damaged"
        )
    return [Unnamed(name, size) for name, size in there.items() if name not in named]
