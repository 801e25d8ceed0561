"""What an analysis finds: plain structures that become text, Markdown and JSON.

`None` is "not measured" (or "does not apply", where a note says so); 0 is zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agenttrace.analysis.tables import Source
from agenttrace.records.base import Record
from agenttrace.store.coverage import Coverage

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt


class Distribution(Record, frozen=True, kw_only=True):
    """A figure over many cases. Quantiles interpolate linearly (type 7 of Hyndman and Fan, 1996).

    Attributes:
        n: cases with a value.
        missing: cases without one (not measured); they are in no other figure.
    """

    n: int
    missing: int
    total: float | None = None
    min: float | None = None
    median: float | None = None
    mean: float | None = None
    p95: float | None = None
    max: float | None = None

    @classmethod
    def of(cls, ordered: Sequence[float] | npt.NDArray[np.float64], *, total: float, missing: int) -> Distribution:
        """Return the distribution of known values, given in ascending order, and their sum."""
        n = len(ordered)
        if not n:
            return cls(n=0, missing=missing)

        def quantile(share: float) -> float:
            below, part = divmod(share * (n - 1), 1)
            low, high = ordered[int(below)], ordered[min(int(below) + 1, n - 1)]
            return float(low + part * (high - low))

        return cls(
            n=n, missing=missing, total=float(total), min=float(ordered[0]), median=quantile(0.5),
            mean=float(total / n), p95=quantile(0.95), max=float(ordered[-1]),
        )  # fmt: skip


class Share(Record, frozen=True, kw_only=True):
    """A part of a whole with Wilson's 95 % interval (1927); all `None` but the counts when the whole is empty.

    Of steps, turns and calls there is no interval: those of a trace resemble each other, so they are no sample of their
    number.
    """

    count: int
    n: int
    share: float | None = None
    low: float | None = None
    high: float | None = None


class Estimate(Record, frozen=True, kw_only=True):
    """An estimate with its 95 % interval; `note` says why there is none, or what to beware of."""

    n: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    note: str | None = None


class Count(Record, frozen=True, kw_only=True):
    """How often a value occurs; `name` is `None` where the value was not recorded."""

    name: str | None
    count: int
    share: float


class Aspect(Record, frozen=True, kw_only=True):
    """Verdicts on one aspect of the tasks."""

    aspect: str
    passed: int
    failed: int
    not_gradable: int


class TimePart(Record, frozen=True, kw_only=True):
    """One part of the time of traces: milliseconds per trace, percent of each trace, share of the sum."""

    part: str
    ms: Distribution
    percent: Distribution
    of_total: float | None


class Cost(Record, frozen=True, kw_only=True):
    """What calls of one tool or one command cost.

    Attributes:
        name: the tool, or the first word of the command.
        calls: all of them.
        executed: calls that started a process or ran to an end.
        failed: executed calls with an exit code other than 0, of those whose exit code is known.
        duration_ms, cpu_ms, peak_bytes, read_bytes, write_bytes: over executed calls that were measured per call.
    """

    name: str
    calls: int
    executed: int
    failed: Share
    duration_ms: Distribution
    cpu_ms: Distribution
    peak_bytes: Distribution
    read_bytes: Distribution
    write_bytes: Distribution


class SlowCause(Record, frozen=True, kw_only=True):
    """Calls that one cause slowed (`itself`, `limit`, `neighbours`, or `unknown`): milliseconds in all.

    Attributes:
        wall_ms: time of these calls.
        limit_ms: of it, what their own limit took; `None` where that is `unknown`.
        neighbours_ms: of it, what others took; likewise.
    """

    cause: str
    calls: int
    share: float
    wall_ms: float
    limit_ms: float | None
    neighbours_ms: float | None


class Association(Record, frozen=True, kw_only=True):
    """How two figures of a trace go together; `method` is `spearman` or `cliffs-delta`."""

    question: str
    method: str
    estimate: Estimate


class Figure(Record, frozen=True, kw_only=True):
    """A named distribution with its unit."""

    name: str
    unit: str
    values: Distribution


class Group(Record, frozen=True, kw_only=True):
    """Everything about the traces of one file (or model, data set, run).

    Attributes:
        solved: of the traces with a verdict and no infrastructure failure.
        coverage: runs of their campaigns, with and without a record; `None` where a run spec is not there.
        ungraded: traces without a verdict (`solved` is unknown); infrastructure failures excluded.
        tokens_per_solved: tokens in and out of all judged traces, unsolved ones too, per solved one; traces whose
            tokens are not known are left out of both.
        infrastructure: traces that the machine ended, not the model.
        energy_j: what the machine consumed in the sessions of its files, failed attempts included; `None` where that
            was not measured, or a file has traces of other groups as well.
        energy_per_solved_j: that per solved trace; no more than that where some are `ungraded`.
        cost_usd: of traces whose file says what they cost, or that a table of prices can price.
        cost_sources: which of the two, `given` or `computed`.
        time: parts of the traces whose steps and spans were all measured (`timed` of `traces`).
        server: what the model server says of its work, step by step.
        commands: the most frequent ones; `other_commands` counts calls of the rest.
    """

    name: str
    traces: int
    tasks: int
    repeated: int
    models: tuple[str, ...]
    datasets: tuple[str, ...]
    schemas: tuple[str, ...]
    warnings: tuple[str, ...]
    solved: Share
    coverage: Coverage | None
    ungraded: int
    infrastructure: int
    tokens_per_solved: float | None
    energy_j: float | None
    energy_per_solved_j: float | None
    cost_usd: Distribution
    cost_sources: tuple[Count, ...]
    ended: tuple[Count, ...]
    aspects: tuple[Aspect, ...]
    timed: int
    time: tuple[TimePart, ...]
    durations: tuple[Figure, ...]
    tokens: tuple[Figure, ...]
    server: tuple[Figure, ...]
    rates: tuple[tuple[str, Share], ...]
    tools: tuple[Cost, ...]
    commands: tuple[Cost, ...]
    other_commands: int
    exit_codes: tuple[Count, ...]
    statuses: tuple[Count, ...]
    slow: tuple[SlowCause, ...]
    associations: tuple[Association, ...]


class FigureRow(Record, frozen=True, kw_only=True):
    """One line of the table.

    Attributes:
        name: what is compared.
        one: the figure of the first run; `None` is not known.
        other: the figure of the second.
        difference: second minus first.
        low: lower end of the difference's 95 % interval.
        high: upper end; both `None` where there is no interval.
        method: how the interval was found.
        percent: whether the figures are shares.
    """

    name: str
    one: float | None
    other: float | None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    method: str = ""
    percent: bool = False


class Comparison(Record, frozen=True, kw_only=True):
    """Two groups on the tasks they share.

    Attributes:
        shared: tasks with a trace in both.
        notes: what to beware of.
        rows: shares and means of each side over those tasks for which both know it.
    """

    a: str
    b: str
    shared: int
    notes: tuple[str, ...]
    rows: tuple[FigureRow, ...]


class Report(Record, frozen=True, kw_only=True):
    """One analysis: what was read, what it shows, how groups compare."""

    by: str
    partial: bool
    sources: tuple[Source, ...]
    groups: tuple[Group, ...]
    comparisons: tuple[Comparison, ...]


class Statistics(Record, frozen=True, kw_only=True):
    """A run in figures.

    Attributes:
        left_out: attempts that ended in an infrastructure failure; they are in no other figure.
        stops: traces per stop rule.
        exit_statuses: the same in the words of the published sets.
        wall_s: from the start of the first trace to the end of the last, pauses between sessions included; `None` where
            no times are known.
        turns: per trace.
        tokens: per way of counting, per trace.
        observations: turns per kind of observation; none where a turn is not one block of commands.
        first_words: the most frequent first words of commands.
        commands: executed commands.
        patched: traces with a patch that changes something; `None` where no task is a change of a checkout.
        submitted_with_patch: of those, the submitted ones.
        patch_lines: of the traces with a patch.
        cost_usd: per trace, where its file says it or a table of prices gives it.
        cost_sources: how many of them are `given`, how many `computed`.
        passed: traces judged as passed.
        graded: traces that could be judged.
        coverage: runs of the campaign, with and without a record; `None` where that is not known.
        submitted_at: as `pass_at`, of submission instead of a verdict: upstream's only figure of that kind.
        pass_at: expected share of tasks with at least one passed trace among k, by k; only where all are graded.
    """

    rollouts: int
    left_out: int
    tasks: int
    repos: int
    languages: dict[str, int]
    stops: dict[str, int]
    exit_statuses: dict[str, int]
    wall_s: float | None
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
    cost_usd: Distribution
    cost_sources: dict[str, int]
    passed: int
    graded: int
    coverage: Coverage | None
    submitted_at: dict[int, float]
    pass_at: dict[int, float]
