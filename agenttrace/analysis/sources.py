"""What became of the files that were read: what is in the result, and what is missing."""

from __future__ import annotations

import msgspec

from agenttrace.store.read import Problem  # noqa: TC001 - msgspec resolves the annotations

KEPT_PROBLEMS = 1_000
"""Problems that a `Source` keeps; every one is counted and handed to `on_problem`."""


class Source(msgspec.Struct):
    """What became of one file.

    Attributes:
        file: its path as given.
        rows: traces read.
        bad_lines: lines that are not in the result.
        damaged: the rest of the file could not be read, so how many traces are missing is not known.
        problems: the first of them (`KEPT_PROBLEMS`).
    """

    file: str
    rows: int = 0
    bad_lines: int = 0
    damaged: bool = False
    problems: list[Problem] = []

    @property
    def partial(self) -> bool:
        """Whether something of the file is not in the result."""
        return self.damaged or self.bad_lines > 0

    @property
    def missing(self) -> str | None:
        """What is not in the result, in words."""
        lines = [f"{self.bad_lines} line{'s' if self.bad_lines > 1 else ''}"] if self.bad_lines else []
        return " and ".join([*lines, *(["the rest"] if self.damaged else [])]) or None

    def note(self, problem: Problem) -> None:
        """Count a problem."""
        if problem.line is None:
            self.damaged = True
        else:
            self.bad_lines += 1
        if len(self.problems) < KEPT_PROBLEMS:
            self.problems.append(problem)
