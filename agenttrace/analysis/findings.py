"""What an analysis finds: plain structures that become text, Markdown and JSON.

`None` is "not measured" (or "does not apply", where a note says so); 0 is zero.
"""

from __future__ import annotations

import msgspec

from agenttrace.analysis.sources import Source  # noqa: TC001
from agenttrace.analysis.statistics import Distribution, Estimate, Share  # noqa: TC001 - msgspec resolves the annotations


class _Finding(msgspec.Struct, frozen=True, kw_only=True):
    pass


class Count(_Finding, frozen=True, kw_only=True):
    """How often a value occurs; `name` is `None` where the value was not recorded."""

    name: str | None
    count: int
    share: float


class Aspect(_Finding, frozen=True, kw_only=True):
    """Verdicts on one aspect of the tasks."""

    aspect: str
    passed: int
    failed: int
    not_gradable: int


class TimePart(_Finding, frozen=True, kw_only=True):
    """One part of the time of traces: milliseconds per trace, percent of each trace, share of the sum."""

    part: str
    ms: Distribution
    percent: Distribution
    of_total: float | None


class Cost(_Finding, frozen=True, kw_only=True):
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


class Association(_Finding, frozen=True, kw_only=True):
    """How two figures of a trace go together; `method` is `spearman` or `cliffs-delta`."""

    question: str
    method: str
    estimate: Estimate


class Figure(_Finding, frozen=True, kw_only=True):
    """A named distribution with its unit."""

    name: str
    unit: str
    values: Distribution


class Group(_Finding, frozen=True, kw_only=True):
    """Everything about the traces of one file (or model, data set, run).

    Attributes:
        solved: of the traces with a verdict and no infrastructure failure.
        ungraded: traces without a verdict (`solved` is unknown); infrastructure failures excluded.
        tokens_per_solved: tokens in and out of all judged traces, unsolved ones too, per solved one; traces whose
            tokens are not known are left out of both.
        infrastructure: traces that the machine ended, not the model.
        time: parts of the traces whose steps and spans were all measured (`timed` of `traces`).
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
    ungraded: int
    infrastructure: int
    tokens_per_solved: float | None
    ended: tuple[Count, ...]
    aspects: tuple[Aspect, ...]
    timed: int
    time: tuple[TimePart, ...]
    durations: tuple[Figure, ...]
    tokens: tuple[Figure, ...]
    rates: tuple[tuple[str, Share], ...]
    tools: tuple[Cost, ...]
    commands: tuple[Cost, ...]
    other_commands: int
    exit_codes: tuple[Count, ...]
    statuses: tuple[Count, ...]
    associations: tuple[Association, ...]


class Paired(_Finding, frozen=True, kw_only=True):
    """One figure on the same tasks, B minus A.

    Attributes:
        difference: median of the differences with its bootstrap interval.
        effect: matched-pairs rank-biserial correlation (Kerby, 2014): 1 B always larger, -1 always smaller.
        p: of Wilcoxon's signed-rank test; `p_holm` adjusts for the number of figures.
    """

    figure: str
    unit: str
    n: int
    median_a: float | None
    median_b: float | None
    difference: Estimate
    effect: float | None
    p: float | None
    p_holm: float | None
    note: str | None = None


class Comparison(_Finding, frozen=True, kw_only=True):
    """Two groups on the tasks they share.

    Attributes:
        shared: tasks with a trace in both.
        graded: shared tasks with a verdict in both.
        both, only_a, only_b, neither: solved by.
        rate_difference: solve rate of B minus that of A, paired bootstrap over tasks.
        p: McNemar's exact test; `None` with a note where it does not apply.
        odds_ratio: `only_b` / `only_a`, the effect size of McNemar's test.
    """

    a: str
    b: str
    shared: int
    graded: int
    both: int | None
    only_a: int | None
    only_b: int | None
    neither: int | None
    rate_a: float | None
    rate_b: float | None
    rate_difference: Estimate
    p: float | None
    odds_ratio: float | None
    notes: tuple[str, ...]
    figures: tuple[Paired, ...]


class Report(_Finding, frozen=True, kw_only=True):
    """One analysis: what was read, what it shows, how groups compare."""

    by: str
    partial: bool
    sources: tuple[Source, ...]
    groups: tuple[Group, ...]
    comparisons: tuple[Comparison, ...]
