"""Trajectories of mini-swe-agent v2 as rows of a table: each has what its file has, `messages` and `info` as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agenttrace.errors import DataError
from agenttrace.formats import mini_swe_1_1, mini_swe_read
from agenttrace.formats.foreign import parsed
from agenttrace.formats.tables import json_schema

if TYPE_CHECKING:
    import pyarrow as pa

    from agenttrace.records import RunSpec, Trace

_COLUMNS = {"instance_id": "text", "trajectory_format": "text", "messages": "texts", "info": "json"}


def schema(name: str = "") -> pa.Schema:  # noqa: ARG001 - as all formats
    """Return the Arrow schema, with what `datasets` reads of it: it gives `messages` and `info` as objects."""
    return json_schema(_COLUMNS)


def from_trace(trace: Trace, spec: RunSpec | None = None, source: str = "") -> dict[str, Any]:
    """Return one row."""
    found = mini_swe_1_1.from_trace(trace, spec, source)
    said = [json.dumps(one, allow_nan=False) for one in found["messages"]]
    return {
        "instance_id": found.get("instance_id"),
        "trajectory_format": found["trajectory_format"],
        "messages": said,
        "info": json.dumps(found.get("info"), allow_nan=False),
    }


def to_trace(value: dict[str, Any], source: str = "") -> Trace:
    """Return a row as a record.

    Raises:
        DataError: its columns hold no trajectory.
    """
    try:
        found = {**value, "messages": [_parsed(one) for one in value["messages"]], "info": _parsed(value.get("info"))}
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"not a row of a trajectory of mini-swe-agent: {error}") from error
    return mini_swe_read.to_trace({key: one for key, one in found.items() if one is not None}, source)


def _parsed(value: Any) -> Any:  # noqa: ANN401 - JSON text of anyone, or what it says
    return parsed(value.encode()) if isinstance(value, str) else value
