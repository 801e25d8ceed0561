"""Draws every figure of a set of record files and writes it in every format."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from agenttrace.analysis.plots import calls, distributions, outcomes
from agenttrace.analysis.plots.style import SETTINGS, NothingToDraw, Part, labels, save
from agenttrace.analysis.plots.timeline import timeline
from agenttrace.analysis.summary import UNKNOWN, By, with_totals
from agenttrace.errors import StorageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from agenttrace.analysis.tables import Tables

_MOST = 8
"""Groups that can be told apart by colour and dash."""


class Drawn(msgspec.Struct, frozen=True):
    """What was written, and which figures could not be drawn and why."""

    paths: list[Path]
    left_out: dict[str, str]


def draw(
    tables: Tables,
    outdir: Path,
    *,
    by: By = "file",
    trace: str | None = None,
    formats: Sequence[str] = ("pdf", "svg", "png"),
) -> Drawn:
    """Write every figure for which the records have the figures.

    Args:
        tables: what to draw.
        outdir: where the files go, made if need be.
        by: what gets a colour of its own; at most eight.
        trace: start of the id of the trace drawn as a timeline.
        formats: of `pdf`, `svg`, `png`.

    Raises:
        UsageError: more than eight groups, or no single trace begins with `trace`.
        StorageError: a file cannot be written.
    """
    import matplotlib as mpl  # noqa: PLC0415

    parts = _parts(tables, by)
    left_out: dict[str, str] = {}
    paths: list[Path] = []
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(SETTINGS)
        for name, make in _figures(trace).items():
            try:
                figure = make(parts)
            except NothingToDraw as reason:
                left_out[name] = str(reason)
                continue
            paths += _write(figure, outdir, name, formats)
    return Drawn(paths, left_out)


def _figures(trace: str | None) -> dict[str, Callable[[list[Part]], Figure]]:
    return {
        "time-split": distributions.time_split,
        "durations": distributions.durations,
        "tokens": distributions.tokens,
        "tools": calls.tool_mix,
        "exit-codes": calls.exit_code_shares,
        "commands": calls.resources,
        "outcomes": outcomes.outcomes,
        "success-cost": outcomes.success_cost,
        "timeline": lambda parts: timeline(parts, trace),
    }


def _parts(tables: Tables, by: By) -> list[Part]:
    names = tables.runs[by].astype("object").fillna(UNKNOWN).astype(str)
    order = list(dict.fromkeys(names))
    if len(order) > _MOST:
        raise UsageError(
            f"--by {by} gives {len(order)} groups; {_MOST} can be told apart. Draw fewer files, or group otherwise"
        )
    found = []
    for index, (name, text) in enumerate(zip(order, labels(order), strict=True)):
        runs = with_totals(tables.runs[names == name])
        steps = tables.steps[tables.steps["run"].isin(runs["run"])]
        found.append(Part(index, text, runs, steps, tables.spans[tables.spans["run"].isin(runs["run"])]))
    return found


def _write(figure: Figure, outdir: Path, name: str, formats: Sequence[str]) -> list[Path]:
    written = []
    for kind in dict.fromkeys(formats):
        path = outdir / f"{name}.{kind}"
        draft = outdir / f".{path.name}.part"
        try:
            outdir.mkdir(parents=True, exist_ok=True)
            save(figure, draft, kind)
            draft.replace(path)
        except OSError as error:
            with suppress(OSError):
                draft.unlink()
            raise StorageError(f"cannot write {path}: {error.strerror}") from error
        written.append(path)
    return written
