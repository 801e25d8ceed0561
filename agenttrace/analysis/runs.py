"""Figures of a run: every one of upstream's card, and those it cannot give; of traces one by one, in little memory."""

from __future__ import annotations

import math
import statistics
from array import array
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NoReturn

from agenttrace.analysis.findings import Distribution, Statistics
from agenttrace.analysis.tables import Reading
from agenttrace.errors import DataError, UsageError
from agenttrace.formats.columns import run_columns
from agenttrace.formats.commands import KINDS, first_word
from agenttrace.formats.entries import TableEntry, entry
from agenttrace.records import INFRASTRUCTURE_ENDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    import pandas as pd

    from agenttrace.analysis.diversity import Diversity
    from agenttrace.formats.prices import Prices
    from agenttrace.records import Trace
    from agenttrace.store.coverage import Coverage
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
SHARES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "Submitted": ("ended", lambda ended: ended == "final_answer"),
    "incomplete": ("ended", lambda ended: ended != "final_answer"),
    "stopped by turns": ("ended", lambda ended: ended == "max_steps"),
    "stopped by tokens": ("ended", lambda ended: ended == "token_budget"),
    "stopped by format": ("ended", lambda ended: ended == "format_error"),
    "with a patch": ("patch_files", lambda files: files > 0),
    "submitted with a patch": ("submitted_files", lambda files: files > 0),
    "passed, of those judged": ("solved", bool),
}
"""Shares of traces: name → a column and what must hold of it, where it is known."""
_BY_A_RULE = "stopped by"
"""How the names of those begin that only a record which says its rule can be part of."""
FIGURES = ("step_count", "span_count", "duration_s", "model_s", "tool_s", *TOKENS.values(), "patch_lines", "cost_usd")
"""Columns that statistics and comparisons sum up, times in seconds, cost in US dollars."""
_COUNTS = (*(f"{kind}_turns" for kind in KINDS), "patch_files", "submitted_files", "solved")
"""Small counts, exact in four bytes."""
_TEXTS = ("task", "repo", "language", "ended", "cost_source")
_SECONDS = {"duration_s": "total_duration_ms", "model_s": "llm_ms", "tool_s": "tool_ms"}
_READ = {"timestamp_utc", "prepare_ms", *_SECONDS.values(), *FIGURES, *_COUNTS, *_TEXTS}
_UNKNOWN = math.nan
_BATCH = 8

Sums = dict[str, list[float]]
"""Task → [sum, count]."""


