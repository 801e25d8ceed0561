"""Measures signatures and near-duplicates beside `datasketch` and upstream's MD5, all in one run."""

from __future__ import annotations

import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agenttrace.analysis.diversity import Corpus, components, measure, signatures, upstream
from agenttrace.analysis.diversity.components import THRESHOLD
from agenttrace.analysis.diversity.exact import Exact
from agenttrace.records.base import Record
from bench.synthetic.rollouts import VERBS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TURNS = 26
"""Commands of a rollout: the mean of the 32k set."""
FAMILY = 4
PER_TASK = 100
"""Rollouts of a task, as in the set of 12.29 million."""
_PER_REPOSITORY = 10
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_MIB = 2**20
Action = Callable[[], Any]


class Line(Record, frozen=True, kw_only=True):
    """One row of the table: what was done by what, to how many rollouts, how long it took, and what came out."""

    what: str
    by: str
    rollouts: int
    seconds: float
    found: str = ""
    peak_mib: float | None = None

    @property
    def each_us(self) -> float:
        """Microseconds a rollout."""
        return 1e6 * self.seconds / self.rollouts


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
    changed.
    """
    generator = random.Random(seed)  # noqa: S311 - made-up data to be repeated, no secret
    words = _words(generator)
    weights = [(place + 1) ** -0.7 for place in range(40)]
    for task in range(-(-count // PER_TASK)):
        if task % _PER_REPOSITORY == 0:
            folders = ["/".join(generator.choices(words, k=2)) for _ in range(12)]
            shared = [f"{generator.choice(VERBS)} {generator.choice(folders)}" for _ in range(25)]

        def path(folders: list[str] = folders) -> str:
            return f"{generator.choice(VERBS)} {generator.choice(folders)}/{generator.choice(words)}.py"

        own, earlier = [path() for _ in range(len(weights))], list[list[str]]()
        for _ in range(min(PER_TASK, count - task * PER_TASK)):
            lines = generator.choices(own, weights, k=max(4, round(generator.gauss(TURNS, 8))))
            drawn = (generator.random() for _ in lines)
            kinds = [0 if share < 0.22 else 1 if share < 0.64 else 2 for share in drawn]  # noqa: PLR2004 - see above
            made = ((generator.choice(shared), line, f"{path()} {generator.choice(words)}") for line in lines)
            rollout = [each[kind] for each, kind in zip(made, kinds, strict=True)]
            if earlier and generator.random() < 0.05:  # noqa: PLR2004 - see above
                changed = generator.uniform(0.1, 0.5)
                rollout = [path() if generator.random() < changed else line for line in generator.choice(earlier)]
            earlier.append(rollout)
            yield "\n".join(rollout), task


def bench_hard(count: int, slow: int) -> list[Line]:
    """Return the rows on hard texts: all that `stats` does with them, and exact similarities by two ways."""
    with Corpus() as corpus:
        for text, task in hard_texts(count):
            corpus.add(text, str(task))
        corpus.rows()
        texts = [corpus.text(index) for index in range(min(slow, count))]
        # Once more, as making the texts is no part of it.
        adding, _ = _timed("hard texts: signatures, packed texts", "agenttrace", len(texts), lambda: _added(texts))
        measuring, found = _timed(
            "hard texts: all figures", "agenttrace", count, lambda: measure(corpus, upstream=False)
        )
        pairs = np.arange(len(texts) * 8) // 8, np.random.default_rng(0).integers(0, PER_TASK, len(texts) * 8)
        pairs = pairs[0], np.minimum(pairs[0] // PER_TASK * PER_TASK + pairs[1], len(texts) - 1)
        ours, fast = _timed(
            "exact similarity of 8 pairs each", "agenttrace", len(texts), lambda: Exact(corpus.text).jaccard(*pairs)
        )

        def by_sets() -> list[float]:
            both = zip(*(side.tolist() for side in pairs), strict=True)
            return [signatures.jaccard(corpus.text(one), corpus.text(other)) for one, other in both]

        plain, slowly = _timed("exact similarity of 8 pairs each", "Python sets, pair by pair", len(texts), by_sets)
    if fast.tolist() != slowly:
        raise AssertionError("the two ways to an exact similarity differ")
    told = (
        f"{found.within_components} and {found.corpus_components} components, mean similarity within a task "
        f"{found.within_mean_similarity or 0:.2f}, {found.probed_found} of {found.probed_similar} similar pairs of "
        f"{found.probes} rollouts with all others, {found.capped} passed over"
    )
    return [adding, _with(measuring, told), ours, plain]


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
    ours, rows = _timed("signatures", "agenttrace", count, lambda: signatures.signatures(corpus))
    sets = [list(signatures.shingles(text)) for text in few]

    def theirs() -> list[Any]:
        made: list[Any] = MinHash.bulk((signatures.shingles(text) for text in few), num_perm=signatures.BINS)
        return made

    sketch, hashes = _timed("signatures", "datasketch MinHash.bulk", slow, theirs)
    hashing, _ = _timed("signatures, shingles given", "datasketch MinHash.bulk", slow, lambda: MinHash.bulk(sets))
    md5, exact = _timed("signatures", "upstream (MD5)", slow, lambda: upstream.signatures(few))

    def lsh() -> int:
        index = MinHashLSH(num_perm=signatures.BINS, params=(components.BANDS, components.ROWS))
        parent = list(range(slow))
        for at, one in enumerate(hashes):
            for other in index.query(one):
                if hashes[other].jaccard(one) >= THRESHOLD:
                    _join(parent, at, other)
            index.insert(at, one)
        return sum(parent[at] == at for at in range(slow))

    banded, labels = _timed("components", "agenttrace", count, lambda: components.components(rows))
    part, some = _timed("components", "agenttrace", slow, lambda: components.components(rows[:slow]))
    index, kept = _timed("components", "datasketch MinHashLSH, the same bands", slow, lsh)
    greedy, alone = _timed("greedy, all pairs", "upstream", slow, lambda: upstream.unique(exact))
    return [
        ours, sketch, hashing, md5,
        _with(banded, f"{labels.count} components"), _with(part, f"{some.count} components"),
        _with(index, f"{kept} components"), _with(greedy, f"{len(alone)} unique"),
    ]  # fmt: skip


def bench_million(count: int) -> Line:
    """Return the row on many signatures in a memory-mapped file: near-duplicates by signatures alone.

    The rows are those of families: an original and three in which a share of the bins differs, as texts would give.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "signatures.npy"
        rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint32, shape=(count, signatures.BINS))
        generator = np.random.default_rng(0)
        for at in range(0, count, 1 << 16):
            size = min(1 << 16, count - at)
            block = generator.integers(0, 2**32, size=(size, signatures.BINS), dtype=np.uint32)
            first = block[np.arange(size) // FAMILY * FAMILY]
            same = (
                generator.random((size, signatures.BINS))
                >= np.array([0, 0.1, 0.3, 0.6])[np.arange(size) % FAMILY, None]
            )
            rows[at : at + size] = np.where(same, first, block)
        rows.flush()
        del rows
        mapped = np.load(path, mmap_mode="r")
        line, found = _timed(
            "banding of a memory-mapped file", "agenttrace", count, lambda: components.components(mapped)
        )
        return _with(line, f"{found.count} components")


def _timed(what: str, by: str, count: int, action: Action) -> tuple[Line, Any]:
    """CPU time of one thread, so that a loaded machine does not change the figure much."""
    started = time.process_time()
    result = action()
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else _MIB)
    return Line(what=what, by=by, rollouts=count, seconds=seconds, peak_mib=peak), result


