"""Statistics of a run: every figure of upstream's card, and those it cannot give."""

from __future__ import annotations

import math
import statistics
from array import array
from collections import Counter
from typing import TYPE_CHECKING, Any

from agenttrace.analysis.rollouts.facts import KINDS, facts
from agenttrace.analysis.statistics import Distribution, distribution
from agenttrace.errors import UsageError
from agenttrace.records import INFRASTRUCTURE_ENDS
from agenttrace.records.base import Record
from agenttrace.store.read import read_traces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import pandas as pd

    from agenttrace.analysis.diversity.measure import Diversity
    from agenttrace.analysis.rollouts.facts import Facts

TOP_WORDS = 15
PASS_AT = (1, 2, 3, 5, 10, 20, 50, 100)
TOKENS = {
    "generated": "generated_tokens",
    "conversation": "conversation_tokens",
    "prompts billed": "billed_prompt_tokens",
    "prompts evaluated": "evaluated_prompt_tokens",
}
"""Four ways to count tokens, by name: `Facts` says what each is."""
SHARES: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "Submitted": lambda runs: runs["ended"] == "final_answer",
    "incomplete": lambda runs: runs["ended"] != "final_answer",
    "stopped by turns": lambda runs: runs["ended"] == "max_steps",
    "stopped by tokens": lambda runs: runs["ended"] == "token_budget",
    "stopped by format": lambda runs: runs["ended"] == "format_error",
    "with a patch": lambda runs: (runs["patch_files"] > 0).where(runs["patch_files"].notna()),
    "submitted with a patch": lambda runs: ((runs["patch_files"] > 0) & (runs["ended"] == "final_answer")).where(
        runs["patch_files"].notna()
    ),
    "passed, of those judged": lambda runs: runs["passed"],
}
"""Shares of traces, by name."""
_NAMES = ("task", "repo", "language", "ended")
_LARGE = ("duration_s", "tool_s", *TOKENS.values())
_SMALL = ("turns", "patch_files", "patch_lines", "passed")
"""Figures that single precision holds exactly."""

Sums = dict[str, list[float]]
"""Task → [sum, count]."""


class Statistics(Record, frozen=True, kw_only=True):
    """A run in figures.

    Attributes:
        stops: traces per stop rule.
        exit_statuses: the same in the words of the published sets.
        wall_s: from the start of the first trace to the end of the last, pauses between sittings included.
        turns: per trace.
        tokens: per way of counting, per trace.
        observations: turns per kind of observation; none where a turn is not one block of commands.
        first_words: the most frequent first words of commands.
        commands: executed commands.
        patched: traces with a patch that changes something; `None` where no task is a change of a checkout.
        submitted_with_patch: of those, the submitted ones.
        patch_lines: of the traces with a patch.
        passed: traces judged as passed.
        graded: traces that could be judged.
        submitted_at: as `pass_at`, of submission instead of a verdict: upstream's only figure of that kind.
        pass_at: expected share of tasks with at least one passed trace among k, by k; only where all are graded.
    """

    rollouts: int
    tasks: int
    repos: int
    languages: dict[str, int]
    stops: dict[str, int]
    exit_statuses: dict[str, int]
    wall_s: float
    turns: Distribution
    duration_s: Distribution
    tool_s: Distribution
    tokens: dict[str, Distribution]
    observations: dict[str, int]
    first_words: tuple[tuple[str, int], ...]
    commands: int
    patched: int | None
    submitted_with_patch: int | None
    patch_lines: Distribution
    passed: int
    graded: int
    submitted_at: dict[int, float]
    pass_at: dict[int, float]


