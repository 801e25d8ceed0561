"""Lays findings out as titled tables of text: the one source of their text and Markdown forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agenttrace.analysis.render import UNKNOWN, Section, amount, estimate, integer, part, percent, share

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from agenttrace.analysis.diversity import Diversity
    from agenttrace.analysis.findings import (
        Comparison,
        Cost,
        Count,
        Distribution,
        Figure,
        FigureRow,
        Group,
        Report,
        Statistics,
    )

_INTERVAL = ("95 % interval", "by")
_SMALL = 0.1
_TOKENS = {
    "generated": "sum of the completions",
    "conversation": "last prompt and its completion: each token of the conversation once",
    "prompts billed": "sum of all prompts: the context counts again in every turn; what upstream stores",
    "prompts evaluated": "of those, what the server did not take from its cache",
}


def sections(report: Report) -> Iterator[Section]:
    """Yield the sections of a report in reading order."""
    yield _read(report)
    for group in report.groups:
        yield from _group(group)
    for comparison in report.comparisons:
        yield _comparison(comparison)


def _read(report: Report) -> Section:
    notes = ["PARTIAL: some lines could not be read and are in no figure below."] if report.partial else []
    rows = [
        (source.file, integer(source.rows), integer(source.bad_lines), "yes" if source.damaged else "no")
        for source in report.sources
    ]
    return Section("What was read", ("file", "traces", "bad lines", "rest unreadable"), rows, notes, level=1)


def _group(group: Group) -> Iterator[Section]:
    yield Section(group.name, notes=[f"Note: {text}." for text in group.warnings], level=1)
    yield Section("Traces and outcomes", ("", "value"), list(_facts(group)))
    yield _counted("How runs ended", group.ended, "end")
    if group.aspects:
        verdicts = [(one.aspect, *map(integer, (one.passed, one.failed, one.not_gradable))) for one in group.aspects]
        yield Section("Verdicts", ("aspect", "passed", "failed", "not gradable"), verdicts)
    yield _time(group)
    yield _figures("Durations", group.durations)
    yield _figures("Tokens", group.tokens)
    yield _figures("Model server, as it says itself", group.server)
    yield Section("Rates", ("of", "share"), [(name, share(one)) for name, one in group.rates])
    yield _costs("Tools", "tool", group.tools)
    other = [f"{integer(group.other_commands)} calls of rarer commands are not listed."] if group.other_commands else []
    yield _costs("Commands (first word of a bash call)", "command", group.commands, other)
    yield _counted("Exit codes of calls that ran", group.exit_codes, "exit code")
    yield _counted("Status of calls", group.statuses, "status")
    yield _slow(group)
    together = [
        (one.question, one.method, estimate(one.estimate), integer(one.estimate.n)) for one in group.associations
    ]
    header = ("figures", "method", "estimate", "n")
    yield Section("What goes together (per trace, 95 % interval)", header, together)


def _facts(group: Group) -> Iterator[tuple[str, str]]:
    yield "model", ", ".join(group.models)
    yield "data set", ", ".join(group.datasets)
    yield "schema", ", ".join(group.schemas)
    yield "traces", integer(group.traces)
    yield "tasks", integer(group.tasks)
    yield "solved, of those judged", share(group.solved) if group.solved.n else "not judged"
    yield "given up, of those planned", UNKNOWN if group.coverage is None else str(group.coverage)
    yield "without a verdict", integer(group.ungraded)
    yield "tokens in and out of judged traces, per solved one", amount(group.tokens_per_solved, "")
    if group.energy_j is not None:
        yield "energy of the machine in these sessions", f"{amount(group.energy_j, '')} J"
        yield "energy per solved trace, failures included", _energy_per_solved(group)
    yield "infrastructure failures", integer(group.infrastructure)
    yield "US dollars", _dollars(group.cost_usd, {one.name or "": one.count for one in group.cost_sources})


def _energy_per_solved(group: Group) -> str:
    """Return it as a bound where some traces may be solved or not: they took their share of the energy."""
    if group.energy_per_solved_j is None:
        return "none was solved"
    figure = f"{amount(group.energy_per_solved_j, '')} J"
    return f"at most {figure}: {integer(group.ungraded)} have no verdict" if group.ungraded else figure


def _dollars(cost: Distribution, sources: dict[str, int]) -> str:
    """Return what traces cost, over how many of them it is known, and how."""
    if not cost.n:
        return "not known"
    how = ", ".join(f"{count} {name}" for name, count in sources.items())
    return f"{cost.total:,.4f}, {cost.mean:,.4f} a trace ({how}{f', {cost.missing} not known' if cost.missing else ''})"


def _time(group: Group) -> Section:
    title, note = "Model time against tool time, as measured", f"{group.timed} of {group.traces} traces have all times."
    if not group.timed:
        return Section(title, notes=(f"{note} Model time: {UNKNOWN}.",))
    rows = [
        (
            one.part,
            percent(one.of_total),
            *(amount(value, "ms") for value in (one.ms.total, one.ms.min, one.ms.median, one.ms.p95)),
            *(percent(None if v is None else v / 100) for v in (one.percent.min, one.percent.median, one.percent.p95)),
        )
        for one in group.time
    ]
    header = ("part", "of all time", "total", "min", "median", "P95", "% min", "% median", "% P95")
    return Section(title, header, rows, (note,))


def _figures(title: str, figures: Iterable[Figure]) -> Section:
    header = ("", "n", UNKNOWN, "min", "median", "mean", "P95", "max", "total")
    return Section(title, header, [(one.name, *_distribution(one.values, one.unit)) for one in figures])


def _distribution(values: Distribution, unit: str) -> tuple[str, ...]:
    figures = (values.min, values.median, values.mean, values.p95, values.max)
    total = "" if unit.endswith("/s") else amount(values.total, unit)
    return (integer(values.n), integer(values.missing), *(amount(value, unit) for value in figures), total)


def _counted(title: str, counts: tuple[Count, ...], name: str) -> Section:
    rows = [(one.name or "(not recorded)", integer(one.count), percent(one.share)) for one in counts]
    return Section(title, (name, "count", "share"), rows)


def _slow(group: Group) -> Section:
    title = "Was this call slow by itself, by its limit, or by its neighbours?"
    rows = [
        (
            one.cause,
            integer(one.calls),
            percent(one.share),
            *(amount(value, "ms") for value in (one.wall_ms, one.limit_ms, one.neighbours_ms)),
        )
        for one in group.slow
    ]
    header = ("cause", "calls", "share", "their time", "lost to the limit", "lost to neighbours")
    return Section(title, header, rows, () if rows else ("No call was measured on its own.",))


def _costs(title: str, name: str, costs: tuple[Cost, ...], notes: Sequence[str] = ()) -> Section:
    header = (
        name, "calls", "ran", "exit ≠ 0", "time median", "P95", "n measured", "CPU median", "P95", "CPU total",
        "peak median", "P95", "read", "written",
    )  # fmt: skip
    return Section(title, header, list(map(_cost, costs)), notes)


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


def _comparison(one: Comparison) -> Section:
    rows = [("tasks in both", *[integer(one.shared)] * 2, "", "", ""), *map(_compared, one.rows)]
    notes = [f"Note: {text}." for text in one.notes]
    title = f"B = {one.b} against A = {one.a}, same tasks"
    return Section(title, ("", "A", "B", "B minus A", *_INTERVAL), rows, notes, level=1)


def statistics_sections(found: Statistics, diversity: Diversity | None = None) -> Iterator[Section]:
    """Yield the tables of a run's figures; one without rows is left out."""
    n, turns = found.rollouts, sum(found.observations.values())
    languages = ", ".join(f"{name} {count}" for name, count in found.languages.items())
    where = f" in {found.repos} repositories ({languages or 'no language'})" if found.repos else ""
    hours = "at unknown times" if found.wall_s is None else f"{found.wall_s / 3600:.2f} hours"
    took = f"{hours} from the start of the first to the end of the last" if found.wall_s is not None else hours
    left = f"left out: {part(found.left_out, n + found.left_out)} that ended in an infrastructure failure"
    about = [f"{n} rollouts of {found.tasks} tasks{where}, {took}", *([left] if found.left_out else [])]
    yield Section(notes=about)
    spreads = {
        "turns": found.turns, "seconds": found.duration_s, "seconds in tools": found.tool_s,
        "lines of a patch": None if found.patched is None else found.patch_lines,
    }  # fmt: skip
    ended = found.stops | {f"published as {name}": count for name, count in found.exit_statuses.items()}
    observed = {name.replace("_", " "): count for name, count in found.observations.items()}
    tables = {
        ("ended", "rollouts"): _parts(ended, n),
        ("per rollout", "mean, median, least to most"): [(name, _spread(one)) for name, one in spreads.items() if one],
        ("cost", "US dollars"): [("all rollouts", _dollars(found.cost_usd, found.cost_sources))],
        ("tokens", "total, mean, median"): [(name, _token_counts(one)) for name, one in found.tokens.items()],
        ("observation", "turns"): _parts(observed, turns),
        ("first word", "commands"): _parts(dict(found.first_words), found.commands),
        ("result", "rollouts"): _results(found),
        ("diversity", "of their commands"): _diversity(diversity) if diversity else [],
    }
    for header, rows in tables.items():
        notes = [f"{name}: {text}." for name, text in _TOKENS.items()] if header[0] == "tokens" else ()
        if rows:
            yield Section(header=header, rows=rows, notes=notes)


