"""Upstream's number is upstream's, ours does not depend on order, and near-duplicates are found."""

import hashlib
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttrace.analysis.diversity import components as near
from agenttrace.analysis.diversity import signatures as fast
from agenttrace.analysis.diversity import upstream

WORDS = [
    "grep -rn ",
    "sed -n '",
    "cat src/",
    "find . -name ",
    "module/",
    "tests/",
    " | head -20\n",
    "echo ",
    "git diff ",
]


def text(generator, words=60):
    return "".join(generator.choice(WORDS) + str(generator.randrange(10_000)) for _ in range(words))


def edited(generator, original, share):
    """The text with a share of its numbers replaced."""
    parts = [original[i : i + 12] for i in range(0, len(original), 12)]
    return "".join(part if generator.random() > share else text(generator, 1)[:12] for part in parts)


def test_upstream_signatures_are_the_definition():
    shingles = {"abcde", "bcdef"}
    expected = [
        min(int.from_bytes(hashlib.md5(f"{i}:{one}".encode()).digest()[:4], "little") for one in shingles)
        for i in range(128)
    ]
    assert upstream.signatures(["abcdef"])[0].tolist() == expected
    assert upstream.shingles("abc") == {"abc"}
    assert upstream.shingles("") == {""}


def test_upstream_greedy_depends_on_order_and_components_do_not():
    # a ~ b and b ~ c at 0.5 or above, a and c below: greedy keeps a and c, or b alone, as the list happens to be.
    first, second, third = ("".join(f"{word}{i:04}" for i in range(60)) for word in ("alpha", "shared", "omega"))
    texts = {"a": first + second, "b": first[:270] + second + third[:270], "c": second + third}
    exact = {(x, y): fast.jaccard(texts[x], texts[y]) for x, y in ("ab", "bc", "ac")}
    assert exact["a", "b"] > 0.55
    assert exact["b", "c"] > 0.55
    assert exact["a", "c"] < 0.45
    kept = {
        order: [order[i] for i in upstream.unique(upstream.signatures([texts[name] for name in order]))]
        for order in ("abc", "bac", "cab")
    }
    assert kept["bac"] == ["b"]
    assert kept["abc"] == ["a", "c"]
    for order in ("abc", "bac", "cab"):
        rows = fast.signatures([texts[name] for name in order])
        assert near.components(rows, text=lambda i, order=order: texts[order[i]]).count == 1


def test_upstream_unique_on_planted_duplicates_is_the_number_counted_by_hand():
    generator = random.Random(5)
    originals = [text(generator) for _ in range(12)]
    corpus = [*originals, *originals[:5], originals[0] + " ", originals[1][:-2], ""]
    rows = upstream.signatures(corpus)
    assert len(upstream.unique(rows)) == 13  # 12 originals and the empty one
    assert upstream.unique(rows)[:12] == list(range(12))
    pairs = upstream.similarities(rows)
    assert len(pairs) == len(corpus) * (len(corpus) - 1) // 2
    assert pairs.max() == 1.0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=80), max_size=70))
def test_a_signature_depends_on_its_own_text_alone(texts):
    together = fast.signatures(texts)
    assert together.shape == (len(texts), fast.BINS)
    for row, one in zip(together, texts, strict=True):
        assert (row == fast.signatures([one])[0]).all()


def test_signatures_are_the_same_everywhere():
    rows = fast.signatures(["grep -rn needle src | head", "", "gr\u00fcn \U0001f600"])
    digest = hashlib.sha256(rows.astype("<u4").tobytes()).hexdigest()
    assert digest == "354ae5590bd675674080899a4a5e74af048d76ddb502ae6eb731e699f2e5c4e2"
    assert rows[0, :3].tolist() == fast.signatures(["grep -rn needle src | head"])[0, :3].tolist()


@pytest.mark.parametrize("words", [3, 10, 60, 300])
def test_the_estimate_is_unbiased_at_every_size(words):
    generator = random.Random(words)
    errors = []
    for share in (0.05, 0.2, 0.4) * 20:
        one = text(generator, words)
        other = edited(generator, one, share)
        rows = fast.signatures([one, other])
        errors.append((rows[0] == rows[1]).mean() - fast.jaccard(one, other))
    assert abs(np.mean(errors)) < 0.03
    assert np.std(errors) < 0.12


def corpus(generator, families, copies):
    made = []
    for family in range(families):
        original = text(generator)
        made += [(family, original), *((family, edited(generator, original, 0.08)) for _ in range(copies))]
    return made


def test_planted_near_duplicates_are_found_in_any_order():
    generator = random.Random(1)
    made = corpus(generator, 150, 3)
    reference = None
    for _ in range(3):
        generator.shuffle(made)
        texts = [one for _, one in made]
        found = near.components(fast.signatures(texts), text=texts.__getitem__)
        groups = {}
        for (_, one), label in zip(made, found.labels, strict=True):
            groups.setdefault(label, set()).add(one)
        partition = {frozenset(group) for group in groups.values()}
        reference = reference or partition
        assert partition == reference
        assert found.count == len(partition) == 150
        assert found.capped == 0


def test_recall_at_the_threshold_is_measured_on_exact_pairs():
    generator = random.Random(2)
    texts = []
    for _ in range(400):
        one = text(generator, 40)
        texts += [one, edited(generator, one, generator.uniform(0.1, 0.5))]
    found = near.components(fast.signatures(texts), text=texts.__getitem__)
    similar = [at for at in range(0, len(texts), 2) if fast.jaccard(texts[at], texts[at + 1]) >= near.THRESHOLD]
    assert len(similar) > 80
    assert sum(found.labels[at] == found.labels[at + 1] for at in similar) >= 0.99 * len(similar)


def test_large_buckets_are_joined_whole_and_counted():
    rows = fast.signatures(["the same commands"] * 1000)
    found = near.components(rows)
    assert found.count == 1
    assert set(found.labels.tolist()) == {0}
    assert found.capped == near.BANDS * (1000 - near.MAX_DISTANCE - 1)


def test_groups_keep_apart_what_is_equal():
    rows = fast.signatures(["one", "one", "one"])
    assert near.components(rows, groups=np.array([1, 2, 1])).labels.tolist() == [0, 1, 0]


def test_nothing_and_one_rollout_are_corpora_too():
    assert near.components(fast.signatures([])).count == 0
    assert near.components(fast.signatures(["x"])).count == 1
    assert upstream.unique(upstream.signatures(["x"])) == [0]
    assert len(upstream.similarities(upstream.signatures(["x"]))) == 0
