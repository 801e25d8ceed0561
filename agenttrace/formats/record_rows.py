"""Records as rows of one Parquet table of our own: every field, typed and nested, nothing left out.

The columns follow from the types of `Trace`. Objects without a fixed form (`metadata`, `environment`, `scores`) are
canonical JSON text in a column named `..._json`. What a record leaves out is null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import inspect

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
