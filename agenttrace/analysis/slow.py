"""Was a call slow by itself, by its limit, or by its neighbours? Told from the figures of its own record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from msgspec import UNSET

from agenttrace.analysis.findings import SlowCause

if TYPE_CHECKING:
    import pandas as pd

    from agenttrace.records import Telemetry

Cause = Literal["itself", "limit", "neighbours", "unknown"]
CAUSES: tuple[Cause, ...] = ("itself", "limit", "neighbours", "unknown")
_LEAST_SHARE, _LEAST_NS = 0.1, 5_000_000
"""Below a tenth of its time, and below 5 ms, nothing is said to have slowed a call."""


class Why(NamedTuple):
    """What slowed a call.

    Attributes:
        cause: `limit` or `neighbours`, whichever took more, where that is a tenth of the call's time and 5 ms; else
            `itself`; `unknown` where the figures that decide were not measured.
        limit_ns: time that its CPU or memory limit took, at most `wall_ns`; of an `unknown` cause what is known of it.
        neighbours_ns: time in which others had the processors that its limit entitled it to, likewise.
    """

    cause: Cause
    limit_ns: int
    neighbours_ns: int


def why_slow(
    *,
    wall_ns: int | None,
    cpu_ns: int | None,
    throttled_ns: int | None,
    waited_ns: int | None,
    memory_stalled_ns: int | None = None,
    cpus: float = 1.0,
) -> Why:
    """Return what slowed a call down.

    A process that waits for a processor waits for its own limit while it is throttled, for others else. What others
    took is no more than what the call did not use of its entitlement: its own processes also wait for each other.

    The kernel adds throttling up over processors: two that are held back half of the time make as much of it as there
    is time. So it is divided by the processors, one at least, on which the call ran or was held back in the mean.

    Args:
        wall_ns: from its start to its end.
        cpu_ns: CPU time of its whole tree.
        throttled_ns: `cfs_throttled_ns`, added up over processors.
        waited_ns: `runqueue_wait_ns`, or `cpu_pressure_ns` where that is the container's own.
        memory_stalled_ns: `memory_pressure_ns`, where that is the container's own: its memory limit made it wait.
        cpus: processors that its limit entitled it to.
    """
    if not wall_ns or cpu_ns is None or throttled_ns is None:
        return Why("unknown", 0, 0)
    held_ns = round(throttled_ns / max(1.0, (cpu_ns + throttled_ns) / wall_ns))
    limit_ns = min(wall_ns, max(held_ns, memory_stalled_ns or 0))
    unused_ns = max(0, round(min(cpus * wall_ns - cpu_ns - throttled_ns, wall_ns)))  # of any number of processors
    neighbours_ns = min(unused_ns, max(0, (waited_ns or 0) - throttled_ns))
    most = max(limit_ns, neighbours_ns)
    if most < max(_LEAST_SHARE * wall_ns, _LEAST_NS):
        return Why("unknown" if waited_ns is None else "itself", limit_ns, neighbours_ns)
    if limit_ns >= neighbours_ns:
        return Why("limit", limit_ns, neighbours_ns)
    return Why("neighbours", limit_ns, neighbours_ns)


def slow_figures(cost: Telemetry, cpus: float | None) -> dict[str, Any]:
    """Return the arguments of `why_slow` of one call.

    Args:
        cost: its figures.
        cpus: processors that its sandbox was limited to; `None` where that is not known.
    """
    own = cost.pressure_scope == "container"
    waited_ns = cost.cpu_pressure_ns if own and cost.runqueue_wait_ns in {None, UNSET} else cost.runqueue_wait_ns
    user, system = cost.cpu_user_ns, cost.cpu_system_ns
    found = {
        "wall_ns": cost.wall_ns,
        "cpu_ns": None if user is None or system is None else user + system,
        "throttled_ns": cost.cfs_throttled_ns,
        "waited_ns": waited_ns,
        "memory_stalled_ns": cost.memory_pressure_ns if own else None,
        "cpus": 1.0 if cpus is None else cpus,
    }
    return {name: None if value is UNSET else value for name, value in found.items()}


def causes(spans: pd.DataFrame, cpus: pd.Series[float]) -> tuple[SlowCause, ...]:
    """Return how many calls each cause slowed, and what that cost; none where no call was measured.

    Args:
        spans: calls that ran and were measured each.
        cpus: as those of `whys`.
    """
    found: dict[Cause, list[tuple[float, Why]]] = {cause: [] for cause in CAUSES}
    for wall_ns, why in zip(spans["wall_ns"].fillna(0), whys(spans, cpus), strict=True):
        found[why.cause].append((float(wall_ns) / 1e6, why))
    return tuple(
        SlowCause(
            cause=cause,
            calls=len(calls),
            share=len(calls) / len(spans),
            wall_ms=sum(ms for ms, _ in calls),
            limit_ms=None if cause == "unknown" else sum(why.limit_ns for _, why in calls) / 1e6,
            neighbours_ms=None if cause == "unknown" else sum(why.neighbours_ns for _, why in calls) / 1e6,
        )
        for cause, calls in found.items()
        if len(spans)
    )


def whys(spans: pd.DataFrame, cpus: pd.Series[float]) -> list[Why]:
    """Return what slowed each call down.

    Args:
        spans: calls that ran and were measured each.
        cpus: by the number of their run, the processors that its sandbox was limited to; 1 where that is not known.
    """
    own = spans["pressure_scope"] == "container"  # as `slow_figures`
    waited = spans["runqueue_wait_ns"].fillna(spans["cpu_pressure_ns"].where(own))
    columns = {
        "wall_ns": spans["wall_ns"],
        "cpu_ns": spans["cpu_user_ns"] + spans["cpu_system_ns"],
        "throttled_ns": spans["cfs_throttled_ns"],
        "waited_ns": waited,
        "memory_stalled_ns": spans["memory_pressure_ns"].where(own),
        "cpus": spans["run"].map(cpus).fillna(1.0),
    }
    known = [column.astype("object").where(column.notna(), None) for column in columns.values()]
    return [why_slow(**dict(zip(columns, values, strict=True))) for values in zip(*known, strict=True)]
