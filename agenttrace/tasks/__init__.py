"""Task sets: where tasks come from and who judges a finished one. `TASK_SETS` names all of them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import msgspec
from msgspec import UNSET

from agenttrace.errors import UsageError, did_you_mean
from agenttrace.fixture.version import fixture_version
from agenttrace.records import DatasetSpec, Outcome, Record, Span, Verdict, solved

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agenttrace.records import SandboxSpec
    from agenttrace.tasks.bench import Bench
    from agenttrace.tasks.sources import SourceFile

T = TypeVar("T")
TASK_SETS: dict[str, str] = {
    "demo": "agenttrace.tasks.demo:DemoTasks",
    "mbpp": "agenttrace.tasks.mbpp:MBPPTasks",
    "nl2bash": "agenttrace.tasks.nl2bash:NL2BashTasks",
    "swe": "agenttrace.tasks.swe.task_set:SweTasks",
    "own": "agenttrace.tasks.own.task_set:OwnTasks",
}
"""Name of a task set → what makes it; only the chosen one is loaded."""
SWE = "swe"
"""The set whose tasks are drawn from checkouts of repositories; in a run spec it stands under its source's own name."""
OWN = "own"
"""The sets that users write: `own:SHA256` of each; in a run spec it stands under its own name."""


class Task(Record, frozen=True, kw_only=True):
    """One task.

    Attributes:
        task_id: the number or name that, with the data set's name, identifies it.
        name: short name for people.
        prompt: what the model is asked.
        kind: group for tables, such as `shell`.
        expect: what the judge needs; its form is the task set's own business.
        solvable: false for a task that the demo model is meant to fail.
        rollout: how many times it was run before in the same campaign.
        fields: what templates of a prompt can name beside `problem_statement`.
        facts: what a record's metadata says of the task beside its names.
        fixture: name of a tree of its own; `None` is that of the task set.
        fixture_digest: of that tree.
    """

    task_id: int | str
    name: str
    prompt: str
    kind: str
    expect: dict[str, Any]
    solvable: bool = True
    rollout: int = 0
    fields: dict[str, str] = msgspec.field(default_factory=dict)
    facts: dict[str, Any] = msgspec.field(default_factory=dict)
    fixture: str | None = None
    fixture_digest: str | None = None

    def sandbox(self, spec: SandboxSpec) -> SandboxSpec:
        """Return where its tools run: the run spec's sandbox, with the task's own tree where it has one."""
        if self.fixture is None:
            return spec
        return msgspec.structs.replace(spec, fixture=self.fixture, fixture_version=self.fixture_digest or "")


class Finished(Record, frozen=True, kw_only=True):
    """What a judge sees of a finished run.

    Attributes:
        outcome: how it ended, the final answer, and what it left behind.
        spans: the tool calls in order.
    """

    outcome: Outcome
    spans: tuple[Span, ...]


class Judgement(Record, frozen=True, kw_only=True):
    """What a judge says: one verdict per aspect, and figures of other graders under their own names."""

    verdicts: tuple[Verdict, ...]
    scores: dict[str, float] = msgspec.field(default_factory=dict)

    def on(self, outcome: Outcome) -> Outcome:
        """Return an outcome with the verdicts, whether they make the task solved, and the scores."""
        found, scores = self.verdicts, self.scores
        return msgspec.structs.replace(outcome, verdicts=found, solved=solved(found), scores=scores)


