"""Draws record files: figures for print, the same bytes for the same input and the same libraries."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import msgspec

from agenttrace.analysis.plots import calls, traces
from agenttrace.analysis.plots.style import METADATA, SETTINGS, FigurePart, NothingToDraw, labels
from agenttrace.analysis.plots.timeline import timeline
from agenttrace.analysis.summary import By, grouped
from agenttrace.errors import StorageError, UsageError
from agenttrace.store.jsonl import write_whole

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
    try:
        outdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write {outdir}: {error.strerror}") from error
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
            for kind in dict.fromkeys(formats):
                drawn = BytesIO()
                figure.savefig(drawn, format=kind, metadata=METADATA[kind])  # without a date or a version
                paths.append(outdir / f"{name}.{kind}")
                write_whole(paths[-1], drawn.getvalue())
    return Drawn(paths, left_out)


def _figures(trace: str | None) -> dict[str, Callable[[list[FigurePart]], Figure]]:
    return {
        "time-split": traces.time_split,
        "requests": traces.requests,
        "durations": traces.durations,
        "tokens": traces.tokens,
        "tools": calls.tool_mix,
        "exit-codes": calls.exit_code_shares,
        "commands": calls.resources,
        "memory": calls.memory,
        "waiting": calls.waiting,
        "outcomes": traces.outcomes,
        "success-cost": traces.success_cost,
        "timeline": lambda parts: timeline(parts, trace),
    }


def _parts(tables: Tables, by: By) -> list[FigurePart]:
    groups = grouped(tables, by)
    if len(groups) > _MOST:
        raise UsageError(
            f"--by {by} gives {len(groups)} groups; {_MOST} can be told apart. Draw fewer files, or group otherwise"
        )
    texts = labels(list(groups))
    return [
        FigurePart(number, text, *groups[name]) for number, (name, text) in enumerate(zip(groups, texts, strict=True))
    ]