def _parts(counts: dict[str, int], whole: int) -> list[tuple[str, str]]:
    return [(name, part(count, whole)) for name, count in counts.items()]


def _spread(one: Distribution) -> str:
    if not one.n:
        return "not known"
    return f"{one.mean:.2f}, {one.median:.2f}, {one.min:.2f} to {one.max:.2f}{_reporting(one)}"


def _token_counts(one: Distribution) -> str:
    return f"{one.total:,.0f}, {one.mean:,.0f}, {one.median:,.0f}{_reporting(one)}" if one.n else "not reported"


def _reporting(one: Distribution) -> str:
    return f", of the {one.n} rollouts that report it" if one.missing else ""


def _results(found: Statistics) -> list[tuple[str, str]]:
    patches = {"with a patch": found.patched, "submitted with a patch": found.submitted_with_patch}
    rows = _parts({name: count for name, count in patches.items() if count is not None}, found.rollouts)
    rows += [
        ("judged", part(found.graded, found.rollouts)),
        ("passed, of those judged", part(found.passed, found.graded) if found.graded else "none judged"),
        *([] if found.coverage is None else [("given up, of those planned", str(found.coverage))]),
    ]
    rows += [(f"submitted at least once in {k}", percent(value)) for k, value in found.submitted_at.items()]
    return rows + [(f"pass@{k}", percent(value)) for k, value in found.pass_at.items()]


