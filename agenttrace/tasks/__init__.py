"""Task sets: where tasks come from and who judges a finished one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from agenttrace.errors import UsageError
from agenttrace.records import DatasetSpec, Record, Verdict

if TYPE_CHECKING:
    from agenttrace.sandbox.reports import TreeEntry

__all__ = ["Task", "TaskSet", "solved", "task_set"]


class Task(Record, frozen=True, kw_only=True):
    """One task.

    Attributes:
        task_id: the number that, with the data set's name, identifies it.
        name: short name for people.
        prompt: what the model is asked.
        kind: group for tables, such as `shell`.
        expect: what the judge needs; its form is the task set's own business.
        solvable: false for a task that the demo model is meant to fail.
    """

    task_id: int
    name: str
    prompt: str
    kind: str
    expect: dict[str, Any]
    solvable: bool = True


class TaskSet(Protocol):
    """A named, pinned list of tasks over one fixture."""

    fixture: str

    def spec(self, *, offset: int = 0, count: int | None = None) -> DatasetSpec:
        """Return what a run spec says of this set and the chosen range."""
        ...

    def tasks(self, *, offset: int = 0, count: int | None = None) -> tuple[Task, ...]:
        """Return the tasks of a range, in order."""
        ...

    def judge(
        self, task: Task, answer: str | None, before: tuple[TreeEntry, ...], after: tuple[TreeEntry, ...]
    ) -> tuple[Verdict, ...]:
        """Return one verdict per aspect of a finished task."""
        ...


def task_set(name: str) -> TaskSet:
    """Return the task set of that name.

    Raises:
        UsageError: there is none.
    """
    if name != "demo":
        raise UsageError(f"unknown data set {name!r}; known: demo")
    from agenttrace.tasks.demo import DemoTasks  # noqa: PLC0415 - only the chosen set is loaded

    return DemoTasks()


def solved(verdicts: tuple[Verdict, ...]) -> bool | None:
    """Return whether every gradable aspect passed; `None` when no aspect could be graded."""
    graded = [verdict.verdict for verdict in verdicts if verdict.verdict != "not_gradable"]
    return all(verdict == "passed" for verdict in graded) if graded else None
