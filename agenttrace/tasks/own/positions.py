"""On which line each key of a TOML text stands, which `tomllib` does not say."""

from __future__ import annotations

import re
import tomllib

Path = tuple[str | int, ...]
"""Names and list indexes from the top, such as `("task", 2, "check", 0, "kind")`."""
MOST_PARTS = 100
"""Of a dotted key: what reads TOML takes time that grows with their square."""
_PART = r"""(?:[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""
_DOTTED = rf"{_PART}(?:[ \t]*+\.[ \t]*+{_PART})"
_LONG = re.compile(rf"(?<![A-Za-z0-9_-]){_DOTTED}{{{MOST_PARTS}}}")
_REST = re.compile(rf"(?:[ \t]*+\.[ \t]*+{_PART})*+[ \t]*+([=\]]?)")
_BLANK = " \t"
_ENDS_VALUE = ",]}#\n"


def lines(text: str) -> dict[Path, int]:
    """Return path → number of its line, from 1, for every table, key and list item.

    Args:
        text: TOML that `tomllib` has read: nothing of it is checked again.
    """
    return _Scan(text.replace("\r\n", "\n")).found


def too_dotted(text: str) -> int | None:
    """Return the line of a key of more than `MOST_PARTS` parts; `None` where there is none."""
    at = 0
    while found := _LONG.search(text, at):
        rest = _REST.match(text, found.end())
        if rest is not None and rest[1]:  # else a sentence of a text, which no `=` or `]` follows
            return text.count("\n", 0, found.start()) + 1
        at = found.end() if rest is None else rest.end()
    return None


def nearest(found: dict[Path, int], path: Path) -> int:
    """Return the line of a path, or of the nearest one above it that has one."""
    for length in range(len(path), 0, -1):
        if path[:length] in found:
            return found[path[:length]]
    return 1


class _Scan:
    def __init__(self, text: str) -> None:
        self._text, self._at, self._line, self._seen = text, 0, 1, 0
        self._items: dict[Path, int] = {}
        self.found: dict[Path, int] = {}
        table: Path = ()
        while self._skip(comments=True):
            if text.startswith("[[", self._at):
                self._at += 2
                table = self._header(self._key())
                self._items[table] = self._items.get(table, -1) + 1
                table = (*table, self._items[table])
                self._note(table)
                self._at = text.index("]]", self._at) + 2
            elif text.startswith("[", self._at):
                self._at += 1
                table = self._header(self._key())
                self._note(table)
                self._at = text.index("]", self._at) + 1
            else:
                self._pair(table)

    def _header(self, key: Path) -> Path:
        """Return the path that a header means: of lists of tables it is about the last one."""
        path: Path = ()
        for number, part in enumerate(key):
            path = (*path, part)
            if number < len(key) - 1 and path in self._items:
                path = (*path, self._items[path])
        return path

    def _note(self, path: Path) -> None:
        self._line += self._text.count("\n", self._seen, self._at)
        self._seen = self._at
        self.found.setdefault(path, self._line)

    def _skip(self, *, comments: bool) -> bool:
        """Pass over blanks, and over line ends and comments with `comments`; return whether something follows."""
        text = self._text
        while self._at < len(text):
            if text[self._at] in (_BLANK + "\n" if comments else _BLANK):
                self._at += 1
            elif comments and text[self._at] == "#":
                end = text.find("\n", self._at)
                self._at = len(text) if end < 0 else end
            else:
                return True
        return False

    def _key(self) -> Path:
        """Return the parts of a dotted key and stand behind it."""
        parts: list[str] = []
        while True:
            self._skip(comments=False)
            start = self._at
            if self._text[start] in "\"'":
                self._string()
                parts.append(tomllib.loads(f"k={self._text[start : self._at]}")["k"])
            else:
                while self._text[self._at].isalnum() or self._text[self._at] in "-_":
                    self._at += 1
                parts.append(self._text[start : self._at])
            self._skip(comments=False)
            if self._text[self._at] != ".":
                return tuple(parts)
            self._at += 1

    def _pair(self, table: Path) -> None:
        start = self._at
        path = (*table, *self._key())
        behind, self._at = self._at, start
        self._note(path)
        self._at = behind + 1  # the equals sign
        self._skip(comments=False)
        self._value(path)

    def _value(self, path: Path) -> None:
        opens = self._text[self._at]
        if opens in "\"'":
            self._string()
        elif opens in "[{":
            self._at += 1
            count = 0
            while self._skip(comments=True) and self._text[self._at] not in "]}":
                if self._text[self._at] == ",":
                    self._at += 1
                elif opens == "{":
                    self._pair(path)
                else:
                    self._note((*path, count))
                    self._value((*path, count))
                    count += 1
            self._at += 1
        else:
            while self._at < len(self._text) and self._text[self._at] not in _ENDS_VALUE:
                self._at += 1

    def _string(self) -> None:
        """Stand behind a string of any of the four kinds."""
        text, quote = self._text, self._text[self._at]
        end = quote * 3 if text.startswith(quote * 3, self._at) else quote
        self._at += len(end)
        while not text.startswith(end, self._at):
            self._at += 2 if quote == '"' and text[self._at] == "\\" else 1
        self._at += len(end)
        while len(end) > 1 and text.startswith(quote, self._at):  # up to two quotes before those that close it
            self._at += 1
