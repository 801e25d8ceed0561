"""Records of ours, of any schema: what every format that is read becomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.errors import DataError
from agenttrace.records import Trace, rollout_1_0

if TYPE_CHECKING:
    from agenttrace.records import RunSpec


def from_trace(trace: Trace, spec: RunSpec | None = None, source: str = "") -> Trace:  # noqa: ARG001 - as all formats
    """Return a record as it is, what other formats are read into; one of a rollout file says that it was one."""
    return rollout_1_0.as_imported(trace) if rollout_1_0.is_read(trace) else trace


def to_trace(value: Any, source: str = "") -> Trace:  # noqa: ANN401, ARG001 - parsed JSON; as all formats
    """Return the record of a JSON value.

    Raises:
        DataError: it is none; the message names the field.
    """
    try:
        if "rollout_id" in value and "trace_id" not in value:
            return rollout_1_0.as_trace(msgspec.convert(value, rollout_1_0.Rollout))
        return msgspec.convert(value, Trace)
    except (msgspec.ValidationError, RecursionError) as error:
        raise DataError(f"not a trace record: {error}") from error
