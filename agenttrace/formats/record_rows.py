"""Records as rows of one Parquet table of our own: every field, typed and nested, nothing left out.

The columns follow from the types of `Trace`. Objects without a fixed form (`metadata`, `environment`, `scores`) are
canonical JSON text in a column named `..._json`. So a row gives the record back: `to_trace`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import inspect

from agenttrace.errors import DataError
from agenttrace.formats.columns import PLAIN, bare
from agenttrace.records import Trace, canonical_json

if TYPE_CHECKING:
    import pyarrow as pa

    from agenttrace.records import RunSpec

JSON_SUFFIX = "_json"
_OBJECTS = (((), "metadata"), ((), "environment"), (("outcome",), "scores"))
"""Where such an object stands, and its name."""


def schema(name: str = "") -> pa.Schema:  # noqa: ARG001 - as all formats
    """Return the Arrow schema, columns in the order of the record's fields."""
    import pyarrow as pa  # noqa: PLC0415 - heavy

    return pa.schema(_fields(inspect.type_info(Trace)))


def from_trace(trace: Trace, spec: RunSpec | None = None, source: str = "") -> dict[str, Any]:  # noqa: ARG001
    """Return one row."""
    values: dict[str, Any] = msgspec.to_builtins(trace)
    for way, name in _OBJECTS:
        inner = _at(values, way)
        inner[name + JSON_SUFFIX] = canonical_json(inner.pop(name)).decode()
    return values


def to_trace(row: dict[str, Any]) -> Trace:
    """Return the record that a row holds.

    Raises:
        DataError: it is no row of this table.
    """
    try:
        values = {**row, "outcome": {**row["outcome"]}}
        for way, name in _OBJECTS:
            inner = _at(values, way)
            inner[name] = msgspec.json.decode(inner.pop(name + JSON_SUFFIX))
        in_text = any(step["blocks"] is not None for step in values["llm_steps"])
        values["llm_steps"] = [_absent(step, "blocks", "counted_tokens", "answered") for step in values["llm_steps"]]
        values["spans"] = [_absent(span, "cut_chars") for span in values["spans"]]
        if not in_text and values["outcome"]["patch_note"] is None:
            values["outcome"] = _absent(values["outcome"], "patch", "patch_note")
        return msgspec.convert(_absent(values, "prepare_ms"), Trace)
    except (KeyError, TypeError, msgspec.MsgspecError) as error:
        raise DataError(f"not a row of records: {error}") from error


def _at(values: dict[str, Any], way: tuple[str, ...]) -> dict[str, Any]:
    for name in way:
        values = values[name]
    return values


def _absent(values: dict[str, Any], first: str, *others: str) -> dict[str, Any]:
    """Return an object without fields that it did not have: those of which the first, never null, is null in a row."""
    return values if values[first] is not None else {k: v for k, v in values.items() if k not in {first, *others}}


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