class TaskSet(Protocol):
    """A named, pinned list of tasks; one that only judges in its own way derives from this and says no more.

    Attributes:
        whole: what a run spec says of all of it.
        listed: all of its tasks, in order.
        fixture: name of the tree the tools work in, in the run spec.
        clock: instant at which the clock of the tools stands; `None` is the real clock.
        policy: of the sandbox that its tools run in.
        agent: that works on it unless another one is asked for.
        brings_trees: the trees of its tasks are none of the image's fixtures.
        files: of others, which it reads.
    """

    whole: DatasetSpec
    listed: tuple[Task, ...]
    fixture: str
    clock: str | None = None
    policy: str = "shell"
    agent: str = "tool_calling"
    brings_trees: bool = False
    files: tuple[SourceFile, ...] = ()

    def spec(self, *, offset: int = 0, count: int | None = None) -> DatasetSpec:
        """Return what a run spec says of this set and the chosen range."""
        chosen = self.tasks(offset=offset, count=count)
        return msgspec.structs.replace(self.whole, offset=offset, count=len(chosen))

    def tasks(self, *, offset: int = 0, count: int | None = None) -> tuple[Task, ...]:
        """Return `count` tasks from `offset` on, in order (all that follow when `count` is `None`).

        Raises:
            UsageError: the range is empty or outside the set.
        """
        return tuple(self.within(self.listed, offset=offset, count=count))

    def within(self, whole: Sequence[T], *, offset: int, count: int | None) -> Sequence[T]:
        """Return the chosen range of what there is of every task of the set, in order.

        Raises:
            UsageError: the range is empty or outside the set.
        """
        if not 0 <= offset < len(whole) or (count is not None and count < 1):
            raise UsageError(
                f"task set {self.whole.name} has tasks 0 to {len(whole) - 1}: "
                f"offset {offset} with {'all' if count is None else count} tasks is outside"
            )
        return whole[offset : None if count is None else offset + count]

    def fixture_version(self) -> str:
        """Return the digest of the fixture, or what stands for those of the tasks' own trees."""
        return fixture_version(self.fixture)

    def packed(self) -> bytes | None:
        """Return what must lie beside records of the set for others to judge and replay them; `None` is nothing."""
        return None

    def observe(self, outcome: Outcome, task: Task, bench: Bench) -> Outcome:  # noqa: ARG002 - the bench knows the tree
        """Return an outcome with what the run left behind in the bench's tree: the paths that differ."""
        return msgspec.structs.replace(outcome, changes=bench.changes())

    def unobserved(self, outcome: Outcome, task: Task) -> Outcome:  # noqa: ARG002 - as in `observe`
        """Return an outcome whose tree was lost, with what stands for it."""
        return outcome

    def assess(self, task: Task, finished: Finished, bench: Bench) -> Judgement:
        """Return one verdict per aspect of a finished task; may use the bench, whose tree is free by now."""
        ...


def task_set(name: str, *, trees: Path | None = None) -> TaskSet:
    """Return the task set of that name.

    Args:
        name: of the set.
        trees: folder of prepared tasks, for the sets that need one.

    Raises:
        UsageError: there is none.
        SourceError: its files cannot be had, or are not the pinned ones.
    """
    made = _kind(name)
    kind, _, sha256 = name.partition(":")
    if kind == OWN:
        return cast("TaskSet", made.in_folder(trees, sha256))
    return cast("TaskSet", made(trees) if name == SWE else made())


def files_of(name: str) -> tuple[SourceFile, ...]:
    """Return the files of others that the task set of that name reads, without reading them.

    Raises:
        UsageError: there is none of that name.
    """
    return cast("tuple[SourceFile, ...]", _kind(name).files)


def _kind(name: str) -> Any:  # noqa: ANN401 - a class, or what makes a set
    check_name(name)
    module, _, attribute = TASK_SETS[name.partition(":")[0]].partition(":")
    return getattr(import_module(module), attribute)


def check_name(name: str) -> None:
    """Refuse the name of no task set.

    Raises:
        UsageError: names those that there are.
    """
    kind, _, sha256 = name.partition(":")
    if kind not in TASK_SETS or (kind == OWN) != bool(sha256):
        names = [one for one in TASK_SETS if one != OWN]
        known = f"known: {', '.join(names)}, or the path of a set of your own"
        raise UsageError(f"unknown task set {name!r}; {known}{did_you_mean(name, names)}")


def set_name(dataset: DatasetSpec) -> str:
    """Return the name by which `task_set` knows the set that a run spec describes."""
    if dataset.source == OWN:
        return f"{OWN}:{dataset.sha256}"
    return dataset.name if dataset.sampling is UNSET else SWE
