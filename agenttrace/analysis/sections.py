"""Lays a report out as titled tables of text: the one source of its text and Markdown forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agenttrace.analysis.quantities import amount, estimate, integer, p_value, percent, share

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agenttrace.analysis.findings import Comparison, Cost, Count, Figure, Group, Report
    from agenttrace.analysis.statistics import Distribution

NOT_MEASURED = "not measured"


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A title, sentences, and a table; the first column is text, the others are figures."""

    title: str
    level: int
    notes: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def sections(report: Report) -> Iterator[Section]:
    """Yield the sections of a report in reading order."""
    yield _read(report)
    for group in report.groups:
        yield from _group(group)
    for comparison in report.comparisons:
        yield from _comparison(comparison)


def _read(report: Report) -> Section:
    notes = ["PARTIAL: some lines could not be read and are in no figure below."] if report.partial else []
    rows = tuple(
        (source.file, integer(source.rows), integer(source.bad_lines), "yes" if source.damaged else "no")
        for source in report.sources
    )
    return Section(
        title="What was read",
        level=1,
        notes=tuple(notes),
        header=("file", "traces", "bad lines", "rest unreadable"),
        rows=rows,
    )


def _group(group: Group) -> Iterator[Section]:
    yield Section(title=group.name, level=1, notes=tuple(f"Note: {text}." for text in group.warnings))
    yield Section(title="Traces and outcomes", level=2, header=("", "value"), rows=tuple(_facts(group)))
    yield _counted("How runs ended", group.ended, "end")
    if group.aspects:
        yield Section(
            title="Verdicts",
            level=2,
            header=("aspect", "passed", "failed", "not gradable"),
            rows=tuple(
                (one.aspect, integer(one.passed), integer(one.failed), integer(one.not_gradable))
                for one in group.aspects
            ),
        )
    yield _time(group)
    yield _figures("Durations", group.durations)
    yield _figures("Tokens", group.tokens)
    yield Section(
        title="Rates", level=2, header=("of", "share"), rows=tuple((name, share(one)) for name, one in group.rates)
    )
    yield _costs("Tools", "tool", group.tools)
    other = (
        (f"{integer(group.other_commands)} calls of rarer commands are not listed.",) if group.other_commands else ()
    )
    yield _costs("Commands (first word of a bash call)", "command", group.commands, other)
    yield _counted("Exit codes of calls that ran", group.exit_codes, "exit code")
    yield _counted("Status of calls", group.statuses, "status")
    yield Section(
        title="What goes together (per trace, 95 % interval)",
        level=2,
        header=("figures", "method", "estimate", "n"),
        rows=tuple(
            (one.question, one.method, estimate(one.estimate), integer(one.estimate.n)) for one in group.associations
        ),
    )


def _facts(group: Group) -> Iterator[tuple[str, str]]:
    yield "model", ", ".join(group.models)
    yield "data set", ", ".join(group.datasets)
    yield "schema", ", ".join(group.schemas)
    yield "traces", integer(group.traces)
    yield "tasks", integer(group.tasks)
    yield "solved, of those judged", share(group.solved) if group.solved.n else "not judged"
    yield "without a verdict", integer(group.ungraded)
    yield "tokens in and out per solved trace", amount(group.tokens_per_solved, "")
    yield "spoilt by the infrastructure", integer(group.infrastructure)


def _time(group: Group) -> Section:
    title, note = "Model time against tool time, as measured", f"{group.timed} of {group.traces} traces have all times."
    if not group.timed:
        return Section(title=title, level=2, notes=(f"{note} Model time: {NOT_MEASURED}.",))
    return Section(
        title=title,
        level=2,
        notes=(note,),
        header=("part", "of all time", "total", "min", "median", "P95", "% min", "% median", "% P95"),
        rows=tuple(
            (
                one.part,
                percent(one.of_total),
                *(amount(value, "ms") for value in (one.ms.total, one.ms.min, one.ms.median, one.ms.p95)),
                *(
                    percent(None if v is None else v / 100)
                    for v in (one.percent.min, one.percent.median, one.percent.p95)
                ),
            )
            for one in group.time
        ),
    )


