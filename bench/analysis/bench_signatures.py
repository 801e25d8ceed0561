"""Measures near-duplicates of many made-up signatures, beside `datasketch` on some of them."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agenttrace.analysis.diversity import bands, components, signatures
from agenttrace.analysis.diversity.components import THRESHOLD
from agenttrace.analysis.diversity.recall import recall
from bench.analysis.lines import join, timed
from bench.synthetic.signatures import PER_TASK, repositories

if TYPE_CHECKING:
    import numpy.typing as npt

    from bench.analysis.lines import Line

    Signatures = npt.NDArray[np.uint16]
    Indices = npt.NDArray[np.int64]

_COMPARED = 10_000
"""Of them for `datasketch`, whose time a rollout grows with their number."""
_WHAT = "made-up signatures"


def bench_signatures(count: int) -> list[Line]:
    """Return the rows on made-up signatures in a memory-mapped file: within tasks, across them, what was found."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "signatures.npy"
        making, (source, groups) = timed(f"{_WHAT}: making them", "bench", count, lambda: _make(path, count))
        rows = np.load(path, mmap_mode="r")
        own, within = timed(f"{_WHAT}: within tasks", "agenttrace", count, lambda: components.within(rows, groups))
        _say(own)
        across, whole = timed(
            f"{_WHAT}: across tasks", "agenttrace", count, lambda: components.components(rows, decided=(groups, within))
        )
        _say(across)
        asking, asked = timed(f"{_WHAT}: recall", "agenttrace", count, lambda: recall(rows, groups, whole.labels))
        planted, found = _planted(rows, source, whole.labels)
        across = across.with_found(
            f"{whole.count} components, {whole.capped} passed over; {found} of {planted} similar pairs of two tasks "
            "that were planted are in one"
        )
        asking = asking.with_found(
            f"{asked.found} of {asked.similar} similar pairs of {asked.probes} rollouts with all of other tasks"
        )
        few = np.array(rows[:_COMPARED])
        part, some = timed(f"{_WHAT}: all pairs", "agenttrace", len(few), lambda: components.components(few))
        sketch, kept = timed(
            f"{_WHAT}: all pairs", "datasketch MinHashLSH, the same bands", len(few), lambda: _by_datasketch(few)
        )
    return [
        making, own.with_found(f"{within.count} components"), across, asking,
        part.with_found(f"{some.count} components"), sketch.with_found(f"{kept} components"),
    ]  # fmt: skip


def _make(path: Path, count: int) -> tuple[Indices, Indices]:
    """Write so many signatures; return which rollout each is a copy of, and the task of each."""
    rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint16, shape=(count, signatures.BINS))
    source, at = np.empty(count, dtype=np.int64), 0
    for block in repositories(count):
        end = at + len(block.rows)
        rows[at:end], source[at:end] = block.rows, block.source + at
        at = end
    rows.flush()
    return source, np.arange(count) // PER_TASK


def _planted(rows: Signatures, source: Indices, labels: Indices) -> tuple[int, int]:
    """Return how many similar pairs of two tasks were planted, by their signatures, and how many share a component."""
    copies = np.flatnonzero(source // PER_TASK != np.arange(len(source)) // PER_TASK)
    similar = np.concatenate(
        [
            part[components.equal_bins(rows[part], rows[source[part]]) >= THRESHOLD * signatures.BINS]
            for part in np.array_split(copies, 1 + len(copies) // _COMPARED)
        ]
    )
    return len(similar), int((labels[similar] == labels[source[similar]]).sum())


def _by_datasketch(rows: Signatures) -> int:
    """Return how many components there are by its index and its estimates."""
    from datasketch import LeanMinHash, MinHashLSH  # noqa: PLC0415 - only here

    index = MinHashLSH(num_perm=signatures.BINS, params=(bands.BANDS, bands.ROWS))
    hashes = [LeanMinHash(seed=1, hashvalues=row, scheme="legacy") for row in rows.astype(np.uint64)]
    parent = list(range(len(hashes)))
    for at, one in enumerate(hashes):
        for other in index.query(one):
            if hashes[other].jaccard(one) >= THRESHOLD:
                join(parent, at, other)
        index.insert(at, one)
    return sum(parent[at] == at for at in range(len(hashes)))


def _say(line: Line) -> None:
    print(f"{line.what}: {line.wall_seconds:,.0f} s, {line.peak_mib:,.0f} MiB", file=sys.stderr)  # noqa: T201 - it takes long
