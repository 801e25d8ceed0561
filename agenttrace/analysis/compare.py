"""Compares two groups of traces, as wholes or on the tasks that both have: differences with 95 % intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agenttrace.analysis.findings import Comparison, FigureRow
from agenttrace.analysis.runs import SHARES, TOKENS, Tally
from agenttrace.analysis.statistics import SMALLEST_N, bootstrap_differences, effective, mcnemar_p, mean, newcombe
from agenttrace.formats.commands import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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
    "US dollars": "cost_usd",
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
        found.append("traces without a task's name are left out here")
    return [*found, *_partly_known(one, other)]


def _partly_known(one: Tally, other: Tally) -> list[str]:
    """Return the note on means over only those traces of a run that report a figure; none where all or none do."""
    counts = {name: [(len(run.known(column)), run.rollouts) for run in (one, other)] for name, column in _MEANS.items()}
    found = [
        f"{name} ({' and '.join(f'{known:,} of {of:,}' for known, of in pair)})"
        for name, pair in counts.items()
        if any(0 < known < of for known, of in pair)
    ]
    return [f"means are over the rollouts that report a figure: {', '.join(found)}"] if found else []


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
    return [_row("tasks passed by that one alone", (only_a, only_b), method=method)]


def task_notes(one: Tally, other: Tally) -> tuple[str, ...]:
    """Return what to beware of where two runs are not of the same tasks, or not all of their traces say as much."""
    shared, unpaired = len(one.tasks & other.tasks), len(one.tasks ^ other.tasks)
    found = [f"{shared:,} tasks are in both, {unpaired:,} in one of the two only"] if unpaired else []
    if not shared:
        found = ["the two have no task in common: what differs may be the tasks"]
    return (*found, *_partly_known(one, other))


def compare_runs(one: Tally, other: Tally) -> tuple[FigureRow, ...]:
    """Return the rows of upstream's table "8K against 32K", those without an interval first.

    Shares of traces get Newcombe's interval with effective sizes, since traces of a task resemble each other; means
    and shares of turns get a bootstrap over tasks. See `agenttrace.analysis.statistics`.
    """
    return (
        _row("hours from first to last", (run.wall_s and run.wall_s / 3600 for run in (one, other))),
        *_failures(one, other),
        _row("tokens, generated (total)", map(_total, (one, other))),
        *_rows(one, other),
    )


def _rows(one: Tally, other: Tally, *, shared: bool = False) -> list[FigureRow]:
    """Return the rows of shares and means, kinds of observation only where there are any."""
    columns = {name: name for name in SHARES} | {f"{name} (mean)": column for name, column in _MEANS.items()}
    if one.known("useful_turns") or other.known("useful_turns"):
        columns |= {f"turns that gave: {kind.replace('_', ' ')}": kind for kind in KINDS}

    def sums(column: str) -> tuple[Sums, Sums]:  # asked for twice: those of all columns are too large to keep
        pair = one.sums(column), other.sums(column)
        return _on_both(*pair) if shared else pair

    drawn = bootstrap_differences(map(sums, columns.values()), least=SMALLEST_N if shared else 2)
    rows = []
    for (name, column), ends in zip(columns.items(), drawn, strict=True):
        pair = sums(column)
        by_share = column in SHARES and not shared
        low_high, method = _newcombe(*pair) if by_share else (ends, _draws(*pair) if ends else "")
        figures = [mean(cells) if cells else None for cells in pair]
        percent = column not in _MEANS.values()
        if percent and ends and not by_share and {0.0, 1.0}.issuperset(figures):
            low_high, method = None, "none: all alike on each side, every draw is the same"
        rows.append(_row(name, figures, low_high, method, percent=percent))
    return rows


def _draws(one: Sums, other: Sums) -> str:
    return f"bootstrap, same {len(one):,} tasks" if one.keys() == other.keys() else "bootstrap over tasks"


def _on_both(one: Sums, other: Sums) -> tuple[Sums, Sums]:
    tasks = one.keys() & other.keys()
    first, second = ({task: sums[task] for task in sorted(tasks)} for sums in (one, other))
    return first, second


def _newcombe(one: Sums, other: Sums) -> tuple[tuple[float, float] | None, str]:
    """Return the interval of a difference of shares and how it was found."""
    if not (one and other):
        return None, ""
    first, second = effective(one), effective(other)
    ends = newcombe((mean(one) * first, first), (mean(other) * second, second))
    return ends, f"Newcombe, n = {first:.0f} and {second:.0f}"


def compare_diversity(one: Diversity, other: Diversity) -> tuple[FigureRow, ...]:
    """Return the rows on diversity; they have no interval, for each is a figure of a whole corpus."""
    names: dict[str, Callable[[Diversity], int | None]] = {
        "unique, upstream's greedy metric (in file order)": lambda found: found.upstream_unique,
        "near-duplicate components, whole corpus": lambda found: found.corpus_components,
        "near-duplicate components, within tasks": lambda found: found.within_components,
    }
    return tuple(
        _row(
            name,
            (None if (got := read(found)) is None else got / found.rollouts for found in (one, other)),
            percent=True,
        )
        for name, read in names.items()
    )


def _failures(one: Tally, other: Tally) -> list[FigureRow]:
    """Return the row on infrastructure failures, of all attempts; none where there were none."""
    if not (one.left_out or other.left_out):
        return []
    shares = (run.left_out / (run.left_out + run.rollouts) for run in (one, other))
    return [_row("errored: infrastructure failures, left out of all else", shares, percent=True)]


def _total(run: Tally) -> float | None:
    """Return all generated tokens; `None` where a trace does not report its own."""
    known = run.known("output_tokens")
    return sum(known) if len(known) == run.rollouts else None


def _row(
    name: str,
    figures: Iterable[float | None],
    ends: tuple[float, float] | None = None,
    method: str = "",
    *,
    percent: bool = False,
) -> FigureRow:
    first, second = figures
    difference = None if first is None or second is None else second - first
    low, high = ends or (None, None)
    return FigureRow(
        name=name, one=first, other=second, difference=difference, low=low, high=high, method=method, percent=percent
    )
