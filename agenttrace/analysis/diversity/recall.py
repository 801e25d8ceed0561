"""How many similar pairs across tasks share a component: sampled rollouts against all of other tasks, without bands."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from agenttrace.analysis.diversity.components import THRESHOLD, equal_bins, least_bins
from agenttrace.analysis.diversity.exact import Exact
from agenttrace.analysis.diversity.signatures import BINS

if TYPE_CHECKING:
    import numpy.typing as npt

    from agenttrace.analysis.diversity.components import Indices, Signatures, Text

_PROBES = 500
_LEAST_PROBES = 16
_LOOKS = 1 << 31
"""Pairs of signatures that are looked at, unless the fewest probes need more."""
_ROWS = 1 << 14


class Recall(NamedTuple):
    """What became of the similar pairs of sampled rollouts with all of other tasks."""

    probes: int
    similar: int
    found: int


def recall(rows: Signatures, groups: Indices, labels: Indices, *, text: Text | None = None) -> Recall:
    """Return how many pairs across groups at or above the threshold share a component, of a seeded sample of rollouts.

    A pair whose signatures say less than the threshold by `MARGIN` or more is taken to be below it.

    Args:
        rows: signatures, shape (n, 128); may be a memory map.
        groups: the group of each rollout, shape (n,).
        labels: the component of each rollout, shape (n,).
        text: gives the text of a rollout; without it the signatures alone decide.
    """
    rows = np.asarray(rows)
    count = min(len(rows), max(_LEAST_PROBES, min(_PROBES, _LOOKS // max(1, len(rows)))))
    probes = np.array(sorted(random.Random(0).sample(range(len(rows)), count)), dtype=np.int64)  # noqa: S311 - a sample
    exact = None if text is None else Exact(text)
    asked, least, similar, found = rows[probes].astype(np.uint8), least_bins(exact), 0, 0
    for at in range(0, len(rows), _ROWS):
        low = rows[at : at + _ROWS].astype(np.uint8)  # the lowest byte of each bin, as in `components`
        for probe, mine in zip(probes.tolist(), asked, strict=True):
            near = at + np.flatnonzero(equal_bins(low, mine) >= least)
            near = near[groups[near] != groups[probe]]
            alike = near[_similar(rows, np.full(len(near), probe), near, exact)]
            similar += len(alike)
            found += int((labels[alike] == labels[probe]).sum())
    return Recall(count, similar, found)


def _similar(rows: Signatures, one: Indices, other: Indices, exact: Exact | None) -> npt.NDArray[np.bool_]:
    if exact is not None:
        return exact.jaccard(one, other) >= THRESHOLD
    return equal_bins(rows[one], rows[other]) >= THRESHOLD * BINS
