"""The tables of `tasks-check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table

    from bench.task_sets.references import PythonCheck, ShellCheck

_GROUPS = ("no environment flag", "time (T)", "other flags")


def shell_tables(found: Sequence[ShellCheck]) -> list[Table]:
    """Return a summary by flags, and the NL2Bash tasks that differ, are not gradable or are broken."""
    from rich.table import Table  # noqa: PLC0415

    summary = Table(title="NL2Bash: references run four times and judged against themselves", title_justify="left")
    for name in ("tasks", "", "same, pinned", "same, real", "all passed", "not all gradable", "failed"):
        summary.add_column(name, justify="left" if name == "tasks" else "right")
    for group in (*_GROUPS, "all"):
        rows = [check for check in found if group in {check.group, "all"}]
        verdicts = [{verdict.verdict for verdict in check.verdicts} for check in rows]
        figures = (
            len(rows),
            sum(not check.differs_pinned for check in rows),
            sum(not check.differs_real for check in rows),
            sum(check.passed for check in rows),
            sum("not_gradable" in kinds and "failed" not in kinds for kinds in verdicts),
            sum("failed" in kinds for kinds in verdicts),
        )
        summary.add_row(group, *map(str, figures))
    return [summary, _notes(found)]


def _notes(found: Sequence[ShellCheck]) -> Table:
    """Return what there is to say of single tasks, one row per thing said."""
    from rich.table import Table  # noqa: PLC0415

    said: dict[tuple[str, str], list[str]] = {}
    for check in found:
        for kind, what in _said(check):
            said.setdefault((kind, what), []).append(check.origin)
    table = Table(title="Single tasks (file system and record number)", title_justify="left", show_lines=True)
    for name in ("", "what", "tasks"):
        table.add_column(name)
    for (kind, what), origins in sorted(said.items()):
        table.add_row(kind, what, " ".join(origins))
    return table


def _said(check: ShellCheck) -> Iterator[tuple[str, str]]:
    for verdict in check.verdicts:
        if verdict.verdict != "passed":
            yield verdict.verdict.replace("_", " "), f"{verdict.aspect}: {verdict.reason}"
    yield from (("differs", f"{aspect}, pinned clock") for aspect in check.differs_pinned)
    yield from (("differs", f"{aspect}, real clock") for aspect in check.differs_real)
    yield from (("broken", what) for what in check.broken)
    if "B" in check.flags:
        yield "broken", "by the policy table (flag B)"


def python_tables(found: Sequence[PythonCheck]) -> list[Table]:
    """Return a summary of the MBPP references, and every task that is not as it should be."""
    from rich.table import Table  # noqa: PLC0415

    summary = Table(title="MBPP: references, and `pass` in their place", title_justify="left")
    for name in ("tasks", "references pass all asserts", "same on another day", "fail all with pass", "slowest"):
        summary.add_column(name, justify="right")
    summary.add_row(
        str(len(found)),
        str(sum(all(v.verdict == "passed" for v in check.verdicts) for check in found)),
        str(sum(not check.differs for check in found)),
        str(sum(not check.passed_without for check in found)),
        f"{max((check.slowest_ms for check in found), default=0) / 1000:.1f} s",
    )
    odd = Table(title="Tasks that are not as they should be", title_justify="left")
    for name in ("id", "asserts", "differs", "passed with pass"):
        odd.add_column(name)
    for check in found:
        if not check.as_it_should_be:
            failed = [f"{v.aspect}: {v.reason}" for v in check.verdicts if v.verdict != "passed"]
            odd.add_row(str(check.task_id), "\n".join(failed), str(check.differs), str(check.passed_without))
    return [summary, odd] if odd.row_count else [summary]