class Tally:
    """What statistics and comparisons need of the traces so far: some twenty numbers of each.

    Attributes:
        rollouts: how many there were.
        left_out: how many ended in an infrastructure failure, and are not among them.
        words: first words of commands.
        coverage: of their campaign, as far as it is known.
    """

    def __init__(self) -> None:
        self.rollouts = self.left_out = 0
        self.words: Counter[str] = Counter()
        self.coverage: Coverage | None = None
        self._waiting: list[TableEntry] = []
        self._numbers = {name: array("d") for name in FIGURES} | {name: array("f") for name in _COUNTS}
        self._texts: dict[str, list[str | None]] = {name: [] for name in _TEXTS}
        self._seen: dict[str, str] = {}
        self._first, self._last = math.inf, -math.inf

    @classmethod
    def of(cls, runs: pd.DataFrame) -> Tally:
        """Return the tally of some rows of a runs table; it does not have the words of their commands."""
        found = cls()
        found.rollouts = len(runs)
        columns = {name: column for name, column in runs.items() if name in _READ}
        found._keep({name: column.astype("object").where(column.notna(), None) for name, column in columns.items()})
        return found

    def add(self, given: Trace | TableEntry) -> None:
        """Count one trace."""
        one = given if isinstance(given, TableEntry) else entry(self.rollouts, "", given)
        self.rollouts += 1
        self.words.update([first_word(span.tool_input) or "" for span in one.trace.spans if span.tool_name == "bash"])
        self._waiting.append(one)
        if len(self._waiting) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        """Keep the figures of the traces that wait, and let these go."""
        self._keep(run_columns(self._waiting, _READ) | {"task": list(map(task_of, self._waiting))})
        self._waiting = []

    def _keep(self, values: dict[str, Any]) -> None:
        """Keep the figures of some traces, given as columns in which `None` is not known."""
        ended, files = values["ended"], values["patch_files"]
        values["submitted_files"] = [n and n * (end == "final_answer") for n, end in zip(files, ended, strict=True)]
        values["patch_lines"] = [n if some else None for n, some in zip(values["patch_lines"], files, strict=True)]
        for name, column in _SECONDS.items():
            values[name] = [None if ms is None else ms / 1000 for ms in values[column]]
        for name, kept in self._numbers.items():
            kept.extend(_UNKNOWN if value is None else value for value in values[name])
        for name, texts in self._texts.items():
            texts.extend(value and self._seen.setdefault(value, value) for value in values[name])
        times = zip(values["timestamp_utc"], values["prepare_ms"], values["duration_s"], strict=True)
        for moment, before_ms, seconds in times:
            if moment is not None and seconds is not None:
                self._first = min(self._first, moment.timestamp() - (before_ms or 0) / 1000)
                self._last = max(self._last, moment.timestamp() + seconds)

    @property
    def wall_s(self) -> float | None:
        """Seconds from the start of the first trace, its tree's preparation included, to the end of the last."""
        self._flush()
        return max(0.0, self._last - self._first) if self._first < math.inf else None

    def _values(self, name: str) -> Iterator[float]:
        """Return a figure or a share of every trace, in file order; not a number is not known."""
        self._flush()
        if name not in SHARES:
            return iter(self._numbers[name])
        column, test = SHARES[name]
        if column in self._texts:
            unsaid = {None, "unknown"} if name.startswith(_BY_A_RULE) else {None}
            return (_UNKNOWN if text in unsaid else test(text) for text in self._texts[column])
        return (_UNKNOWN if math.isnan(value) else test(value) for value in self._numbers[column])

    @property
    def tasks(self) -> set[str | None]:
        """The names of the tasks, `None` where one has none."""
        self._flush()
        return set(self._texts["task"])

    def known(self, name: str) -> list[float]:
        """Return the values of a figure or a share of traces where it is known, in file order."""
        return [value for value in self._values(name) if not math.isnan(value)]

    def distribution(self, name: str, *, of: int | None = None) -> Distribution:
        """Return the distribution of a figure over all traces, or over that many that it applies to."""
        known = sorted(self.known(name))
        return Distribution.of(
            known, total=math.fsum(known), missing=(self.rollouts if of is None else of) - len(known)
        )

    def sums(self, name: str) -> Sums:
        """Return the sum and count per task of a figure, of a share, or of a kind of observation among the turns."""
        kind = name in KINDS
        values = self._values(f"{name}_turns" if kind else name)
        found: Sums = {}
        for task, value, turns in zip(self._texts["task"], values, self._numbers["step_count"], strict=True):
            if not math.isnan(value) and task is not None:
                cell = found.setdefault(task, [0.0, 0.0])
                cell[0] += value
                cell[1] += turns if kind else 1
        return {task: cell for task, cell in found.items() if cell[1]}

    def _part(self, name: str) -> int | None:
        """Return of how many traces a share holds; `None` where it is known of none."""
        known = self.known(name)
        return int(sum(known)) if known else None

    def statistics(self) -> Statistics:
        """Return the figures of what was added so far."""
        self._flush()
        texts, patched = self._texts, self._part("with a patch")
        verdicts = self.known("passed, of those judged")
        return Statistics(
            rollouts=self.rollouts,
            left_out=self.left_out,
            tasks=len(self.tasks),
            repos=len({*texts["repo"]} - {None}),
            languages=_ordered(Counter(texts["language"])),
            stops=_ordered(Counter(texts["ended"])),
            exit_statuses=_ordered({name: self._part(name) or 0 for name in ("Submitted", "incomplete")}),
            wall_s=self.wall_s,
            turns=self.distribution("step_count"),
            duration_s=self.distribution("duration_s"),
            tool_s=self.distribution("tool_s"),
            tokens={name: self.distribution(column) for name, column in TOKENS.items()},
            observations=_ordered({kind: sum(self.known(f"{kind}_turns")) for kind in KINDS}),
            first_words=tuple(list(_ordered(self.words).items())[:TOP_WORDS]),
            commands=self.words.total(),
            patched=patched,
            submitted_with_patch=self._part("submitted with a patch"),
            patch_lines=self.distribution("patch_lines", of=patched or 0),
            cost_usd=self.distribution("cost_usd"),
            cost_sources=_ordered(Counter(texts["cost_source"])),
            passed=int(sum(verdicts)),
            graded=len(verdicts),
            coverage=self.coverage,
            submitted_at=pass_at(self.sums("Submitted")),
            pass_at=pass_at(self.sums("passed, of those judged")) if len(verdicts) == self.rollouts else {},
        )


def task_of(one: TableEntry) -> str:
    """Return the name of a trace's task, by which attempts at it are known; without one it is a task of its own."""
    return one.task or one.trace.trace_id


def tally(traces: Iterable[Trace]) -> Tally:
    """Return the tally of traces."""
    found = Tally()
    for trace in traces:
        found.add(trace)
    return found


def figures(
    *run: Path,
    diversity: bool = True,
    upstream: bool | None = None,
    scratch: Path | None = None,
    prices: Prices | None = None,
) -> tuple[Tally, Diversity | None]:
    """Return the tally of record files and its diversity, in one pass; infrastructure failures are in neither.

    Args:
        run: its files.
        diversity: measure it.
        upstream: with upstream's metric (`None`: up to 2,000 traces).
        scratch: where signatures and texts lie meanwhile.
        prices: as those of `Reading`.

    Raises:
        UsageError: the file cannot be read, or holds no trace that counts.
        DataError: a record is none.
        StorageError: there is no room for the signatures.
    """
    found = Tally()
    with ExitStack() as stack:
        if diversity:
            from agenttrace.analysis.diversity import Corpus, commands_of, measure  # noqa: PLC0415 - numpy

            corpus = stack.enter_context(Corpus(scratch))
        reading = Reading(run, _refuse, prices=prices)
        for one, _ in reading.entries(ids=False):
            if one.trace.outcome and one.trace.outcome.ended in INFRASTRUCTURE_ENDS:
                found.left_out += 1
                continue
            found.add(one)
            if diversity:
                corpus.add(commands_of(one.trace), task_of(one))
        found.coverage = reading.sources[0].coverage if len(run) == 1 else None
        if not found.rollouts:
            why = f" but {found.left_out} that ended in an infrastructure failure" if found.left_out else ""
            raise UsageError(f"{run[0]}: no rollout in it{why}")
        return found, measure(corpus, upstream=upstream) if diversity else None


def _refuse(problem: Problem) -> NoReturn:
    raise DataError(str(problem))


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


def _ordered(counts: Mapping[Any, float]) -> dict[str, int]:
    """Return what was counted, most frequent first, then by name; what has no name and what never was is left out."""
    known = ((str(name), int(count)) for name, count in counts.items() if count and name)
    return dict(sorted(known, key=lambda item: (-item[1], item[0])))
