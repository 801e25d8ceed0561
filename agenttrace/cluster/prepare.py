"""What tasks with trees start from, made before a run, kept in its store, and brought to the machines from there.

Trees of checkouts are made one repository at a time, each fetched once, on whichever machines the command is started:
what became of a repository's tasks is an object, made once, and who finds it leaves that repository alone. A machine
plans a run without these, and reads the one that its shard is of.
"""

from __future__ import annotations

import bisect
import fcntl
import hashlib
import itertools
import random
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agenttrace.cluster.nodetrees import keep_tree
from agenttrace.cluster.objects import MOST_BYTES, check_store
from agenttrace.cluster.runs import tasks_object
from agenttrace.errors import DataError, UsageError, command
from agenttrace.records import Record
from agenttrace.store.read import DECODE_ERRORS, unzstd
from agenttrace.tasks import OWN, SWE
from agenttrace.tasks.own.task_set import lay_out, pack_path
from agenttrace.tasks.swe.prepare import (
    FILE,
    OfRepository,
    Prepared,
    PreparePlaces,
    check_trees,
    drawn,
    of_repository,
)
from agenttrace.tasks.swe.task_set import SweTasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agenttrace.cluster.objects import Store
    from agenttrace.tasks.swe.prepare import SkippedTask, SweOptions
    from agenttrace.tasks.swe.rows import SweTask
    from agenttrace.tasks.swe.trees import PristineTree

_MOST_BYTES = 4 << 30
_DRAWN = "drawn.json"


class KeptRepository(Record, frozen=True, kw_only=True):
    """Where the tasks of a repository lie: in an object of their own.

    Attributes:
        name: OWNER/NAME.
        drawn: how many of its tasks were.
        sha256: of the object.
    """

    name: str
    drawn: int
    sha256: str


class PreparedRun(Prepared, frozen=True, kw_only=True):
    """What a plan needs to know of the tasks of a run; they lie with their repositories.

    Attributes:
        repositories: in the order of the plan.
    """

    repositories: tuple[KeptRepository, ...]


class _Kept(Record, frozen=True, kw_only=True):
    """Of what was prepared, where the tasks lie; nowhere else where that was written before they had such places."""

    repositories: tuple[KeptRepository, ...] = ()


class KeptTasks:
    """Tasks over checkouts of a run that is in a store, those of one repository at a time.

    Args:
        store: has them.
        run_id: of the run.
        folder: as `bring` left it.
        tasks: those of that folder.

    Raises:
        DataError: the repositories of that folder have not as many tasks as were drawn.
    """

    def __init__(self, store: Store, run_id: str, folder: Path, tasks: SweTasks) -> None:
        self._store, self._run_id, self._folder, self._tasks = store, run_id, folder, tasks
        try:
            self._repositories = msgspec.json.decode((folder / FILE).read_bytes(), type=_Kept).repositories
        except DECODE_ERRORS as error:
            raise DataError(f"{store.url}/{_prepared(run_id)} is damaged ({error}); remove it {_again()}") from error
        drawn = [one.drawn for one in self._repositories]
        self._ends = [*itertools.accumulate(drawn)]
        self._read = -1
        if drawn and (sum(drawn) != len(tasks.drawn) or min(drawn) < 1):
            what = f"{store.url}/{_prepared(run_id)} is of {len(tasks.drawn)} tasks"
            raise DataError(f"{what}, its repositories have {' + '.join(map(str, drawn[:9]))}; remove it {_again()}")

    def of(self, place: int) -> SweTasks:
        """Return the tasks of the repository of a task, which has this place in the draw.

        Raises:
            DataError: they are damaged, or others than those that the run was planned with.
            StorageError: the store cannot be read.
        """
        if self._ends and (number := bisect.bisect_right(self._ends, place)) != self._read:
            found = self._of_repository(number)
            prepared = Prepared(dataset=self._tasks.whole, tasks=found.tasks, skipped=self._tasks.skipped)
            self._tasks, self._read = SweTasks(self._folder, prepared), number
        return self._tasks

    def _of_repository(self, number: int) -> OfRepository:
        repository, end = self._repositories[number], self._ends[number]
        name = _repository(self._run_id, repository.name)
        data = self._store.get(name, most=MOST_BYTES) or b""
        if hashlib.sha256(data).hexdigest() != repository.sha256:
            what = f"{self._store.url}/{name} is damaged, or another one than when the tasks were prepared"
            raise DataError(f"{what}; restore it, or remove {_prepared(self._run_id)} {_again()}")
        found = _decoded(self._store, name, data)
        known = {one.task.instance_id for one in found.tasks} | {one.instance_id for one in found.skipped}
        if missing := [one for one in self._tasks.drawn[end - repository.drawn : end] if one not in known]:
            what = f"{self._store.url}/{name} lacks {missing[0]}, one of the tasks drawn for its place"
            raise DataError(f"{what} in {_prepared(self._run_id)}; remove both {_again()}")
        return found


