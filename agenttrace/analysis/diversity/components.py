"""Near-duplicate components by signatures: a pair above the threshold ends in one component, whatever the order.

Within a task every pair is compared. Across tasks 42 bands of 3 rows make a pair of similarity 0.5 a candidate with
probability 0.996 (1 - (1 - J^3)^42). A pair is verified: by its signatures where these are clear, by the exact sets
where they are not and the texts can be had. Only then are the two joined. Components are named by their smallest
member, so order does not show.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agenttrace.analysis.diversity import bands
from agenttrace.analysis.diversity.exact import Exact
from agenttrace.analysis.diversity.signatures import BINS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    Signatures = npt.NDArray[np.uint16]
    Indices = npt.NDArray[np.int64]
    Pairs = tuple[Indices, Indices]
    Text = Callable[[int], str]

THRESHOLD = 0.5
"""Jaccard similarity from which two traces count as near-duplicates; SWE-ZERO takes it from arXiv 2510.02387."""
MARGIN = 0.14
"""About three standard deviations of the estimate at 0.5: within it, the exact sets decide."""
LARGEST_GROUP = 1_024
"""In a group of more distinct members, bands name the pairs; in others every pair is looked at."""
_PAIRS = 1 << 15
"""Pairs whose signatures are compared at once."""
_UNCLEAR = 1 << 22
"""Pairs that wait for their exact sets: the more, the more of them share texts."""


@dataclass(frozen=True)
class Components:
    """The components of rollouts.

    Attributes:
        labels: per rollout the smallest index of its component, shape (n,).
        capped: members of buckets that were too large for all of their pairs.
    """

    labels: Indices
    capped: int

    @property
    def count(self) -> int:
        """How many components there are: the number of rollouts that are no near-duplicate of a smaller one."""
        return int(np.unique(self.labels).size)


def within(rows: Signatures, groups: Indices, *, text: Text | None = None) -> Components:
    """Return the near-duplicate components of rollouts of which only those of one group are compared.

    Args:
        rows: signatures, shape (n, 128); may be a memory map.
        groups: the group of each rollout, shape (n,).
        text: gives the text of a rollout; without it the signatures alone decide.
    """
    rows = np.asarray(rows)  # of a memory map, the plain array: its views cost less
    first, capped = _equal(rows, groups), 0
    exact = None if text is None else Exact(text)
    edges = []
    for members in _batches(np.flatnonzero(first == np.arange(len(first))), groups):
        if len(members) > LARGEST_GROUP and groups[members[0]] == groups[members[-1]]:
            found, over = _banded(rows[members], exact, numbers=members)
            capped += over
        else:
            found = _compared(rows[members], members, groups[members], exact)
        edges.append((members, members[found]))
    return Components(_joined(first, _together(edges)), capped)


def components(
    rows: Signatures, *, decided: tuple[Indices, Components] | None = None, text: Text | None = None
) -> Components:
    """Return the near-duplicate components of rollouts, in the order of a key that is theirs (such as the id).

    Args:
        rows: signatures, shape (n, 128); may be a memory map. One pass per band; about 24 bytes per rollout besides.
        decided: the group of each rollout, and what `within` found in these.
        text: gives the text of a rollout; without it the signatures alone decide.
    """
    rows, exact = np.asarray(rows), None if text is None else Exact(text)
    if decided is None:
        return Components(*_banded(rows, exact))
    groups, known = decided
    labels, capped = _banded(rows, exact, groups=groups, labels=known.labels)
    return Components(labels, capped + known.capped)


def _compared(rows: Signatures, numbers: Indices, groups: Indices, exact: Exact | None) -> Indices:
    """Return the labels of rollouts, sorted by group, of which every pair of one group is looked at."""
    pairs = _together([(at + one, at + other) for at, size in _runs(groups) for one, other in [_triangle(size)]])
    low = rows.astype(np.uint8)  # the lowest byte of each bin: bins that differ agree in it once in 256
    clear, unclear = _estimated(rows, _agreeing(low, pairs, least_bins(exact))[0], exact)
    return _settled(_joined(np.arange(len(rows)), clear), unclear, exact, numbers)


def _banded(
    rows: Signatures,
    exact: Exact | None,
    *,
    groups: Indices | None = None,
    labels: Indices | None = None,
    numbers: Indices | None = None,
) -> tuple[Indices, int]:
    """Return the labels after joining what bands name, and how many members of buckets were passed over.

    Args:
        rows: signatures.
        exact: decides where they are not clear.
        groups: pairs of one group are left out, as they are decided.
        labels: what is joined already.
        numbers: of the rollouts for `exact`, if they are not their places in `rows`.
    """
    copies = _equal(rows, None)
    distinct = np.flatnonzero(copies == np.arange(len(rows)))
    labels = copies if labels is None else _joined(labels, (np.arange(len(rows)), copies))
    capped, waiting = 0, []
    short = bands.sketch(rows)
    for band in range(bands.BANDS):
        for bucketed in bands.buckets(rows, distinct, band):
            edges: list[Pairs] = []
            for pairs in bands.candidates(bucketed, short, labels, groups):
                clear, unclear = _estimated(rows, pairs, exact)
                edges.append(clear)
                waiting.append(unclear)
            labels = _joined(labels, _together(edges))
            capped += bands.over(bucketed[1])
        if sum(len(one) for one, _ in waiting) > _UNCLEAR:
            labels, waiting = _settled(labels, _together(waiting), exact, numbers), []
    return _settled(labels, _together(waiting), exact, numbers), capped


def _equal(rows: Signatures, groups: Indices | None) -> Indices:
    """Return per rollout the smallest index with the same signature (and group): copies are compared once."""
    key = np.zeros(len(rows), dtype=np.uint64) if groups is None else groups.astype(np.uint64)
    for column in range(0, BINS, 8):  # enough of them to sort by; the whole rows decide
        key = bands.mixed(key, rows[:, column])
    order = np.argsort(key, kind="stable")
    same = np.flatnonzero(key[order[1:]] == key[order[:-1]])
    edges = []
    for at in range(0, len(same), _PAIRS):
        one, other = order[same[at : at + _PAIRS]], order[same[at : at + _PAIRS] + 1]
        equal = (rows[one] == rows[other]).all(axis=1)
        if groups is not None:
            equal &= groups[one] == groups[other]
        edges.append((one[equal], other[equal]))
    return _joined(np.arange(len(rows), dtype=np.int64), _together(edges))


def _batches(members: Indices, groups: Indices) -> Iterator[Indices]:
    """Yield members of whole groups of two or more, some groups at a time, one of more than `LARGEST_GROUP` alone."""
    members = members[np.argsort(groups[members], kind="stable")]
    kept: list[Indices] = []
    pairs = 0
    for start, size in _runs(groups[members]):
        if size > LARGEST_GROUP:
            yield members[start : start + size]
        elif size > 1:
            kept.append(members[start : start + size])
            pairs += size * (size - 1) // 2
            if pairs >= _PAIRS:
                yield np.concatenate(kept)
                kept, pairs = [], 0
    if kept:
        yield np.concatenate(kept)


def _runs(values: Indices) -> Iterator[tuple[int, int]]:
    """Yield start and length of each run of equal values."""
    starts = np.flatnonzero(bands.firsts(values))
    yield from zip(starts.tolist(), np.diff(np.append(starts, len(values))).tolist(), strict=True)


@functools.lru_cache(maxsize=8)
def _triangle(size: int) -> Pairs:
    one, other = np.triu_indices(size, 1)
    return one, other


def _together(parts: Sequence[Pairs]) -> Pairs:
    none = np.empty(0, dtype=np.int64)
    return np.concatenate([none, *(one for one, _ in parts)]), np.concatenate([none, *(other for _, other in parts)])


def least_bins(exact: Exact | None) -> float:
    """Return in how many bins the signatures of a pair agree at least that may be similar."""
    return (THRESHOLD - (MARGIN if exact else 0)) * BINS


def equal_bins(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> Indices:
    """Return in how many of the 128 bins rows of signatures agree, shape (n,)."""
    # Truth values are bytes of 0 and 1: eight are counted at once.
    bins: Indices = np.bitwise_count((left == right).view(np.uint64)).sum(axis=1, dtype=np.int64)
    return bins


def _agreeing(rows: npt.NDArray[Any], pairs: Pairs, least: float) -> tuple[Pairs, Indices]:
    """Return the pairs that agree in at least so many bins, and in how many."""
    kept, counts = [], [np.empty(0, dtype=np.int64)]
    for at in range(0, len(pairs[0]), _PAIRS):
        one, other = pairs[0][at : at + _PAIRS], pairs[1][at : at + _PAIRS]
        bins = equal_bins(rows[one], rows[other])
        enough = bins >= least
        kept.append((one[enough], other[enough]))
        counts.append(bins[enough])
    return _together(kept), np.concatenate(counts)


def _estimated(rows: Signatures, pairs: Pairs, exact: Exact | None) -> tuple[Pairs, Pairs]:
    """Return the pairs whose signatures are clearly similar, and those that only the exact sets can decide."""
    (one, other), bins = _agreeing(rows, pairs, least_bins(exact))
    clear = bins >= (THRESHOLD + (MARGIN if exact else 0)) * BINS
    return (one[clear], other[clear]), (one[~clear], other[~clear])


def _settled(labels: Indices, pairs: Pairs, exact: Exact | None, numbers: Indices | None) -> Indices:
    """Return the labels after joining the pairs that the exact sets decide."""
    one, other = pairs
    apart = labels[one] != labels[other]
    if exact is None or not apart.any():
        return labels
    size = np.int64(len(labels))
    key = np.unique(one[apart] * size + other[apart])  # each once, and those with one text beside each other
    one, other = key // size, key % size
    similar = exact.jaccard(*((one, other) if numbers is None else (numbers[one], numbers[other]))) >= THRESHOLD
    return _joined(labels, (one[similar], other[similar]))


def _joined(labels: Indices, pairs: Pairs) -> Indices:
    """Return the labels after joining the components of each pair; the smallest label stays."""
    from scipy.sparse import coo_array  # noqa: PLC0415 - slow to import
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    one, other = labels[pairs[0]], labels[pairs[1]]
    apart = one != other
    if not apart.any():
        return labels
    one, other = one[apart], other[apart]
    nodes, places = np.unique(np.concatenate([one, other]), return_inverse=True)
    size, half = len(nodes), len(one)
    graph = coo_array((np.ones(half, dtype=bool), (places[:half], places[half:])), shape=(size, size))
    count, component = connected_components(graph, directed=False)
    smallest = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(smallest, component, nodes)
    renamed = np.arange(len(labels), dtype=np.int64)
    renamed[nodes] = smallest[component]
    return renamed[labels]
