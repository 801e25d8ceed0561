"""Which rollouts of a corpus may be similar: those that agree in a band of their signatures, pair by pair.

42 bands of 3 rows make a pair of similarity 0.5 a candidate with probability 0.996 (1 - (1 - J^3)^42). Most of what
bands name is not similar, so before whole signatures are compared, one byte of every second bin is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    Signatures = npt.NDArray[np.uint16]
    Sketch = npt.NDArray[np.uint8]
    Indices = npt.NDArray[np.int64]
    Pairs = tuple[Indices, Indices]
    Bucketed = tuple[Indices, npt.NDArray[np.uint64]]

BANDS = 42
ROWS = 3
LARGEST_BUCKET = 256
"""A bucket of more members is split by two further rows of their signatures, as often as that helps."""
_SPLITS = 3
_SKETCHED = 64
_LEAST = 20
"""Of the 64 bins of a sketch a pair of similarity 0.5 agrees in fewer with probability 0.0009."""
_AT_ONCE = 1 << 16
"""Members of buckets whose sketches are compared at once: they stay in the processor's cache."""


def sketch(rows: Signatures) -> Sketch:
    """Return the low byte of every second bin, shape (n, 64): 64 bytes, one line of a processor's cache."""
    short: Sketch = rows[:, ::2].astype(np.uint8)
    return short


def mixed(key: npt.NDArray[np.uint64], column: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint64]:
    """Return the keys with one bin more in each."""
    key = (key ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    found: npt.NDArray[np.uint64] = key ^ key >> np.uint64(29)
    return found


def firsts(values: npt.NDArray[np.int64 | np.uint64]) -> npt.NDArray[np.bool_]:
    """Return where a run of equal values begins."""
    return np.concatenate([np.ones(min(1, len(values)), dtype=bool), values[1:] != values[:-1]])


def buckets(rows: Signatures, distinct: Indices, band: int) -> Iterator[Bucketed]:
    """Yield members of buckets of two or more, sorted by bucket, and the bucket of each: small ones, then split ones.

    Args:
        rows: signatures.
        distinct: the rollouts that are to be in buckets.
        band: its number.
    """
    key = np.full(len(distinct), band, dtype=np.uint64)
    for column in np.ascontiguousarray(rows[:, band * ROWS : (band + 1) * ROWS])[distinct].T:
        key = mixed(key, column)
    members, key = _bucketed(key, distinct)
    for turn in range(_SPLITS + 1):
        large = _sizes(key) > LARGEST_BUCKET
        if turn == _SPLITS or not large.any():
            yield members, key
            return
        yield members[~large], key[~large]
        members, key = members[large], key[large]
        for row in range(2):
            key = mixed(key, rows[members, ((band + 1) * ROWS + 2 * turn + row) % rows.shape[1]])
        members, key = _bucketed(key, members)


def _bucketed(key: npt.NDArray[np.uint64], members: Indices) -> Bucketed:
    bits = np.uint64(max(1, len(members).bit_length()))
    # Bucket and place in one number: sorting numbers is several times as fast as sorting an index by them.
    key = (key >> bits << bits) | np.arange(len(members), dtype=np.uint64)
    key.sort()
    place = (key & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
    key >>= bits
    same = key[1:] == key[:-1]
    keep = np.concatenate([same, [False]]) | np.concatenate([[False], same]) if len(key) else same
    return members[place[keep]], key[keep]


def _sizes(key: npt.NDArray[np.uint64]) -> Indices:
    """Return per member how large its bucket is."""
    sizes = np.diff(np.append(np.flatnonzero(firsts(key)), len(key)))
    return np.repeat(sizes, sizes)


def over(key: npt.NDArray[np.uint64]) -> int:
    """Return how many members lie beyond the first `LARGEST_BUCKET` of their bucket."""
    return int((key[LARGEST_BUCKET + 1 :] == key[: -LARGEST_BUCKET - 1]).sum())


def candidates(bucketed: Bucketed, short: Sketch, labels: Indices, groups: Indices | None) -> Iterator[Pairs]:
    """Yield the pairs of each bucket that are not joined yet and whose sketches do not rule them out.

    Args:
        bucketed: members, sorted by bucket, and the bucket of each.
        short: what `sketch` returns.
        labels: what is joined already.
        groups: pairs of one group are left out, as they are decided.
    """
    members, key = _undecided(bucketed, labels)
    starts = np.append(np.flatnonzero(firsts(key)), len(key))
    at = 0
    while at < len(key):
        # Whole buckets: the last that ends in time, or one that is too large by itself.
        first = int(np.searchsorted(starts, at))
        end = int(starts[max(int(np.searchsorted(starts, at + _AT_ONCE, side="right")) - 1, first + 1)])
        yield _alike(members[at:end], key[at:end], short, labels, groups)
        at = end


def _alike(
    members: Indices, key: npt.NDArray[np.uint64], short: Sketch, labels: Indices, groups: Indices | None
) -> Pairs:
    """Return the pairs of some buckets: of members one apart, of those two apart, and so on."""
    joined, own = labels[members], short[members]
    group = None if groups is None else groups[members]
    places = np.arange(len(key))
    starts = np.flatnonzero(firsts(key))
    ends = np.repeat(np.append(starts[1:], len(key)), np.diff(np.append(starts, len(key))))
    found = [(members[:0], members[:0])]
    for distance in range(1, LARGEST_BUCKET + 1):
        places = places[places + distance < ends[places]]
        if not len(places):
            break
        others = places + distance
        asked = joined[places] != joined[others]
        if group is not None:
            asked &= group[places] != group[others]
        one, other = places[asked], others[asked]
        equal = np.bitwise_count((own[one] == own[other]).view(np.uint64)).sum(axis=1, dtype=np.uint8)
        enough = equal >= _LEAST
        found.append((members[one[enough]], members[other[enough]]))
    left, right = (np.concatenate(side) for side in zip(*found, strict=True))
    return left, right


def _undecided(bucketed: Bucketed, labels: Indices) -> Bucketed:
    """Return the buckets whose members are not all joined already."""
    members, key = bucketed
    if not len(members):
        return bucketed
    starts = np.flatnonzero(firsts(key))
    least, most = (function.reduceat(labels[members], starts) for function in (np.minimum, np.maximum))
    kept = np.repeat(least != most, np.diff(np.append(starts, len(members))))
    return members[kept], key[kept]
