"""Runs a task while its tree is made pristine: that goes on while the model thinks about its first step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import WorkerLostError

if TYPE_CHECKING:
    from collections.abc import Callable

    from agenttrace.agents.run import Run
    from agenttrace.tasks.bench import Bench

LONG_WAIT_NS = 15_000_000
"""A task that waits longer for its tree, because its model answered before that was there, is counted."""


def run_meanwhile(run: Callable[[], Run], bench: Bench) -> tuple[Run, int]:
    """Run a task whose tree was begun and return the run, and for how long it waited for the tree (ns).

    The first call waits, so no call runs beside a reset; that time is no part of the run.

    Args:
        run: works on the task, by calls of the bench.
        bench: has begun to make the tree.

    Raises:
        UsageError: the worker has another tree than the run spec names.
        WorkerLostError: the tree could not be made.
    """
    done = run()
    within_ns = bench.waited_ns or 0
    bench.ready()  # of a run without a call
    if bench.waited_ns is None:
        raise WorkerLostError(done.outcome.detail)
    return msgspec.structs.replace(done, elapsed_ns=done.elapsed_ns - within_ns), bench.waited_ns
