"""The task set `swe`: issues over checkouts of real repositories, each task in a tree of its own.

The tasks and their trees were prepared before (`agenttrace.tasks.swe.prepare`); a run is judged by the patch that its
final tree is away from the pristine one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from agenttrace.errors import DataError
from agenttrace.tasks import Judgement, Task, TaskSet
from agenttrace.tasks.swe import git, patches, trees
from agenttrace.tasks.swe.prepare import load_prepared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agenttrace.records import DatasetSpec, Outcome
    from agenttrace.tasks import Finished
    from agenttrace.tasks.bench import Bench
    from agenttrace.tasks.swe.prepare import Prepared, ReadyTask, SkippedTask
    from agenttrace.tasks.swe.rows import SweTask
    from agenttrace.tasks.swe.trees import PristineTree

TREES = Path("/trees")
"""Where the collector's container has prepared tasks and their trees."""


class SweTasks(TaskSet):
    """The task set `swe`.

    Args:
        folder: trees and tasks, as `prepare` left them.
        prepared: the tasks, where they do not lie there.

    Attributes:
        skipped: tasks of the plan that have no tree, and why.

    Raises:
        UsageError: nothing was prepared.
        DataError: it is of another version.
    """

    policy = "execution_free"
    agent = "bash_block"
    fixture = "checkout"
    brings_trees = True

    def __init__(self, folder: Path | None = None, prepared: Prepared | None = None) -> None:
        self._folder = folder or TREES
        prepared = prepared or load_prepared(self._folder)
        self.skipped: tuple[SkippedTask, ...] = prepared.skipped
        self._ready = {ready.task.instance_id: ready for ready in prepared.tasks}
        self.listed = tuple(_task(ready) for ready in prepared.tasks)
        self.whole = prepared.dataset

    def spec(self, *, offset: int = 0, count: int | None = None) -> DatasetSpec:
        """Return what a run spec says of the chosen range of what was drawn.

        A repository that cannot be had today makes no other campaign: tasks without a tree count as well.
        """
        return msgspec.structs.replace(self.whole, offset=offset, count=len(self._names(offset, count)))

    def tasks(self, *, offset: int = 0, count: int | None = None) -> tuple[Task, ...]:
        """Return the tasks of the chosen range that have a tree, those of them that are here.

        Raises:
            UsageError: the range is empty or outside what was drawn.
            DataError: none of its tasks has a tree.
        """
        names = frozenset(self._names(offset, count))
        if names.issubset(one.instance_id for one in self.skipped):
            raise DataError(f"no tree could be made for any of the {len(names)} tasks from number {offset} on")
        return tuple(task for task in self.listed if task.task_id in names)

    @property
    def drawn(self) -> tuple[str, ...]:
        """The names of all tasks of the plan, those without a tree, too."""
        return () if self.whole.sampling is UNSET else self.whole.sampling.task_ids

    def _names(self, offset: int, count: int | None) -> Sequence[str]:
        return self.within(self.drawn, offset=offset, count=count)

    def fixture_version(self) -> str:
        """Return the version of what makes trees; each tree's digest is in its records."""
        return f"trees-v{trees.VERSION}"

    def observe(self, outcome: Outcome, task: Task, bench: Bench) -> Outcome:
        """Return an outcome with the patch, made from the kit's own objects, and what it leaves out."""
        changed = bench.changed_files(patches.LEFT_OUT)
        try:
            patch, note = patches.diff(self._tree(task), changed)
        except git.GitError as error:
            patch, note = None, str(error)
        return msgspec.structs.replace(outcome, patch=patch, patch_note=note)

    def unobserved(self, outcome: Outcome, task: Task) -> Outcome:  # noqa: ARG002 - as in every set
        """Return an outcome without a patch, and why there is none."""
        return msgspec.structs.replace(outcome, patch=None, patch_note="the sandbox was lost, and the tree with it")

    def assess(self, task: Task, finished: Finished, bench: Bench) -> Judgement:  # noqa: ARG002 - nothing is run
        """Return the verdict `patch`; see `patches.judge`."""
        found = finished.outcome
        row = self._ready[str(task.task_id)].task
        patch = None if found.patch is UNSET else found.patch
        verdict = patches.judge(self._tree(task), row, patch, found.patch_note or None, source=self.whole.source)
        return Judgement(verdicts=(verdict,))

    def pristine(self, task: Task) -> PristineTree:
        """Return the tree that a task's runs start from."""
        return self._ready[str(task.task_id)].tree

    def _tree(self, task: Task) -> Path:
        if task.fixture is None:
            raise DataError(f"task {task.task_id} has no tree")
        return self._folder / task.fixture


def task_of(row: SweTask, language: str) -> Task:
    """Return the task that a row describes, as far as no tree is needed for it."""
    interface = f"\n## Relevant Interface\n\n{row.interface}\n" if row.interface else ""
    return Task(
        task_id=row.instance_id,
        name=row.instance_id,
        prompt=f"{row.problem_statement}\n{interface}",
        kind="swe",
        expect={},
        fields={
            "repo": row.repo,
            "language": language,
            "base_commit": row.base_commit,
            "problem_statement": row.problem_statement,
            "interface": interface,
        },
    )


def _task(ready: ReadyTask) -> Task:
    row, tree = ready.task, ready.tree
    return msgspec.structs.replace(
        task_of(row, ready.language),
        facts={
            "repo": row.repo,
            "base_commit": row.base_commit,
            "language": ready.language,
            "language_source": "dataset" if row.language else "tree",
            "tree_digest": tree.digest,
            "hidden_tests": msgspec.to_builtins(tree.hidden_tests),
        },
        fixture=tree.name,
        fixture_digest=tree.digest,
    )
