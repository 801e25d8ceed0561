"""Diversity of a corpus on disk: numbers computed by hand, upstream's depending on order, ours not."""

from __future__ import annotations

import random

import numpy as np
import pytest

from agenttrace.analysis.diversity import Corpus, measure, signatures
from agenttrace.errors import StorageError


def letters(seed, count=400):
    return "".join(random.Random(seed).choices("abcdefghijklmnopqrstuvwxyz ./-", k=count))


def chain(name):
    """Three texts, neighbours at J = 2/3, the ends at 1/3: greedy keeps the ends, or the middle one alone."""
    left, both, right = (letters(name + part) for part in ("left", "both", "right"))
    return [left + both, left + both + right, both + right]


def planted():
    """4 chains of one task each, 6 single texts of one task, 5 copies of the first of these in another."""
    made = [(text, f"chain{at}") for at in range(4) for text in chain(f"c{at}")]
    single = [letters(f"single{at}") for at in range(6)]
    return made + [(text, "single") for text in single] + [(single[0], "copies")] * 5


def measured(items, **options):
    with Corpus() as corpus:
        for text, task in items:
            corpus.add(text, task)
        return measure(corpus, **options)


def test_planted_duplicates_give_the_numbers_computed_by_hand():
    found = measured(planted())
    assert found.rollouts == 23
    assert found.upstream_unique == 4 * 2 + 6  # of a chain in order, the ends; of the copies, the first
    assert found.corpus_components == 4 + 6
    assert found.within_components == 4 + 6 + 1  # the copies are another task's
    assert found.sampled_pairs == 4 * 3 + 15 + 10  # few enough: all pairs
    assert (found.sampled_similar, found.sampled_found) == (4 * 2 + 10, 4 * 2 + 10)
    assert found.capped == 0


def test_another_order_changes_upstreams_number_and_not_ours():
    items = planted()
    middle_first = [item for at in range(4) for item in (items[3 * at + 1], items[3 * at], items[3 * at + 2])]
    one, other = measured(items), measured(middle_first + items[12:])
    assert one.upstream_unique == 14
    assert other.upstream_unique == 4 + 6
    assert one.upstream_shuffled[0] < one.upstream_shuffled[1]
    for found in (measured(random.Random(seed).sample(items, len(items)), upstream=False) for seed in range(3)):
        assert (found.corpus_components, found.within_components) == (10, 11)
        assert (found.upstream_unique, found.upstream_shuffled, found.upstream_mean_similarity) == (None, None, None)


def test_a_corpus_on_disk_holds_what_was_added(tmp_path):
    texts = [f"command {at} \udcff\n" * (at % 5) for at in range(600)]
    with Corpus(tmp_path) as corpus:
        for at, text in enumerate(texts):
            corpus.add(text, f"task {at % 3}")
        rows = corpus.rows()
        assert isinstance(rows, np.memmap)
        assert (rows == signatures.signatures(texts)).all()
        assert [corpus.text(at) for at in range(600)] == texts
        assert corpus.groups.tolist() == [at % 3 for at in range(600)]
        assert (len(corpus), corpus.tasks) == (600, 3)
    assert list(tmp_path.iterdir()) == []


def test_nothing_and_one_rollout():
    with Corpus() as corpus:
        assert measure(corpus).corpus_components == 0
    found = measured([("ls", "t")])
    assert (found.corpus_components, found.upstream_unique, found.within_mean_similarity) == (1, 1, None)


def test_a_place_without_room_is_named(tmp_path):
    with pytest.raises(StorageError, match="--scratch"), Corpus(tmp_path / "none"):
        pass
