"""Sections as text for a terminal and as Markdown, findings as JSON, and figures as people read them in all of these.

A figure has three significant digits and a unit, and words for what is unknown.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.show import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agenttrace.analysis.findings import Estimate, Share

UNKNOWN = "not measured"
_TIMES = ((3_600_000.0, "h"), (60_000.0, "min"), (1000.0, "s"), (1.0, "ms"), (0.001, "µs"))
_SIZES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_WIDEST = 60
_MARKED = str.maketrans({char: f"\\{char}" for char in "\\`*[]|~#!"})
_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
"""One that can mark text: within a word it cannot."""


class Section(msgspec.Struct, frozen=True):
    """A title, a table whose first column is text and whose others are figures, and sentences, as far as there are."""

    title: str = ""
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()
    level: int = 2


def as_json(found: Any) -> str:  # noqa: ANN401 - findings, or what holds some
    """Return findings as indented JSON; unknown figures are `null`. What could drive a terminal is escaped."""
    text = msgspec.json.format(msgspec.json.encode(found), indent=2).decode()
    return "".join(char if char == "\n" or char.isprintable() else _unicode(char) for char in text) + "\n"


def _unicode(char: str) -> str:
    """Return a character as JSON escapes it; one beyond the basic plane takes two."""
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def as_text(sections: Iterable[Section]) -> str:
    """Return aligned tables; whatever came from a record is printable."""
    parts = []
    for section in sections:
        if section.title:
            title = _plain(section.title, 200)
            parts.append(f"{title}\n{('=' if section.level == 1 else '-') * len(title)}\n")
        parts += [f"{_plain(note, 400)}\n" for note in section.notes]
        if section.rows:
            parts.append(_aligned(section))
        elif not section.notes:
            parts.append("(none)\n")
        parts.append("\n")
    return "".join(parts)


def _aligned(section: Section) -> str:
    rows = [[_plain(cell) for cell in row] for row in (section.header, *section.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(section.header))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip() + "\n")
    return "".join(line for line in lines if line.strip())


def _plain(text: str, limit: int = _WIDEST) -> str:
    shown = printable(text).replace("\n", "\\n").replace("\t", "\\t")
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def as_markdown(sections: Iterable[Section]) -> str:
    """Return GitHub-flavoured Markdown; whatever came from a record is escaped, markup and HTML alike."""
    parts = []
    for section in sections:
        if section.title:
            parts.append(f"{'#' * section.level} {escaped(section.title, 200)}\n\n")
        parts += [f"{escaped(note, 400)}\n\n" for note in section.notes]
        if section.rows:
            head, *rows = ([escaped(cell) for cell in row] for row in (section.header, *section.rows))
            rule = ["---", *["---:"] * (len(head) - 1)]
            parts += [f"| {' | '.join(row)} |\n" for row in (head, rule, *rows)]
            parts.append("\n")
    return "".join(parts).rstrip("\n") + "\n"


def escaped(text: str, limit: int = _WIDEST) -> str:
    """Return a text as Markdown that shows it and does nothing else, on one line."""
    marked = _plain(text, limit).translate(_MARKED)
    return html.escape(_UNDERSCORE.sub(r"\_", marked), quote=False)


def integer(value: int | None) -> str:
    """Return a whole number with separators: `12,345`."""
    return UNKNOWN if value is None else f"{value:,}"


def amount(value: float | None, unit: str) -> str:
    """Return a figure in a unit that fits: `ms` and `B` are scaled, any other unit is left out."""
    if value is None:
        return UNKNOWN
    if unit == "ms":
        scale, name = next(((s, n) for s, n in _TIMES if abs(value) >= s), _TIMES[-1]) if value else (1.0, "ms")
        return f"{_digits(value / scale)} {name}"
    if unit == "B":
        size, name = next(((s, n) for s, n in _SIZES if abs(value) >= s), (1, "B"))
        return f"{_digits(value / size)} {name}"
    return _digits(value)


def _digits(value: float) -> str:
    """Three significant digits, never in exponents, whole numbers whole."""
    if value == int(value) or abs(value) >= 100:  # noqa: PLR2004
        return f"{value:,.0f}"
    places = 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3  # noqa: PLR2004
    return f"{value:.{places}f}"


def percent(value: float | None) -> str:
    """Return a share in percent: `12.3 %`; below 0.05 % two significant digits."""
    if value is None:
        return UNKNOWN
    if 0 < abs(value) < 0.0005:  # noqa: PLR2004
        return f"{100 * value:.2g} %" if abs(value) >= 1e-6 else "< 0.0001 %"  # noqa: PLR2004
    return f"{100 * value:.1f} %"


def part(count: int, whole: int) -> str:
    """Return a count with its share: `8 (40.0 %)`."""
    return f"{integer(count)} ({percent(count / whole)})" if whole else integer(count)


def share(one: Share) -> str:
    """Return `count of n = share (low to high)`, as far as there are any."""
    if one.share is None:
        return "none of 0"
    found = f"{integer(one.count)} of {integer(one.n)} = {percent(one.share)}"
    if one.low is None or one.high is None:
        return found
    return f"{found} ({100 * one.low:.1f} to {100 * one.high:.1f} %)"


def estimate(one: Estimate) -> str:
    """Return `value [low to high]`, or why there is none."""
    if one.value is None:
        return one.note or UNKNOWN
    text = _signed(one.value)
    if one.low is not None and one.high is not None:
        text += f" [{_signed(one.low)} to {_signed(one.high)}]"
    return f"{text} ({one.note})" if one.note else text


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + _digits(value) if abs(value) >= 0.01 or not value else f"{value:+.1g}"  # noqa: PLR2004