def _with(line: Line, found: str) -> Line:
    return Line(
        what=line.what, by=line.by, rollouts=line.rollouts, seconds=line.seconds, found=found, peak_mib=line.peak_mib
    )


def _join(parent: list[int], one: int, other: int) -> None:
    while parent[one] != one:
        one = parent[one]
    while parent[other] != other:
        other = parent[other]
    parent[max(one, other)] = min(one, other)


def table(lines: Sequence[Line]) -> str:
    """Return the rows as Markdown."""
    head = ["| what | by | rollouts | CPU s | µs each | found | peak of the process so far, MiB |"]
    head.append("|---|---|---:|---:|---:|---:|---:|")
    return "\n".join(
        head
        + [
            f"| {line.what} | {line.by} | {line.rollouts:,} | {line.seconds:.2f} | {line.each_us:,.1f} | {line.found} "
            f"| {line.peak_mib:,.0f} |"
            for line in lines
        ]
    )


def run(*, rollouts: int, slow: int, million: int, json_file: Path | None = None) -> int:
    """Measure, print the table and return 0.

    Args:
        rollouts: texts.
        slow: of these for the slow sides.
        million: signatures to band.
        json_file: gets the rows as well.
    """
    # The memory-mapped file first: the peak is the process's, and here it is to be this path's own.
    lines = [bench_million(million), *bench_hard(rollouts, slow), *bench(rollouts, min(slow, rollouts))]
    print(table(lines))  # noqa: T201 - the result
    if json_file is not None:
        import msgspec  # noqa: PLC0415 - one use

        json_file.write_text(json.dumps(msgspec.to_builtins(lines), indent=2) + "\n", encoding="utf-8")
    return 0
