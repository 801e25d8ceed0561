"""Makes what tasks over checkouts start from, before the first: rows, the sampling plan, repositories, pristine trees.

Runs where the outside can be reached and nothing of a repository is ever run; the collector, which has no way out,
finds trees and tasks in one read-only folder.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import random
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import AgentTraceError, DataError, UsageError
from agenttrace.records import DatasetSpec, SamplingPlan
from agenttrace.records.base import Record
from agenttrace.store.jsonl import write_whole
from agenttrace.tasks.swe import repositories, rows, trees
from agenttrace.tasks.swe.rows import SweTask
from agenttrace.tasks.swe.trees import PristineTree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import IO

FILE = "prepared.json"
AT_A_TIME = 2
"""Repositories worked on at a time: what takes long is to fetch them."""
_REASON_CHARS = 300


class SweOptions(Record, frozen=True, kw_only=True):
    """Which tasks people ask for.

    Attributes:
        source: where the rows come from; see `agenttrace.tasks.swe.rows.open_source`.
        split: of the data set.
        languages: only tasks in one of these; empty is all.
        hidden_tests: lay the hidden tests into the trees.
        repos: repositories to draw; `None` is all.
        per_repo: tasks of each; `None` is all.
        seed: of the draw.
    """

    source: str = rows.BUNDLED
    split: str = "train"
    languages: tuple[str, ...] = ()
    hidden_tests: bool = False
    repos: int | None = None
    per_repo: int | None = None
    seed: int = 7


class ReadyTask(Record, frozen=True, kw_only=True):
    """A task and the tree that its runs start from."""

    task: SweTask
    tree: PristineTree

    @property
    def language(self) -> str:
        """The row's language, or the tree's where the row names none."""
        return self.task.language or self.tree.language


class SkippedTask(Record, frozen=True, kw_only=True):
    """A task of the plan that has no tree, and why."""

    instance_id: str
    repo: str
    base_commit: str
    reason: str


class OfRepository(Record, frozen=True, kw_only=True):
    """What became of the tasks of one repository, in the order of the plan."""

    tasks: tuple[ReadyTask, ...]
    skipped: tuple[SkippedTask, ...] = ()


class Prepared(Record, frozen=True, kw_only=True):
    """Everything that the collector needs to know of the tasks, in the order of the plan."""

    dataset: DatasetSpec
    tasks: tuple[ReadyTask, ...]
    skipped: tuple[SkippedTask, ...] = ()


class PreparePlaces(Record, frozen=True, kw_only=True):
    """Where things lie.

    Attributes:
        trees: gets the trees and `prepared.json`.
        cache: bare repositories, kept between runs.
        repositories: URL with `{repo}`, or folder of mirrors; `None` is GitHub, or the bundled repositories.
    """

    trees: Path
    cache: Path
    repositories: str | None = None


def prepare(options: SweOptions, places: PreparePlaces, report: Callable[[str], None]) -> Prepared:
    """Return what was made, written to `prepared.json` as well; several repositories are worked on at a time.

    A task that has no tree (commit gone, too large, malformed) is told to `report`, recorded and left out.

    Raises:
        UsageError: the source, the sampling or the place of the repositories is not what it must be.
        DataError: a row is no task, or no task at all could be made.
    """
    numbers = itertools.count(1)
    with drawn(options, report, folder=places.trees) as (dataset, repos), ThreadPoolExecutor(AT_A_TIME) as pool:

        def tell(line: str) -> None:
            report(f"[{next(numbers)}/{dataset.count}] {line}")

        found = pool.map(lambda tasks: of_repository(tasks(), options, places, tell), repos)
        prepared = gathered(dataset, found)
    write_whole(places.trees / FILE, msgspec.json.encode(prepared))
    return prepared


@contextlib.contextmanager
def drawn(
    options: SweOptions, report: Callable[[str], None], *, folder: Path | None = None
) -> Iterator[tuple[DatasetSpec, list[Callable[[], tuple[SweTask, ...]]]]]:
    """Yield what the run spec says of the tasks that are drawn, and, in the plan's order, what reads a repository's.

    Args:
        options: which tasks.
        report: gets a line for people.
        folder: holds the rows meanwhile, which may be more than memory can; `None` is the system's for such.

    Raises:
        UsageError: the source or the sampling is not what it must be.
        DataError: a row is no task.
    """
    source, tasks = rows.open_source(options.source, split=options.split)
    left_out: Counter[str] = Counter()
    plan = draw(tasks(left_out), options)
    for column, count in left_out.items():
        report(f"{count} rows of {options.source} are left out: {column} is missing or empty")
    names = frozenset(plan.task_ids)
    at: dict[str, tuple[str, int, int]] = {}
    with tempfile.TemporaryFile(dir=folder, prefix=".rows-") as file:
        for task in tasks(Counter()):
            if task.instance_id in names:
                at[task.instance_id] = task.repo, file.tell(), file.write(msgspec.json.encode(task))
        file.flush()
        in_order = (at[name] for name in plan.task_ids)
        by_repo = itertools.groupby(in_order, key=lambda where: where[0])
        repos: list[Callable[[], tuple[SweTask, ...]]] = [
            functools.partial(_rows, file, [*of_repo]) for _, of_repo in by_repo
        ]
        yield msgspec.structs.replace(source, count=len(plan.task_ids), sampling=plan), repos


def _rows(file: IO[bytes], places: Iterable[tuple[str, int, int]]) -> tuple[SweTask, ...]:
    data = (os.pread(file.fileno(), size, start) for _, start, size in places)
    return tuple(msgspec.json.decode(one, type=SweTask) for one in data)


def of_repository(
    tasks: Iterable[SweTask],
    options: SweOptions,
    places: PreparePlaces,
    report: Callable[[str], None],
    *,
    made: Callable[[PristineTree], None] = lambda _: None,
) -> OfRepository:
    """Make the trees of the tasks of one repository, which is fetched once, and return what became of them.

    Args:
        tasks: of the repository.
        options: which were asked for.
        places: where trees go.
        report: gets a line for people about each task.
        made: gets each tree; what it raises is raised here.

    Raises:
        UsageError: the place of the repositories is not what it must be.
    """
    ready: list[ReadyTask] = []
    skipped: list[SkippedTask] = []
    for task in tasks:
        try:
            tree = _tree(task, options, places)
        except UsageError:
            raise
        except (AgentTraceError, OSError) as error:
            reason = " ".join(str(error).split())[:_REASON_CHARS]
            named = {"instance_id": task.instance_id, "repo": task.repo, "base_commit": task.base_commit}
            skipped.append(SkippedTask(**named, reason=reason))
            report(f"{task.instance_id}: left out: {reason}")
        else:
            made(tree)
            ready.append(ReadyTask(task=_needed(task, options), tree=tree))
            report(f"{task.instance_id}: {tree.files} files, {tree.bytes / 2**20:.1f} MiB")
    return OfRepository(tasks=tuple(ready), skipped=tuple(skipped))


def gathered(dataset: DatasetSpec, repos: Iterable[OfRepository]) -> Prepared:
    """Return what became of all tasks of the plan; repositories come in its order.

    Raises:
        DataError: none of them has a tree.
    """
    every = [*repos]
    ready = tuple(one for of_repo in every for one in of_repo.tasks)
    skipped = tuple(one for of_repo in every for one in of_repo.skipped)
    check_trees(dataset, skipped)
    return Prepared(dataset=dataset, tasks=ready, skipped=skipped)


def check_trees(dataset: DatasetSpec, skipped: Sequence[SkippedTask]) -> None:
    """Refuse a plan of which no task has a tree.

    Raises:
        DataError: with the reason of the first.
    """
    if len(skipped) == dataset.count:
        raise DataError(f"no tree could be made for any of {len(skipped)} tasks; the first: {skipped[0].reason}")


def draw(tasks: Iterable[SweTask], options: SweOptions) -> SamplingPlan:
    """Return the plan: drawn once, by a seeded generator, from what is sorted first, and grouped by repository.

    The same rows, in any order and on any machine, give the same plan. Only repositories with `per_repo` tasks or more
    take part, as upstream does it.

    Args:
        tasks: every task of the set; read once, of each only the names are kept.
        options: how many and which; `hidden_tests` is kept in the plan and does not change the draw.

    Raises:
        UsageError: a number is below 1, or there are fewer repositories or tasks than asked for.
    """
    repos, per_repo = options.repos, options.per_repo
    for name, value in (("--repos", repos), ("--per-repo", per_repo)):
        if value is not None and value < 1:
            raise UsageError(f"{name} {value}: expected 1 or more")
    wanted = {language.lower() for language in options.languages}
    by_repo: dict[str, list[str]] = {}
    for task in tasks:
        if not wanted or task.language in wanted:
            by_repo.setdefault(task.repo, []).append(task.instance_id)
    eligible = sorted(repo for repo, ids in by_repo.items() if len(ids) >= (per_repo or 1))
    if not eligible or (repos is not None and repos > len(eligible)):
        of = f" with {per_repo} tasks or more" if per_repo else ""
        of += f" whose rows name one of the languages {', '.join(sorted(wanted))}" if wanted else ""
        asked = "1 repository" if (repos or 1) == 1 else f"{repos} repositories"
        raise UsageError(f"{asked} asked for; the task set has {len(eligible)}{of}")
    generator = random.Random(options.seed)  # noqa: S311 - a draw to be repeated, not a secret
    chosen = sorted(generator.sample(eligible, repos)) if repos is not None else eligible
    drawn: list[str] = []
    for repo in chosen:
        ids = sorted(by_repo[repo])
        drawn += sorted(generator.sample(ids, per_repo)) if per_repo is not None else ids
    return SamplingPlan(
        seed=options.seed,
        repos=repos,
        per_repo=per_repo,
        languages=tuple(sorted(wanted)),
        hidden_tests=options.hidden_tests,
        task_ids=tuple(drawn),
    )


def _needed(task: SweTask, options: SweOptions) -> SweTask:
    """Return a task without what nobody has a use for: only a bundled task is judged by its reference solution."""
    return msgspec.structs.replace(task, test_patch="", patch=task.patch if options.source == rows.BUNDLED else "")


def _tree(task: SweTask, options: SweOptions, places: PreparePlaces) -> PristineTree:
    given = places.repositories
    if given is None:
        given = str(rows.BUNDLED_FOLDER) if options.source == rows.BUNDLED else repositories.DEFAULT_SOURCE
    source = repositories.source_of(task.repo, given)
    bare = repositories.ensure(places.cache, task.repo, task.base_commit, source=source)
    return trees.make(bare, task, places.trees, hidden_tests=options.hidden_tests)


def load_prepared(folder: Path) -> Prepared:
    """Return what `prepare` left in a folder.

    Raises:
        UsageError: there is nothing.
        DataError: it is of another version.
    """
    path = folder / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Prepared)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; no tasks were prepared there") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not written by this version: {error}") from error
