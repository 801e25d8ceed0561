"""One row of AgentTrace 0.3.0, decoded: the one description of that form, from which every reader maps.

Unknown keys are passed over, and what the tracing module of that version had a default for may be missing. What names
a trace, a step or a call may not, and no field may have another type.
"""

from __future__ import annotations

from typing import Any

import msgspec

from agenttrace.errors import DataError
from agenttrace.formats.figures import Count, Duration, Int  # noqa: TC001 - msgspec resolves them
from agenttrace.formats.metadata_0_3 import VERSION

FINAL_ANSWER = "final_answer"
REFUSED = -1
"""Exit code of a call that a filter refused: nothing ran."""


class _Lean(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base: immutable and not tracked by the garbage collector, as none of it can form a cycle."""


class Cost(_Lean, frozen=True, kw_only=True, gc=False):
    """Usage of the collecting process and its children around a call; peak memory is that of their whole lives."""

    user_time_s: Duration | None = None
    system_time_s: Duration | None = None
    max_rss_bytes: Int | None = None
    read_bytes: Int | None = None
    write_bytes: Int | None = None


class Span(_Lean, frozen=True, kw_only=True, gc=False):
    """One call; times count from an unknown instant, `tool_input` is a Python repr (see `python_call`)."""

    span_id: str
    tool_name: str
    tool_input: str = ""
    tool_output: str = ""
    start_ns: Int | None = None
    end_ns: Int | None = None
    duration_ms: Duration = 0.0
    telemetry: Cost = Cost()
    exit_code: Int = 0

    @property
    def ran(self) -> bool:
        """Whether a process ran: no answer, and not refused."""
        return self.tool_name != FINAL_ANSWER and self.exit_code != REFUSED


class Call(_Lean, frozen=True, kw_only=True, gc=False):
    """A call as the model proposed it; it has no id."""

    name: str
    arguments: Any = None


class Step(_Lean, frozen=True, kw_only=True, gc=False):
    """One generation of the model; in the released rows `duration_ms` is `null`."""

    step_id: str
    step_number: Int
    model_output: str | None = None
    reasoning_content: str | None = None
    tool_calls: tuple[Call, ...] | None = None
    duration_ms: Duration | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None


class Row(_Lean, frozen=True, kw_only=True, gc=False):
    """One trace: the eight keys of that version."""

    trace_id: str
    timestamp_utc: str
    prompt: str
    model: str
    spans: tuple[Span, ...]
    llm_steps: tuple[Step, ...]
    total_duration_ms: Duration = 0.0
    metadata: dict[str, Any]


_decode = msgspec.json.Decoder(Row).decode


def decode(line: bytes) -> Row:
    """Return the row of a line of JSON.

    Raises:
        DataError: it is none of that version; the message names the field.
    """
    try:
        return _checked(_decode(line))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"not a row of AgentTrace {VERSION}: {error}") from None


def convert(value: Any) -> Row:  # noqa: ANN401 - whatever stood in the line
    """Return the row that a JSON value is.

    Raises:
        DataError: as `decode`.
    """
    try:
        return _checked(msgspec.convert(value, Row))
    except (msgspec.ValidationError, RecursionError) as error:
        raise DataError(f"not a row of AgentTrace {VERSION}: {error}") from None


def _checked(row: Row) -> Row:
    if (version := row.metadata.get("schema_version")) != VERSION:
        said = "nothing" if version is None else repr(version)[:40]
        raise DataError(f"not a row of AgentTrace {VERSION}: its metadata says {said} as `schema_version`")
    return row
