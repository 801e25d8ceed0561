"""Reads record files, of whatever format the page knows, as views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.analysis.report.release_0_3 import release_view
from agenttrace.analysis.report.rollout_view import rollout_view
from agenttrace.analysis.report.view import TraceView, trace_view
from agenttrace.analysis.sources import Problem
from agenttrace.errors import DataError
from agenttrace.formats import agenttrace_0_3_row, foreign
from agenttrace.records import Trace
from agenttrace.records.rollout import Rollout
from agenttrace.store.kinds import ROLLOUT
from agenttrace.store.lines import TOO_LONG, DamagedFileError, records
from agenttrace.store.read import run_spec_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class _Peek(msgspec.Struct):
    """What tells the formats apart: only ours has an outcome, others name themselves."""

    outcome: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    schema_version: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    trajectory_format: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_peek = msgspec.json.Decoder(_Peek).decode
_ours = msgspec.json.Decoder(Trace).decode
_rollout = msgspec.json.Decoder(Rollout).decode


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
    name = str(path)
    if path.suffix == ".json":
        yield from _whole(path)
        return
    try:
        for number, line in records(path):
            found = _view_or_problem(name, number, line)
            if isinstance(found, TraceView):
                yield found
            elif on_problem is None:
                raise DataError(str(found))
            else:
                on_problem(found)
    except DamagedFileError as error:
        if on_problem is None:
            raise
        on_problem(Problem(name, None, str(error).removeprefix(f"{path}: ")))


def _whole(path: Path) -> Iterator[TraceView]:
    for number, trace in enumerate(foreign.read_whole(path), start=1):
        try:
            view = trace_view(trace)
        except OverflowError as error:
            raise DataError(f"{path}, value {number}: not a trace record: {error}") from error
        yield view


def _view_or_problem(name: str, number: int, line: bytes | None) -> TraceView | Problem:
    if line is None:
        return Problem(name, number, f"not a trace record: {TOO_LONG}")
    try:
        return _view(line)
    except (msgspec.MsgspecError, DataError, ValueError, OverflowError, RecursionError) as error:
        torn = "" if line.endswith(b"\n") else "; the line is cut off, collecting again repairs the file"
        return Problem(name, number, f"not a trace record: {error}{torn}")


def _view(line: bytes) -> TraceView:
    if line.startswith(ROLLOUT):
        return rollout_view(_rollout(line))
    found = _peek(line)
    if found.outcome is not msgspec.UNSET:
        return trace_view(_ours(line))
    if found.schema_version is msgspec.UNSET and found.trajectory_format is msgspec.UNSET:
        return release_view(agenttrace_0_3_row.decode(line))
    return trace_view(foreign.to_trace(foreign.parsed(line)))


def read_run(path: Path) -> dict[str, Any]:
    """Return the run spec beside a record file as the page shows it; empty when there is none that can be read."""
    try:
        return msgspec.json.decode(run_spec_path(path).read_bytes(), type=dict[str, Any])
    except (OSError, ValueError, msgspec.MsgspecError, RecursionError):
        return {}
