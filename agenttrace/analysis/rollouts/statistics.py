"""Statistics of a run: every figure of upstream's card, and those it cannot give."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from agenttrace.analysis.statistics import Distribution, distribution, floats
from agenttrace.analysis.tables import Reading, frame
from agenttrace.errors import DataError, UsageError
from agenttrace.formats.columns import Entry, entry, table
from agenttrace.formats.commands import KINDS, first_word
from agenttrace.records import INFRASTRUCTURE_ENDS
from agenttrace.records.base import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import pandas as pd
    import pyarrow as pa

    from agenttrace.analysis.diversity.measure import Diversity
    from agenttrace.records import Trace
    from agenttrace.store.read import Problem

TOP_WORDS = 15
PASS_AT = (1, 2, 3, 5, 10, 20, 50, 100)
TOKENS = {
    "generated": "output_tokens",
    "conversation": "conversation_tokens",
    "prompts billed": "input_tokens",
    "prompts evaluated": "evaluated_tokens",
}
"""Four ways to count tokens, by name, and their column: `agenttrace.formats.columns` says what each is."""
_ENDED = {"stopped by turns": "max_steps", "stopped by tokens": "token_budget", "stopped by format": "format_error"}
SHARES: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "Submitted": lambda runs: (runs["ended"] == "final_answer").where(runs["ended"].notna()),
    "incomplete": lambda runs: (runs["ended"] != "final_answer").where(runs["ended"].notna()),
    **{
        name: lambda runs, ended=ended: (runs["ended"] == ended).where(runs["ended"].notna())  # type: ignore[misc]
        for name, ended in _ENDED.items()
    },
    "with a patch": lambda runs: (runs["patch_files"] > 0).where(runs["patch_files"].notna()),
    "submitted with a patch": lambda runs: ((runs["patch_files"] > 0) & (runs["ended"] == "final_answer")).where(
        runs["patch_files"].notna()
    ),
    "passed, of those judged": lambda runs: runs["solved"],
}
"""Shares of traces, by name."""
_COLUMNS = [
    "repo", "language", "ended", "timestamp_utc", "prepare_ms", "total_duration_ms", "tool_ms", "step_count",
    *TOKENS.values(), *(f"{kind}_turns" for kind in KINDS), "patch_files", "patch_lines", "solved",
]  # fmt: skip
_BATCH = 500

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
    """What statistics and comparisons need of the traces so far: some twenty numbers of each.

    Attributes:
        rollouts: how many there were.
        words: first words of commands.
    """

    def __init__(self) -> None:
        self.rollouts = 0
        self.words: Counter[str] = Counter()
        self._waiting: list[Entry] = []
        self._parts: list[pa.Table] = []

    def add(self, given: Trace | Entry) -> None:
        """Count one trace."""
        one = given if isinstance(given, Entry) else entry(self.rollouts, "", given)
        self.rollouts += 1
        calls = (span.tool_input for span in one.trace.spans if span.tool_name == "bash")
        self.words.update(first_word(call) or "" for call in calls)
        self._waiting.append(one)
        if len(self._waiting) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa  # noqa: PLC0415 - heavy

        tasks = pa.array(map(task_of, self._waiting), type=pa.string()).dictionary_encode()
        runs = table("runs", self._waiting, texts=False)
        self._parts.append(runs.select(_COLUMNS).append_column("task", tasks))
        self._waiting = []

    def runs(self) -> pd.DataFrame:
        """Return one row per trace: columns of the runs table, `task` and `duration_s`."""
        import pyarrow as pa  # noqa: PLC0415 - heavy

        self._flush()
        runs = frame(pa.concat_tables(self._parts))
        return runs.assign(duration_s=runs["total_duration_ms"] / 1000)

    def statistics(self) -> Statistics:
        """Return the figures of what was added so far."""
        runs = self.runs()
        passed = sums(runs, "passed, of those judged")
        graded = int(runs["solved"].notna().sum())
        statuses = {name: _whole(runs, name) or 0 for name in ("Submitted", "incomplete")}
        return Statistics(
            rollouts=self.rollouts,
            tasks=runs["task"].nunique(),
            repos=runs["repo"].nunique(),
            languages=_ordered(runs["language"].value_counts()),
            stops=_ordered(runs["ended"].value_counts()),
            exit_statuses=_ordered(statuses),
            wall_s=wall_s(runs),
            turns=distribution(runs["step_count"]),
            duration_s=distribution(runs["duration_s"]),
            tool_s=distribution(runs["tool_ms"] / 1000),
            tokens={name: distribution(runs[column]) for name, column in TOKENS.items()},
            observations=_ordered({kind: runs[f"{kind}_turns"].sum() for kind in KINDS}),
            first_words=tuple(list(_ordered(self.words).items())[:TOP_WORDS]),
            commands=self.words.total(),
            patched=_whole(runs, "with a patch"),
            submitted_with_patch=_whole(runs, "submitted with a patch"),
            patch_lines=distribution(runs["patch_lines"][runs["patch_files"].fillna(0) > 0]),
            passed=int(runs["solved"].sum()),
            graded=graded,
            submitted_at=pass_at(sums(runs, "Submitted")),
            pass_at=pass_at(passed) if graded == self.rollouts else {},
        )


def task_of(one: Entry) -> str:
    """Return the name of a trace's task, by which attempts at it are known: with its data set where it is a number."""
    task = one.known.task_id
    return task if isinstance(task, str) else f"{one.known.dataset_name} {one.trace.trace_id if task is None else task}"


def tally(traces: Iterable[Trace]) -> Tally:
    """Return the tally of traces."""
    found = Tally()
    for trace in traces:
        found.add(trace)
    return found


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

    def refuse(problem: Problem) -> None:
        raise DataError(str(problem))

    found = Tally()
    with Corpus(scratch) as corpus:
        for one, _ in Reading([run], refuse).entries():
            if one.trace.outcome and one.trace.outcome.ended in INFRASTRUCTURE_ENDS:
                continue
            found.add(one)
            if diversity:
                corpus.add(commands_of(one.trace), task_of(one))
        if not found.rollouts:
            raise UsageError(f"{run}: no rollout in it")
        return found, measure(corpus, upstream=upstream) if diversity else None


def sums(runs: pd.DataFrame, name: str) -> Sums:
    """Return the sum and count per task of a share, of a kind of observation among the turns, or of a figure."""
    if name in KINDS:
        values = floats(runs[f"{name}_turns"])
        counts = np.where(np.isnan(values), 0, floats(runs["step_count"]))
    else:
        values = floats(SHARES[name](runs) if name in SHARES else runs[name])
        counts = (~np.isnan(values)).astype(float)
    parts = runs[["task"]].assign(part=np.nan_to_num(values), whole=counts).groupby("task", observed=True).sum()
    return {task: [part, count] for task, part, count in parts.itertuples() if count}


def _whole(runs: pd.DataFrame, name: str) -> int | None:
    known = SHARES[name](runs).dropna()
    return int(known.sum()) if len(known) else None


def wall_s(runs: pd.DataFrame) -> float:
    """Return the seconds from the start of the first trace, its tree's preparation included, to the end of the last."""
    if runs.empty:
        return 0.0
    began = runs["timestamp_utc"].astype("int64") / 1e6
    first = began - runs["prepare_ms"].fillna(0) / 1000
    return max(0.0, float((began + runs["total_duration_ms"] / 1000).max() - first.min()))


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