def _diversity(found: Diversity) -> list[tuple[str, str]]:
    n, orders, alike = found.rollouts, found.upstream_shuffled, found.upstream_mean_similarity
    unique, within = found.upstream_unique, found.within_mean_similarity
    rows = {
        "unique at 0.5, upstream's greedy metric": "not computed (--upstream)" if unique is None else part(unique, n),
        "the same in five other orders of the list": orders and f"{orders[0]} to {orders[1]}",
        "mean similarity of all pairs, as upstream": None if alike is None else f"{alike:.3f}",
        "near-duplicate components, whole corpus": part(found.corpus_components, n),
        "near-duplicate components, within tasks": part(found.within_components, n),
        "mean exact similarity within a task": None if within is None else f"{within:.3f}",
        "pairs it is the mean of": None if within is None else integer(found.sampled_pairs),
        "similar pairs among them that were found": found.sampled_similar
        and part(found.sampled_found, found.sampled_similar),
        f"similar pairs of {found.probes} rollouts with all of other tasks: found": found.probed_similar
        and part(found.probed_found, found.probed_similar),
        "members of buckets too large for all of their pairs": found.capped and integer(found.capped),
    }
    return [(name, value) for name, value in rows.items() if isinstance(value, str)]


def compared_section(
    names: tuple[str, str], sizes: tuple[int, int], rows: Iterable[FigureRow], notes: Iterable[str] = ()
) -> Section:
    """Return the table of two runs, with what to beware of."""
    rollouts = ("rollouts", *map(integer, sizes), f"{sizes[1] - sizes[0]:+}", "", "")
    return Section(
        header=("", *names, "difference", *_INTERVAL),
        rows=(rollouts, *map(_compared, rows)),
        notes=[f"Note: {one}." for one in notes],
    )


def _compared(row: FigureRow) -> tuple[str, ...]:
    interval = "" if row.low is None else f"{_signed(row, row.low)} to {_signed(row, row.high)}"
    figures = (_either(row, row.one), _either(row, row.other), _signed(row, row.difference))
    return (row.name, *figures, interval, row.method)


def _either(row: FigureRow, value: float | None) -> str:
    if value is None:
        return "not known"
    return percent(value) if row.percent else _digits(value, "")


def _signed(row: FigureRow, value: float | None) -> str:
    if value is None:
        return ""
    return f"{100 * value:+.1f}" if row.percent else _digits(value, "+")


def _digits(value: float, sign: str) -> str:
    """Return a figure with two digits after the point, or two that are not 0: a rollout may cost a tenth of a cent."""
    return f"{value:{sign},.2f}" if not value or abs(value) >= _SMALL else f"{value:{sign}.2g}"
