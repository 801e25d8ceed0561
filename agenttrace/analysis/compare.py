"""Compares two groups of traces: on the tasks that both have, with tests that keep the pairs together; or as wholes.

The second is upstream's table "8K against 32K", with a difference and its 95 % interval where one is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from agenttrace.analysis.findings import Comparison, Estimate, Paired, Row
from agenttrace.analysis.runs import SHARES, TOKENS
from agenttrace.analysis.statistics import (
    SMALLEST_N,
    bootstrap,
    bootstrap_difference,
    effective,
    floats,
    holm,
    mcnemar_p,
    mean,
    newcombe,
    ranks,
)
from agenttrace.formats.turns import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from agenttrace.analysis.diversity import Diversity
    from agenttrace.analysis.runs import Sums, Tally
    from agenttrace.analysis.statistics import Floats

_FIGURES = (
    ("trace duration", "ms", "total_duration_ms"),
    ("model time", "ms", "llm_ms"),
    ("tool time", "ms", "tool_ms"),
    ("steps", "steps", "step_count"),
    ("tool calls", "calls", "span_count"),
    ("output tokens", "tokens", "output_tokens"),
    ("tokens in and out", "tokens", "tokens"),
)
_LEAST_DIFFERENT = 6
"""With fewer pairs that differ, the smallest possible p (2 / 2^n) is above 0.05."""


def compare(name_a: str, a: pd.DataFrame, name_b: str, b: pd.DataFrame) -> Comparison:
    """Return B against A; runs of the same data set and task are a pair, several attempts count with their mean.

    Args:
        name_a: of the first group.
        a: its runs, as `agenttrace.analysis.summary.grouped` gives them.
        name_b: of the second group.
        b: its runs.
    """
    left, right = _per_task(a), _per_task(b)
    pairs = left.add_suffix("_a").join(right.add_suffix("_b"), how="inner")
    notes = _notes(a, b, left, right, len(pairs))
    solved_a, solved_b = _both(pairs, "solved")
    figures = [_paired(title, unit, *_both(pairs, column)) for title, unit, column in _FIGURES]
    adjusted = holm([figure.p for figure in figures])
    single = set(np.unique(np.concatenate([solved_a, solved_b]))) <= {0.0, 1.0} and not _repeats(a, b)
    counts = _fourfold(solved_a, solved_b) if single and solved_a.size else None
    different = counts[1] + counts[2] if counts else 0
    if counts and different < _LEAST_DIFFERENT:
        notes.append(
            f"only {different} tasks were solved by one side alone: with fewer than {_LEAST_DIFFERENT} no difference "
            "could be significant at 0.05"
        )
    if not counts and solved_a.size:
        notes.append("several attempts per task: McNemar's test does not apply, see the interval of the difference")
    if not solved_a.size:
        notes.append("no shared task has a verdict on both sides: solve rates cannot be compared")
    both, only_a, only_b, neither = counts or (None, None, None, None)
    return Comparison(
        a=name_a,
        b=name_b,
        shared=len(pairs),
        graded=int(solved_a.size),
        both=both,
        only_a=only_a,
        only_b=only_b,
        neither=neither,
        rate_a=float(solved_a.mean()) if solved_a.size else None,
        rate_b=float(solved_b.mean()) if solved_b.size else None,
        rate_difference=bootstrap(solved_b - solved_a),
        p=mcnemar_p(counts[1], counts[2]) if counts and different else None,
        odds_ratio=counts[2] / counts[1] if counts and counts[1] else None,
        notes=tuple(notes),
        figures=tuple(msgspec.structs.replace(one, p_holm=p) for one, p in zip(figures, adjusted, strict=True)),
    )


def _per_task(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per (data set, task): means over its attempts; unknown when all of them are."""
    columns = ["solved", *(column for _, _, column in _FIGURES)]
    known = runs.dropna(subset=["dataset", "task_id"])
    plain = known[columns].apply(floats)
    keys = [known["dataset"].astype(str), known["task_id"]]
    return plain.groupby(keys).mean()


def _repeats(*groups: pd.DataFrame) -> bool:
    return any(group.duplicated(["dataset", "task_id"]).any() for group in groups)


def _notes(a: pd.DataFrame, b: pd.DataFrame, left: pd.DataFrame, right: pd.DataFrame, shared: int) -> list[str]:
    found = []
    if not shared:
        found.append("the two have no task in common: nothing can be paired")
    elif shared < SMALLEST_N:
        found.append(f"n is too small: {shared} shared tasks; take every figure as an anecdote")
    unpaired = len(left) + len(right) - 2 * shared
    if shared and unpaired:
        found.append(f"{unpaired} tasks are in one of the two only and left out here")
    if len(left) < len(a[["dataset", "task_id"]].drop_duplicates()) or len(right) < len(
        b[["dataset", "task_id"]].drop_duplicates()
    ):
        found.append("traces without a task id are left out here")
    return found


