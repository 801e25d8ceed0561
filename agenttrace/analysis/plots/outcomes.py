"""Figures of outcomes: solved by model and data set, success against cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from agenttrace.analysis.plots.style import COLOURS, HATCHES, LINES, MARKERS, WIDTH, NothingToDraw, label, log_axis
from agenttrace.analysis.statistics import floats, share

if TYPE_CHECKING:
    from agenttrace.analysis.plots.style import Part

_ROWS = 16
_BIN = 20
"""Traces that a bin of the cost figure needs."""


def outcomes(parts: list[Part]) -> Figure:
    """How many traces were solved, per model and data set, with Wilson's 95 % interval of the rate."""
    rows = []
    for part in parts:
        for (model, dataset), runs in part.runs.groupby(["model", "dataset"], observed=True, sort=True):
            rows.append((f"{label(model)}, {label(dataset)}", runs))
    if not rows or all(runs["solved"].notna().sum() == 0 for _, runs in rows):
        raise NothingToDraw("no trace has a verdict")
    more = f"; {len(rows) - _ROWS} more rows are not drawn" if len(rows) > _ROWS else ""
    rows = rows[:_ROWS]
    figure = Figure(figsize=(WIDTH, 1.3 + 0.38 * len(rows)))
    axes = figure.subplots()
    for row, (_, runs) in enumerate(rows):
        solved = int(runs["solved"].sum())
        judged = int(runs["solved"].notna().sum())
        start = 0.0
        for index, (name, count) in enumerate(
            (("solved", solved), ("not solved", judged - solved), ("no verdict", len(runs) - judged))
        ):
            axes.barh(
                row, 100 * count / len(runs), left=start, height=0.6, color=("#009E73", "#E69F00", "#DDDDDD")[index],
                hatch=HATCHES[index], edgecolor="white", linewidth=0.4, label=name if row == 0 else None,
            )  # fmt: skip
            start += 100 * count / len(runs)
        rate = share(solved, judged)
        text = "not judged"
        if rate.share is not None and rate.low is not None and rate.high is not None:
            text = f"{100 * rate.share:.1f} % [{100 * rate.low:.1f}, {100 * rate.high:.1f}] of {judged:,}"
        axes.text(101.5, row, text, va="center", fontsize=7)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"share of traces (%); on the right: solved of those judged, 95 % interval{more}")
    figure.legend(loc="outside upper left", ncols=3)
    return figure


def success_cost(parts: list[Part]) -> Figure:
    """The solve rate of cheap and of dear traces: quintiles of tokens and of time, with Wilson's 95 % interval."""
    figure = Figure(figsize=(WIDTH, 2.7))
    every = figure.subplots(1, 2, sharey=True)
    panels = (
        ("tokens", "tokens in and out per trace", 1.0),
        ("total_duration_ms", "duration of the trace (s)", 1000.0),
    )
    drawn = 0
    for axes, (column, title, scale) in zip(every, panels, strict=True):
        reach: list[float] = []
        for part in parts:
            runs = part.runs[part.runs["solved"].notna() & part.runs[column].notna()]
            cost, solved = floats(runs[column]) / scale, floats(runs["solved"])
            keep = cost > 0
            cost, solved = cost[keep], solved[keep]
            bins = min(5, cost.size // _BIN)
            if bins < 2:  # noqa: PLR2004 - one point is no trend
                continue
            drawn += 1
            points = [
                (float(np.median(cost[chosen])), share(int(solved[chosen].sum()), int(chosen.size)))
                for chosen in np.array_split(np.argsort(cost, kind="stable"), bins)
            ]
            x = np.array([at for at, _ in points]) * 1.04 ** (part.number - (len(parts) - 1) / 2)
            y = np.array([100 * (one.share or 0.0) for _, one in points])
            low = np.array([100 * (one.low or 0.0) for _, one in points])
            high = np.array([100 * (one.high or 0.0) for _, one in points])
            axes.errorbar(
                x, y, yerr=[y - low, high - y], color=COLOURS[part.number], linestyle=LINES[part.number],
                marker=MARKERS[part.number], markersize=4.5, capsize=2, elinewidth=0.8,
                label=f"{part.label} (n = {cost.size:,})" if axes is every[0] else None,
            )  # fmt: skip
            reach += [*x]
        axes.set_xlabel(f"{title}, logarithmic")
        if reach:
            log_axis(axes, min(reach) / 1.2, max(reach) * 1.2)
    if not drawn:
        raise NothingToDraw(f"fewer than {2 * _BIN} traces have a verdict and a cost")
    every[0].set_ylim(0, 100)
    every[0].set_ylabel("solved (% of judged)")
    figure.legend(loc="outside upper left", ncols=2)
    return figure