class Tally:
    """What statistics and comparisons need of the traces so far: about a hundred bytes of each.

    Attributes:
        rollouts: how many there were.
        words: first words of commands.
    """

    def __init__(self) -> None:
        self.rollouts = 0
        self.words: Counter[str] = Counter()
        self._began_s, self._ended_s = math.inf, -math.inf
        self._columns = {name: array("d" if name in _LARGE else "f") for name in (*_LARGE, *_SMALL, *KINDS)}
        self._codes = {name: array("i") for name in _NAMES}
        self._values: dict[str, dict[str, int]] = {name: {} for name in _NAMES}

    def add(self, one: Facts) -> None:
        """Count one trace."""
        self.rollouts += 1
        self.words.update(one.first_words)
        self._began_s, self._ended_s = min(self._began_s, one.began_s), max(self._ended_s, one.ended_s)
        kinds = one.observations and {**dict.fromkeys(KINDS, 0), **one.observations}
        for name, codes in self._codes.items():
            values = self._values[name]
            codes.append(values.setdefault(getattr(one, name) or "", len(values)))
        for name, column in self._columns.items():
            value = kinds.get(name) if name in KINDS else getattr(one, name)
            column.append(math.nan if value is None else value)

    def runs(self) -> pd.DataFrame:
        """Return one row per trace: the numbers of `Facts`, `NaN` where unknown; names as categories."""
        import numpy as np  # noqa: PLC0415 - heavy
        import pandas as pd  # noqa: PLC0415

        names = {}
        for name, codes in self._codes.items():
            values = pd.Index([*self._values[name]], dtype=object)
            names[name] = pd.Categorical.from_codes(np.asarray(codes, dtype=np.int32), values)
        columns = {name: np.asarray(values) for name, values in self._columns.items()}
        return pd.DataFrame({**names, **columns}, copy=False)

    @property
    def wall_s(self) -> float:
        """Seconds from the start of the first trace to the end of the last."""
        return max(0.0, self._ended_s - self._began_s) if self.rollouts else 0.0

    def statistics(self) -> Statistics:
        """Return the figures of what was added so far."""
        runs = self.runs()
        counts = {name: _ordered(runs[name].value_counts()) for name in _NAMES}
        passed = sums(runs, "passed, of those judged")
        graded = int(runs["passed"].notna().sum())
        patched, submitted = (_whole(runs, name) for name in ("with a patch", "submitted with a patch"))
        statuses = {name: int(SHARES[name](runs).sum()) for name in ("Submitted", "incomplete")}
        return Statistics(
            rollouts=self.rollouts,
            tasks=len(counts["task"]),
            repos=len(counts["repo"]),
            languages=counts["language"],
            stops=counts["ended"],
            exit_statuses=_ordered(statuses),
            wall_s=self.wall_s,
            turns=distribution(runs["turns"]),
            duration_s=distribution(runs["duration_s"]),
            tool_s=distribution(runs["tool_s"]),
            tokens={name: distribution(runs[field]) for name, field in TOKENS.items()},
            observations=_ordered({kind: runs[kind].astype(float).sum() for kind in KINDS}),
            first_words=tuple(list(_ordered(self.words).items())[:TOP_WORDS]),
            commands=self.words.total(),
            patched=patched,
            submitted_with_patch=submitted,
            patch_lines=distribution(runs["patch_lines"][runs["patch_files"] > 0]),
            passed=int(runs["passed"].astype(float).sum()),
            graded=graded,
            submitted_at=pass_at(sums(runs, "Submitted")),
            pass_at=pass_at(passed) if graded == self.rollouts else {},
        )


def tally(found: Iterable[Facts]) -> Tally:
    """Return the tally of traces."""
    made = Tally()
    for one in found:
        made.add(one)
    return made


def figures(
    run: Path, *, diversity: bool = True, upstream: bool | None = None, scratch: Path | None = None
) -> tuple[Tally, Diversity | None]:
    """Return the tally of a record file and its diversity, in one pass; what the infrastructure spoilt is in neither.

    Args:
        run: the file.
        diversity: measure it.
        upstream: with upstream's metric (`None`: up to 2,000 traces).
        scratch: where signatures and texts lie meanwhile.

    Raises:
        UsageError: the file cannot be read, or holds no trace that counts.
        DataError: a record is none.
        StorageError: there is no room for the signatures.
    """
    from agenttrace.analysis.diversity import commands_of  # noqa: PLC0415 - numpy
    from agenttrace.analysis.diversity.corpus import Corpus  # noqa: PLC0415
    from agenttrace.analysis.diversity.measure import measure  # noqa: PLC0415

    found = Tally()
    with Corpus(scratch) as corpus:
        for trace in read_traces(run):
            if trace.outcome.ended in INFRASTRUCTURE_ENDS:
                continue
            one = facts(trace)
            found.add(one)
            if diversity:
                corpus.add(commands_of(trace), one.task)
        if not found.rollouts:
            raise UsageError(f"{run}: no rollout in it")
        return found, measure(corpus, upstream=upstream) if diversity else None


def sums(runs: pd.DataFrame, name: str) -> Sums:
    """Return the sum and count per task of a share, of a kind of observation among the turns, or of a figure."""
    values = SHARES[name](runs) if name in SHARES else runs[name]
    counts = runs["turns"].where(values.notna(), 0) if name in KINDS else values.notna()
    parts = values.astype(float).groupby(runs["task"], observed=True).sum()
    whole = counts.astype(float).groupby(runs["task"], observed=True).sum()
    return {task: [part, count] for task, part, count in zip(parts.index, parts, whole, strict=True) if count}


def _whole(runs: pd.DataFrame, name: str) -> int | None:
    values = SHARES[name](runs).dropna()
    return int(values.sum()) if len(values) else None


def pass_at(found: Sums) -> dict[int, float]:
    """Return pass@k by k: the mean over tasks of 1 - C(n-c, k)/C(n, k), the unbiased estimate (Chen et al. 2021).

    Args:
        found: per task how many traces passed (c), of how many (n). k goes up to the smallest n.
    """
    least = min((count for _, count in found.values()), default=0)
    return {
        k: statistics.fmean(_pass_at(int(count), int(passed), k) for passed, count in found.values())
        for k in PASS_AT
        if k <= least
    }


def _pass_at(tries: int, passed: int, k: int) -> float:
    return 1.0 - math.comb(tries - passed, k) / math.comb(tries, k)


def _ordered(counts: Any) -> dict[str, int]:  # noqa: ANN401 - a dictionary or a series
    """Return what was counted, most frequent first, then by name; what has no name and what never was is left out."""
    known = ((str(name), int(count)) for name, count in counts.items() if count and name != "")
    return dict(sorted(known, key=lambda item: (-item[1], item[0])))


def as_json(found: Record) -> Any:  # noqa: ANN401 - JSON values
    """Return figures as JSON values."""
    import msgspec  # noqa: PLC0415 - one use

    return msgspec.to_builtins(found, str_keys=True)
