"""Compares two groups of traces, as wholes or on the tasks that both have: differences with 95 % intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agenttrace.analysis.findings import Comparison, FigureRow
from agenttrace.analysis.runs import SHARES, TOKENS, Tally
from agenttrace.analysis.statistics import SMALLEST_N, bootstrap_difference, effective, mcnemar_p, mean, newcombe
from agenttrace.formats.commands import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from agenttrace.analysis.diversity import Diversity
    from agenttrace.analysis.runs import Sums

_MEANS = {
    "turns": "step_count",
    "calls": "span_count",
    "seconds": "duration_s",
    "seconds of the model": "model_s",
    "seconds in tools": "tool_s",
    **{f"tokens, {name}": column for name, column in TOKENS.items()},
}
_PASSED = "passed, of those judged"


def compare_groups(name_a: str, a: pd.DataFrame, name_b: str, b: pd.DataFrame) -> Comparison:
    """Return B against A on the tasks of both; traces of the same data set and task belong together.

    Args:
        name_a: of the first group.
        a: its runs, as `agenttrace.analysis.summary.grouped` gives them.
        name_b: of the second group.
        b: its runs.
    """
    one, other = (Tally.of(runs[~runs["broken"]]) for runs in (a, b))
    shared = len((one.tasks & other.tasks) - {None})
    return Comparison(
        a=name_a,
        b=name_b,
        shared=shared,
        notes=tuple(_notes(one, other, shared)),
        rows=(*_rows(one, other, shared=True), *_alone(one, other)) if shared else (),
    )


def _notes(one: Tally, other: Tally, shared: int) -> list[str]:
    found = []
    if not shared:
        found.append("the two have no task in common: nothing can be paired")
    elif shared < SMALLEST_N:
        found.append(f"n is too small: {shared} shared tasks; take every figure as an anecdote")
    unpaired = len((one.tasks ^ other.tasks) - {None})
    if shared and unpaired:
        found.append(f"{unpaired} tasks are in one of the two only and left out here")
    if None in one.tasks | other.tasks:
        found.append("traces without a task id are left out here")
    return found


def _alone(one: Tally, other: Tally) -> list[FigureRow]:
    """Return the tasks that one side alone solved, with McNemar's test; none where a task was tried several times."""
    first, second = one.sums(_PASSED), other.sums(_PASSED)
    tasks = first.keys() & second.keys()
    if any(cell[1] > 1 for sums in (first, second) for cell in sums.values()):
        return []
    only_a, only_b = (
        sum(mine[task][0] > its[task][0] for task in tasks) for mine, its in ((first, second), (second, first))
    )
    method = f"McNemar, exact: p = {mcnemar_p(only_a, only_b):.2g}"
    return [
        FigureRow(
            name="tasks passed by that one alone", one=only_a, other=only_b, difference=only_b - only_a, method=method
        )
    ]


def compare_runs(one: Tally, other: Tally, *, seed: int = 0) -> tuple[FigureRow, ...]:
    """Return the rows of upstream's table "8K against 32K", those without an interval first.

    Shares of traces get Newcombe's interval with effective sizes, since traces of a task resemble each other; means
    and shares of turns get a bootstrap over tasks. See `agenttrace.analysis.statistics`.
    """
    return (
        _plain("hours from first to last", one.wall_s / 3600, other.wall_s / 3600, percent=False),
        _plain("tokens, generated (total)", _total(one), _total(other), percent=False),
        *_rows(one, other, seed=seed),
    )


def _rows(one: Tally, other: Tally, *, shared: bool = False, seed: int = 0) -> list[FigureRow]:
    """Return the rows of shares and means, kinds of observation only where there are any."""

    def row(name: str, column: str, *, percent: bool = False) -> FigureRow:
        first, second = one.sums(column), other.sums(column)
        if shared:
            tasks = sorted(first.keys() & second.keys())
            first, second = ({task: sums[task] for task in tasks} for sums in (first, second))
        elif column in SHARES:
            return _share(name, first, second)
        return _mean(name, first, second, least=SMALLEST_N if shared else 2, seed=seed, percent=percent)

    rows = [row(name, name, percent=True) for name in SHARES]
    rows += [row(f"{name} (mean)", column) for name, column in _MEANS.items()]
    if one.known("useful_turns") or other.known("useful_turns"):
        rows += [row(f"turns that gave: {kind.replace('_', ' ')}", kind, percent=True) for kind in KINDS]
    return rows


def compare_diversity(one: Diversity, other: Diversity) -> tuple[FigureRow, ...]:
    """Return the rows on diversity; they have no interval, for each is a figure of a whole corpus."""
    names: dict[str, Callable[[Diversity], int | None]] = {
        "unique, upstream's greedy metric (in file order)": lambda found: found.upstream_unique,
        "near-duplicate components, whole corpus": lambda found: found.corpus_components,
        "near-duplicate components, within tasks": lambda found: found.within_components,
    }
    return tuple(
        _plain(name, *(None if (got := read(found)) is None else got / found.rollouts for found in (one, other)))
        for name, read in names.items()
    )


def _total(run: Tally) -> float | None:
    """Return all generated tokens; `None` where a trace does not report its own."""
    known = run.known("output_tokens")
    return sum(known) if len(known) == run.rollouts else None


def _plain(name: str, first: float | None, second: float | None, *, percent: bool = True) -> FigureRow:
    difference = None if first is None or second is None else second - first
    return FigureRow(name=name, one=first, other=second, difference=difference, percent=percent)


def _figures(one: Sums, other: Sums) -> tuple[float | None, float | None]:
    first, second = (mean(cells) if cells else None for cells in (one, other))
    return first, second


def _share(name: str, one: Sums, other: Sums) -> FigureRow:
    first, second = _figures(one, other)
    if first is None or second is None:
        return _plain(name, first, second)
    sizes = effective(one), effective(other)
    low, high = newcombe((first * sizes[0], sizes[0]), (second * sizes[1], sizes[1]))
    method = f"Newcombe, n = {sizes[0]:.0f} and {sizes[1]:.0f}"
    return FigureRow(
        name=name, one=first, other=second, difference=second - first, low=low, high=high, method=method, percent=True
    )


def _mean(name: str, one: Sums, other: Sums, *, least: int, seed: int, percent: bool) -> FigureRow:
    first, second = _figures(one, other)
    if first is None or second is None:
        return _plain(name, first, second, percent=percent)
    ends = bootstrap_difference(one, other, seed=seed) if min(len(one), len(other)) >= least else None
    low, high = ends or (None, None)
    same = one.keys() == other.keys()
    method = "" if ends is None else f"bootstrap, same {len(one):,} tasks" if same else "bootstrap over tasks"
    return FigureRow(
        name=name, one=first, other=second, difference=second - first, low=low, high=high, method=method,
        percent=percent,
    )  # fmt: skip
