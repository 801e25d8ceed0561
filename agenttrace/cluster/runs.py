"""A run in a store: under which names its objects lie, and its run spec, which the first machine puts there."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from agenttrace.campaign.environment import spec_differences
from agenttrace.campaign.options import check_run_id, check_size
from agenttrace.cluster.objects import MOST_BYTES
from agenttrace.cluster.shards import Sharding
from agenttrace.errors import DataError, UsageError
from agenttrace.records import Record, RunSpec
from agenttrace.store.read import DECODE_ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agenttrace.cluster.objects import Store

T = TypeVar("T")
FORMAT = "agenttrace-cluster-1"
_FOLDER = 1000
"""Shards whose objects share a folder, so that folders can be listed side by side."""
_AT_A_TIME = 16
"""Folders listed, or shards read, side by side: a store takes its time for each answer."""
_SHARD = re.compile(r"/(\d+)\.json$")


class RunFile(Record, frozen=True, kw_only=True):
    """What `run.json` holds.

    Attributes:
        format: of the objects of the run.
        shard_rollouts: rollouts of a shard at most; a part of the run, since numbers of shards mean nothing without it.
        spec: the run spec.
    """

    spec: RunSpec
    shard_rollouts: int
    format: str = FORMAT


class StoredRun:
    """A run in a store.

    Args:
        store: holds the objects.
        file: what `run.json` says.

    Attributes:
        store: holds the objects.
        spec: the run spec.
        spec_sha256: its digest.
        shards: its shards.
    """

    def __init__(self, store: Store, file: RunFile) -> None:
        self.store = store
        self.spec = file.spec
        self.spec_sha256 = file.spec.digest
        self.shards = Sharding(dataset=file.spec.dataset, rollouts=file.shard_rollouts)

    @property
    def url(self) -> str:
        """Where its objects lie."""
        return f"{self.store.url}/{self.spec.run_id}"

    def parts(self, shard: int) -> str:
        """Return the folder of a shard's parts."""
        return f"{self.spec.run_id}/parts/{shard // _FOLDER:05}/{shard:08}"

    def spoilt(self, shard: int) -> str:
        """Return the folder of a shard's attempts that ended in an infrastructure failure."""
        return f"{self.spec.run_id}/spoilt/{shard // _FOLDER:05}/{shard:08}"

    def every_spoilt(self) -> list[str]:
        """Return the names of all attempts that ended in an infrastructure failure, shard by shard."""
        return sorted(self.store.names(f"{self.spec.run_id}/spoilt"))

    def manifest(self, shard: int) -> str:
        """Return the name of a shard's manifest."""
        return f"{self.spec.run_id}/done/{shard // _FOLDER:05}/{shard:08}.json"

    def keep_tasks(self, packed: bytes) -> None:
        """Keep the task set of a user's own, which a replay of the records needs.

        Raises:
            StorageError: the store cannot be written.
        """
        # Its digest is in the run spec, so who is first has the same.
        self.store.create(tasks_object(self.spec.run_id), packed)

    def tasks(self) -> bytes | None:
        """Return that task set; `None` where the tasks are not a user's own."""
        return self.store.get(tasks_object(self.spec.run_id), most=MOST_BYTES)

    def first_server(self, said: dict[str, Any]) -> dict[str, Any]:
        """Return what the first model server of the run said of itself: `said`, where this one is the first.

        Raises:
            DataError: what lies there is damaged.
            StorageError: the store cannot be used.
        """
        name = f"{self.spec.run_id}/server.json"
        if self.store.create(name, msgspec.json.encode(said)):
            return said
        try:
            return msgspec.json.decode(self.store.get(name) or b"", type=dict[str, Any])
        except DECODE_ERRORS as error:
            raise DataError(f"{self.store.url}/{name}: not what a model server says of itself ({error})") from error

    def done(self) -> set[int]:
        """Return the shards that have a manifest; there is no other state."""
        folders = [f"{self.spec.run_id}/done/{number:05}" for number in range(-(-self.shards.count // _FOLDER))]
        with ThreadPoolExecutor(min(_AT_A_TIME, len(folders))) as pool:
            listed = pool.map(lambda folder: [*self.store.names(folder)], folders)
            found = ((name, _SHARD.search(name)) for folder in listed for name in folder)
            numbers = ((name, int(match[1])) for name, match in found if match)
            return {shard for name, shard in numbers if shard < self.shards.count and name == self.manifest(shard)}

    def look_at_done(self, look: Callable[[int], T]) -> Iterator[T | DataError]:
        """Yield what `look` returns, or a `DataError` that it raises, of each shard that is done, in order.

        Args:
            look: reads a shard from the store; several are read side by side.

        Raises:
            StorageError: the store cannot be read.
        """

        def looked(shard: int) -> T | DataError:
            try:
                return look(shard)
            except DataError as error:
                return error

        done = sorted(self.done())
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            for start in range(0, len(done), _AT_A_TIME):
                yield from pool.map(looked, done[start : start + _AT_A_TIME])


def tasks_object(run_id: str) -> str:
    """Return the name of the task set of a run, where it is a user's own."""
    return f"{run_id}/tasks.tar"


def begin_run(store: Store, spec: RunSpec, *, shard_rollouts: int) -> StoredRun:
    """Return a run of this spec, which is new in the store or goes on.

    Raises:
        UsageError: a run of this id has another spec, or other shards; nothing was made.
        DataError: its `run.json` is damaged.
        StorageError: the store cannot be used.
    """
    asked = RunFile(spec=spec, shard_rollouts=shard_rollouts)
    # Not sorted: the order of keys in a tool schema is part of the prompt.
    if store.create(_run_file(spec.run_id), msgspec.json.encode(asked)):
        return StoredRun(store, asked)
    there = open_run(store, spec.run_id)
    lines = [str(one) for one in spec_differences(spec, there.spec)]
    if shard_rollouts != there.shards.rollouts:
        lines.append(f"rollouts of a shard: {shard_rollouts} / {there.shards.rollouts}")
    if lines:
        told = "\n  ".join(lines)
        raise UsageError(
            f"run id {spec.run_id}: {there.url} is a run with another run spec; nothing was made. "
            f"It differs in (asked for / in the store):\n  {told}\nChoose another --run-id."
        )
    return there


def open_run(store: Store, run_id: str) -> StoredRun:
    """Return a run that is in a store.

    Raises:
        UsageError: there is none of this id.
        DataError: its `run.json` is damaged, or of another version of the kit.
        StorageError: the store cannot be read.
    """
    name = _run_file(run_id)
    check_run_id(run_id)
    if (data := store.get(name)) is None:
        raise UsageError(f"run id {run_id}: {store.url} has no such run (no {name})")
    try:
        file = msgspec.json.decode(data, type=RunFile)
    except DECODE_ERRORS as error:
        raise DataError(f"{store.url}/{name}: not the file of a run ({error})") from error
    if file.format != FORMAT or file.spec.run_id != run_id:
        raise DataError(f"{store.url}/{name}: of another format ({file.format[:40]!r}), or of another run")
    tasks, rollouts = file.spec.dataset.count, file.spec.dataset.rollouts
    if min(tasks, rollouts, file.shard_rollouts) < 1:
        raise DataError(f"{store.url}/{name}: {tasks} tasks, {rollouts} rollouts, {file.shard_rollouts} of a shard")
    try:
        check_size(tasks, rollouts)
    except UsageError as error:
        raise DataError(f"{store.url}/{name}: {error}") from error
    return StoredRun(store, file)


def _run_file(run_id: str) -> str:
    return f"{run_id}/run.json"
