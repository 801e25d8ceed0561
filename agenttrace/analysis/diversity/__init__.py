"""How different traces are: upstream's own metric, and near-duplicate components that do not depend on order.

What is compared is the text of the commands alone, joined by line feeds: `commands_of`.
"""

from __future__ import annotations

import os
import random
import tempfile
import zlib
from array import array
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from agenttrace.analysis.diversity import components, signatures, upstream
from agenttrace.analysis.diversity.components import THRESHOLD
from agenttrace.analysis.diversity.exact import Exact
from agenttrace.analysis.diversity.recall import recall
from agenttrace.errors import StorageError
from agenttrace.formats.commands import command_of
from agenttrace.records.base import Record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    import numpy.typing as npt

MOST_FOR_UPSTREAM = 2_000
"""Upstream's metric compares every pair and hashes with MD5; beyond this many it is not computed unless asked for."""
_SAMPLED_PAIRS = 2_000
_BATCH = 256


def commands_of(trace: Any) -> str:  # noqa: ANN401 - a `Trace` or what has its fields
    """Return the text that is compared: every executed command, in order, joined by line feeds.

    Of a tool that takes no command, it is the arguments as JSON.
    """
    ran = (
        span.tool_input for span in trace.spans if span.status != "not_executed" and span.tool_name != "final_answer"
    )
    return "\n".join(command if (command := command_of(given)) is not None else given for given in ran)


