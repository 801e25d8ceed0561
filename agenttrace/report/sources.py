"""Reads record files, of whatever format the page knows, as views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from agenttrace.errors import DataError
from agenttrace.formats import agenttrace_0_3, agenttrace_0_3_row
from agenttrace.formats.reading import records, trace_of
from agenttrace.records import Trace
from agenttrace.report.view import TraceView, trace_view
from agenttrace.store.opening import released
from agenttrace.store.read import Problem, run_spec_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agenttrace.formats.prices import Prices


class Shown(NamedTuple):
    """A record as the page has it.

    Attributes:
        line: its record without the line's end.
        original: whether that line stands so in the file; else it is what `convert` makes of it.
    """

    view: TraceView
    line: bytes
    original: bool


def read_views(
    path: Path, on_problem: Callable[[Problem], object] | None = None, prices: Prices | None = None
) -> Iterator[Shown]:
    """Yield every record of a file, in file order.

    Args:
        path: the file.
        on_problem: as that of `reading.records`; so are the errors.
        prices: by which traces are priced that do not say what they cost (`None`: those of the package).
    """
    for number, found in records(path, on_problem):
        try:
            shown = shown_trace(found, prices) if isinstance(found, Trace) else shown_line(found, prices)
        except (DataError, OverflowError, ValueError) as error:
            problem = Problem(str(path), number, str(error))
            if on_problem is None:
                raise DataError(str(problem)) from error
            on_problem(problem)
        else:
            yield shown


def shown_trace(trace: Trace, prices: Prices | None = None) -> Shown:
    """Return what the page has of a record that was read from another format."""
    return Shown(trace_view(trace, prices), msgspec.json.encode(trace), original=False)


def shown_line(line: bytes, prices: Prices | None = None) -> Shown:
    """Return what the page has of a line of ours, of any version; raises `DataError` when it is none."""
    view = release_view(agenttrace_0_3_row.decode(line)) if released(line) else trace_view(trace_of(line), prices)
    line.decode()  # what a reader passes over can be no text, and a page holds nothing else
    return Shown(view, line.removesuffix(b"\n"), original=True)


def release_view(row: agenttrace_0_3_row.ReleasedRow) -> TraceView:
    """Return the view of a 0.3.0 row: that of the record that `convert` makes of it, with its own clock readings.

    Its calls have times of a performance counter and its generations have none, so there is no axis for both; how it
    ended is not recorded there, so it is not shown.
    """
    trace = agenttrace_0_3.record(row)
    change = msgspec.structs.replace
    pairs = zip(trace.spans, row.spans, strict=True)
    spans = tuple(change(span, start_ns=own.start_ns, end_ns=own.end_ns) for span, own in pairs)
    view = trace_view(change(trace, spans=spans))
    return change(view, format="AgentTrace 0.3.0", axis="tools", ended=None, facts={"metadata": row.metadata})


def read_run(path: Path) -> dict[str, Any]:
    """Return the run spec beside a record file as the page shows it; empty when there is none that can be read."""
    try:
        return msgspec.json.decode(run_spec_path(path).read_bytes(), type=dict[str, Any])
    except (OSError, ValueError, msgspec.MsgspecError, RecursionError):
        return {}