def prepare_run(
    store: Store,
    run_id: str,
    options: SweOptions,
    *,
    repositories: str | None,
    workers: int,
    report: Callable[[str], None],
) -> PreparedRun:
    """Put the tasks of a run and their trees into its store, those that are not there yet; return what is known of all.

    Args:
        store: gets them.
        run_id: of the run.
        options: which tasks are drawn.
        repositories: where they come from; see `PreparePlaces`.
        workers: repositories at a time.
        report: gets a line for people about each task.

    Raises:
        UsageError: others were drawn for this run, or the source is not what it must be.
        DataError: no task has a tree, or what lies there is damaged.
        StorageError: the store cannot be used.
    """
    check_store(store)
    made: dict[int, tuple[KeptRepository, tuple[SkippedTask, ...]]] = {}
    with drawn(options, report) as (dataset, repos):
        if not store.create(f"{_folder(run_id)}/{_DRAWN}", msgspec.json.encode(dataset)):
            raise UsageError(f"run id {run_id}: {store.url} has other tasks for it; choose another --run-id")
        begun = random.randrange(len(repos))  # noqa: S311 - machines that begin together meet little of each other's

        def make(number: int) -> None:
            made[number] = _of_repository(store, run_id, repos[number](), options, repositories, report)

        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(make, [*range(begun, len(repos)), *range(begun)]))
    in_order = [made[number] for number in range(len(repos))]
    skipped = tuple(one for _, of_repo in in_order for one in of_repo)
    check_trees(dataset, skipped)
    kept = tuple(one for one, _ in in_order)
    prepared = PreparedRun(dataset=dataset, tasks=(), skipped=skipped, repositories=kept)
    store.create(_prepared(run_id), _compressed(prepared))
    return prepared


def _folder(run_id: str) -> str:
    return f"{run_id}/prepared"


def _prepared(run_id: str) -> str:
    return f"{run_id}/{FILE}.zst"


def _repository(run_id: str, name: str) -> str:
    return f"{_folder(run_id)}/{name}.json.zst"


def _of_repository(
    store: Store,
    run_id: str,
    tasks: tuple[SweTask, ...],
    options: SweOptions,
    repositories: str | None,
    report: Callable[[str], None],
) -> tuple[KeptRepository, tuple[SkippedTask, ...]]:
    """Return what became of the tasks of one repository, as the machine says that was done with it first."""
    name = _repository(run_id, tasks[0].repo)
    if (data := store.get(name, most=MOST_BYTES)) is None:
        with tempfile.TemporaryDirectory(prefix="agenttrace-trees-") as scratch:
            places = PreparePlaces(trees=Path(scratch), cache=Path(scratch, ".cache"), repositories=repositories)

            def keep(tree: PristineTree) -> None:
                keep_tree(store, run_id, tree, places.trees / tree.name)
                (places.trees / f".{tree.name}.json").unlink()
                shutil.rmtree(places.trees / tree.name)  # there may be thousands of one repository

            data = _compressed(of_repository(tasks, options, places, report, made=keep))
        if not store.create(name, data):
            data = store.get(name, most=MOST_BYTES) or b""
    kept = KeptRepository(name=tasks[0].repo, drawn=len(tasks), sha256=hashlib.sha256(data).hexdigest())
    return kept, _decoded(store, name, data).skipped


def _decoded(store: Store, name: str, data: bytes) -> OfRepository:
    try:
        return msgspec.json.decode(b"".join(_plain([data])), type=OfRepository)
    except (ValueError, EOFError, *DECODE_ERRORS) as error:
        raise DataError(f"{store.url}/{name} is damaged ({error}); remove it {_again()}") from error


def _again() -> str:
    return f"and run {command('cluster', 'prepare')} again"


def _compressed(value: msgspec.Struct) -> bytes:
    import zstandard  # noqa: PLC0415 - heavy

    return zstandard.ZstdCompressor(write_checksum=True).compress(msgspec.json.encode(value))


def _plain(parts: Iterable[bytes]) -> Iterable[bytes]:
    given, every = 0, iter(parts)
    for part in unzstd(lambda _: next(every, b"")):
        given += len(part)
        if given > _MOST_BYTES:
            raise ValueError(f"unpacks to more than {_MOST_BYTES >> 30} GiB")
        yield part


def bring(store: Store, run_id: str | None, dataset: str, *, trees: Path | None, scratch: Path) -> Path | None:
    """Bring the tasks of a run to this machine, where the store has them, and return the folder to find them in.

    Args:
        store: of the run.
        run_id: of it.
        dataset: name of its task set.
        trees: the machine's own folder; where the store has nothing, all was prepared there by hand.
        scratch: gets tasks whose trees come one by one, when a shard needs them (`NodeTrees`).

    Raises:
        DataError: what is in the store is damaged.
        StorageError: the store cannot be read.
    """
    kind, _, sha256 = dataset.partition(":")
    if run_id is None or trees is None or kind not in {OWN, SWE}:
        return trees
    if kind == OWN:
        there = pack_path(trees, sha256).is_file()
        packed = None if there else store.get(tasks_object(run_id), most=MOST_BYTES)
        if packed is not None:
            trees.mkdir(parents=True, exist_ok=True)
            with (trees / ".laying-out.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                try:
                    found = lay_out(packed, trees)
                except UsageError as error:
                    raise DataError(f"{store.url}/{tasks_object(run_id)} is damaged: {error}") from error
            if found.sha256 != sha256:
                raise DataError(f"{store.url}/{tasks_object(run_id)} is another task set than {dataset}")
        return trees
    data = store.get(_prepared(run_id), most=MOST_BYTES)
    if data is None:
        return trees
    folder = scratch / "tasks"
    folder.mkdir()
    try:
        with (folder / FILE).open("wb") as file:
            file.writelines(_plain([data]))
    except (ValueError, EOFError) as error:
        raise DataError(f"{store.url}/{_prepared(run_id)} is damaged ({error})") from error
    return folder