class Corpus:
    """Command texts and their signatures, both on disk while the context lasts; 256 bytes and the packed text each.

    Args:
        scratch: folder for the two files; the system's place for temporary files if not given.

    Raises:
        StorageError: there is no room.
    """

    def __init__(self, scratch: Path | None = None) -> None:
        self._scratch = scratch
        self._waiting: list[str] = []
        self._starts = array("q", [0])
        self._tasks: dict[str, int] = {}
        self._groups = array("q")
        self._open = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._rows = self._open.enter_context(tempfile.TemporaryFile(dir=self._scratch, buffering=1 << 20))
            self._texts = self._open.enter_context(tempfile.TemporaryFile(dir=self._scratch, buffering=1 << 20))
        except OSError as error:
            raise self._no_room(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def __len__(self) -> int:
        return len(self._groups)

    def add(self, text: str, task: str) -> None:
        """Take the commands of one rollout and the name of its task.

        Raises:
            StorageError: there is no room.
        """
        self._groups.append(self._tasks.setdefault(task, len(self._tasks)))
        self._waiting.append(text)
        if len(self._waiting) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        try:
            self._rows.write(signatures.signatures(self._waiting).tobytes())
            for text in self._waiting:
                packed = zlib.compress(text.encode("utf-8", "surrogatepass"), 1)
                self._texts.write(packed)
                self._starts.append(self._starts[-1] + len(packed))
            self._rows.flush()
            self._texts.flush()
        except OSError as error:
            raise self._no_room(error) from error
        self._waiting.clear()

    def _no_room(self, error: OSError) -> StorageError:
        place = self._scratch or "the temporary folder"
        return StorageError(f"cannot keep signatures in {place}: {error.strerror}; name a folder with --scratch")

    def rows(self) -> npt.NDArray[np.uint16]:
        """Return the signatures of what was added so far, shape (n, 128), memory-mapped, read-only."""
        self._flush()
        if not len(self):
            return np.empty((0, signatures.BINS), dtype=np.uint16)
        return np.memmap(self._rows, dtype=np.uint16, mode="r", shape=(len(self), signatures.BINS))

    def text(self, index: int) -> str:
        """Return the text that was added as number `index`; `rows` must have been called since."""
        start, end = self._starts[index], self._starts[index + 1]
        return zlib.decompress(os.pread(self._texts.fileno(), end - start, start)).decode("utf-8", "surrogatepass")

    @property
    def groups(self) -> npt.NDArray[np.int64]:
        """The number of each rollout's task, shape (n,)."""
        return np.array(self._groups, dtype=np.int64)

    @property
    def tasks(self) -> int:
        """How many tasks there are."""
        return len(self._tasks)


class Diversity(Record, frozen=True, kw_only=True):
    """How different rollouts are; `None` is not computed.

    Attributes:
        rollouts: how many were compared.
        upstream_unique: kept by upstream's greedy pass, in the order of the file.
        upstream_shuffled: the same after shuffling the list, least and most of five: the metric depends on order.
        upstream_mean_similarity: of all pairs, as upstream reports it.
        corpus_components: near-duplicate components over everything.
        within_components: near-duplicate components within tasks.
        within_mean_similarity: mean exact Jaccard similarity of sampled pairs of one task.
        sampled_pairs: how many pairs of one task were looked at: all, or a seeded sample of 2,000.
        sampled_similar: sampled pairs of one task at or above the threshold, by their exact sets.
        sampled_found: of those, pairs that share a component.
        probes: rollouts of a seeded sample that were compared with every one of other tasks.
        probed_similar: pairs of these at or above the threshold, by their exact sets.
        probed_found: of those, pairs that share a component over everything.
        capped: members of buckets too large for all of their pairs; 0 means that no candidate was passed over.
    """

    rollouts: int
    upstream_unique: int | None
    upstream_shuffled: tuple[int, int] | None
    upstream_mean_similarity: float | None
    corpus_components: int
    within_components: int
    within_mean_similarity: float | None
    sampled_pairs: int
    sampled_similar: int
    sampled_found: int
    probes: int
    probed_similar: int
    probed_found: int
    capped: int


def measure(corpus: Corpus, *, upstream: bool | None = None) -> Diversity:
    """Return both metrics.

    Args:
        corpus: the commands of each rollout (`commands_of`), in the order of the file.
        upstream: compute upstream's metric; by default up to 2,000 rollouts, for it compares every pair in MD5.
    """
    rows, groups = corpus.rows(), corpus.groups
    within = components.within(rows, groups, text=corpus.text)
    whole = components.components(rows, decided=(groups, within), text=corpus.text)
    found = recall(rows, groups, whole.labels, text=corpus.text)
    pairs = _pairs(groups, corpus.tasks)
    exact = Exact(corpus.text).jaccard(*pairs).tolist()
    similar = [at for at, value in enumerate(exact) if value >= THRESHOLD]
    labels = within.labels
    wanted = len(corpus) <= MOST_FOR_UPSTREAM if upstream is None else upstream
    theirs = _upstream([corpus.text(index) for index in range(len(corpus))]) if wanted else None
    return Diversity(
        rollouts=len(corpus),
        upstream_unique=theirs and theirs[0],
        upstream_shuffled=theirs and theirs[1],
        upstream_mean_similarity=theirs and theirs[2],
        corpus_components=whole.count,
        within_components=within.count,
        within_mean_similarity=sum(exact) / len(exact) if exact else None,
        sampled_pairs=len(exact),
        sampled_similar=len(similar),
        sampled_found=sum(bool(labels[pairs[0][at]] == labels[pairs[1][at]]) for at in similar),
        probes=found.probes,
        probed_similar=found.similar,
        probed_found=found.found,
        capped=whole.capped,
    )


def _pairs(groups: npt.NDArray[np.int64], count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return pairs of rollouts of one task: all of them, or a seeded sample."""
    order = np.argsort(groups, kind="stable")
    bounds = np.searchsorted(groups[order], np.arange(count + 1))
    sizes = np.diff(bounds)
    total = int((sizes * (sizes - 1) // 2).sum())
    generator = random.Random(0)  # noqa: S311 - a sample to be repeated, no secret
    if total <= _SAMPLED_PAIRS:
        chosen = [(at, i, j) for at, size in zip(bounds, sizes, strict=False) for j in range(size) for i in range(j)]
    else:
        places = generator.choices(range(count), weights=(sizes * (sizes - 1)).tolist(), k=_SAMPLED_PAIRS)
        chosen = [(bounds[place], *sorted(generator.sample(range(int(sizes[place])), 2))) for place in places]
    one = np.array([order[at + i] for at, i, _ in chosen], dtype=np.int64)
    other = np.array([order[at + j] for at, _, j in chosen], dtype=np.int64)
    return one, other


def _upstream(texts: Sequence[str]) -> tuple[int, tuple[int, int], float | None]:
    rows = upstream.signatures(texts)
    pairs = upstream.similarities(rows)
    shuffled = [len(upstream.unique(rows[np.random.default_rng(seed).permutation(len(rows))])) for seed in range(5)]
    mean = float(pairs.mean()) if len(pairs) else None
    return len(upstream.unique(rows)), (min(shuffled), max(shuffled)), mean
