"""Figures of tool calls: tool mix, exit codes, CPU and memory per command, what kept calls waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from agenttrace.analysis.plots.style import (
    COLOURS,
    HATCHES,
    MARKERS,
    WIDTH,
    NothingToDraw,
    Split,
    counted,
    label,
    legend_above,
    log_axis,
    name_rows,
    split,
    stack,
)
from agenttrace.analysis.render import amount
from agenttrace.analysis.slow import whys
from agenttrace.analysis.statistics import floats
from agenttrace.analysis.summary import MEASURED, executed, exit_codes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from agenttrace.analysis.plots.style import FigurePart

_TOOLS, _CODES, _COMMANDS = 7, 10, 15
_LEAST = 3
"""Calls that a command needs to be drawn with quantiles."""


def tool_mix(parts: list[FigurePart]) -> Figure:
    """Which tools are called, as shares of all calls."""
    called = [(part, part.spans["tool_name"].astype(str)) for part in parts if len(part.spans)]
    if not called:
        raise NothingToDraw("there is no tool call")
    order = list(counted(names for _, names in called))
    shown, rest = order[:_TOOLS], order[_TOOLS:]
    figure = Figure(figsize=(WIDTH, 1.3 + 0.4 * len(called)))
    axes = figure.subplots()
    for row, (_, names) in enumerate(called):
        counts = [(label(name), int((names == name).sum())) for name in shown]
        if rest:
            counts.append((f"{len(rest)} others", int(names.isin(rest).sum())))
        shares = [(text, count / len(names)) for text, count in counts]
        centres = stack(axes, row, shares, height=0.65)
        for centre, (_, share), (_, count) in zip(centres, shares, counts, strict=True):
            if share > 0.06:  # noqa: PLR2004 - where the number fits
                axes.text(
                    centre, row, f"{count:,}", ha="center", va="center", fontsize=7,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
                )  # fmt: skip
    name_rows(axes, [part.label for part, _ in called])
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("share of calls (%); numbers are calls")
    figure.legend(loc="outside upper left", ncols=4)
    return figure


def exit_code_shares(parts: list[FigurePart]) -> Figure:
    """How calls that ran end."""
    ended = [(part, exit_codes(part.spans).dropna().astype(int)) for part in parts]
    ended = [(part, codes) for part, codes in ended if len(codes)]
    if not ended:
        raise NothingToDraw("no exit code is known")
    total = counted(codes for _, codes in ended)
    shown = sorted([*total][:_CODES])
    figure = Figure(figsize=(WIDTH, 2.6))
    axes = figure.subplots()
    width = 0.8 / len(ended)
    for place, (part, codes) in enumerate(ended):
        shares = [100 * float((codes == code).mean()) for code in shown]
        x = np.arange(len(shown)) + (place - (len(ended) - 1) / 2) * width
        axes.bar(
            x, shares, width * 0.92, color=COLOURS[part.number], hatch=HATCHES[part.number], edgecolor="white",
            linewidth=0.4, label=f"{part.label} (n = {len(codes):,})",
        )  # fmt: skip
        if len(ended) <= 2:  # noqa: PLR2004 - where numbers fit
            for at, share in zip(x, shares, strict=True):
                text = "0" if share == 0 else f"{share:.1f}" if share >= 0.1 else f"{share:.2g}"  # noqa: PLR2004
                axes.text(at, share + 0.8, text, ha="center", va="bottom", fontsize=6.5)
    axes.set_xticks(range(len(shown)), [_meaning(code) for code in shown])
    axes.grid(visible=False, axis="x")
    axes.set_ylim(0, min(108, 1.12 * max(100 * count / sum(total.values()) for count in total.values()) + 8))
    axes.set_ylabel("share of calls that ran (%)")
    axes.set_xlabel("exit code")
    figure.legend(loc="outside upper left", ncols=2)
    return figure


def _meaning(code: int) -> str:
    named = {0: "success", 1: "error", 2: "misuse", 126: "not exec.", 127: "not found", 137: "SIGKILL", 143: "SIGTERM"}
    return f"{code}\n{named[code]}" if code in named else str(code)


def resources(parts: list[FigurePart]) -> Figure:
    """CPU time and peak memory per command: median, and the range of the middle 90 %."""
    measured = [(part, spans) for part in parts if (spans := _measured(part))["command"].notna().any()]
    names, shown = _commands(measured)
    if not shown:
        raise NothingToDraw(f"no command was measured {_LEAST} times or more")
    figure, (cpu, memory) = _beside(shown, measured)
    _ranges(cpu, measured, shown, "cpu_ms", 1)
    log_axis(cpu, cpu.dataLim.x0, cpu.dataLim.x1)
    cpu.set_xlabel("CPU time of a call (ms, logarithmic)")
    _ranges(memory, measured, shown, "max_rss_bytes", 1 << 20)
    if memory.dataLim.x1 > 20 * memory.dataLim.x0 > 0:
        log_axis(memory, memory.dataLim.x0, memory.dataLim.x1)
    else:
        memory.set_xlim(0, 1.05 * memory.dataLim.x1)
    memory.set_xlabel("peak memory of a call (MiB)")
    _name_commands(cpu, names, shown)
    cpu.set_title("median, 5th to 95th percentile; in brackets: calls")
    if len(parts) > 1:
        legend_above(cpu)
    return figure


def memory(parts: list[FigurePart]) -> Figure:
    """Mean and peak memory per command, and how much more the peak is: of all processes of a call together."""
    measured = []
    for part in parts:
        spans = _measured(part)
        both = (spans["tree_rss_mean_bytes"] > 0) & (spans["tree_rss_peak_bytes"] > 0)
        sampled = spans[spans["command"].notna() & both.fillna(value=False)]
        ratio = sampled["tree_rss_peak_bytes"] / sampled["tree_rss_mean_bytes"]
        if len(sampled):
            measured.append((part, sampled.assign(peak_to_mean=ratio)))
    names, shown = _commands(measured)
    if not shown:
        raise NothingToDraw(f"of no command the memory of {_LEAST} calls was sampled (those of 100 ms and more are)")
    figure, (sizes, ratios) = _beside(shown, measured)
    for place, (part, spans) in enumerate(measured):
        medians = spans.groupby("command", observed=True)[["tree_rss_mean_bytes", "tree_rss_peak_bytes"]].median()
        mean, peak = (floats(medians[column].reindex(shown)) / (1 << 20) for column in medians)
        at = np.arange(len(shown)) + _shift(place, measured)
        colour = COLOURS[part.number]
        sizes.hlines(at, mean, peak, color=colour, linewidth=1.2)
        for values, fill, name in ((mean, "white", "mean"), (peak, colour, "peak")):
            sizes.plot(
                values, at, MARKERS[part.number], color=fill, markersize=4.5, markeredgecolor=colour,
                linestyle="none", label=f"{part.label}, {name}",
            )  # fmt: skip
    sizes.set_xlim(0, 1.05 * sizes.dataLim.x1)
    sizes.set_xlabel("memory of a call (MiB), medians")
    _ranges(ratios, measured, shown, "peak_to_mean", 1)
    ratios.set_xlim(0.95, 1.05 * ratios.dataLim.x1)
    ratios.set_xlabel("peak by mean: median, 5th to 95th percentile")
    _name_commands(sizes, names, shown)
    legend_above(sizes, 4)
    return figure


def waiting(parts: list[FigurePart]) -> Figure:
    """What kept calls from running: parts of the time of all, and what each lost to its limit and to others."""
    rows = []
    for part in parts:
        spans = _measured(part)
        found = whys(spans, part.runs.set_index("run")["sandbox_cpus"])
        known = [(*why[1:], ns) for why, ns in zip(found, spans["wall_ns"], strict=True) if why.cause != "unknown"]
        limit, neighbours, wall = np.array(known, dtype=float).reshape(-1, 3).T
        others = np.minimum(neighbours, wall - limit)  # on several processors both can happen at once
        parted = {"by itself": wall - limit - others, "its limit": limit, "neighbours": others}
        if known:
            of = f"{amount(wall.sum() / 1e6, 'ms')}, n = {len(known):,} of {len(spans):,} calls"
            spent = [(name, float(values.sum())) for name, values in parted.items()]
            rows.append(Split(part, spent, of, 100 * (limit + others) / wall))
    if not rows:
        raise NothingToDraw("no call says what kept it waiting (those of before schema 1.2.0 do not)")
    return split(rows, "the time of calls", "lost to limit and neighbours (% of a call)", "calls")[0]


def _measured(part: FigurePart) -> pd.DataFrame:
    return part.spans[executed(part.spans) & part.spans["method"].isin(MEASURED)]


def _commands(measured: list[tuple[FigurePart, pd.DataFrame]]) -> tuple[dict[str, int], list[str]]:
    """Return how often commands were measured, and the names of those that are drawn."""
    names = counted(spans["command"] for _, spans in measured)
    return names, [str(name) for name, count in names.items() if count >= _LEAST][:_COMMANDS]


def _beside(shown: list[str], measured: list[tuple[FigurePart, pd.DataFrame]]) -> tuple[Figure, tuple[Axes, Axes]]:
    figure = Figure(figsize=(WIDTH, 1.3 + len(shown) * (0.14 + 0.1 * len(measured))))
    return figure, tuple(figure.subplots(1, 2, sharey=True))


def _shift(place: int, measured: list[tuple[FigurePart, pd.DataFrame]]) -> float:
    """Return how far from the middle of a row the mark of a part stands."""
    return (place - (len(measured) - 1) / 2) * 0.7 / len(measured)


def _name_commands(axes: Axes, names: dict[str, int], shown: list[str]) -> None:
    axes.set_yticks(range(len(shown)), [f"{label(name)} ({names[name]:,})" for name in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)


def _ranges(
    axes: Axes, measured: list[tuple[FigurePart, pd.DataFrame]], shown: list[str], column: str, scale: float
) -> None:
    for place, (part, calls) in enumerate(measured):
        shift = _shift(place, measured)
        first = True
        for row, name in enumerate(shown):
            values = floats(calls.loc[calls["command"] == name, column]) / scale
            values = values[~np.isnan(values)]
            if not values.any():
                continue
            # Zeros count (some clocks tick in milliseconds); a logarithmic axis shows them at its smallest value.
            low, middle, high = np.maximum(np.quantile(values, [0.05, 0.5, 0.95]), values[values > 0].min())
            axes.plot([low, high], [row + shift] * 2, color=COLOURS[part.number], linewidth=1.2)
            axes.plot(
                middle, row + shift, MARKERS[part.number], color=COLOURS[part.number], markersize=4.5,
                markeredgecolor="black", markeredgewidth=0.4, linestyle="none", label=part.label if first else None,
            )  # fmt: skip
            first = False
