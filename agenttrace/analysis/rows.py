"""Decodes one line of a record file into only what the tables need, quickly: structures derived from the record types.

A structure here has the fields of its record type without the ones that are not wanted, so that these are skipped
unread. Figures that no column can hold are refused. Fields that may be unknown or absent are `None`.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any

import msgspec
from msgspec import UNSET

from agenttrace.analysis import rollout_rows
from agenttrace.analysis.lean import lean
from agenttrace.errors import DataError
from agenttrace.formats.agenttrace_0_3_row import VERSION as RELEASED
from agenttrace.formats.columns import COMPUTED_FROM, LONG
from agenttrace.formats.entries import Known, Machine, TableEntry
from agenttrace.formats.prices import Prices, sold
from agenttrace.formats.reading import trace_of
from agenttrace.records import Trace, rollout_1_0
from agenttrace.store.opening import released
from agenttrace.store.read import DECODE_ERRORS


class _Nothing(msgspec.Struct, frozen=True, gc=False):
    """An object of which only the presence counts."""


def entry(
    run: int,
    file: str,
    number: int,
    line: bytes,
    *,
    texts: bool = False,
    ids: bool = True,
    prices: Prices | None = None,
) -> TableEntry:
    """Return the record of a line: of schema 1.x, a rollout of 1.0.0, or a row of AgentTrace 0.3.0.

    Args:
        run: number of the record in this reading.
        file: where it stands.
        number: of the line.
        line: the record as it stands in its file.
        texts: with the fields of `columns.LONG`.
        ids: with the ids of steps and spans; those of a rollout of 1.0.0 are derived, which takes time.
        prices: by which it is priced where it does not say what it cost (`None`: those of the package).

    Raises:
        DataError: it is none; the message says what is wrong with which field.
    """
    try:
        row = _row(line, texts=texts, ids=ids)
        known = row.metadata if isinstance(row.metadata, Known) else msgspec.convert(row.metadata, Known)
        told = known if row.environment is None else row.environment
        machine = msgspec.convert(told, Machine, from_attributes=True)
    except DECODE_ERRORS as error:
        cut = "" if line.endswith(b"\n") else "; the line is cut off"
        raise DataError(f"not a trace record: {error}{cut}") from None
    return TableEntry(run, file, number, row, known, machine, (prices or sold()).bill(row, known.serving_engine))


def _row(line: bytes, *, texts: bool, ids: bool) -> Any:  # noqa: ANN401 - a derived structure
    if line.startswith(rollout_1_0.PREFIX):
        return _of_rollout(line, texts=texts, ids=ids)
    try:
        return _checked(_decoder(texts=texts)(line))
    except (*DECODE_ERRORS, DataError):
        if rollout_1_0.is_line(line):
            return _of_rollout(line, texts=texts, ids=ids)
        if released(line) is None:
            raise
    return _decoder(texts=texts)(msgspec.json.encode(trace_of(line)))


def _of_rollout(line: bytes, *, texts: bool, ids: bool) -> Any:  # noqa: ANN401
    """Return a rollout of 1.0.0 as a trace, of which what is absent is unknown."""
    trace = rollout_rows.decode(line, texts=texts, ids=ids)
    outcome = trace.outcome
    absent = {name: None for name in outcome.__struct_fields__ if getattr(outcome, name) is UNSET}
    return msgspec.structs.replace(trace, outcome=msgspec.structs.replace(outcome, **absent))


def _checked(row: Any) -> Any:  # noqa: ANN401
    told = row.metadata
    version = str(told.schema_version if isinstance(told, Known) else told.get("schema_version"))
    if not version.startswith("1."):
        raise DataError(f"a record of schema {version[:20]!r}; this version reads 1.x and {RELEASED}")
    if row.outcome is None:
        raise DataError("a record of schema 1.x without `outcome`")
    return row


@cache
def _decoder(*, texts: bool) -> Any:  # noqa: ANN401 - a function
    return msgspec.json.Decoder(_trace(texts=texts)).decode


@cache
def _trace(*, texts: bool) -> Any:  # noqa: ANN401 - a structure
    """Return the structure of a line: that of `Trace`; without texts, its metadata are only what is a column."""
    given: dict[str, Any] = {"timestamp_utc": datetime | None}
    if not texts:
        given |= {"metadata": Known, "environment": Machine | None, "tool_calls": tuple[_Nothing, ...] | None}
    return lean(Trace, without=frozenset() if texts else LONG - COMPUTED_FROM, given=given)
