"""What figures share: their input and how they look."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from agenttrace.show import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from agenttrace.analysis.statistics import Floats

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
"""Okabe and Ito's palette (2008): told apart with every common colour blindness."""
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 2)), (0, (3, 1)))
"""Dashes and hatches carry the same information as the colours, for print in grey."""
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "++", "ooo", "|||")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
WIDTH = 6.9
"""Width of a figure in inches: two columns of a paper, 175 mm."""
_LONGEST = 34

SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # lies in matplotlib itself, so it is the same everywhere
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#d8d8d8",
    "grid.linewidth": 0.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "hatch.linewidth": 0.5,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.wspace": 0.05,  # between the last tick of one panel and the first of the next
    "savefig.dpi": 200,
    "pdf.fonttype": 42,  # text stays text
    "svg.fonttype": "path",
    "svg.hashsalt": "agenttrace",
    "text.usetex": False,
    "text.parse_math": False,  # a dollar sign in a file name is a dollar sign
    "path.simplify": False,
}

METADATA: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "ModDate": None, "Producer": None, "Creator": "agenttrace"},
    "svg": {"Date": None, "Creator": "agenttrace"},
    "png": {"Software": None},
}


class FigurePart(NamedTuple):
    """The traces that share a colour."""

    number: int
    label: str
    runs: pd.DataFrame
    steps: pd.DataFrame
    spans: pd.DataFrame


class Split(NamedTuple):
    """A row of a figure of parts: the sum of each, what they are of, and a part of every single case in percent."""

    part: FigurePart
    spent: Sequence[tuple[str, float]]
    of: str
    percent: Floats


class NothingToDraw(Exception):  # noqa: N818 - it is an end, not an error
    """The records lack what a figure shows; the message says what."""


def label(text: object) -> str:
    """Return a name from a record fit for a figure: printable, short, and nothing the font has no glyph for."""
    from matplotlib.font_manager import FontProperties, findfont, get_font  # noqa: PLC0415

    known = get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap()
    shown = "".join(char if ord(char) in known else "?" for char in printable(str(text)).replace("\n", " "))
    shown = shown.replace("\t", " ")
    return shown if len(shown) <= _LONGEST else f"{shown[:14]}…{shown[-(_LONGEST - 15) :]}"


def labels(names: list[str]) -> list[str]:
    """Return a label per name, all different: paths lose the folders that they share."""
    short = [name.rsplit("/", 1)[-1] for name in names]
    chosen = [label(name) for name in (short if len(set(short)) == len(names) else names)]
    return [text if chosen.count(text) == 1 else f"{number + 1}: {text}" for number, text in enumerate(chosen)]


def counted(columns: Iterable[pd.Series]) -> dict[Any, int]:
    """Return how often each value occurs in all columns, most frequent first, then by value."""
    found: Counter[Any] = Counter()
    for column in columns:
        found.update({value: int(count) for value, count in column.value_counts().items()})
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def stack(
    axes: Axes, row: int, parts: Sequence[tuple[str, float]], *, height: float = 0.6, colours: Sequence[str] = COLOURS
) -> list[float]:
    """Draw the parts of a row, each with its name and length, one after the other; returns their centres."""
    start, centres = 0.0, []
    for index, (name, length) in enumerate(parts):
        axes.barh(
            row, length, left=start, height=height, color=colours[index], hatch=HATCHES[index], edgecolor="white",
            linewidth=0.4, label=name if row == 0 else None,
        )  # fmt: skip
        centres.append(start + length / 2)
        start += length
    return centres


def split(rows: Sequence[Split], parts_of: str, percent_of: str, cases: str) -> tuple[Figure, Axes]:
    """Draw the parts of a whole, and beside them one of these over all cases; returns the axes of that as well."""
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.ticker import PercentFormatter  # noqa: PLC0415

    figure = Figure(figsize=(WIDTH, 1.9 + 0.35 * len(rows)))
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
    for row, one in enumerate(rows):
        total = sum(value for _, value in one.spent)
        stack(left, row, [(name, value / total) for name, value in one.spent])
        left.text(0, row - 0.36, f"{one.part.label}, {one.of}", va="bottom", fontsize=7)
        curve(right, one.percent, one.part)
    left.set_ylim(len(rows) - 0.5, -0.75)
    left.set_yticks([])
    left.set_xlim(0, 1)
    left.grid(visible=False)
    left.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    left.set_xlabel(f"share of {parts_of} (%)")
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(rows[0].spent))
    right.set_xlim(0, 100)
    right.set_xlabel(percent_of)
    shares(right, f"{cases} with at most this (%)")
    if len(rows) > 1:
        right.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=1)
    return figure, right


def curve(axes: Axes, values: Floats, part: FigurePart) -> None:
    """Draw the share of cases with at most a value."""
    axes.ecdf(values, color=COLOURS[part.number], linestyle=LINES[part.number], label=part.label)


def shares(axes: Axes, name: str) -> None:
    """Make the y axis one of shares, in percent."""
    from matplotlib.ticker import PercentFormatter  # noqa: PLC0415

    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=""))
    axes.set_ylabel(name)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of a figure, the first one at the top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def legend_above(axes: Axes, columns: int = 2) -> None:
    """Put the legend above the axes, where it covers nothing."""
    handles, names = axes.get_legend_handles_labels()
    if handles:
        axes.figure.legend(handles, names, loc="outside upper left", ncols=min(columns, len(names)))


def log_axis(axes: Axes, smallest: float, largest: float, tick: Callable[[float], str] = "{:,.10g}".format) -> None:
    """Make the x axis logarithmic, with at most five ticks at powers of ten; within two powers at 1 and 3."""
    from matplotlib.ticker import FuncFormatter  # noqa: PLC0415

    axes.set_xscale("log")
    low, high = int(np.floor(np.log10(smallest))), int(np.ceil(np.log10(largest)))
    step = max(1, -(-(high - low) // 4))
    ticks = [10.0**power for power in range(low, high + 1, step)]
    if high - low <= 2:  # noqa: PLR2004
        ticks = [m * 10.0**power for power in range(low, high + 1) for m in (1, 3)]
        ticks = [tick for tick in ticks if smallest / 3 <= tick <= largest * 3]
    axes.set_xticks(ticks)
    axes.set_xlim(min(smallest, ticks[0]), max(largest, ticks[-1]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axes.minorticks_off()
