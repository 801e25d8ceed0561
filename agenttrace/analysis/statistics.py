"""The statistics of a report: distributions, intervals and tests, each with its n, none where n is too small."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from agenttrace.analysis.findings import Distribution, Estimate, Share

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Sums = Mapping[str, Sequence[float]]

Z95 = 1.959963984540054
"""0.975 quantile of the normal distribution: 95 % intervals."""
SMALLEST_N = 10
"""Fewer pairs give no interval."""
_TASK_DRAWS = 2_000


def floats(values: Iterable[Any]) -> Floats:
    """Return values as floats, every kind of unknown as NaN."""
    import pandas as pd  # noqa: PLC0415

    found: Floats = pd.Series(values).to_numpy(dtype="float64", na_value=np.nan)
    return found


def distribution(values: Iterable[Any]) -> Distribution:
    """Return the distribution of the values that are known."""
    given = floats(values)
    known = np.sort(given[~np.isnan(given)])
    return Distribution.of(known, total=known.sum(), missing=given.size - known.size)


def share(count: int, n: int) -> Share:
    """Return `count` of `n` with Wilson's score interval at 95 %."""
    if n == 0:
        return Share(count=count, n=0)
    low, high = wilson(count, n)
    return Share(count=count, n=n, share=count / n, low=low, high=high)


def share_of_parts(count: int, n: int) -> Share:
    """Return `count` of `n` parts of traces, which resemble each other within one: without an interval."""
    return Share(count=count, n=n, share=count / n if n else None)


def wilson(part: float, whole: float) -> tuple[float, float]:
    """Return Wilson's 95 % score interval of a share (1927); `whole` may be an effective, fractional size.

    That is why it stands here: scipy's takes whole numbers alone.
    """
    p, z2 = part / whole, Z95**2
    middle = (p + z2 / (2 * whole)) / (1 + z2 / whole)
    half = Z95 / (1 + z2 / whole) * math.sqrt(p * (1 - p) / whole + z2 / (4 * whole * whole))
    return max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half))  # rounding leaves none beside its interval