def _both(pairs: pd.DataFrame, column: str) -> tuple[Floats, Floats]:
    left, right = floats(pairs[f"{column}_a"]), floats(pairs[f"{column}_b"])
    known = ~(np.isnan(left) | np.isnan(right))
    return left[known], right[known]


def _fourfold(a: Floats, b: Floats) -> tuple[int, int, int, int]:
    both, only_a = int(((a == 1) & (b == 1)).sum()), int(((a == 1) & (b == 0)).sum())
    return both, only_a, int(((a == 0) & (b == 1)).sum()), int(((a == 0) & (b == 0)).sum())


def _paired(title: str, unit: str, a: Floats, b: Floats) -> Paired:
    differences = b - a
    nonzero = differences[differences != 0]
    p: float | None = None
    note = None if a.size else "not measured on both sides of any task"
    effect: float | None = None
    if nonzero.size >= _LEAST_DIFFERENT:
        from scipy.stats import wilcoxon  # noqa: PLC0415 - slow to import

        p = float(wilcoxon(nonzero).pvalue)
        weight = ranks(np.abs(nonzero))
        effect = float((weight[nonzero > 0].sum() - weight[nonzero < 0].sum()) / weight.sum())
    elif a.size:
        note = f"n is too small: {nonzero.size} pairs differ, {_LEAST_DIFFERENT} needed for a test"
    return Paired(
        figure=title,
        unit=unit,
        n=int(a.size),
        median_a=float(np.median(a)) if a.size else None,
        median_b=float(np.median(b)) if b.size else None,
        difference=bootstrap(differences, median=True) if a.size else Estimate(n=0, note="no cases"),
        effect=effect,
        p=p,
        p_holm=None,
        note=note,
    )


def compare_runs(one: Tally, other: Tally, *, seed: int = 0) -> tuple[Row, ...]:
    """Return the rows of the table, those without an interval first; kinds of observation only where there are any.

    Shares of traces get Newcombe's interval with effective sizes, since traces of a task resemble each other; means
    and shares of turns get a bootstrap over tasks. See `agenttrace.analysis.statistics`.
    """

    def both(name: str) -> tuple[Sums, Sums]:
        return one.sums(name), other.sums(name)

    rows = [
        _plain("hours from first to last", one.wall_s / 3600, other.wall_s / 3600, percent=False),
        _plain("tokens, generated (total)", _total(one), _total(other), percent=False),
        *(_share(name, *both(name)) for name in SHARES),
    ]
    means = {"turns": "step_count", "seconds": "duration_s", **{f"tokens, {name}": TOKENS[name] for name in TOKENS}}
    rows += [_mean(f"{name} (mean)", *both(column), seed=seed) for name, column in means.items()]
    if one.known("useful_turns") or other.known("useful_turns"):
        kinds = {f"turns that gave: {kind.replace('_', ' ')}": kind for kind in KINDS}
        rows += [_mean(name, *both(kind), seed=seed, percent=True) for name, kind in kinds.items()]
    return tuple(rows)


def compare_diversity(one: Diversity, other: Diversity) -> tuple[Row, ...]:
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


def _plain(name: str, first: float | None, second: float | None, *, percent: bool = True) -> Row:
    difference = None if first is None or second is None else second - first
    return Row(name=name, one=first, other=second, difference=difference, percent=percent)


def _figures(one: Sums, other: Sums) -> tuple[float | None, float | None]:
    first, second = (mean(cells) if cells else None for cells in (one, other))
    return first, second


def _share(name: str, one: Sums, other: Sums) -> Row:
    first, second = _figures(one, other)
    if first is None or second is None:
        return _plain(name, first, second)
    sizes = effective(one), effective(other)
    low, high = newcombe((first * sizes[0], sizes[0]), (second * sizes[1], sizes[1]))
    method = f"Newcombe, n = {sizes[0]:.0f} and {sizes[1]:.0f}"
    return Row(
        name=name, one=first, other=second, difference=second - first, low=low, high=high, method=method, percent=True
    )


def _mean(name: str, one: Sums, other: Sums, *, seed: int, percent: bool = False) -> Row:
    first, second = _figures(one, other)
    if first is None or second is None:
        return _plain(name, first, second, percent=percent)
    low, high = bootstrap_difference(one, other, seed=seed) or (None, None)
    method = "" if low is None else "bootstrap, same tasks" if one.keys() == other.keys() else "bootstrap over tasks"
    return Row(
        name=name, one=first, other=second, difference=second - first, low=low, high=high, method=method,
        percent=percent,
    )  # fmt: skip
