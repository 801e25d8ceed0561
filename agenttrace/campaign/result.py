"""What a campaign left: the record file, and how its runs ended."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from agenttrace.store.read import read_traces

if TYPE_CHECKING:
    from pathlib import Path


class Collected(NamedTuple):
    """What a campaign left.

    Attributes:
        path: the record file.
        traces: records in it.
        solved: how many of them a judge calls solved.
        ended: how often each end came, such as `{"final_answer": 31, "max_steps": 1}`.
    """

    path: Path
    traces: int
    solved: int
    ended: dict[str, int]


def collected(path: Path) -> Collected:
    """Return what a record file holds; one that is not there holds nothing.

    Raises:
        DataError: a line is no trace.
    """
    ended: Counter[str] = Counter()
    solved = 0
    for trace in read_traces(path) if path.exists() else ():
        ended[trace.outcome.ended] += 1
        solved += trace.outcome.solved is True
    return Collected(path, ended.total(), solved, dict(ended))
