"""Measures signatures and near-duplicates beside `datasketch` and upstream's MD5, all in one run."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import numpy as np

from agenttrace.analysis.diversity import Corpus, bands, components, measure, signatures, upstream
from agenttrace.analysis.diversity.components import THRESHOLD
from agenttrace.analysis.diversity.exact import Exact
from bench.analysis.bench_signatures import bench_signatures
from bench.analysis.lines import join, table, timed
from bench.synthetic.rollouts import VERBS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bench.analysis.lines import Line

TURNS = 26
"""Commands of a rollout: the mean of the 32k set."""
PER_TASK = 100
"""Rollouts of a task, as in the set of 12.29 million."""
_PER_REPOSITORY = 10
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def texts(count: int, seed: int = 0) -> list[str]:
    """Return command texts, in families of four: an original and three with a tenth to a half of the commands changed.

    Paths are of random words, so that two originals share the names of commands and little else.
    """
    generator = random.Random(seed)  # noqa: S311 - made-up data to be repeated, no secret
    words = _words(generator)

    def command() -> str:
        return f"{generator.choice(VERBS)} {'/'.join(generator.choices(words, k=3))}.py"

    made: list[str] = []
    while len(made) < count:
        first = [command() for _ in range(TURNS)]
        made.append("\n".join(first))
        made += [
            "\n".join(command() if generator.random() < share else line for line in first) for share in (0.1, 0.3, 0.5)
        ]
    return made[:count]


def _words(generator: random.Random) -> list[str]:
    return ["".join(generator.choices(_LETTERS, k=generator.randint(4, 9))) for _ in range(20_000)]


def hard_texts(count: int, seed: int = 0) -> Iterator[tuple[str, int]]:
    """Yield command texts that are hard to tell apart, and the number of the task of each: 100 of a task.

    Rollouts of a task draw from the same commands, the frequent ones often, and those of a repository from some more:
    their similarity lies around 0.25 within a task, as upstream reports of its sets (0.17 to 0.27), with many pairs
    near the threshold of candidates. One in twenty is an earlier one of its task with a tenth to a half of its lines
    changed, one in fifty such a one of another task.
    """
    generator = random.Random(seed)  # noqa: S311 - made-up data to be repeated, no secret
    words = _words(generator)
    weights = [(place + 1) ** -0.7 for place in range(40)]
    for task in range(-(-count // PER_TASK)):
        if task % _PER_REPOSITORY == 0:
            folders = ["/".join(generator.choices(words, k=2)) for _ in range(12)]
            shared = [f"{generator.choice(VERBS)} {generator.choice(folders)}" for _ in range(25)]
            afar = list[list[str]]()

        def path(folders: list[str] = folders) -> str:
            return f"{generator.choice(VERBS)} {generator.choice(folders)}/{generator.choice(words)}.py"

        own, earlier = [path() for _ in range(len(weights))], list[list[str]]()
        for _ in range(min(PER_TASK, count - task * PER_TASK)):
            lines = generator.choices(own, weights, k=max(4, round(generator.gauss(TURNS, 8))))
            drawn = (generator.random() for _ in lines)
            kinds = [0 if share < 0.22 else 1 if share < 0.64 else 2 for share in drawn]  # noqa: PLR2004 - see above
            made = ((generator.choice(shared), line, f"{path()} {generator.choice(words)}") for line in lines)
            rollout = [each[kind] for each, kind in zip(made, kinds, strict=True)]
            chance = generator.random()
            if sources := earlier if chance < 0.05 else afar if chance < 0.07 else []:  # noqa: PLR2004 - see above
                changed = generator.uniform(0.1, 0.5)
                rollout = [path() if generator.random() < changed else line for line in generator.choice(sources)]
            earlier.append(rollout)
            yield "\n".join(rollout), task
        afar += earlier


def bench_hard(count: int, slow: int) -> list[Line]:
    """Return the rows on hard texts: all that `stats` does with them, and exact similarities by two ways."""
    with Corpus() as corpus:
        for text, task in hard_texts(count):
            corpus.add(text, str(task))
        corpus.rows()
        texts = [corpus.text(index) for index in range(min(slow, count))]
        # Once more, as making the texts is no part of it.
        adding, _ = timed("hard texts: signatures, packed texts", "agenttrace", len(texts), lambda: _added(texts))
        measuring, found = timed(
            "hard texts: all figures", "agenttrace", count, lambda: measure(corpus, upstream=False)
        )
        pairs = np.arange(len(texts) * 8) // 8, np.random.default_rng(0).integers(0, PER_TASK, len(texts) * 8)
        pairs = pairs[0], np.minimum(pairs[0] // PER_TASK * PER_TASK + pairs[1], len(texts) - 1)
        ours, fast = timed(
            "exact similarity of 8 pairs each", "agenttrace", len(texts), lambda: Exact(corpus.text).jaccard(*pairs)
        )

        def by_sets() -> list[float]:
            both = zip(*(side.tolist() for side in pairs), strict=True)
            return [signatures.jaccard(corpus.text(one), corpus.text(other)) for one, other in both]

        plain, slowly = timed("exact similarity of 8 pairs each", "Python sets, pair by pair", len(texts), by_sets)
    if fast.tolist() != slowly:
        raise AssertionError("the two ways to an exact similarity differ")
    told = (
        f"{found.within_components} and {found.corpus_components} components, mean similarity within a task "
        f"{found.within_mean_similarity or 0:.2f}, {found.probed_found} of {found.probed_similar} similar pairs of "
        f"{found.probes} rollouts with all of other tasks, {found.capped} passed over"
    )
    return [adding, measuring.with_found(told), ours, plain]


def _added(texts: Sequence[str]) -> None:
    with Corpus() as corpus:
        for text in texts:
            corpus.add(text, "")
        corpus.rows()


def bench(count: int, slow: int) -> list[Line]:
    """Return the rows on signatures and near-duplicates over the same texts; the slow sides get the first `slow`."""
    from datasketch import MinHash, MinHashLSH  # noqa: PLC0415 - only here

    corpus = texts(count)
    few = corpus[:slow]
    signatures.signatures(few)  # the first call pays for imports
    ours, rows = timed("signatures", "agenttrace", count, lambda: signatures.signatures(corpus))
    sets = [list(signatures.shingles(text)) for text in few]

    def theirs() -> list[Any]:
        made: list[Any] = MinHash.bulk((signatures.shingles(text) for text in few), num_perm=signatures.BINS)
        return made

    sketch, hashes = timed("signatures", "datasketch MinHash.bulk", slow, theirs)
    hashing, _ = timed("signatures, shingles given", "datasketch MinHash.bulk", slow, lambda: MinHash.bulk(sets))
    md5, exact = timed("signatures", "upstream (MD5)", slow, lambda: upstream.signatures(few))

    def lsh() -> int:
        index = MinHashLSH(num_perm=signatures.BINS, params=(bands.BANDS, bands.ROWS))
        parent = list(range(slow))
        for at, one in enumerate(hashes):
            for other in index.query(one):
                if hashes[other].jaccard(one) >= THRESHOLD:
                    join(parent, at, other)
            index.insert(at, one)
        return sum(parent[at] == at for at in range(slow))

    banded, labels = timed("components", "agenttrace", count, lambda: components.components(rows))
    part, some = timed("components", "agenttrace", slow, lambda: components.components(rows[:slow]))
    index, kept = timed("components", "datasketch MinHashLSH, the same bands", slow, lsh)
    greedy, alone = timed("greedy, all pairs", "upstream", slow, lambda: upstream.unique(exact))
    return [
        ours, sketch, hashing, md5,
        banded.with_found(f"{labels.count} components"), part.with_found(f"{some.count} components"),
        index.with_found(f"{kept} components"), greedy.with_found(f"{len(alone)} unique"),
    ]  # fmt: skip


def run(*, rollouts: int, slow: int, signatures: int, json_file: Path | None = None) -> int:
    """Measure, print the table and return 0.

    Args:
        rollouts: texts.
        slow: of these for the slow sides.
        signatures: made-up ones, in a memory-mapped file.
        json_file: gets the rows as well.
    """
    # The memory-mapped file first: the peak is the process's, and here it is to be this path's own.
    lines = [*bench_signatures(signatures), *bench_hard(rollouts, slow), *bench(rollouts, min(slow, rollouts))]
    print(table(lines))  # noqa: T201 - the result
    if json_file is not None:
        import msgspec  # noqa: PLC0415 - one use

        json_file.write_text(json.dumps(msgspec.to_builtins(lines), indent=2) + "\n", encoding="utf-8")
    return 0
