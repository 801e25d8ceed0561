"""Decodes one line of a record file into only what the tables need, quickly: structures derived from the record types.

A structure here has the fields of its record type without the ones that are not wanted, so that these are skipped
unread. Figures that no column can hold are refused. Fields that may be unknown or absent are `None`.
"""

from __future__ import annotations

import builtins
import functools
import operator
import types
import typing
from datetime import datetime
from functools import cache
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, UNSET, UnsetType

from agenttrace.errors import DataError
from agenttrace.formats.agenttrace_0_3_row import VERSION as RELEASED
from agenttrace.formats.columns import COMPUTED_FROM, LONG
from agenttrace.formats.entries import Count, Duration, Int, Known, Machine, TableEntry
from agenttrace.formats.prices import Prices, sold
from agenttrace.formats.reading import trace_of
from agenttrace.records import Trace, rollout_1_0
from agenttrace.store.opening import released
from agenttrace.store.read import DECODE_ERRORS

_UNSAID = frozenset({"status", "call_id", "environment", "outcome"})
"""What AgentTrace 0.3.0 has no field for."""
_SIGNED = frozenset({"prompt_logprobs", "output_logprobs", "margins"})
"""Figures that may be below 0."""
_Summand = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
"""What of a rollout of 1.0.0 is added up: the sum fits a column."""


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
        ids: with the ids of steps and spans; those of a rollout of 1.0.0 take as long to derive as all else of it.
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
        return _of_rollout(line, ids=ids)
    try:
        return _checked(_decoder(texts=texts)(line))
    except (*DECODE_ERRORS, DataError):
        if rollout_1_0.is_line(line):
            return _of_rollout(line, ids=ids)
        if released(line) is None:
            raise
    return _decoder(texts=texts)(msgspec.json.encode(trace_of(line)))


def _of_rollout(line: bytes, *, ids: bool) -> Trace:
    """Return a rollout of 1.0.0 as a trace, of which what is absent is unknown."""
    trace = rollout_1_0.as_trace(_rollout_decoder()(line), ids=ids)
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
def _rollout_decoder() -> Any:  # noqa: ANN401 - a function
    given: dict[str, Any] = dict.fromkeys(("start_ns", "stdout_bytes", "stderr_bytes", "lost_bytes"), _Summand)
    given |= {"timestamp_utc": datetime | None, "stop": rollout_1_0.Stop}
    return msgspec.json.Decoder(lean(rollout_1_0.Rollout, without=frozenset(), given=given)).decode


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


def lean(record: type, *, without: frozenset[str], given: dict[str, Any]) -> Any:  # noqa: ANN401 - a structure
    """Return a structure with the fields of a record type; structures in it become lean likewise.

    Args:
        record: the type.
        without: names of fields that are left out.
        given: types of fields that are not derived; they are never left out.
    """
    fields: list[Any] = []
    for field in msgspec.structs.fields(record):
        if field.name in given:
            kind = given[field.name]
        elif field.name in without:
            continue
        else:
            kind = _lean(field.name, field.type, without=without, given=given)
        kind = kind | None if field.name in _UNSAID else kind
        if field.default_factory is not NODEFAULT:
            fields.append((field.name, kind, msgspec.field(default_factory=field.default_factory)))
        elif NoneType in get_args(kind):
            fields.append((field.name, kind, None))
        else:
            fields.append((field.name, kind) if field.required else (field.name, kind, field.default))
    return msgspec.defstruct(record.__name__, fields, frozen=True, kw_only=True, gc=False)


def _lean(name: str, kind: Any, **options: Any) -> Any:  # noqa: ANN401 - any type
    """Return the type of a field: numbers bounded, structures lean, closed sets of words open, "absent" as `None`."""
    parts = get_args(kind)
    match get_origin(kind):
        case typing.Annotated:
            return _lean(name, parts[0], **options)
        case typing.Union | types.UnionType:
            inner = [NoneType if part is UnsetType else _lean(name, part, **options) for part in parts]
            return functools.reduce(operator.or_, inner)
        case builtins.tuple:
            return tuple[_lean(name, parts[0], **options), ...]  # type: ignore[misc]
        case typing.Literal:
            return str
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return lean(kind, **options)
    numbers = {int: Count if name.endswith(("_tokens", "_n")) else Int, float: float if name in _SIGNED else Duration}
    return numbers.get(kind, kind)
