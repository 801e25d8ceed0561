"""The exact similarity of many pairs of texts: sets of shingles as sorted numbers, intersected row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from agenttrace.analysis.diversity.signatures import shingle_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    Indices = npt.NDArray[np.int64]

_KEPT = 64 << 20
"""Bytes of sets that are kept: about 10,000 texts of a thousand shingles."""
_AT_ONCE = 4 << 20
"""Shingles of the pairs that are intersected at once, unless one pair has more."""
_COLUMNS = 1 << 40
"""Numbers that a shingle can have."""


class Exact:
    """Computes Jaccard similarities of texts by their numbers; remembers the sets that it made last.

    Args:
        text: gives the text with a number.
    """

    def __init__(self, text: Callable[[int], str]) -> None:
        self._text = text
        self._sets: dict[int, npt.NDArray[np.int64]] = {}
        self._bytes = 0

    def jaccard(self, one: Indices, other: Indices) -> npt.NDArray[np.float64]:
        """Return the similarity of each pair (one[i], other[i]), shape (n,); neighbouring pairs best share texts."""
        found = np.empty(len(one))
        for part in self._parts(one, other):
            found[part] = self._intersected(one[part], other[part])
        return found

    def _parts(self, one: Indices, other: Indices) -> Iterator[slice]:
        """Yield runs of pairs that have few enough shingles together."""
        start = total = 0
        for at, pair in enumerate(zip(one.tolist(), other.tolist(), strict=True)):
            size = sum(len(self._set(index)) for index in pair)
            if total + size > _AT_ONCE and at > start:
                yield slice(start, at)
                start, total = at, 0
            total += size
        if start < len(one):
            yield slice(start, len(one))

    def _set(self, index: int) -> npt.NDArray[np.int64]:
        found = self._sets.pop(index, None)
        if found is None:
            found = shingle_numbers(self._text(index))
            self._bytes += found.nbytes
            while self._bytes > _KEPT and self._sets:
                self._bytes -= self._sets.pop(next(iter(self._sets))).nbytes
        self._sets[index] = found  # the one asked for last is the last to go
        return found

    def _intersected(self, one: Indices, other: Indices) -> npt.NDArray[np.float64]:
        from scipy.sparse import csr_array  # noqa: PLC0415 - slow to import

        names, places = np.unique(np.concatenate([one, other]), return_inverse=True)
        sets = [self._set(index) for index in names.tolist()]
        sizes = np.array([len(each) for each in sets])
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        ones = np.ones(bounds[-1], dtype=np.int8)
        matrix = csr_array((ones, np.concatenate(sets), bounds), shape=(len(sets), _COLUMNS))
        matrix.has_canonical_format = True  # the numbers of a set ascend, each is there once
        left, right = places[: len(one)], places[len(one) :]
        shared = np.diff(matrix[left].multiply(matrix[right]).indptr)
        found: npt.NDArray[np.float64] = shared / (sizes[left] + sizes[right] - shared)
        return found
