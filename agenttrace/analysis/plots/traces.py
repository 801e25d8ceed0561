"""Figures of traces: time split, parts of generations, durations, tokens, solved by model, success against cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from agenttrace.analysis.plots.style import (
    COLOURS,
    LINES,
    MARKERS,
    WIDTH,
    NothingToDraw,
    Split,
    curve,
    label,
    legend_above,
    log_axis,
    name_rows,
    shares,
    split,
    stack,
)
from agenttrace.analysis.render import amount
from agenttrace.analysis.statistics import floats, share
from agenttrace.analysis.summary import executed, timed

_OUTCOMES = ("#009E73", "#E69F00", "#DDDDDD")
_ROWS = 16
_BIN = 20
"""Traces that a bin of the cost figure needs."""

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from agenttrace.analysis.plots.style import FigurePart


def time_split(parts: list[FigurePart]) -> Figure:
    """Where the time of a trace goes: shares of the sum, and the share of the tools in every single trace."""
    rows = []
    for part in parts:
        runs = timed(part.runs)
        every = floats(runs["total_duration_ms"])
        total, model, tools = every.sum(), floats(runs["llm_ms"]).sum(), floats(runs["tool_ms"]).sum()
        spent = (("model", model), ("tools", tools), ("rest", max(0.0, total - model - tools)))
        if len(runs):
            of = f"{amount(total, 'ms')}, n = {len(runs):,}"
            rows.append(Split(part, spent, of, 100 * floats(runs["tool_ms"]) / every))
    if not rows:
        raise NothingToDraw("no trace has a duration for every step and call")
    figure, right = split(rows, "all time", "tool time in a trace (% of its time)", "traces")
    right.set_xscale("symlog", linthresh=0.01)
    right.set_xlim(0, 100)
    right.set_xticks([0, 0.01, 0.1, 1, 10, 100], ["0", "0.01", "0.1", "1", "10", "100"])
    right.minorticks_off()
    return figure


def requests(parts: list[FigurePart]) -> Figure:
    """Where the time of a generation goes, as the model server says: queue, prefill, decode, and what is neither."""
    rows = []
    for part in parts:
        steps = part.steps.assign(prefill_ms=part.steps["prompt_ms"].fillna(part.steps["first_token_ms"]))
        steps = steps[steps["prefill_ms"].notna() & steps["predicted_ms"].notna() & (steps["duration_ms"] > 0)]
        if steps.empty:
            continue
        every, prefill, decode = (floats(steps[name]) for name in ("duration_ms", "prefill_ms", "predicted_ms"))
        queue = np.nan_to_num(floats(steps["queue_ms"]))
        rest = np.maximum(0.0, every - queue - prefill - decode)
        parted = {"queue": queue, "prefill": prefill, "decode": decode, "rest": rest}
        unsaid = "" if steps["queue_ms"].notna().any() else ", queue not said"
        of = f"{amount(every.sum(), 'ms')}, n = {len(steps):,}{unsaid}"
        spent = [(name, float(values.sum())) for name, values in parted.items()]
        rows.append(Split(part, spent, of, np.minimum(100.0, 100 * prefill / every)))
    if not rows:
        raise NothingToDraw("no server says the prefill and the decode of a generation")
    return split(rows, "the time of generations", "prefill of a generation (% of its time)", "generations")[0]


def durations(parts: list[FigurePart]) -> Figure:
    """How long traces, model steps and tool calls take."""
    panels: tuple[tuple[str, Callable[[FigurePart], Any]], ...] = (
        ("traces", lambda part: part.runs["total_duration_ms"]),
        ("model steps", lambda part: part.steps["duration_ms"]),
        ("tool calls", lambda part: part.spans[executed(part.spans)]["duration_ms"]),
    )
    return _panels(parts, panels, "duration (s, logarithmic)", 1000.0)


def tokens(parts: list[FigurePart]) -> Figure:
    """How many tokens go in and come out."""
    panels: tuple[tuple[str, Callable[[FigurePart], Any]], ...] = (
        ("input, per trace", lambda part: part.runs["input_tokens"]),
        ("output, per trace", lambda part: part.runs["output_tokens"]),
        ("output, per step", lambda part: part.steps["output_tokens"]),
    )
    return _panels(parts, panels, "tokens (logarithmic)", 1.0)


def outcomes(parts: list[FigurePart]) -> Figure:
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
        counts = (("solved", solved), ("not solved", judged - solved), ("no verdict", len(runs) - judged))
        stack(axes, row, [(name, 100 * count / len(runs)) for name, count in counts], colours=_OUTCOMES)
        rate = share(solved, judged)
        text = "not judged"
        if rate.share is not None and rate.low is not None and rate.high is not None:
            text = f"{100 * rate.share:.1f} % [{100 * rate.low:.1f}, {100 * rate.high:.1f}] of {judged:,}"
        axes.text(101.5, row, text, va="center", fontsize=7)
    name_rows(axes, [name for name, _ in rows])
    axes.set_xlim(0, 100)
    axes.set_xlabel(f"share of traces (%); on the right: solved of those judged, 95 % interval{more}")
    figure.legend(loc="outside upper left", ncols=3)
    return figure


def success_cost(parts: list[FigurePart]) -> Figure:
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


def _panels(
    parts: list[FigurePart],
    panels: Iterable[tuple[str, Callable[[FigurePart], Any]]],
    title_of_axis: str,
    scale: float,
) -> Figure:
    figure = Figure(figsize=(WIDTH, 2.5))
    drawn = 0
    every = figure.subplots(1, 3, sharey=True)
    for axes, (title, values) in zip(every, panels, strict=True):
        largest, smallest = 0.0, np.inf
        for part in parts:
            known = floats(values(part)) / scale
            known = known[known > 0]
            if known.size:
                curve(axes, known, part)
                drawn += 1
                largest, smallest = max(largest, known.max()), min(smallest, known.min())
        axes.set_title(title)
        axes.set_xlabel(title_of_axis)
        if largest:
            log_axis(axes, smallest, largest, _tick)
        else:
            axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
            axes.set_xticks([])
    shares(every[0], "share with at most this (%)")
    if not drawn:
        raise NothingToDraw("none of it was measured")
    if len(parts) > 1:
        legend_above(max(every, key=lambda axes: len(axes.lines)))
    return figure


def _tick(value: float) -> str:
    thousands = value >= 1000  # noqa: PLR2004
    return f"{value / 1000:,.10g}k" if thousands else f"{value:.10g}"
