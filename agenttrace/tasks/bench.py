"""A sandbox worker as judges use it: a pristine tree for the reference, its calls, and what they changed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from agenttrace.errors import UsageError, WorkerLostError, command
from agenttrace.records import StateChange, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from agenttrace.records import SandboxSpec
    from agenttrace.sandbox.client import Worker
    from agenttrace.sandbox.reports import CallReport, Changes, Tree, TreeEntry
    from agenttrace.tasks import Task

KEEP_BYTES = 1024 * 1024
MAX_CHANGES = 2000
CHECK_MS = 10_000
UNRECORDED = "the final state is not recorded; it differs too much from the pristine one"
"""Why a state failed whose changes are `None`."""


_NAMED = 5


class Bench:
    """A connected worker and the tree it was given.

    Args:
        worker: in use, by nobody else.
        spec: fixture, digest and clock.
        before: entries of the pristine tree, where they are known.
        connect: gives another worker, where one can be had.

    Attributes:
        worn: it hit its memory, or asked to be replaced.
        waited_ns: how long was waited for the pristine tree after it was begun; `None` until it is there.
    """

    def __init__(
        self,
        worker: Worker,
        spec: SandboxSpec,
        before: tuple[TreeEntry, ...] | None = None,
        connect: Callable[[], Worker] | None = None,
    ) -> None:
        self.worker = worker
        self.worn = False
        self.waited_ns: int | None = None
        self._resetting = False
        self._spec = spec
        self._before = before
        self._connect = connect

    def turn_to(self, task: Task, sandbox: SandboxSpec) -> None:
        """Go on over the tree that a task starts from; `sandbox` is that of the run spec."""
        if (spec := task.sandbox(sandbox)) != self._spec:
            self._spec, self._before = spec, None

    def move(self) -> None:
        """Go on with another worker, in no particular state.

        Raises:
            WorkerLostError: there is none.
        """
        self.worker.close()
        if self._connect is None:
            raise WorkerLostError("the worker is gone, and nobody gives another one")
        self.worker = self._connect()
        self.worn = self._resetting = False

    def before(self) -> tuple[TreeEntry, ...]:
        """Return the entries of the pristine tree; resets the worker the first time."""
        if self._before is None:
            self.pristine()
            self._before = self.worker.manifest()
        return self._before

    @property
    def listed(self) -> bool:
        """Whether the entries of the pristine tree are known here; those that another bench learns later are not."""
        return self._before is not None

    def pristine(self) -> None:
        """Reset the worker, without anything meanwhile; raises what `begin` and `ready` do."""
        self.begin()
        self.ready()
        self.waited_ns = 0

    def begin(self) -> None:
        """Have the worker begin to make the tree pristine; what is asked of the bench next waits for the rest.

        Raises:
            UsageError: its image cannot pin the clock.
            WorkerLostError: the worker is gone.
        """
        self.waited_ns = None
        self.worker.begin_reset(self._spec.fixture, clock=self._spec.clock)
        self._resetting = True

    def ready(self) -> None:
        """Wait for the pristine tree, where it was begun.

        Raises:
            UsageError: its image has another fixture than the spec names.
            WorkerLostError: the worker is gone.
        """
        if not self._resetting:
            return
        started, self._resetting = time.monotonic_ns(), False
        report = self.worker.finish_reset()
        self.worn = self.worn or report.recycle_after
        if report.digest != self._spec.fixture_version:
            raise UsageError(
                f"the sandbox has another tree {self._spec.fixture!r} than the run spec "
                f"({report.digest} instead of {self._spec.fixture_version}): run the same command again, and if "
                f"that does not help build the images anew ({command('images')})"
            )
        self.waited_ns = time.monotonic_ns() - started

    def check(self) -> None:
        """See that the worker works.

        Raises:
            WorkerLostError: it does not.
        """
        self.pristine()
        self.call("bash", ":", limit_ms=CHECK_MS)

    def call(
        self, kind: Literal["bash", "python"], code: str, *, limit_ms: int, keep_bytes: int = KEEP_BYTES
    ) -> CallReport:
        """Run code in the tree as it is."""
        self.ready()
        report = self.worker.call(kind, code, limit_ms=limit_ms, keep_bytes=keep_bytes)
        self.worn = self.worn or report.status == "oom"
        return report

    def changes(self) -> tuple[StateChange, ...] | None:
        """Return how the tree differs from the pristine one."""
        self.ready()
        return changes(self._before or (), self.worker.tree())  # `before()` would reset

    def changed_files(self, without: tuple[str, ...]) -> Changes:
        """Return what differs from the pristine tree, with the content of every file."""
        self.ready()
        return self.worker.changes(without=without)


def changes(before: Iterable[TreeEntry], after: Tree) -> tuple[StateChange, ...] | None:
    """Return the paths whose type, mode, content or target differ, sorted by path; time stamps do not count.

    `None` when the listing was cut short or more than 2,000 paths differ: the record would not hold them.
    """
    if after.truncated:
        return None
    old = {entry.path: _as_change(entry) for entry in before}
    new = {entry.path: _as_change(entry) for entry in after.entries}
    gone = [StateChange(path=path, type="absent") for path in old if path not in new]
    found = [*gone, *(change for path, change in new.items() if old.get(path) != change)]
    return tuple(sorted(found, key=lambda change: change.path)) if len(found) <= MAX_CHANGES else None


def applied(before: Iterable[TreeEntry], made: Iterable[StateChange]) -> dict[str, StateChange]:
    """Return the facts of every path after the changes were made."""
    facts = {entry.path: _as_change(entry) for entry in before}
    for change in made:
        if change.type == "absent":
            facts.pop(change.path, None)
        else:
            facts[change.path] = change
    return facts


def judged(aspect: str, method: str, problem: str | None) -> Verdict:
    """Return the verdict on an aspect: it passed unless there is a problem, which is the reason."""
    return Verdict(aspect=aspect, verdict="failed" if problem else "passed", method=method, reason=problem)


def named(paths: Sequence[str]) -> str:
    """Return the first of some paths, and how many more there are, for a reason."""
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return f"{', '.join(paths[:_NAMED])}{more}"


def _as_change(entry: TreeEntry) -> StateChange:
    return StateChange(
        path=entry.path,
        type=entry.type,
        mode=None if entry.type == "symlink" else entry.mode,
        size=entry.size,
        sha256=entry.sha256,
        target=entry.target,
    )
