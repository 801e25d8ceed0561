"""Reads one JSON value of whatever format, which says itself what it is; what no other format says is not known."""

from __future__ import annotations

import codecs
import json
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.errors import DataError, UsageError
from agenttrace.records import NOT_MEASURED, LLMStep, Span, Trace, derived_id, rollout_1_0
from agenttrace.store.opening import opened, other_kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agenttrace.records import RunSpec


def from_trace(trace: Trace, spec: RunSpec | None = None, source: str = "") -> Trace:  # noqa: ARG001 - as all formats
    """Return a record as it is, what other formats are read into; one of a rollout file says that it was one."""
    return rollout_1_0.as_imported(trace) if rollout_1_0.is_read(trace) else trace


def to_trace(raw: Any) -> Trace:  # noqa: ANN401 - parsed JSON
    """Return a JSON value as a record: ours of any schema, ATIF, mini-swe-agent v1, else AgentTrace 0.3.0.

    Raises:
        DataError: it is not what it says it is; the message names the field.
    """
    try:
        if isinstance(raw, dict) and "outcome" in raw:
            return msgspec.convert(raw, Trace)
        if isinstance(raw, dict) and "rollout_id" in raw:
            return rollout_1_0.as_trace(msgspec.convert(raw, rollout_1_0.Rollout))
    except msgspec.ValidationError as error:
        raise DataError(str(error)) from error
    found: Trace = import_module(f"agenttrace.formats.{_module(raw)}").to_trace(raw)
    return found


def _module(raw: Any) -> str:  # noqa: ANN401 - as above
    said = raw if isinstance(raw, dict) else {}
    if str(said.get("schema_version", "")).startswith("ATIF-"):
        return "atif"
    if str(said.get("trajectory_format", "")).startswith("mini-swe-agent-1"):
        return "mini_swe"
    return "agenttrace_0_3"


def parsed(text: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Return parsed JSON; what no UTF-8 text can hold (half of a surrogate pair) becomes U+FFFD.

    Raises:
        msgspec.DecodeError: it is no JSON; `NaN` and `Infinity` are not.
        RecursionError: it is nested too deeply.
    """
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        if b"\\ud" not in text.lower():
            raise
        try:
            # The standard library takes half a pair as it is: written to a file it would be an error much later.
            found = json.dumps(json.loads(text), ensure_ascii=False, allow_nan=False)
            return json.loads(found.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
        except ValueError:
            raise error from None


def read_whole(path: Path) -> Iterator[Trace]:
    """Yield the records of a `.json` file: one value, or a list of them.

    Raises:
        DataError: it holds something else.
        UsageError: it cannot be read, or is a run spec.
    """
    if why := other_kind(path, b""):
        raise UsageError(f"cannot read {path}: {why}")
    try:
        with opened(path) as file:
            raw = parsed(file.read().removeprefix(codecs.BOM_UTF8))
        for number, value in enumerate(raw if isinstance(raw, list) else [raw], start=1):
            try:
                yield to_trace(value)
            except DataError as error:
                raise DataError(f"{path}, value {number}: {error}") from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from error


UNTIMED: dict[str, Any] = {"duration_ms": None, "start_ns": None, "end_ns": None}
"""Times of a generation, of a format that has none."""


def fitting(value: Any, kind: Any) -> Any:  # noqa: ANN401 - any JSON value, any type
    """Return a value that others wrote, or `None` where it is not of the type."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError):
        return None


def text_of(content: Any) -> str:  # noqa: ANN401 - text, parts or nothing
    """Return the content of a message as text; a part that is no text is named in its place."""
    if isinstance(content, list):
        return "\n".join(map(_part, content))
    return content if isinstance(content, str) else "" if content is None else json.dumps(content)


def _part(part: Any) -> str:  # noqa: ANN401 - as above
    said = part if isinstance(part, dict) else {}
    return said["text"] if isinstance(said.get("text"), str) else f"[{said.get('type', 'unknown')}]"


def foreign_step(trace_id: str, number: int, **known: Any) -> LLMStep:  # noqa: ANN401 - fields of a step
    """Return a generation of a format that has not all fields; `known` are those that it has."""
    return LLMStep(**{**UNTIMED, "step_id": derived_id(trace_id, "step", number), "step_number": number, **known})


def foreign_span(step: LLMStep | None, **known: Any) -> Span:  # noqa: ANN401 - fields of a span
    """Return a call of a generation likewise: what it does not say of times, costs and ends is not known."""
    unsaid = {"duration_ms": 0.0, "telemetry": NOT_MEASURED, "exit_code": -1, "status": "ok"}
    parent = None if step is None else step.step_id
    return Span(**{**UNTIMED, **unsaid, "type": "TOOL", "parent_span_id": parent, **known})
