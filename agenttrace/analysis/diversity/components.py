"""Near-duplicate components by banded signatures: a pair above the threshold ends in one component, whatever the order.

42 bands of 3 rows make a pair of similarity 0.5 a candidate with probability 0.996 (1 - (1 - J^3)^42). A candidate is
verified: by its signatures where these are clear, by the exact sets where they are not and the texts can be had. Only
then are the two joined. Components are named by their smallest member, so order does not show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from agenttrace.analysis.diversity.signatures import BINS, jaccard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    Signatures = npt.NDArray[np.uint32]
    Pairs = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

THRESHOLD = 0.5
"""Jaccard similarity from which two traces count as near-duplicates; SWE-ZERO takes it from arXiv 2510.02387."""
BANDS = 42
ROWS = 3
MARGIN = 0.14
"""About three standard deviations of the estimate at 0.5: within it, the exact sets decide."""
MAX_DISTANCE = 256
"""In a bucket of more members, each is compared with this many after it."""
_CHUNK = 1 << 15


@dataclass(frozen=True)
class Components:
    """The components of rollouts.

    Attributes:
        labels: per rollout the smallest index of its component, shape (n,).
        capped: members of buckets that were too large for all of their pairs.
    """

    labels: npt.NDArray[np.int64]
    capped: int

    @property
    def count(self) -> int:
        """How many components there are: the number of rollouts that are no near-duplicate of a smaller one."""
        return int(np.unique(self.labels).size)


def components(
    rows: Signatures,
    *,
    groups: npt.NDArray[np.int64] | None = None,
    text: Callable[[int], str] | None = None,
) -> Components:
    """Return the near-duplicate components of rollouts, in the order of a key that is theirs (such as the id).

    Args:
        rows: signatures, shape (n, 128); may be a memory map. One pass per band; about 24 bytes per rollout besides.
        groups: only rollouts of one group are compared; shape (n,).
        text: gives the text of a rollout; without it the signatures alone decide.
    """
    labels = np.arange(len(rows), dtype=np.int64)
    if not len(rows):
        return Components(labels, 0)
    capped = 0
    for band in range(BANDS):
        members, buckets = _buckets(rows, band, groups)
        edges: list[Pairs] = []
        for one, other in _pairs(members, buckets):
            apart = labels[one] != labels[other]
            one, other = one[apart], other[apart]  # noqa: PLW2901 - narrowed
            similar = _verified(rows, one, other, text)
            edges.append((one[similar], other[similar]))
        capped += _over(buckets)
        labels = _joined(labels, edges)
    return Components(labels, capped)


def _buckets(rows: Signatures, band: int, groups: npt.NDArray[np.int64] | None) -> Pairs:
    """Members of buckets with two or more, sorted by bucket and index, and the bucket of each."""
    bits = np.uint64(max(1, len(rows).bit_length()))
    key = np.full(len(rows), band, dtype=np.uint64)
    columns = [rows[:, band * ROWS + row].astype(np.uint64) for row in range(ROWS)]
    if groups is not None:
        columns.append(groups.astype(np.uint64))
    for column in columns:
        key ^= column
        key *= np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    # Bucket and index in one number: sorting numbers is several times as fast as sorting an index by them.
    key = (key >> bits << bits) | np.arange(len(rows), dtype=np.uint64)
    key.sort()
    bucket = (key >> bits).astype(np.int64)
    index = (key & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
    same = bucket[1:] == bucket[:-1]
    keep = np.concatenate([same, [False]]) | np.concatenate([[False], same])
    return index[keep], bucket[keep]


def _pairs(members: npt.NDArray[np.int64], buckets: npt.NDArray[np.int64]) -> Iterator[Pairs]:
    """Yield the pairs of each bucket: neighbours, then those two apart, and so on."""
    starts = np.flatnonzero(np.concatenate([[True], buckets[1:] != buckets[:-1]])) if len(buckets) else buckets
    sizes = np.repeat(np.diff(np.append(starts, len(buckets))), np.diff(np.append(starts, len(buckets))))
    for distance in range(1, MAX_DISTANCE + 1):
        larger = sizes > distance
        if not larger.all():
            members, buckets, sizes = members[larger], buckets[larger], sizes[larger]
        if not len(members):
            return
        same = buckets[distance:] == buckets[:-distance]
        yield members[:-distance][same], members[distance:][same]


def _over(buckets: npt.NDArray[np.int64]) -> int:
    """Members beyond the first `MAX_DISTANCE` of their bucket."""
    return int((buckets[MAX_DISTANCE + 1 :] == buckets[: -MAX_DISTANCE - 1]).sum())


def _verified(
    rows: Signatures,
    one: npt.NDArray[np.int64],
    other: npt.NDArray[np.int64],
    text: Callable[[int], str] | None,
) -> npt.NDArray[np.bool_]:
    """Which pairs are near-duplicates."""
    estimate = np.empty(len(one))
    for at in range(0, len(one), _CHUNK):
        part = slice(at, at + _CHUNK)
        estimate[part] = np.count_nonzero(rows[one[part]] == rows[other[part]], axis=1) / BINS
    if text is None:
        return estimate >= THRESHOLD
    similar = estimate >= THRESHOLD + MARGIN
    for pair in np.flatnonzero(~similar & (estimate >= THRESHOLD - MARGIN)):
        similar[pair] = jaccard(text(int(one[pair])), text(int(other[pair]))) >= THRESHOLD
    return similar


def _joined(labels: npt.NDArray[np.int64], edges: list[Pairs]) -> npt.NDArray[np.int64]:
    """Labels after joining the components of each pair; the smallest label stays."""
    from scipy.sparse import coo_array  # noqa: PLC0415 - slow to import
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    if not edges or not sum(len(one) for one, _ in edges):
        return labels
    one = labels[np.concatenate([edge[0] for edge in edges])]
    other = labels[np.concatenate([edge[1] for edge in edges])]
    nodes, places = np.unique(np.concatenate([one, other]), return_inverse=True)
    size, half = len(nodes), len(one)
    graph = coo_array((np.ones(half, dtype=bool), (places[:half], places[half:])), shape=(size, size))
    count, component = connected_components(graph, directed=False)
    smallest = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(smallest, component, nodes)
    renamed = np.arange(len(labels), dtype=np.int64)
    renamed[nodes] = smallest[component]
    return renamed[labels]
