"""Decodes one line of a record file, of schema 1.x, into only what the tables need.

Other kinds of records have a module of their own, which makes a `Row` of theirs: `release_rows`, `rollout_rows`.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - msgspec resolves the annotations
from typing import Literal

import msgspec

from agenttrace.errors import DataError
from agenttrace.formats.figures import Count, Duration, Int  # noqa: TC001 - msgspec resolves them
from agenttrace.formats.metadata_0_3 import VERSION as RELEASED


class _Lean(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base: immutable and not tracked by the garbage collector, as none of it can form a cycle.

    Sequences are tuples for the same reason: the collector stops tracking a tuple of what it does not track.
    """


class Telemetry(_Lean, frozen=True, kw_only=True, gc=False):
    """See `agenttrace.records.Telemetry`."""

    user_time_s: Duration | None = None
    system_time_s: Duration | None = None
    max_rss_bytes: Int | None = None
    read_bytes: Int | None = None
    write_bytes: Int | None = None
    method: str
    wall_ns: Int | None = None
    cleanup_ns: Int | None = None
    cpu_unattributed_ns: Int | None = None
    peak_rss_floor_bytes: Int | None = None
    cancelled_write_bytes: Int | None = None
    read_chars: Int | None = None
    write_chars: Int | None = None
    leftover_count: Int | None = None
    tree_rss_peak_bytes: Int | None = None
    cgroup_memory_peak_bytes: Int | None = None


class Output(_Lean, frozen=True, kw_only=True, gc=False):
    """See `agenttrace.records.Output`; the text is not read."""

    bytes_total: Int
    bytes_kept: Int


class Span(_Lean, frozen=True, kw_only=True, gc=False):
    """See `agenttrace.records.Span`."""

    span_id: str
    tool_name: str
    tool_input: str
    start_ns: Int | None
    end_ns: Int | None
    duration_ms: Duration
    telemetry: Telemetry
    exit_code: Int | None = None
    parent_span_id: str | None = None
    call_id: str | None = None
    status: str | None = None
    signal: Int | None = None
    stdout: Output | None = None
    stderr: Output | None = None


class Timings(_Lean, frozen=True, kw_only=True, gc=False):
    """See `agenttrace.records.Timings`."""

    prompt_n: Count | None = None
    prompt_ms: Duration | None = None
    predicted_n: Count | None = None
    predicted_ms: Duration | None = None
    cached_n: Count | None = None


class Nothing(_Lean, frozen=True, kw_only=True, gc=False):
    """An object of which only the presence counts."""


class Step(_Lean, frozen=True, kw_only=True, gc=False):
    """See `agenttrace.records.LLMStep`."""

    step_id: str
    step_number: Int
    tool_calls: tuple[Nothing, ...] | None = None
    duration_ms: Duration | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    start_ns: Int | None = None
    end_ns: Int | None = None
    finish_reason: str | None = None
    timings: Timings | None = None


class Verdict(_Lean, frozen=True, kw_only=True, gc=False):
    """See `agenttrace.records.Verdict`."""

    aspect: str
    verdict: Literal["passed", "failed", "not_gradable"]


class Outcome(_Lean, frozen=True, kw_only=True, gc=False):
    """See `agenttrace.records.Outcome`."""

    ended: str
    final_answer: str | None = None
    verdicts: tuple[Verdict, ...] = ()
    solved: bool | None = None
    scores: dict[str, float] = {}


class Hardware(_Lean, frozen=True, kw_only=True, gc=False):
    """The machine, where it was recorded."""

    cpu: str | None = None


class Environment(_Lean, frozen=True, kw_only=True, gc=False):
    """See `Trace.environment`; 0.3.0 has the same keys in its metadata."""

    platform: str | None = None
    hardware: Hardware | None = None


class Metadata(Environment, frozen=True, kw_only=True, gc=False):
    """What names a run and its task."""

    schema_version: str
    run_id: str | None = None
    dataset_name: str | None = None
    task_id: Int | str | None = None
    task_name: str | None = None
    task_kind: str | None = None
    rollout_index: Int | None = None
    quantization: str | None = None
    demo: bool | None = None
    synthetic: bool | None = None
    serving_profile: str | None = None
    seed: Int | None = None
    temperature: float | None = None
    max_steps: Int | None = None


class Row(_Lean, frozen=True, kw_only=True, gc=False):
    """One trace; `outcome` and `environment` are `None` where it is of AgentTrace 0.3.0."""

    trace_id: str
    timestamp_utc: datetime
    prompt: str
    model: str
    spans: tuple[Span, ...]
    llm_steps: tuple[Step, ...]
    total_duration_ms: Duration
    metadata: Metadata
    environment: Environment | None = None
    outcome: Outcome | None = None


_decode = msgspec.json.Decoder(Row).decode


def decode(line: bytes) -> Row:
    """Return the row of a line of schema 1.x.

    Raises:
        DataError: it is none; the message says what is wrong with which field.
    """
    try:
        row = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        cut = "" if line.endswith(b"\n") else "; the line is cut off"
        raise DataError(f"not a trace record: {error}{cut}") from None
    version = row.metadata.schema_version
    if not version.startswith("1."):
        raise DataError(f"a record of schema {version[:20]!r}; this version reads 1.x and {RELEASED}")
    if row.outcome is None:
        raise DataError("a record of schema 1.x without `outcome`")
    return row
