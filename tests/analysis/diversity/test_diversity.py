"""Upstream's number is upstream's, ours does not depend on order, and near-duplicates are found."""

import hashlib
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttrace.analysis.diversity import bands, upstream
from agenttrace.analysis.diversity import components as near
from agenttrace.analysis.diversity import signatures as fast
from agenttrace.analysis.diversity.exact import Exact
from agenttrace.analysis.diversity.recall import recall

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
    digest = hashlib.sha256(rows.astype("<u2").tobytes()).hexdigest()
    assert digest == "d81a9898b2958f13a003ae8c5f17ac93c5a8c965ac088fc27630b33112349abc"
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


def partition(labels):
    groups = {}
    for place, label in enumerate(labels.tolist()):
        groups.setdefault(label, set()).add(place)
    return {frozenset(group) for group in groups.values()}


def by_hand(texts, groups=None):
    """The components that the exact sets of all pairs give."""
    labels = list(range(len(texts)))
    for one, left in enumerate(texts):
        for other in range(one):
            same = groups is None or groups[one] == groups[other]
            if same and labels[one] != labels[other] and fast.jaccard(left, texts[other]) >= near.THRESHOLD:
                gone, stays = sorted((labels[one], labels[other]))[::-1]
                labels = [stays if label == gone else label for label in labels]
    return np.array(labels)


@pytest.mark.parametrize("seed", range(4))
def test_components_are_those_of_all_exact_pairs_within_tasks_and_over_all(seed):
    generator = random.Random(seed)
    texts = []
    for _ in range(12):
        one = text(generator, generator.randint(2, 40))
        texts += [one] * generator.randint(1, 3)
        texts += [edited(generator, one, generator.uniform(0, 0.6)) for _ in range(6)]
    generator.shuffle(texts)
    groups = np.array([generator.randrange(4) for _ in texts])
    rows = fast.signatures(texts)
    found = near.within(rows, groups, text=texts.__getitem__)
    assert partition(found.labels) == partition(by_hand(texts, groups))
    assert (found.labels <= np.arange(len(texts))).all()
    whole = partition(by_hand(texts))
    assert partition(near.components(rows, text=texts.__getitem__).labels) == whole
    assert partition(near.components(rows, decided=(groups, found), text=texts.__getitem__).labels) == whole


def test_a_large_group_is_banded_and_gives_the_same(monkeypatch):
    generator = random.Random(9)
    texts = [one for _, one in corpus(generator, 60, 3)]
    groups = np.array([0, 1] * (len(texts) // 2))
    rows = fast.signatures(texts)
    every = near.within(rows, groups, text=texts.__getitem__)
    monkeypatch.setattr(near, "LARGEST_GROUP", 50)
    banded = near.within(rows, groups, text=texts.__getitem__)
    assert banded.labels.tolist() == every.labels.tolist()
    assert every.count < len(texts)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet="ab c\udcffü", max_size=30), min_size=2, max_size=12))
def test_the_exact_similarity_of_many_pairs_is_that_of_each(texts):
    one, other = (
        np.array(side) for side in zip(*[(i, j) for i in range(len(texts)) for j in range(len(texts))], strict=True)
    )
    found = Exact(texts.__getitem__).jaccard(one, other)
    assert found.tolist() == [fast.jaccard(texts[i], texts[j]) for i, j in zip(one, other, strict=True)]


def test_sets_are_made_again_where_there_is_no_room_for_them(monkeypatch):
    monkeypatch.setattr("agenttrace.analysis.diversity.exact._KEPT", 1)
    monkeypatch.setattr("agenttrace.analysis.diversity.exact._AT_ONCE", 1)
    texts = ["grep -rn a src", "grep -rn b src", "ls -la"]
    one, other = np.array([0, 0, 1]), np.array([1, 2, 2])
    expected = [fast.jaccard(texts[i], texts[j]) for i, j in zip(one, other, strict=True)]
    assert Exact(texts.__getitem__).jaccard(one, other).tolist() == expected


