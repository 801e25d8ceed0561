"""Makes the row that the tables are made of from a row of AgentTrace 0.3.0; that version has no outcome."""

from __future__ import annotations

from datetime import datetime

import msgspec

from agenttrace.analysis.rows import Metadata, Nothing, Row, Span, Step, Telemetry
from agenttrace.errors import DataError
from agenttrace.formats import agenttrace_0_3_row as release

METHOD = "rusage-0.3.0"
"""`method` of its spans: usage of the collector and its children, peak memory of their whole lives."""


def decode_release(line: bytes) -> Row:
    """Return the row of a line of AgentTrace 0.3.0.

    Raises:
        DataError: it is no row of that version; the message says what is wrong with which field.
    """
    found = release.decode(line)
    try:
        return Row(
            trace_id=found.trace_id,
            timestamp_utc=msgspec.convert(found.timestamp_utc, datetime),
            prompt=found.prompt,
            model=found.model,
            spans=tuple(map(_span, found.spans)),
            llm_steps=tuple(map(_step, found.llm_steps)),
            total_duration_ms=found.total_duration_ms,
            metadata=msgspec.convert(found.metadata, Metadata),
        )
    except msgspec.ValidationError as error:
        raise DataError(f"not a row of AgentTrace 0.3.0: `timestamp_utc` or `metadata`: {error}") from None


def _span(span: release.Span) -> Span:
    cost = span.telemetry
    return Span(
        span_id=span.span_id,
        tool_name=span.tool_name,
        tool_input=span.tool_input,
        start_ns=span.start_ns,
        end_ns=span.end_ns,
        duration_ms=span.duration_ms,
        telemetry=Telemetry(
            user_time_s=cost.user_time_s,
            system_time_s=cost.system_time_s,
            max_rss_bytes=cost.max_rss_bytes,
            read_bytes=cost.read_bytes,
            write_bytes=cost.write_bytes,
            method=METHOD,
        ),
        exit_code=span.exit_code,
    )


def _step(step: release.Step) -> Step:
    return Step(
        step_id=step.step_id,
        step_number=step.step_number,
        tool_calls=None if step.tool_calls is None else (_CALL,) * len(step.tool_calls),
        duration_ms=step.duration_ms,
        input_tokens=step.input_tokens,
        output_tokens=step.output_tokens,
    )


_CALL = Nothing()
