"""How many of the similar pairs of a corpus share a component: sampled rollouts against all others, without bands."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from agenttrace.analysis.diversity.components import MARGIN, THRESHOLD, equal_bins
from agenttrace.analysis.diversity.exact import Exact
from agenttrace.analysis.diversity.signatures import BINS

if TYPE_CHECKING:
    from agenttrace.analysis.diversity.components import Indices, Signatures, Text

_PROBES = 500
_LEAST_PROBES = 16
_LOOKS = 30_000_000
"""Pairs of signatures that are looked at, unless the fewest probes need more."""
_ROWS = 1 << 14


class Recall(NamedTuple):
    """What became of the pairs of sampled rollouts with all others that their exact sets call similar."""

    probes: int
    similar: int
    found: int


def recall(rows: Signatures, labels: Indices, text: Text) -> Recall:
    """Return how many pairs at or above the threshold share a component, of a seeded sample of rollouts.

    A pair whose signatures say less than the threshold by `MARGIN` or more is taken to be below it.

    Args:
        rows: signatures, shape (n, 128); may be a memory map.
        labels: the component of each rollout, shape (n,).
        text: gives the text of a rollout.
    """
    rows = np.asarray(rows)
    count = min(len(rows), max(_LEAST_PROBES, min(_PROBES, _LOOKS // max(1, len(rows)))))
    probes = np.array(sorted(random.Random(0).sample(range(len(rows)), count)), dtype=np.int64)  # noqa: S311 - a sample
    asked, exact, similar, found = rows[probes].astype(np.uint8), Exact(text), 0, 0
    for at in range(0, len(rows), _ROWS):
        low = rows[at : at + _ROWS].astype(np.uint8)  # the lowest byte of each bin, as in `components`
        for probe, mine in zip(probes.tolist(), asked, strict=True):
            near = at + np.flatnonzero(equal_bins(low, mine) >= (THRESHOLD - MARGIN) * BINS)
            near = near[near != probe]
            alike = near[exact.jaccard(np.full(len(near), probe), near) >= THRESHOLD]
            similar += len(alike)
            found += int((labels[alike] == labels[probe]).sum())
    return Recall(count, similar, found)
