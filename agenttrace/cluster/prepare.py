"""What tasks with trees start from, made before a run, kept in its store, and brought to the machines from there.

Trees of checkouts are made one repository at a time, each fetched once, on whichever machines the command is started:
what became of a repository's tasks is an object, made once, and who finds it leaves that repository alone.
"""

from __future__ import annotations

import fcntl
import random
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agenttrace.cluster.nodetrees import keep_tree
from agenttrace.cluster.objects import check_store
from agenttrace.cluster.runs import tasks_object
from agenttrace.errors import DataError, UsageError, command
from agenttrace.store.read import DECODE_ERRORS, unzstd
from agenttrace.tasks import OWN, SWE
from agenttrace.tasks.own.task_set import lay_out, pack_path
from agenttrace.tasks.swe.prepare import FILE, OfRepository, PreparePlaces, drawn, gathered, of_repository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agenttrace.cluster.objects import Store
    from agenttrace.tasks.swe.prepare import Prepared, SweOptions
    from agenttrace.tasks.swe.rows import SweTask
    from agenttrace.tasks.swe.trees import PristineTree

_MOST_BYTES = 4 << 30
_DRAWN = "drawn.json"


def prepare_run(
    store: Store,
    run_id: str,
    options: SweOptions,
    *,
    repositories: str | None,
    workers: int,
    report: Callable[[str], None],
) -> Prepared:
    """Put the tasks of a run and their trees into its store, those that are not there yet, and return the tasks.

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
    dataset, repos = drawn(options, report)
    if not store.create(f"{_folder(run_id)}/{_DRAWN}", msgspec.json.encode(dataset)):
        raise UsageError(f"run id {run_id}: {store.url} has other tasks for it; choose another --run-id")
    begun = random.randrange(len(repos))  # noqa: S311 - machines that begin together meet little of each other's work
    made: dict[int, OfRepository] = {}

    def make(number: int) -> None:
        made[number] = _of_repository(store, run_id, repos[number], options, repositories, report)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(make, [*range(begun, len(repos)), *range(begun)]))
    prepared = gathered(dataset, [made[number] for number in range(len(repos))])
    store.create(_prepared(run_id), _compressed(prepared))
    return prepared


def _folder(run_id: str) -> str:
    return f"{run_id}/prepared"


def _prepared(run_id: str) -> str:
    return f"{run_id}/{FILE}.zst"


def _of_repository(
    store: Store,
    run_id: str,
    tasks: tuple[SweTask, ...],
    options: SweOptions,
    repositories: str | None,
    report: Callable[[str], None],
) -> OfRepository:
    """Return what became of the tasks of one repository, as the machine says that was done with it first."""
    name = f"{_folder(run_id)}/{tasks[0].repo}.json.zst"
    if (found := store.get(name)) is None:
        with tempfile.TemporaryDirectory(prefix="agenttrace-trees-") as scratch:
            places = PreparePlaces(trees=Path(scratch), cache=Path(scratch, ".cache"), repositories=repositories)

            def keep(tree: PristineTree) -> None:
                keep_tree(store, run_id, tree, places.trees / tree.name)
                (places.trees / f".{tree.name}.json").unlink()
                shutil.rmtree(places.trees / tree.name)  # there may be thousands of one repository

            made = of_repository(tasks, options, places, report, made=keep)
        if store.create(name, _compressed(made)):
            return made
        found = store.get(name) or b""
    try:
        return msgspec.json.decode(b"".join(_plain([found])), type=OfRepository)
    except (ValueError, EOFError, *DECODE_ERRORS) as error:
        what = f"{store.url}/{name} is damaged ({error})"
        raise DataError(f"{what}; remove it and run {command('cluster', 'prepare')} again") from error


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
        if not pack_path(trees, sha256).is_file() and (packed := store.get(tasks_object(run_id))) is not None:
            trees.mkdir(parents=True, exist_ok=True)
            with (trees / ".laying-out.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                lay_out(packed, trees)
        return trees
    data = store.get(_prepared(run_id))
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
