"""What our writing says beyond a format of messages, under the key `agenttrace` where other readers ignore it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from agenttrace.formats.conversation import outcome_of
from agenttrace.formats.foreign import fitting
from agenttrace.records import Outcome, SpanStatus, Telemetry, Timings, Totals

if TYPE_CHECKING:
    from agenttrace.records import LLMStep, Span, Trace

OURS = "agenttrace"
"""The key."""


class OwnRun(msgspec.Struct):
    """What it says of a whole run."""

    metadata: dict[str, Any] = {}
    outcome: Outcome = Outcome(ended="unknown")
    total_duration_ms: float | UnsetType | None = UNSET
    timestamp_utc: str | UnsetType | None = UNSET
    totals: Totals | UnsetType | None = UNSET

    @property
    def known(self) -> dict[str, Any]:
        """The fields of the record that it has, beside metadata and outcome."""
        names = ("total_duration_ms", "timestamp_utc", "totals")
        return {name: one for name in names if (one := getattr(self, name)) is not UNSET and one is not None}


class _Measured(msgspec.Struct):
    """What it says of a reply, and of a result; what is absent there is told by the format itself."""

    start_ns: int | UnsetType | None = UNSET
    end_ns: int | UnsetType | None = UNSET
    duration_ms: float | UnsetType | None = UNSET
    finish_reason: str | UnsetType | None = UNSET
    timings: Timings | UnsetType | None = UNSET
    exit_code: int | UnsetType | None = UNSET
    status: SpanStatus | UnsetType = UNSET
    signal: int | UnsetType | None = UNSET
    telemetry: Telemetry | UnsetType = UNSET


def own_fields(measured: Any, known: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - JSON of anyone
    """Return fields of a step or a span: those of which our writing says what was measured, else those known."""
    found = fitting(measured, _Measured)
    said = {} if found is None else msgspec.structs.asdict(found)
    return {**known, **{name: one for name, one in said.items() if one is not UNSET}}


def of_run(trace: Trace) -> dict[str, Any]:
    """Return what is said of a whole run; its metadata stand where the format has a place for them."""
    return {
        "outcome": {**outcome_of(trace), "changes": None},
        "total_duration_ms": trace.total_duration_ms,
        "timestamp_utc": trace.timestamp_utc,
        **totals_of(trace),
    }


def totals_of(trace: Trace) -> dict[str, Any]:
    """Return the figures of a whole run of another format, as its member `totals`; nothing of a record of ours."""
    return {"totals": msgspec.to_builtins(trace.totals)} if trace.totals else {}


def of_step(step: LLMStep) -> dict[str, Any]:
    """Return what is said of a reply."""
    return _picked(step, ("finish_reason", "start_ns", "end_ns", "duration_ms", "timings"))


def of_span(span: Span) -> dict[str, Any]:
    """Return what is said of a result."""
    return _picked(span, ("exit_code", "status", "signal", "start_ns", "end_ns", "duration_ms", "telemetry"))


def _picked(value: LLMStep | Span, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: msgspec.to_builtins(getattr(value, name)) for name in names}
