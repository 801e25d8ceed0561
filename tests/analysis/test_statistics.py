"""Every statistic against an independent computation: scipy's, or the definition spelled out."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from scipy import stats

from agenttrace.analysis import statistics as ours

RANDOM = np.random.default_rng(1)


def test_a_distribution_knows_what_is_missing():
    found = ours.distribution([3, None, 1, 2, float("nan")])
    assert (found.n, found.missing, found.total, found.min, found.median, found.max) == (3, 2, 6, 1, 2, 3)
    assert found.p95 == pytest.approx(2.9)


def test_a_distribution_of_nothing_has_no_figures():
    found = ours.distribution([None, None])
    assert (found.n, found.missing, found.total, found.median, found.p95) == (0, 2, None, None, None)


def test_quantiles_are_those_of_the_standard_library():
    values = RANDOM.lognormal(size=313)
    found = ours.distribution(values)
    cuts = statistics.quantiles(values.tolist(), n=20, method="inclusive")
    assert found.p95 == pytest.approx(cuts[18])
    assert found.median == pytest.approx(statistics.median(values.tolist()))


@pytest.mark.parametrize(("count", "n"), [(0, 5), (5, 5), (3, 7), (297, 674), (1, 10_000)])
def test_shares_have_wilsons_interval(count, n):
    low, high = stats.binomtest(count, n).proportion_ci(method="wilson")
    found = ours.share(count, n)
    assert (found.share, found.low, found.high) == pytest.approx((count / n, low, high), abs=1e-12)


def test_a_share_of_nothing_is_unknown():
    assert ours.share(0, 0).share is None


@pytest.mark.parametrize("values", [[1, 2, 3], [2, 2, 1, 5, 5, 5], [7]])
def test_ranks(values):
    assert ours.ranks(np.array(values, float)).tolist() == stats.rankdata(values).tolist()


def test_spearman_is_scipys_and_its_interval_covers():
    x = RANDOM.integers(0, 9, 200)
    y = x + RANDOM.integers(0, 9, 200)
    found = ours.spearman(x, y)
    rho = stats.spearmanr(x, y).statistic
    assert found.value == pytest.approx(rho)
    half = stats.norm.ppf(0.975) * math.sqrt((1 + rho**2 / 2) / 197)
    assert (found.low, found.high) == pytest.approx(
        (math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half))
    )


def test_pairs_with_an_unknown_are_not_counted():
    x = [*range(20), None, 3]
    y = [*range(20), 4, None]
    assert (ours.spearman(x, y).n, ours.spearman(x, y).value) == (20, 1)


def test_too_few_and_constant_are_said():
    assert "too few: 4 pairs" in ours.spearman(range(4), range(4)).note
    assert "not defined" in ours.spearman([1] * 20, range(20)).note
    assert "too few: 30 solved and 0 unsolved" in ours.superiority(range(30), [True] * 30).note
    assert ours.superiority(range(30), [True] * 30).value is None


def test_superiority_is_cliffs_delta_with_delongs_interval():
    values, solved = RANDOM.integers(0, 12, 90).astype(float), RANDOM.integers(0, 2, 90).astype(bool)
    values[solved] += 2
    high, low = values[solved], values[~solved]
    wins = np.array([[float(a > b) - float(a < b) for b in low] for a in high])
    found = ours.superiority(values, solved)
    assert found.value == pytest.approx(wins.mean())
    auc = (wins + 1) / 2
    variance = auc.mean(axis=1).var(ddof=1) / len(high) + auc.mean(axis=0).var(ddof=1) / len(low)
    half = 2 * stats.norm.ppf(0.975) * math.sqrt(variance)
    assert (found.low, found.high) == pytest.approx((wins.mean() - half, wins.mean() + half))


@pytest.mark.parametrize(("a", "b"), list(itertools.product([0, 1, 5, 46], [0, 1, 7, 172])))
def test_mcnemar_is_the_exact_binomial_test(a, b):
    expected = stats.binomtest(a, a + b).pvalue if a + b else 1.0
    assert ours.mcnemar_p(a, b) == pytest.approx(expected)


def test_no_share_lies_beside_its_interval():
    for whole in range(1, 200):
        for part in (0, whole):
            low, high = ours.wilson(part, whole)
            assert low <= part / whole <= high
