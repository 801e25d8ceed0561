"""Reads record files, of whatever format the page knows, as views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.errors import DataError
from agenttrace.formats import agenttrace_0_3, agenttrace_0_3_row, foreign
from agenttrace.records import rollout_1_0
from agenttrace.report.view import TraceView, trace_view
from agenttrace.store.read import DECODE_ERRORS, Problem, decode, run_spec_path, whole_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class _Peek(msgspec.Struct):
    """What tells the formats apart: only ours has an outcome, others name themselves."""

    outcome: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    schema_version: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    trajectory_format: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_NO_RECORD = "not a trace record: "
_peek = msgspec.json.Decoder(_Peek).decode


def read_views(path: Path, on_problem: Callable[[Problem], object] | None = None) -> Iterator[TraceView]:
    """Yield a view of every record of a file (plain, gzip or Zstandard; `.json` as one text), in file order.

    Args:
        path: the file.
        on_problem: called for what is left out: a line that is no record, the rest of a damaged file.

    Raises:
        UsageError: the file cannot be opened or is of another kind.
        DataError: without `on_problem`, what it would be called for; a `.json` file is no record. The message names
            the line.
    """
    if path.suffix == ".json":
        yield from _whole(path)
        return
    for number, line in whole_lines(path, on_problem):
        try:
            view = _view(line)
        except DataError as error:
            problem = Problem(str(path), number, str(error))
            if on_problem is None:
                raise DataError(str(problem)) from error
            on_problem(problem)
        else:
            yield view


def _whole(path: Path) -> Iterator[TraceView]:
    for number, trace in enumerate(foreign.read_whole(path), start=1):
        try:
            view = trace_view(trace)
        except OverflowError as error:
            raise DataError(f"{path}, value {number}: not a trace record: {error}") from error
        yield view


def _view(line: bytes) -> TraceView:
    """Return the view of a line of whatever format it is; raises `DataError` when it is of none."""
    try:
        found = _peek(line)
    except DECODE_ERRORS:
        found = _Peek(outcome=msgspec.Raw())  # the reader of our records says what is wrong with it
    try:
        if found.outcome is not msgspec.UNSET or rollout_1_0.is_line(line):
            return trace_view(decode(line))
        if found.schema_version is msgspec.UNSET and found.trajectory_format is msgspec.UNSET:
            return release_view(agenttrace_0_3_row.decode(line))
        return trace_view(foreign.to_trace(foreign.parsed(line)))
    except (DataError, *DECODE_ERRORS, ValueError, OverflowError) as error:
        raise DataError(f"{_NO_RECORD}{str(error).removeprefix(_NO_RECORD)}") from error


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
