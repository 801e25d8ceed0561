"""Two runs side by side: upstream's table "8K against 32K", with a difference and its 95 % interval where one is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agenttrace.analysis.rollouts.statistics import SHARES, TOKENS, sums, wall_s
from agenttrace.analysis.statistics import bootstrap_difference, effective, mean, newcombe
from agenttrace.formats.commands import KINDS
from agenttrace.records.base import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from agenttrace.analysis.diversity.measure import Diversity
    from agenttrace.analysis.rollouts.statistics import Sums, Tally


class Row(Record, frozen=True, kw_only=True):
    """One line of the table.

    Attributes:
        name: what is compared.
        one: the figure of the first run; `None` is not known.
        other: the figure of the second.
        difference: second minus first.
        low: lower end of the difference's 95 % interval.
        high: upper end; both `None` where there is no interval.
        method: how the interval was found.
        percent: whether the figures are shares.
    """

    name: str
    one: float | None
    other: float | None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    method: str = ""
    percent: bool = False


def compare(one: Tally, other: Tally, *, seed: int = 0) -> tuple[Row, ...]:
    """Return the rows of the table, those without an interval first; kinds of observation only where there are any.

    Shares of traces get Newcombe's interval with effective sizes, since traces of a task resemble each other; means
    and shares of turns get a bootstrap over tasks. See `agenttrace.analysis.statistics`.
    """
    runs = one.runs(), other.runs()

    def both(name: str) -> tuple[Sums, Sums]:
        return sums(runs[0], name), sums(runs[1], name)

    rows = [
        _plain("hours from first to last", *(wall_s(part) / 3600 for part in runs), percent=False),
        _plain("tokens, generated (total)", *map(_total, runs), percent=False),
        *(_share(name, *both(name)) for name in SHARES),
    ]
    means = {"turns": "step_count", "seconds": "duration_s", **{f"tokens, {name}": TOKENS[name] for name in TOKENS}}
    rows += [_mean(f"{name} (mean)", *both(column), seed=seed) for name, column in means.items()]
    if any(part[f"{kind}_turns"].notna().any() for part in runs for kind in KINDS):
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


def _total(runs: pd.DataFrame) -> float | None:
    """Return all generated tokens; `None` where a trace does not report its own."""
    return float(runs["output_tokens"].sum()) if runs["output_tokens"].notna().all() else None


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
