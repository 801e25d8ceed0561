"""Statistics and comparisons as Markdown, which reads well as plain text, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agenttrace.analysis.render import escaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agenttrace.analysis.diversity.measure import Diversity
    from agenttrace.analysis.rollouts.compare import Row
    from agenttrace.analysis.rollouts.statistics import Statistics
    from agenttrace.analysis.statistics import Distribution

_TOKENS = {
    "generated": "sum of the completions",
    "conversation": "last prompt and its completion: each token of the conversation once",
    "prompts billed": "sum of all prompts: the context counts again in every turn; what upstream stores",
    "prompts evaluated": "of those, what the server did not take from its cache",
}


def statistics_text(found: Statistics, diversity: Diversity | None = None) -> str:
    """Return the statistics of a run as Markdown tables; a table without rows is left out."""
    n, turns = found.rollouts, sum(found.observations.values())
    languages = ", ".join(f"{escaped(name)} {count}" for name, count in found.languages.items())
    where = f" in {found.repos} repositories ({languages or 'no language'})" if found.repos else ""
    lines = [
        f"{n} rollouts of {found.tasks} tasks{where},",
        f"{found.wall_s / 3600:.2f} hours from the start of the first to the end of the last",
        "",
    ]
    stops = [(name, share(count, n)) for name, count in found.stops.items()]
    published = [(f"published as {name}", share(count, n)) for name, count in found.exit_statuses.items()]
    spreads = {
        "turns": found.turns, "seconds": found.duration_s, "seconds in tools": found.tool_s,
        "lines of a patch": None if found.patched is None else found.patch_lines,
    }  # fmt: skip
    lines += _table("ended", "rollouts", [*stops, *published])
    lines += _table(
        "per rollout", "mean, median, least to most", [(name, _spread(one)) for name, one in spreads.items() if one]
    )
    counted = [(f"{name} ({_TOKENS[name]})", _tokens(one)) for name, one in found.tokens.items()]
    lines += _table("tokens", "total, mean, median", counted)
    kinds = [(name.replace("_", " "), share(count, turns)) for name, count in found.observations.items()]
    lines += _table("observation", "turns", kinds)
    words = [(code(word), share(count, found.commands)) for word, count in found.first_words]
    lines += _table("first word", "commands", words)
    lines += _table("result", "rollouts", _results(found))
    lines += _table("diversity", "of their commands", _diversity(diversity) if diversity else [])
    return "\n".join(lines).rstrip() + "\n"


def comparison_text(names: tuple[str, str], sizes: tuple[int, int], rows: Iterable[Row]) -> str:
    """Return the table of two runs as Markdown."""
    one, other = map(escaped, names)
    lines = [f"| | {one} | {other} | difference | 95 % interval | by |", "|---|---:|---:|---:|---:|---|"]
    lines.append(f"| rollouts | {sizes[0]} | {sizes[1]} | {sizes[1] - sizes[0]:+} | | |")
    for row in rows:
        interval = "" if row.low is None else f"{_signed(row, row.low)} to {_signed(row, row.high)}"
        figures = (_plain(row, row.one), _plain(row, row.other), _signed(row, row.difference), interval, row.method)
        lines.append(f"| {row.name} | " + " | ".join(figures) + " |")
    return "\n".join(lines) + "\n"


def share(part: int, whole: int) -> str:
    """Return a count with its share, as tables show it."""
    return f"{part} ({100 * part / whole:.1f} %)" if whole else f"{part}"


def _table(left: str, right: str, rows: Sequence[tuple[str, str]]) -> list[str]:
    head = [f"| {left} | {right} |", "|---|---:|"] if rows else []
    return [*head, *(f"| {name} | {value} |" for name, value in rows), *([""] if rows else [])]


def _spread(one: Distribution) -> str:
    return f"{one.mean:.2f}, {one.median:.2f}, {one.min:.2f} to {one.max:.2f}" if one.n else "not known"


def _tokens(one: Distribution) -> str:
    of = f", of the {one.n} rollouts that report it" if one.missing else ""
    return f"{one.total:,.0f}, {one.mean:,.0f}, {one.median:,.0f}{of}" if one.n else "not reported"


def _results(found: Statistics) -> list[tuple[str, str]]:
    patches = {"with a patch": found.patched, "submitted with a patch": found.submitted_with_patch}
    rows = [(name, share(count, found.rollouts)) for name, count in patches.items() if count is not None]
    rows += [
        ("judged", share(found.graded, found.rollouts)),
        ("passed, of those judged", share(found.passed, found.graded) if found.graded else "none judged"),
    ]
    rows += [(f"submitted at least once in {k}", f"{100 * value:.1f} %") for k, value in found.submitted_at.items()]
    return rows + [(f"pass@{k}", f"{100 * value:.1f} %") for k, value in found.pass_at.items()]


def _diversity(found: Diversity) -> list[tuple[str, str]]:
    rows = []
    if found.upstream_unique is not None and found.upstream_shuffled is not None:
        least, most = found.upstream_shuffled
        rows.append(("unique at 0.5, upstream's greedy metric", share(found.upstream_unique, found.rollouts)))
        rows.append(("the same in five other orders of the list", f"{least} to {most}"))
    if found.upstream_mean_similarity is not None:
        rows.append(("mean similarity of all pairs, as upstream", f"{found.upstream_mean_similarity:.3f}"))
    if found.upstream_unique is None:
        rows.append(("unique at 0.5, upstream's greedy metric", "not computed (--upstream)"))
    rows.append(("near-duplicate components, whole corpus", share(found.corpus_components, found.rollouts)))
    rows.append(("near-duplicate components, within tasks", share(found.within_components, found.rollouts)))
    if found.within_mean_similarity is not None:
        rows.append(("mean exact similarity within a task", f"{found.within_mean_similarity:.3f}"))
        rows.append(("pairs it is the mean of", f"{found.sampled_pairs:,}"))
    if found.sampled_similar:
        rows.append(("similar pairs among them that were found", share(found.sampled_found, found.sampled_similar)))
    if found.capped:
        rows.append(("members of buckets too large for all of their pairs", f"{found.capped:,}"))
    return rows


def code(word: str) -> str:
    """Return a word as Markdown code in a table, with nothing in it that ends either."""
    return f"`{''.join(char for char in word if char.isprintable() and char not in '`|') or ' '}`"


def _plain(row: Row, value: float | None) -> str:
    if value is None:
        return "not known"
    return f"{100 * value:.1f} %" if row.percent else f"{value:,.2f}"


def _signed(row: Row, value: float | None) -> str:
    if value is None:
        return ""
    return f"{100 * value:+.1f}" if row.percent else f"{value:+,.2f}"
