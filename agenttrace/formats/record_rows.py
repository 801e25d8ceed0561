"""Records as rows of one Parquet table of our own: every field, typed and nested, nothing left out.

The columns follow from the types of `Trace`. Objects without a fixed form (`metadata`, `environment`, `scores`) are
canonical JSON text in a column named `..._json`. What a record leaves out is null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import inspect

from agenttrace.errors import DataError
from agenttrace.formats.columns import PLAIN
from agenttrace.records import Trace, canonical_json
from agenttrace.records.compare import bare

if TYPE_CHECKING:
    import pyarrow as pa

    from agenttrace.records import RunSpec

JSON_SUFFIX = "_json"


def schema(name: str = "") -> pa.Schema:  # noqa: ARG001 - as all formats
    """Return the Arrow schema, columns in the order of the record's fields."""
    import pyarrow as pa  # noqa: PLC0415 - heavy

    return pa.schema(_fields(inspect.type_info(Trace)))


def from_trace(trace: Trace, spec: RunSpec | None = None, source: str = "") -> dict[str, Any]:  # noqa: ARG001
    """Return one row."""
    values: dict[str, Any] = msgspec.to_builtins(trace)
    for inner, name in ((values, "metadata"), (values, "environment"), (values["outcome"], "scores")):
        inner[name + JSON_SUFFIX] = canonical_json(inner.pop(name)).decode()
    return values


def to_trace(value: dict[str, Any], source: str = "") -> Trace:  # noqa: ARG001 - as all formats
    """Return a row as a record; what is null in it and may be absent is absent.

    Raises:
        DataError: it is no such row; the message names the field.
    """
    try:
        return msgspec.convert(_object(inspect.type_info(Trace), value), Trace)
    except (msgspec.MsgspecError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"not a row of records of this version: {type(error).__name__}: {error}") from error


def _object(info: inspect.Type, row: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for field in info.fields if isinstance(info, inspect.StructType) else ():
        name, kind = field.encode_name, bare(field.type)
        if isinstance(kind, inspect.DictType):
            found[name] = msgspec.json.decode(row[name + JSON_SUFFIX])
        elif row.get(name) is not None or field.required:
            found[name] = _member(kind, row.get(name))
    return found


def _member(info: inspect.Type, value: Any) -> Any:  # noqa: ANN401 - of any column
    if isinstance(info, (inspect.VarTupleType, inspect.ListType)) and value is not None:
        return [_member(bare(info.item_type), one) for one in value]
    return _object(info, value) if isinstance(info, inspect.StructType) and value is not None else value


def _fields(info: inspect.Type) -> list[tuple[str, pa.DataType]]:
    if not isinstance(info, inspect.StructType):
        raise TypeError(f"no column for {info}")
    return [_column(field.encode_name, bare(field.type)) for field in info.fields]


def _column(name: str, info: inspect.Type) -> tuple[str, pa.DataType]:
    import pyarrow as pa  # noqa: PLC0415 - heavy

    return (name + JSON_SUFFIX, pa.string()) if isinstance(info, inspect.DictType) else (name, _type(info))


def _type(info: inspect.Type) -> pa.DataType:
    import pyarrow as pa  # noqa: PLC0415 - heavy

    if isinstance(info, inspect.StructType):
        return pa.struct(_fields(info))
    if isinstance(info, (inspect.VarTupleType, inspect.ListType)):
        return pa.list_(_type(bare(info.item_type)))
    return pa.type_for_alias(PLAIN[type(info)])
