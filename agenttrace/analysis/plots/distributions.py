"""Figures of distributions: time split, durations, tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from agenttrace.analysis.plots.style import COLOURS, HATCHES, LINES, WIDTH, NothingToDraw, legend_above, log_axis
from agenttrace.analysis.render import amount
from agenttrace.analysis.statistics import floats
from agenttrace.analysis.summary import executed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from matplotlib.axes import Axes

    from agenttrace.analysis.plots.style import Part


def time_split(parts: list[Part]) -> Figure:
    """Where the time of a trace goes: shares of the sum, and the share of the tools in every single trace."""
    timed = [
        (
            part,
            part.runs[
                part.runs["llm_ms"].notna() & part.runs["tool_ms"].notna() & (part.runs["total_duration_ms"] > 0)
            ],
        )
        for part in parts
    ]
    timed = [(part, runs) for part, runs in timed if len(runs)]
    if not timed:
        raise NothingToDraw("no trace has a duration for every step and call")
    figure = Figure(figsize=(WIDTH, 1.9 + 0.35 * len(timed)))
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
    for row, (part, runs) in enumerate(timed):
        total = floats(runs["total_duration_ms"]).sum()
        model, tools = floats(runs["llm_ms"]).sum(), floats(runs["tool_ms"]).sum()
        start = 0.0
        for index, (name, value) in enumerate(
            (("model", model), ("tools", tools), ("rest", max(0.0, total - model - tools)))
        ):
            share = value / total
            left.barh(
                row, share, left=start, height=0.6, color=COLOURS[index], hatch=HATCHES[index], edgecolor="white",
                linewidth=0.4, label=f"{name}" if row == 0 else None,
            )  # fmt: skip
            start += share
        left.text(0, row - 0.36, f"{part.label}, {amount(total, 'ms')}, n = {len(runs):,}", va="bottom", fontsize=7)
        percent = np.sort(100 * floats(runs["tool_ms"]) / floats(runs["total_duration_ms"]))
        _ecdf(right, percent, part)
    left.set_ylim(len(timed) - 0.5, -0.75)
    left.set_yticks([])
    left.set_xlim(0, 1)
    left.grid(visible=False)
    left.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    left.set_xlabel("share of all time (%)")
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    right.set_xscale("symlog", linthresh=0.01)
    right.set_xlim(0, 100)
    right.set_xticks([0, 0.01, 0.1, 1, 10, 100], ["0", "0.01", "0.1", "1", "10", "100"])
    right.minorticks_off()
    right.set_xlabel("tool time in a trace (% of its time)")
    _shares(right, "traces")
    if len(timed) > 1:
        right.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=1)
    return figure


def durations(parts: list[Part]) -> Figure:
    """How long traces, model steps and tool calls take."""
    panels: tuple[tuple[str, Callable[[Part], Any]], ...] = (
        ("traces", lambda part: part.runs["total_duration_ms"]),
        ("model steps", lambda part: part.steps["duration_ms"]),
        ("tool calls", lambda part: part.spans[executed(part.spans)]["duration_ms"]),
    )
    return _panels(parts, panels, "duration (s", 1000.0)


def tokens(parts: list[Part]) -> Figure:
    """How many tokens go in and come out."""
    panels: tuple[tuple[str, Callable[[Part], Any]], ...] = (
        ("input, per trace", lambda part: part.runs["input_tokens"]),
        ("output, per trace", lambda part: part.runs["output_tokens"]),
        ("output, per step", lambda part: part.steps["output_tokens"]),
    )
    return _panels(parts, panels, "tokens (", 1.0)


def _panels(
    parts: list[Part],
    panels: Iterable[tuple[str, Callable[[Part], Any]]],
    unit: str,
    scale: float,
) -> Figure:
    figure = Figure(figsize=(WIDTH, 2.5))
    drawn = 0
    every = figure.subplots(1, 3, sharey=True)
    for axes, (title, values) in zip(every, panels, strict=True):
        largest, smallest = 0.0, np.inf
        for part in parts:
            known = floats(values(part)) / scale
            known = np.sort(known[known > 0])
            if known.size:
                _ecdf(axes, known, part)
                drawn += 1
                largest, smallest = max(largest, known[-1]), min(smallest, known[0])
        axes.set_title(title)
        axes.set_xlabel(f"{unit}, logarithmic)".replace("(, ", "("))
        if largest:
            log_axis(axes, smallest, largest, _tick)
        else:
            axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
            axes.set_xticks([])
    _shares(every[0], "")
    every[0].set_ylabel("share with at most this (%)")
    if not drawn:
        raise NothingToDraw("none of it was measured")
    if len(parts) > 1:
        legend_above(max(every, key=lambda axes: len(axes.lines)))
    return figure


def _ecdf(axes: Axes, ordered: Any, part: Part) -> None:  # noqa: ANN401 - sorted floats
    height = np.arange(ordered.size + 1) / ordered.size
    axes.step(
        np.concatenate([ordered[:1], ordered]),
        height,
        where="post",
        color=COLOURS[part.number],
        linestyle=LINES[part.number],
        label=part.label,
    )


def _shares(axes: Axes, what: str) -> None:
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=""))
    axes.set_ylabel(f"{what} with at most this (%)")


def _tick(value: float) -> str:
    thousands = value >= 1000  # noqa: PLR2004
    return f"{value / 1000:,.10g}k" if thousands else f"{value:.10g}"
