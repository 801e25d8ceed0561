"""Made-up signatures of rollouts that are hard to tell apart, millions of them: no text is made for them.

They are those that texts would have which draw their lines as `bench.analysis.bench_diversity.hard_texts` does, but for
the shingles that lie across two pieces of a line: a signature of a text is the smallest of its pieces', bin by bin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from agenttrace.analysis.diversity import signatures
from bench.synthetic.rollouts import VERBS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    Signatures = npt.NDArray[np.uint16]
    Hashes = npt.NDArray[np.uint32]
    Indices = npt.NDArray[np.int64]

PER_TASK = 100
TASKS = 10
"""Tasks of a repository."""
_WORDS, _FOLDERS, _SHARED, _OWN = 20_000, 14, 30, 50
_MOST_LINES = 50
_NONE = np.uint32(0xFFFFFFFF)
_PIECES = 3
"""Of a line: what it does in which folder, to which file, and one word more."""
_COPIES, _AFAR = 0.05, 0.02
"""Shares of rollouts that are a changed one of their task, and of another task."""


class Block(NamedTuple):
    """The rollouts of one repository.

    Attributes:
        rows: signatures, shape (n, 128).
        tasks: the number of each rollout's task within the repository, shape (n,).
        source: which rollout of the repository each is a changed copy of, or its own number, shape (n,).
    """

    rows: Signatures
    tasks: Indices
    source: Indices


def repositories(count: int, seed: int = 0) -> Iterator[Block]:
    """Yield so many rollouts, those of one repository at a time: ten tasks of 100 rollouts each."""
    generator = np.random.default_rng(seed)
    letters = generator.integers(97, 123, (_WORDS, 9), dtype=np.uint8)
    words = [bytes(row).decode()[:size] for row, size in zip(letters, generator.integers(4, 10, _WORDS), strict=True)]
    # Files, words at the end of a line, what a repository has in place of the rest, and at the end what has no hash.
    table = np.full((2 * _WORDS + len(VERBS) * _FOLDERS + TASKS * _OWN + 1, signatures.BINS), _NONE)
    table[:_WORDS] = _pieces([f"/{word}.py\n" for word in words])
    table[_WORDS : 2 * _WORDS] = _pieces([f" {word}\n" for word in words])
    for start in range(0, count, TASKS * PER_TASK):
        yield _repository(generator, words, table, min(TASKS * PER_TASK, count - start))


def _pieces(texts: Sequence[str]) -> Hashes:
    """Return per text the smallest hash of each bin, and the largest number where a bin has none."""
    rows, empty = signatures.smallest(texts)
    rows[empty] = _NONE
    return rows


def _repository(generator: np.random.Generator, words: Sequence[str], table: Hashes, size: int) -> Block:
    def drawn(count: int) -> list[str]:
        return [words[at] for at in generator.integers(0, _WORDS, count)]

    folders = ["/".join(pair) for pair in zip(drawn(_FOLDERS), drawn(_FOLDERS), strict=True)]
    does = [f"{verb} {folder}" for verb in VERBS for folder in folders]
    shared = generator.integers(0, len(does), _SHARED)
    own = [f"{does[at]}/{word}.py\n" for at, word in zip(
        generator.integers(0, len(does), TASKS * _OWN), drawn(TASKS * _OWN), strict=True)]  # fmt: skip
    at_does, none = 2 * _WORDS, len(table) - 1
    at_own = at_does + len(does)
    table[at_does:none] = _pieces(does + own)
    tasks = np.arange(size) // PER_TASK

    def lines(shape: tuple[int, int]) -> Indices:
        """Return the pieces of lines, shape (rollouts, lines, pieces)."""
        made = np.full((*shape, _PIECES), none)
        kind = generator.random(shape)
        weights = (np.arange(_OWN) + 1) ** -0.7
        made[..., 0] = at_own + tasks[:, None] * _OWN + generator.choice(_OWN, shape, p=weights / weights.sum())
        often = kind < 0.22  # noqa: PLR2004 - the shares of `hard_texts`
        made[..., 0][often] = at_does + shared[generator.integers(0, _SHARED, int(often.sum()))]
        fresh = kind >= 0.64  # noqa: PLR2004
        made[fresh] = _fresh(generator, int(fresh.sum()), at_does, len(does))
        return made

    made = lines((size, _MOST_LINES))
    lengths = np.clip(np.rint(generator.normal(26, 8, size)), 4, _MOST_LINES).astype(np.int64)
    source = np.arange(size)
    near, far = generator.random(size) < _COPIES, generator.random(size) < _AFAR
    source[near] = (tasks * PER_TASK + generator.integers(0, PER_TASK, size))[near]
    source[far] = generator.integers(0, size, size)[far]
    source = np.where(source < size, source, np.arange(size))
    source[(near | far)[source]] = np.flatnonzero((near | far)[source])  # a copy of a copy is itself
    copies = np.flatnonzero(source != np.arange(size))
    share = generator.uniform(0.1, 0.5, len(copies))
    changed = generator.random((len(copies), _MOST_LINES)) < share[:, None]
    other = made[source[copies]]
    other[changed] = _fresh(generator, int(changed.sum()), at_does, len(does))
    made[copies], lengths[copies] = other, lengths[source[copies]]
    made[np.arange(_MOST_LINES) >= lengths[:, None]] = none
    rows = table[made[:, 0, 0]]
    for piece in made.reshape(size, -1).T[1:]:
        there = np.flatnonzero(piece != none)
        rows[there] = np.minimum(rows[there], table[piece[there]])
    signatures.fill(rows, rows == _NONE)
    return Block(rows.astype(np.uint16), tasks, source)


def _fresh(generator: np.random.Generator, count: int, at_does: int, does: int) -> Indices:
    return np.stack(
        [
            at_does + generator.integers(0, does, count),
            generator.integers(0, _WORDS, count),
            _WORDS + generator.integers(0, _WORDS, count),
        ],
        axis=1,
    )
