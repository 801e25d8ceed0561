"""Made-up signatures are those of rollouts that are hard to tell apart, and the same ones each time."""

import numpy as np

from bench.synthetic.signatures import PER_TASK, repositories


def similarity(rows, one, other):
    return (rows[one] == rows[other]).mean(axis=1)


def test_they_are_as_alike_as_upstream_says_of_its_sets():
    blocks = list(repositories(2000, seed=1))
    rows = np.concatenate([block.rows for block in blocks])
    assert rows.shape == (2000, 128)
    one, other = np.random.default_rng(0).integers(0, 2000, size=(2, 40_000))
    apart = one != other
    same_task, same_repository = one // PER_TASK == other // PER_TASK, one // 1000 == other // 1000
    alike = similarity(rows, one, other)
    assert 0.17 < alike[apart & same_task].mean() < 0.29
    assert 0.15 < alike[~same_task & same_repository].mean() < 0.25
    assert 0.03 < alike[~same_repository].mean() < 0.08


def test_copies_are_similar_and_some_are_of_another_task():
    block = next(repositories(1000, seed=2))
    copies = np.flatnonzero(block.source != np.arange(1000))
    afar = copies[block.tasks[copies] != block.tasks[block.source[copies]]]
    assert len(copies) - len(afar) > 10
    assert len(afar) > 5
    assert np.median(similarity(block.rows, copies, block.source[copies])) > 0.5


def test_the_same_seed_gives_the_same_and_any_number_is_made():
    one, again = (np.concatenate([block.rows for block in repositories(1300, seed=3)]) for _ in range(2))
    assert one.shape == (1300, 128)
    assert (one == again).all()
