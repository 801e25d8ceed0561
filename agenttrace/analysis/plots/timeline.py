"""The timeline of one trace: model, tools, and what the tools used."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from agenttrace.analysis.plots.style import COLOURS, HATCHES, WIDTH, NothingToDraw, label
from agenttrace.analysis.slow import whys
from agenttrace.analysis.statistics import floats
from agenttrace.analysis.summary import MEASURED
from agenttrace.errors import UsageError
from agenttrace.formats.agenttrace_0_3 import NAME as RELEASED

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from agenttrace.analysis.plots.style import FigurePart
    from agenttrace.analysis.slow import Why
    from agenttrace.analysis.statistics import Floats

_MIB = 1 << 20


def timeline(parts: list[FigurePart], wanted: str | None) -> Figure:
    """Model steps and tool calls of one trace on one clock; CPU time, waiting and memory of each call below.

    Raises:
        UsageError: no trace, or more than one, begins with the wanted id.
    """
    part, run = _chosen(parts, wanted)
    steps, spans = part.steps[part.steps["run"] == run["run"]], part.spans[part.spans["run"] == run["run"]]
    first = min([*steps["start_ns"].dropna(), *spans["start_ns"].dropna()])
    figure = Figure(figsize=(WIDTH, 3.7))
    lanes, cpu, waits, memory = figure.subplots(4, 1, sharex=True, height_ratios=[1.5, 1, 1, 1])
    end = max(_bars(lanes, steps, first, 0), _bars(lanes, spans, first, 1))
    lanes.set_yticks([0, 1], [f"model ({len(steps)})" + _server(lanes, steps, first), f"tools ({len(spans)})"])
    lanes.set_ylim(1.75, -0.55)
    lanes.grid(visible=False, axis="y")
    lanes.set_title(
        f"{label(run['dataset'])} {label(run['task_id'])}, {label(run['model'])}, trace {label(run['trace_id'][:8])}"
    )
    own = spans[spans["method"].isin(MEASURED)]
    at = floats((own["start_ns"] + own["end_ns"]) / 2 - first) / 1e9
    _stems(cpu, at, floats(own["cpu_ms"]), "CPU\n(ms)")
    _waits(waits, at, whys(own, part.runs.set_index("run")["sandbox_cpus"]), floats(own["wall_ns"]))
    _memory(memory, at, own, first)
    memory.set_xlim(0, end * 1.02)
    memory.set_xlabel("seconds since the first step began")
    marks = [mark for axes in (waits, memory) for mark in axes.get_legend_handles_labels()[0]]
    if marks:
        figure.legend(handles=marks, loc="outside lower right", ncols=len(marks))
    return figure


def _stems(axes: Axes, at: Floats, values: Floats, name: str) -> None:
    axes.vlines(at, 0, values, color=COLOURS[0], linewidth=1.2)
    axes.plot(at, values, "o", color=COLOURS[0], markersize=4)
    _named(axes, name, values)


def _named(axes: Axes, name: str, values: Floats) -> None:
    """Name an axis that goes a little over the largest value; where none is known it says so."""
    axes.set_ylim(0, 1.25 * float(np.nanmax(values, initial=0.0)) or 1)
    axes.set_ylabel(name, rotation=0, ha="right", va="center")
    if not np.isfinite(values).any():
        axes.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axes.transAxes)


def _waits(axes: Axes, at: Floats, found: list[Why], wall_ns: Floats) -> None:
    """Draw the part of each call that its limit took, and upon it, broken, what others took."""
    whole = np.where([why.cause == "unknown" for why in found], np.nan, wall_ns)
    limit, neighbours = 100 * np.array([why[1:] for why in found], dtype=float).reshape(-1, 2).T / whole
    both = np.minimum(100.0, limit + neighbours)
    broken: Any = (0, (0.4, 0.2))
    for low, high, style, colour, name in (
        (np.zeros_like(both), limit, "-", COLOURS[5], "lost to its limit"),
        (limit, both, broken, COLOURS[1], "lost to neighbours"),
    ):
        some = (high > low) & np.isfinite(both)
        if some.any():
            axes.vlines(at[some], low[some], high[some], color=colour, linewidth=4, linestyle=style, label=name)
    _named(axes, "waiting\n(% of call)", both)
    axes.set_ylim(0, 100)


def _memory(axes: Axes, at: Floats, own: pd.DataFrame, first: int) -> None:
    """Draw the peak of each call, or its memory over time where that was asked for, and its mean where it is known."""
    peak = np.fmax(floats(own["max_rss_bytes"]), floats(own["tree_rss_peak_bytes"])) / _MIB
    followed = own["tree_rss_series_json"].notna().to_numpy()
    _stems(axes, at, np.where(followed, np.nan, peak), "memory\n(MiB)")
    _named(axes, "memory\n(MiB)", peak)
    mean = floats(own["tree_rss_mean_bytes"]) / _MIB
    if np.isfinite(mean).any():
        axes.plot(at, mean, "_", color="black", markersize=7, label="mean memory")
    for start, series in zip(
        floats(own["start_ns"] - first)[followed], own["tree_rss_series_json"][followed], strict=True
    ):
        ms, size = np.array([point for point in json.loads(series) if len(point) == 2], dtype=float).reshape(-1, 2).T  # noqa: PLR2004
        axes.fill_between(start / 1e9 + ms / 1e3, size / _MIB, color=COLOURS[4], linewidth=0)


def _server(axes: Axes, steps: pd.DataFrame, first: int) -> str:
    """Mark queue and prefill in the bars of steps, as far as the server says them; returns how that is done."""
    start = floats(steps["start_ns"] - first) / 1e9
    queue = floats(steps["queue_ms"]) / 1e3
    prefill = floats(steps["prompt_ms"].fillna(steps["first_token_ms"])) / 1e3
    axes.barh([0] * len(steps), np.nan_to_num(queue), left=start, height=0.62, color="white", alpha=0.75)
    axes.barh(
        [0] * len(steps), np.nan_to_num(prefill), left=start + np.nan_to_num(queue), height=0.62, color="none",
        hatch="/////", edgecolor="white", linewidth=0,
    )  # fmt: skip
    said = {"queue pale": queue, "prefill hatched": prefill}
    return "".join(f",\n{name}" for name, values in said.items() if np.isfinite(values).any())


def _bars(axes: Axes, rows: pd.DataFrame, first: int, lane: int) -> float:
    """Draw one bar per row, with its number or command where they fit; returns the latest end in seconds."""
    start = floats(rows["start_ns"] - first) / 1e9
    length = floats(rows["duration_ms"]) / 1e3
    axes.barh(
        [lane] * len(rows), length, left=start, height=0.62, color=COLOURS[lane], hatch=HATCHES[lane],
        edgecolor=COLOURS[lane] if lane else "white", linewidth=0.8,
    )  # fmt: skip
    end = float(np.nanmax(start + length, initial=0.0))
    names = (
        [str(number) for number in rows["step_number"]]
        if lane == 0
        else [
            label(name) for name in rows["command"].astype("object").where(rows["command"].notna(), rows["tool_name"])
        ]
    )
    free = -1.0
    for at, size, name in zip(start, length, names, strict=True):
        room = end * 0.0105 * (len(name) + 1)
        centre = at + size / 2 if lane == 0 else at
        if (lane == 0 and size < room) or (lane and at < free):
            continue
        late = lane and at + room > end  # a name that would run over the right edge ends at its bar instead
        if late and at - room < free:
            continue
        axes.text(
            end if late else centre, lane if lane == 0 else lane + 0.36, name, fontsize=6.5,
            ha="center" if lane == 0 else "right" if late else "left", va="center" if lane == 0 else "top",
            color="white" if lane == 0 else "black",
            bbox={"facecolor": COLOURS[0], "edgecolor": "none", "pad": 0.6} if lane == 0 else None,
        )  # fmt: skip
        free = at + room
    return end


def _chosen(parts: list[FigurePart], wanted: str | None) -> tuple[FigurePart, pd.Series]:
    found = []
    for part in parts:
        runs = part.runs[part.runs["imported_from"].astype(str) != RELEASED]
        runs = runs[~runs["run"].isin(part.spans.loc[part.spans["start_ns"].isna(), "run"])]
        if wanted is not None:
            runs = runs[runs["trace_id"].str.startswith(wanted)]
        found += [(part, run) for _, run in runs[(runs["step_count"] > 0) & (runs["span_count"] > 0)].iterrows()]
    if wanted is not None and len(found) != 1:
        raise UsageError(
            f"--trace {wanted}: {len(found) or 'no'} traces that can be drawn begin so; give more of its id"
        )
    if not found:
        raise NothingToDraw("no trace has its steps and calls on one clock")
    # A typical one: the most calls of the traces with at most eight, the first of them.
    return max(found, key=lambda pair: (pair[1]["span_count"] <= 8, pair[1]["span_count"], -pair[1]["run"]))  # noqa: PLR2004
