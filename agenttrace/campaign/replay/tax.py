"""What equal output costs in time: the same campaign, run with so many tasks at a time and so many."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from agenttrace.records import Record
from agenttrace.store.read import read_traces

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class RunTime(Record, frozen=True, kw_only=True):
    """How long a run took.

    Attributes:
        workers: tasks at a time; `None` for a run that was not made here.
        seconds: from the first request or call of all records to the end of the last; `None` where no record says. What
            starts before (containers, weights) is left out.
        output_tokens: tokens that were generated, as far as the server counted them.
    """

    workers: int | None
    seconds: float | None
    output_tokens: int


def run_time(path: Path, workers: int | None) -> RunTime:
    """Return how long the run of a record file took.

    Raises:
        UsageError: the file cannot be opened.
        DataError: a line is not a trace.
    """
    first, last, tokens = None, None, 0
    for trace in read_traces(path):
        tokens += sum(step.output_tokens or 0 for step in trace.llm_steps)
        done = [(one.start_ns, one.end_ns) for one in trace.llm_steps] + [(o.start_ns, o.end_ns) for o in trace.spans]
        for start, end in done:
            if start is not None and end is not None:
                first = start if first is None else min(first, start)
                last = end if last is None else max(last, end)
    seconds = None if first is None or last is None else round((last - first) / 1e9, 3)
    return RunTime(workers=workers, seconds=seconds, output_tokens=tokens)


def tax_lines(times: Sequence[RunTime]) -> Iterator[str]:
    """Yield a line per number of tasks at a time: median of its runs, tokens per second, and both beside the first."""
    widths = dict.fromkeys(one.workers for one in times if one.workers is not None)
    base = None
    for workers in widths:
        runs = [one for one in times if one.workers == workers]
        took = [one.seconds for one in runs if one.seconds]
        if not took:
            continue
        seconds = statistics.median(took)
        rate = statistics.median(one.output_tokens for one in runs) / seconds
        faster = "" if base is None else f"; {base / seconds:.2f} times as fast as the first"
        base = base or seconds
        which = f"{workers} task{'s' * (workers != 1)} at a time"
        yield f"{which}: {seconds:.2f} s (median of {len(took)}), {rate:,.0f} tokens/s{faster}"
