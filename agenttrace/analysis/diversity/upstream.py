"""The metric of SWE-ZERO, exactly: 5-character shingles, 128 MD5 hashes, greedy in list order at 0.5.

Source: `experiments/swe_zero/diversity.py` of marin-community/marin at d97c0c46. Hash `i` of a shingle is the first
four bytes, little endian, of the MD5 of `i:shingle`; a signature is the minimum of each over all shingles; the
similarity of two is the share of equal positions. The number of unique rollouts depends on the order of the list, by
construction.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Signatures = npt.NDArray[np.uint32]

HASHES = 128
_THRESHOLD = 0.5
WIDTH = 5
_REMEMBERED = 200_000
_ROWS = 256


def shingles(text: str) -> set[str]:
    """Return the set of 5-character substrings; of a shorter text the text itself."""
    return {text[i : i + WIDTH] for i in range(len(text) - WIDTH + 1)} if len(text) >= WIDTH else {text}


def signatures(texts: Sequence[str]) -> Signatures:
    """Return one row of 128 minima per text, shape (n, 128). About 0.1 s a text: MD5 leaves no shortcut."""
    known: dict[str, Signatures] = {}
    prefixes = [hashlib.md5(f"{i}:".encode(), usedforsecurity=False) for i in range(HASHES)]
    rows = np.empty((len(texts), HASHES), dtype=np.uint32)
    for row, text in enumerate(texts):
        if len(known) > _REMEMBERED:
            known.clear()
        parts = []
        for shingle in shingles(text):
            if shingle not in known:
                known[shingle] = np.frombuffer(_hashes(shingle, prefixes), dtype="<u4").astype(np.uint32)
            parts.append(known[shingle])
        rows[row] = np.minimum.reduce(parts)
    return rows


def _hashes(shingle: str, prefixes: Sequence[Any]) -> bytes:
    data = shingle.encode("utf-8", "surrogatepass")
    found = bytearray()
    for prefix in prefixes:
        state = prefix.copy()
        state.update(data)
        found += state.digest()[:4]
    return bytes(found)


def similarities(rows: Signatures) -> npt.NDArray[np.float64]:
    """Return the similarity of every pair (i, j), i < j, in that order: n(n-1)/2 values."""
    if len(rows) < 2:  # noqa: PLR2004 - a pair
        return np.empty(0)
    return np.concatenate([(rows[i] == rows[i + 1 :]).mean(axis=1) for i in range(len(rows) - 1)])


def unique(rows: Signatures) -> list[int]:
    """Return the rows that greedy keeps: in list order, each one drops every later one at 0.5 or above."""
    alive = np.ones(len(rows), dtype=bool)
    kept: list[int] = []
    for i in range(len(rows)):
        if alive[i]:
            kept.append(i)
            alive[i + 1 :] &= (rows[i] == rows[i + 1 :]).mean(axis=1) < _THRESHOLD
    return kept
