"""A sandbox worker as judges use it: a pristine tree for the reference, its calls, and what they changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from agenttrace.errors import UsageError
from agenttrace.records import StateChange, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agenttrace.records import SandboxSpec
    from agenttrace.sandbox.client import Worker
    from agenttrace.sandbox.reports import CallReport, Changes, ResetReport, Tree, TreeEntry

KEEP_BYTES = 1024 * 1024
MAX_CHANGES = 2000
UNRECORDED = "the final state is not recorded; it differs too much from the pristine one"
"""Why a state failed whose changes are `None`."""


_NAMED = 5


class Bench:
    """A connected worker and the tree it was given.

    Args:
        worker: nobody else uses it meanwhile.
        spec: fixture, digest and clock.
        before: entries of the pristine tree, where they are known.
    """

    def __init__(self, worker: Worker, spec: SandboxSpec, before: tuple[TreeEntry, ...] | None = None) -> None:
        self.worker = worker
        self._spec = spec
        self._before = before

    def before(self) -> tuple[TreeEntry, ...]:
        """Return the entries of the pristine tree; resets the worker the first time."""
        if self._before is None:
            self.pristine()
            self._before = self.worker.manifest()
        return self._before

    def pristine(self) -> ResetReport:
        """Reset the worker and return what it said.

        Raises:
            UsageError: its image has another fixture than the spec names.
            WorkerLostError: the worker is gone.
        """
        report = self.worker.reset(self._spec.fixture, clock=self._spec.clock)
        if report.digest != self._spec.fixture_version:
            raise UsageError(
                f"the sandbox has another tree {self._spec.fixture!r} than the run spec "
                f"({report.digest} instead of {self._spec.fixture_version}): run the same command again, and if "
                "that does not help build the images anew (scripts/nox -s images)"
            )
        return report

    def call(self, kind: Literal["bash", "python"], code: str, *, limit_ms: int) -> CallReport:
        """Run code in the tree as it is."""
        return self.worker.call(kind, code, limit_ms=limit_ms, keep_bytes=KEEP_BYTES)

    def changes(self) -> tuple[StateChange, ...] | None:
        """Return how the tree differs from the pristine one."""
        return changes(self._before or (), self.worker.tree())  # `before()` would reset

    def changed_files(self, without: tuple[str, ...]) -> Changes:
        """Return what differs from the pristine tree, with the content of every file."""
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