def newcombe(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """Return the 95 % interval of the second share minus the first, each as (part, whole).

    Newcombe's hybrid score interval (Statistics in Medicine 17, 1998, 873-890, method 10).
    """
    first, second = one[0] / one[1], other[0] / other[1]
    (low1, high1), (low2, high2) = wilson(*one), wilson(*other)
    difference = second - first
    return (
        difference - math.hypot(second - low2, high1 - first),
        difference + math.hypot(high2 - second, first - low1),
    )


def ranks(values: Floats) -> Floats:
    """Return mid-ranks, from 1; equal values share the mean of their ranks."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count - 1) / 2)[place], dtype=np.float64)


def spearman(x: Iterable[Any], y: Iterable[Any]) -> Estimate:
    """Return Spearman's rank correlation, -1 falling to 1 rising, with the interval of Bonett and Wright (2000)."""
    left, right = _pairs(x, y)
    n = int(left.size)
    if n < SMALLEST_N:
        return Estimate(n=n, note=f"too few: {n} pairs, {SMALLEST_N} needed")
    if left.min() == left.max() or right.min() == right.max():
        return Estimate(n=n, note="not defined: one of the two is the same in every trace")
    rho = float(np.corrcoef(ranks(left), ranks(right))[0, 1])
    rho = min(1.0, max(-1.0, rho))
    middle = math.atanh(min(max(rho, -1 + 1e-12), 1 - 1e-12))
    half = Z95 * math.sqrt((1 + rho * rho / 2) / (n - 3))
    return Estimate(n=n, value=rho, low=math.tanh(middle - half), high=math.tanh(middle + half))


def superiority(values: Iterable[Any], solved: Iterable[Any]) -> Estimate:
    """Return Cliff's delta of solved against unsolved traces, with DeLong's interval (1988).

    It is the probability that a solved trace has the larger value minus the probability that it has the smaller one:
    -1 solved traces always have less, 0 no difference, 1 always more.
    """
    figure, flag = _pairs(values, solved)
    high, low = figure[flag == 1], figure[flag == 0]
    n, m = int(high.size), int(low.size)
    if min(n, m) < SMALLEST_N:
        return Estimate(n=n + m, note=f"too few: {n} solved and {m} unsolved, {SMALLEST_N} of each needed")
    together = ranks(np.concatenate([high, low]))
    above = (together[:n] - ranks(high)) / m
    below = 1 - (together[n:] - ranks(low)) / n
    area = float(above.mean())
    error = math.sqrt(float(above.var(ddof=1)) / n + float(below.var(ddof=1)) / m)
    delta, half = 2 * area - 1, 2 * Z95 * error
    note = "one group lies entirely on one side: the interval has no width" if error == 0 else None
    return Estimate(n=n + m, value=delta, low=max(-1.0, delta - half), high=min(1.0, delta + half), note=note)


def bootstrap_differences(
    pairs: Iterable[tuple[Sums, Sums]], *, least: int = 2, seed: int = 0
) -> list[tuple[float, float] | None]:
    """Return the 95 % interval of the second mean minus the first for each pair, whole tasks drawn with replacement.

    Two runs over exactly the same tasks are drawn together (a paired bootstrap), others each on their own. 2,000 draws,
    percentiles, seeded; pairs over the same tasks share the draws. `None` with too few tasks: one task says nothing
    about others.

    Args:
        pairs: task → (sum, count) of the first run, and of the second.
        least: tasks that each run needs, 2 or more.
        seed: of the draws.
    """
    found: list[tuple[float, float] | None] = []
    alike: dict[tuple[tuple[str, ...], ...], list[tuple[int, Floats, Floats]]] = {}
    for place, pair in enumerate(pairs):
        found.append(None)
        if min(map(len, pair)) >= least:
            one, other = (np.array([sums[task] for task in sorted(sums)]) for sums in pair)
            alike.setdefault(tuple(tuple(sorted(sums)) for sums in pair), []).append((place, one, other))
    for (before, after), figures in alike.items():
        first, second = (np.stack([figure[side] for figure in figures], axis=1) for side in (1, 2))
        random = np.random.default_rng(seed)
        if before == after:
            means = np.split(_drawn_means(random, np.concatenate([first, second], axis=1)), 2, axis=1)
        else:
            means = [_drawn_means(random, first), _drawn_means(random, second)]
        ends = np.percentile(means[1] - means[0], [2.5, 97.5], axis=0)
        for (place, _, _), low, high in zip(figures, *ends.tolist(), strict=True):
            found[place] = low, high
    return found


def _drawn_means(random: np.random.Generator, cells: Floats) -> Floats:
    """Return the means of figures over drawn tasks, shape (draws, figures), of cells of shape (tasks, figures, 2)."""
    tasks = len(cells)
    flat = cells.reshape(tasks, -1)
    drawn = (np.bincount(random.integers(0, tasks, tasks), minlength=tasks) for _ in range(_TASK_DRAWS))
    sums = np.array([times @ flat for times in drawn]).reshape(_TASK_DRAWS, -1, 2)
    found: Floats = sums[..., 0] / sums[..., 1]
    return found


def mean(sums: Sums) -> float:
    """Return the mean of all rollouts, given per task as (sum, count)."""
    return sum(cell[0] for cell in sums.values()) / sum(cell[1] for cell in sums.values())


def effective(sums: Sums) -> float:
    """Return how many independent rollouts the rollouts of these tasks are worth for a share.

    Rollouts of a task resemble each other. Their number is divided by the design effect: the variance of the share as
    the spread between tasks gives it (ratio estimate, n-1 in the denominator), over p(1-p)/n; never below 1. Where all
    are alike (p is 0 or 1) that says nothing, and the number of tasks is taken.
    """
    part, whole = (sum(cell[at] for cell in sums.values()) for at in (0, 1))
    tasks, rate = len(sums), part / whole
    if tasks == whole:
        return whole
    if rate in {0.0, 1.0} or tasks == 1:
        return float(tasks)
    between = sum((k - rate * n) ** 2 for k, n in sums.values()) * tasks / (tasks - 1) / whole**2
    return whole / max(1.0, between / (rate * (1 - rate) / whole))


def _pairs(x: Iterable[Any], y: Iterable[Any]) -> tuple[Floats, Floats]:
    left, right = floats(x), floats(y)
    known = ~(np.isnan(left) | np.isnan(right))
    return left[known], right[known]


def mcnemar_p(only_a: int, only_b: int) -> float:
    """Return the exact two-sided p of McNemar's test: a fair coin among the cases on which both sides differ."""
    cases, ways, tail = only_a + only_b, 1, 0
    for heads in range(min(only_a, only_b) + 1):  # in whole numbers, because a power of 1/2 soon is no float
        tail += ways
        ways = ways * (cases - heads) // (heads + 1)
    return min(1.0, 2 * tail / (1 << cases))
