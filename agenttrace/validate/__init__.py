"""Validates record files of every form and schema of ours, line by line in bounded memory; a bad line does not stop it.

`Checker` has the rules of one file: those of every trace, then those of the agent that made it.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from agenttrace.errors import AgentTraceError
from agenttrace.store.compact import Compacted, is_compacted
from agenttrace.store.read import TOO_LONG, lines
from agenttrace.validate.checker import Checker
from agenttrace.validate.findings import Finding, Problem
from agenttrace.validate.leaks import leaks
from agenttrace.validate.parsing import parsed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from agenttrace.validate.leaks import Word

MOST_PER_LINE = 50
"""Findings reported of one line; a hostile line could have millions."""


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

    def __iter__(self) -> Iterator[Finding]:
        """Yield every finding in file order."""
        try:
            checker = None
            for number, line in lines(self.path):
                checker = checker or Checker(self.path, self._words, self._allowed)
                self.records += 1
                found = self._line(checker, number, line)
                for problem in islice(found, MOST_PER_LINE):
                    yield Finding(number, *problem)
                if next(found, None) is not None:
                    yield Finding(number, "more", "", f"more than {MOST_PER_LINE} findings; the rest is not listed")
            if is_compacted(self.path):
                with Compacted(self.path) as compacted:
                    compacted.check()
        except (AgentTraceError, OSError) as error:
            yield Finding(0, "file", "", str(error))
            return
        if checker is None:
            self.notes.append("the file is empty")
            return
        yield from (Finding(0, *problem) for problem in checker.beside())
        self.notes += checker.notes()

    def _line(self, checker: Checker, number: int, line: bytes | None) -> Iterator[Problem]:
        if line is None:
            yield Problem("json", "", f"{TOO_LONG}: not checked")
            return
        if not line.endswith(b"\n"):
            yield Problem("json", "", "the line is cut off (no line end): collecting again repairs the file")
        try:
            raw, repeated = parsed(line)
        except (ValueError, RecursionError) as error:
            yield Problem("json", "", f"not a JSON object: {error}")
            yield from leaks(line.decode("utf-8", "replace"), self._words, self._allowed)
            return
        yield from (Problem("json", "", f"the key {key[:60]!r} is given twice in one object") for key in repeated)
        yield from checker.check(raw, number)
