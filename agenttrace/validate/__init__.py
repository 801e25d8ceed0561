"""Validates record files line by line, with bounded memory; a bad line does not stop it.

A kind of record is a module with `recognises(raw)` and a `Checker(path, words, allowed)` whose methods are `beside()`,
`check(raw, line)` and `notes()`; `KINDS` lists them, so another kind joins with one line.
"""

from __future__ import annotations

from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from agenttrace.errors import AgentTraceError
from agenttrace.store.kinds import compressed, other_kind
from agenttrace.store.opening import LONGEST_LINE
from agenttrace.validate.findings import Finding, Problem
from agenttrace.validate.leaks import leaks
from agenttrace.validate.lines import lines, parsed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from agenttrace.validate.leaks import Word
    from agenttrace.validate.lines import Line

KINDS: dict[str, str] = {"trace": "agenttrace.validate.traces", "rollout": "agenttrace.validate.rollouts"}
"""Kind of record → module that checks it."""

MOST_PER_LINE = 50
"""Findings reported of one line; a hostile line could have millions."""


class Checker(Protocol):
    """Checks the records of one file."""

    def beside(self) -> Iterator[Problem]:
        """Yield what is wrong with the files that belong to it."""
        ...

    def check(self, raw: dict[str, Any], number: int) -> Iterator[Problem]:
        """Yield what is wrong with one parsed line."""
        ...

    def notes(self) -> list[str]:
        """Return what was not checked, and why."""
        ...


class Validation:
    """The check of one file; iterate over it once.

    Args:
        path: a record file.
        words: what is private beside the patterns of the leak check.
        allowed: texts that are no leak.

    Attributes:
        records: lines that were looked at.
        notes: what was not checked, and why; complete after the last finding.
    """

    def __init__(self, path: Path, *, words: Sequence[Word] = (), allowed: Sequence[str] = ()) -> None:
        self.path = path
        self.records = 0
        self.notes: list[str] = []
        self._words, self._allowed = words, allowed
        self._checkers: dict[str, Checker] = {}

    def __iter__(self) -> Iterator[Finding]:
        """Yield every finding in file order."""
        try:
            for line in lines(self.path):
                if line.number == 1 and (why := other_kind(self.path, line.data) or compressed(line.data)):
                    yield Finding(0, "file", "", why)
                    return
                self.records += 1
                found = self._line(line)
                for problem in islice(found, MOST_PER_LINE):
                    yield Finding(line.number, *problem)
                if next(found, None) is not None:
                    yield Finding(
                        line.number, "more", "", f"more than {MOST_PER_LINE} findings; the rest is not listed"
                    )
        except OSError as error:
            yield Finding(0, "file", "", f"cannot be read: {error.strerror}")
            return
        except AgentTraceError as error:
            yield Finding(0, "file", "", str(error))
            return
        for checker in self._checkers.values():
            yield from (Finding(0, *problem) for problem in checker.beside())
            self.notes += checker.notes()
        if not self.records:
            self.notes.append("the file is empty")

    def _line(self, line: Line) -> Iterator[Problem]:
        if line.length > LONGEST_LINE:
            yield Problem("json", "", f"the line has {line.length} bytes, more than {LONGEST_LINE}: not checked")
            return
        if not line.whole:
            yield Problem("json", "", "the line is cut off (no line end): collecting again repairs the file")
        try:
            raw, repeated = parsed(line.data)
            msgspec.json.decode(
                line.data
            )  # stricter: what it cannot read (half a surrogate pair), no reader of ours can
        except (ValueError, RecursionError) as error:
            yield Problem("json", "", f"not a JSON object: {error}")
            yield from leaks(line.data.decode("utf-8", "replace"), self._words, self._allowed)
            return
        yield from (Problem("json", "", f"the key {key[:60]!r} is given twice in one object") for key in repeated)
        checker = self._checker(raw)
        if checker is None:
            yield Problem("schema", "", f"not a record of a known kind ({', '.join(KINDS)})")
            yield from leaks(raw, self._words, self._allowed)
        else:
            yield from checker.check(raw, line.number)

    def _checker(self, raw: Any) -> Checker | None:  # noqa: ANN401 - parsed JSON
        for kind, path in KINDS.items():
            module = import_module(path)
            if module.recognises(raw):
                if kind not in self._checkers:
                    self._checkers[kind] = module.Checker(self.path, self._words, self._allowed)
                return self._checkers[kind]
        return None
