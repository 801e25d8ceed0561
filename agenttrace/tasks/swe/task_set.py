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
from agenttrace.records import DatasetSpec
from agenttrace.tasks import Evidence, Judgement, Task, chosen
from agenttrace.tasks.swe import git, patches, trees
from agenttrace.tasks.swe.prepare import load_prepared
from agenttrace.tasks.swe.verdict import judge

if TYPE_CHECKING:
    from agenttrace.tasks import Bench, Finished
    from agenttrace.tasks.swe.prepare import ReadyTask, SkippedTask
    from agenttrace.tasks.swe.task import SweTask

TREES = Path("/trees")
"""Where the collector's container has prepared tasks and their trees."""


class SweTasks:
    """The task set `swe`.

    Args:
        folder: trees and tasks, as `prepare` left them.

    Attributes:
        skipped: tasks of the plan that have no tree, and why.

    Raises:
        UsageError: nothing was prepared.
        DataError: it is of another version.
    """

    policy = "execution_free"
    agent = "bash_block"
    fixture = "checkout"
    clock: str | None = None

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or TREES
        self._prepared = load_prepared(self._folder)
        self.skipped: tuple[SkippedTask, ...] = self._prepared.skipped
        self._ready = {ready.task.instance_id: ready for ready in self._prepared.tasks}
        self._tasks = tuple(_task(ready) for ready in self._prepared.tasks)

    def fixture_version(self) -> str:
        """Return the version of what makes trees; each tree's digest is in its records."""
        return f"trees-v{trees.VERSION}"

    def spec(self, *, offset: int = 0, count: int | None = None) -> DatasetSpec:
        """Return the source of the rows, what was drawn of them, and the chosen range of that."""
        source = self._prepared.source
        return DatasetSpec(
            name=source.name,
            split=source.split,
            source=source.source,
            sha256=source.sha256,
            offset=offset,
            count=len(self.tasks(offset=offset, count=count)),
            sampling=self._prepared.sampling,
        )

    def tasks(self, *, offset: int = 0, count: int | None = None) -> tuple[Task, ...]:
        """Return `count` of the tasks that have a tree from `offset` on (all that follow when `count` is `None`).

        Raises:
            UsageError: the range is empty or outside the set.
        """
        return chosen(self._prepared.source.name, self._tasks, offset=offset, count=count)

    def observe(self, task: Task, bench: Bench) -> Evidence:
        """Return the patch, made from the kit's own objects, and what it leaves out."""
        changed = bench.changed_files(patches.LEFT_OUT)
        try:
            patch, note = patches.diff(self._tree(task), changed)
        except git.GitError as error:
            patch, note = None, str(error)
        return Evidence(patch=patch, patch_note=note)

    def assess(self, task: Task, finished: Finished, bench: Bench) -> Judgement:  # noqa: ARG002 - nothing is run
        """Return the verdict `patch`; see `agenttrace.tasks.swe.verdict`."""
        found = finished.evidence
        row = self._ready[str(task.task_id)].task
        patch = None if found.patch is UNSET else found.patch
        source = self._prepared.source.source
        verdict = judge(self._tree(task), row, patch, found.patch_note or None, source=source)
        return Judgement(verdicts=(verdict,))

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
