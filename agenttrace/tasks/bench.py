"""A sandbox worker as judges use it: a pristine tree for the reference, its calls, and what they changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from agenttrace.errors import UsageError
from agenttrace.tasks import state

if TYPE_CHECKING:
    from agenttrace.records import SandboxSpec, StateChange
    from agenttrace.sandbox.client import Worker
    from agenttrace.sandbox.reports import CallReport, Changes, ResetReport, TreeEntry

KEEP_BYTES = 1024 * 1024


class WorkerBench:
    """A bench made of a connected worker.

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
                f"({report.digest} instead of {self._spec.fixture_version}); build the images anew"
            )
        return report

    def call(self, kind: Literal["bash", "python"], code: str, *, limit_ms: int) -> CallReport:
        """Run code in the tree as it is."""
        return self.worker.call(kind, code, limit_ms=limit_ms, keep_bytes=KEEP_BYTES)

    def changes(self) -> tuple[StateChange, ...] | None:
        """Return how the tree differs from the pristine one."""
        return state.changes(self._before or (), self.worker.tree())  # `before()` would reset

    def changed_files(self, without: tuple[str, ...]) -> Changes:
        """Return what differs from the pristine tree, with the content of every file."""
        return self.worker.changes(without=without)
