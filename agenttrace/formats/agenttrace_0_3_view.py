"""The Parquet view of AgentTrace 0.3.0: fourteen columns, spans, steps and metadata as JSON text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.errors import DataError
from agenttrace.formats import agenttrace_0_3
from agenttrace.formats.agenttrace_0_3_row import ReleasedRow
from agenttrace.formats.patch import imported

if TYPE_CHECKING:
    import pyarrow as pa

    from agenttrace.records import RunSpec, Trace

COLUMNS: dict[str, str] = {
    "trace_id": "string",
    "timestamp_utc": "string",
    "prompt": "string",
    "model": "string",
    "dataset_name": "string",
    "task_id": "int64",
    "run_id": "string",
    "total_duration_ms": "double",
    "tool_span_count": "int64",
    "llm_step_count": "int64",
    "spans_json": "string",
    "llm_steps_json": "string",
    "metadata_json": "string",
    "raw_file": "string",
}
"""Column → Arrow type, in the order of the released file."""

_JSON = {"spans_json": "spans", "llm_steps_json": "llm_steps", "metadata_json": "metadata"}


def view(row: dict[str, Any], raw_file: str) -> dict[str, Any]:
    """Return a 0.3.0 row as a row of the view.

    Raises:
        DataError: it has another form than such a row.
    """
    metadata, spans, steps = (row.get(key) for key in ("metadata", "spans", "llm_steps"))
    if not (isinstance(metadata, dict) and isinstance(spans, list) and isinstance(steps, list)):
        raise DataError(f"the row {row.get('trace_id')!r} has no metadata, spans or steps, as the view needs them")
    task_id = metadata.get("task_id")
    found = {
        **row,
        "dataset_name": metadata.get("dataset_name"),
        "task_id": task_id if isinstance(task_id, int) else None,  # a text has no column
        "run_id": metadata.get("run_id"),
        **{name: json.dumps(row[key]) for name, key in _JSON.items()},
        "tool_span_count": len(spans),
        "llm_step_count": len(steps),
        "raw_file": raw_file,
    }
    return {name: found.get(name) for name in COLUMNS}


def row_of(found: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the view as a 0.3.0 row: eight keys.

    Raises:
        DataError: a column is missing or holds no JSON.
    """
    try:
        inner = {key: msgspec.json.decode(found[name]) for name, key in _JSON.items()}
        return {key: inner[key] if key in inner else found[key] for key in ReleasedRow.__struct_fields__}
    except (KeyError, TypeError, msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise DataError(f"not a row of the AgentTrace 0.3.0 view: {type(error).__name__}: {error}") from error


def schema(name: str = "") -> pa.Schema:  # noqa: ARG001 - as all formats
    """Return the Arrow schema of the view."""
    import pyarrow as pa  # noqa: PLC0415 - heavy

    return pa.schema([(column, pa.type_for_alias(kind)) for column, kind in COLUMNS.items()])


def from_trace(trace: Trace, spec: RunSpec | None = None, source: str = "") -> dict[str, Any]:
    """Return a record as a row of the view; `raw_file` is what an earlier reading kept, else the record file."""
    raw_file = imported(trace).get("raw_file")
    return view(agenttrace_0_3.from_trace(trace, spec), raw_file or f"datasets/{source}")


def to_trace(value: dict[str, Any], source: str = "") -> Trace:  # noqa: ARG001 - as all formats
    """Return a row of the view as a record.

    Raises:
        DataError: it is none.
    """
    trace = agenttrace_0_3.to_trace(row_of(value))
    kept = {**trace.environment["imported"], "raw_file": value.get("raw_file")}
    return msgspec.structs.replace(trace, environment={**trace.environment, "imported": kept})