def _figures(title: str, figures: Iterable[Figure]) -> Section:
    return Section(
        title=title,
        level=2,
        header=("", "n", NOT_MEASURED, "min", "median", "mean", "P95", "max", "total"),
        rows=tuple((one.name, *_distribution(one.values, one.unit)) for one in figures),
    )


def _distribution(values: Distribution, unit: str) -> tuple[str, ...]:
    total = None if unit.endswith("/s") else values.total
    figures = (values.min, values.median, values.mean, values.p95, values.max)
    return (
        integer(values.n),
        integer(values.missing),
        *(amount(value, unit) for value in figures),
        "" if unit.endswith("/s") else amount(total, unit),
    )


def _counted(title: str, counts: tuple[Count, ...], name: str) -> Section:
    rows = tuple((one.name or "(not recorded)", integer(one.count), percent(one.share)) for one in counts)
    return Section(title=title, level=2, header=(name, "count", "share"), rows=rows)


def _costs(title: str, name: str, costs: tuple[Cost, ...], notes: tuple[str, ...] = ()) -> Section:
    return Section(
        title=title,
        level=2,
        notes=notes,
        header=(
            name, "calls", "ran", "exit ≠ 0", "time median", "P95", "n measured", "CPU median", "P95", "CPU total",
            "peak median", "P95", "read", "written",
        ),
        rows=tuple(_cost(one) for one in costs),
    )  # fmt: skip


def _cost(one: Cost) -> tuple[str, ...]:
    if not one.executed:
        return (one.name, integer(one.calls), "0", *[""] * 11)
    return (
        one.name,
        integer(one.calls),
        integer(one.executed),
        percent(one.failed.share),
        amount(one.duration_ms.median, "ms"),
        amount(one.duration_ms.p95, "ms"),
        integer(one.cpu_ms.n),
        amount(one.cpu_ms.median, "ms"),
        amount(one.cpu_ms.p95, "ms"),
        amount(one.cpu_ms.total, "ms"),
        amount(one.peak_bytes.median, "B"),
        amount(one.peak_bytes.p95, "B"),
        amount(one.read_bytes.total, "B"),
        amount(one.write_bytes.total, "B"),
    )


def _comparison(one: Comparison) -> Iterator[Section]:
    rows = [
        ("tasks in both", integer(one.shared)),
        ("of them with a verdict in both", integer(one.graded)),
        ("solve rate A", percent(one.rate_a)),
        ("solve rate B", percent(one.rate_b)),
        ("B minus A", estimate(one.rate_difference, scale=100, unit=" points")),
    ]
    if one.both is not None:
        rows += [
            ("solved by both", integer(one.both)),
            ("by A alone", integer(one.only_a)),
            ("by B alone", integer(one.only_b)),
            ("by neither", integer(one.neither)),
            ("McNemar, exact: p", p_value(one.p)),
            (
                "odds ratio (B alone / A alone)",
                amount(one.odds_ratio, "") if one.only_a else "not defined: A alone is 0",
            ),
        ]
    yield Section(
        title=f"B = {one.b} against A = {one.a}, same tasks",
        level=1,
        notes=tuple(f"Note: {text}." for text in one.notes),
        header=("", "value"),
        rows=tuple(rows),
    )
    if one.shared:
        yield _paired(one)


def _paired(one: Comparison) -> Section:
    return Section(
        title="Paired figures (median of the differences, 95 % bootstrap interval; Wilcoxon signed-rank; Holm)",
        level=2,
        notes=tuple(f"{figure.figure}: {figure.note}." for figure in one.figures if figure.note),
        header=("figure", "n", "median A", "median B", "B minus A", "effect", "p", "p (Holm)"),
        rows=tuple(
            (
                f"{figure.figure} ({figure.unit})",
                integer(figure.n),
                amount(figure.median_a, ""),
                amount(figure.median_b, ""),
                estimate(figure.difference) if figure.n else NOT_MEASURED,
                amount(figure.effect, "signed"),
                p_value(figure.p),
                p_value(figure.p_holm),
            )
            for figure in one.figures
        ),
    )
