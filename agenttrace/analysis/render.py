"""A report as text for a terminal, as Markdown, as JSON: three forms of the same figures."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import msgspec

from agenttrace.analysis.sections import sections
from agenttrace.show import printable

if TYPE_CHECKING:
    from agenttrace.analysis.findings import Report
    from agenttrace.analysis.sections import Section

_WIDEST = 60
_MARKED = str.maketrans({char: f"\\{char}" for char in "\\`*_[]|~#!"})


def as_json(report: Report) -> str:
    """Return the whole report as indented JSON; unknown figures are `null`. What could drive a terminal is escaped."""
    text = msgspec.json.format(msgspec.json.encode(report), indent=2).decode()
    return "".join(char if char == "\n" or char.isprintable() else _unicode(char) for char in text) + "\n"


def _unicode(char: str) -> str:
    """Return a character as JSON escapes it; one beyond the basic plane takes two."""
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def as_text(report: Report) -> str:
    """Return aligned tables; whatever came from a record is printable."""
    parts = []
    for section in sections(report):
        title = _plain(section.title, 200)
        parts.append(f"{title}\n{('=' if section.level == 1 else '-') * len(title)}\n")
        parts += [f"{_plain(note, 400)}\n" for note in section.notes]
        parts.append(_aligned(section) + "\n" if section.rows else "" if section.notes else "(none)\n\n")
        if not section.rows and section.notes:
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


def as_markdown(report: Report) -> str:
    """Return GitHub-flavoured Markdown; whatever came from a record is escaped, markup and HTML alike."""
    parts = []
    for section in sections(report):
        parts.append(f"{'#' * (section.level + 1)} {escaped(section.title, 200)}\n\n")
        parts += [f"{escaped(note, 400)}\n\n" for note in section.notes]
        if section.rows:
            rule = ["---", *["---:"] * (len(section.header) - 1)]
            rows = [[escaped(cell) for cell in row] for row in section.rows]
            parts += [f"| {' | '.join(row)} |\n" for row in (list(section.header), rule, *rows)]
            parts.append("\n")
    return "# Analysis\n\n" + "".join(parts).rstrip("\n") + "\n"


def escaped(text: str, limit: int = _WIDEST) -> str:
    """Return a text as Markdown that shows it and does nothing else, on one line."""
    return html.escape(_plain(text, limit).translate(_MARKED), quote=False)