def test_copies_are_one_member_of_their_bucket():
    rows = fast.signatures(["the same commands"] * 3000 + ["others"])
    found = near.components(rows)
    assert (found.count, found.capped) == (2, 0)
    assert set(found.labels.tolist()) == {0, 3000}


def full_bucket(generator, count):
    """Signatures that are alike in the first three bins, a pair of them in nine tenths of all."""
    rows = generator.integers(0, 2**32, size=(count, fast.BINS), dtype=np.uint32)
    rows[:, : bands.ROWS] = 7
    rows[count - 1, : fast.BINS * 9 // 10] = rows[0, : fast.BINS * 9 // 10]
    return rows


def test_a_full_bucket_is_split_and_nothing_is_passed_over(monkeypatch):
    rows = full_bucket(np.random.default_rng(3), 2000)
    monkeypatch.setattr(bands, "BANDS", 1)  # the pair is in no other bucket
    found = near.components(rows)
    assert (found.labels[1999], found.count, found.capped) == (0, 1999, 0)
    monkeypatch.setattr(bands, "_SPLITS", 0)
    found = near.components(rows)
    assert (found.count, found.capped) == (2000, 2000 - bands.LARGEST_BUCKET - 1)


def test_recall_across_tasks_is_measured_without_the_components():
    generator = random.Random(4)
    texts = [one for _, one in corpus(generator, 8, 3)]
    rows, groups = fast.signatures(texts), np.arange(len(texts)) % 2
    labels = near.components(rows, text=texts.__getitem__).labels
    found = recall(rows, groups, labels, text=texts.__getitem__)
    pairs = [(i, j) for i in range(len(texts)) for j in range(len(texts)) if groups[i] != groups[j]]
    similar = [pair for pair in pairs if fast.jaccard(*(texts[at] for at in pair)) >= near.THRESHOLD]
    assert found == (len(texts), len(similar), len(similar))
    none = recall(rows, groups, np.arange(len(texts)), text=texts.__getitem__)
    assert none == (len(texts), len(similar), 0)
    by_signatures = [(i, j) for i, j in pairs if (rows[i] == rows[j]).mean() >= near.THRESHOLD]
    assert recall(rows, groups, labels).similar == len(by_signatures)


@pytest.mark.parametrize("at_once", [1, 7, 1 << 16])
def test_buckets_are_compared_whole_however_many_at_once(monkeypatch, at_once):
    monkeypatch.setattr(bands, "_AT_ONCE", at_once)
    rows = fast.signatures([one for _, one in corpus(random.Random(8), 30, 3)])
    assert near.components(rows).count == 30


def test_a_sketch_rules_out_what_is_far_from_similar_and_nothing_that_is():
    generator = np.random.default_rng(6)
    rows = generator.integers(0, 2**16, size=(3000, fast.BINS), dtype=np.uint16)
    rows[:, : bands.ROWS] = 7
    share = np.repeat([0.15, 0.5, 0.7], 1000)
    alike = generator.random((3000, fast.BINS)) < share[:, None]
    pairs = np.concatenate(
        [rows, np.where(alike, rows, generator.integers(0, 2**16, size=rows.shape, dtype=np.uint16))]
    )
    pairs[:, : bands.ROWS] = 7
    key = np.tile(np.arange(3000, dtype=np.uint64), 2)
    members = np.argsort(key, kind="stable")
    found = bands.candidates((members, key[members]), bands.sketch(pairs), np.arange(6000), None)
    named = np.bincount(np.concatenate([one for one, _ in found]) // 1000, minlength=3)
    assert named[0] < 20
    assert named[1] >= 995
    assert named[2] == 1000


def test_groups_keep_apart_what_is_equal():
    rows = fast.signatures(["one", "one", "one"])
    assert near.within(rows, np.array([1, 2, 1])).labels.tolist() == [0, 1, 0]


def test_nothing_and_one_rollout_are_corpora_too():
    assert near.components(fast.signatures([])).count == 0
    assert near.components(fast.signatures(["x"])).count == 1
    assert upstream.unique(upstream.signatures(["x"])) == [0]
    assert len(upstream.similarities(upstream.signatures(["x"]))) == 0
