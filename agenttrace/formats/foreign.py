"""What readers of other people's formats share: JSON of anyone, and steps and calls of which not all is known."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import msgspec

from agenttrace.formats.conversation import epoch_ns
from agenttrace.records import NOT_MEASURED, LLMStep, Span, canonical_json, derived_id

_MOST_TOKENS = 2**40
_MOST = 1e15
_MOST_STATUS = 2**32
_MOST_NS = 2**63
_LONG = re.compile(rb"\d{19}")
_CONSTANT = re.compile(rb"\b(?:NaN|Infinity)\b")
_LATEST_S = 1e11
"""Seconds (the year 5138); a larger number counts milliseconds."""


def parsed(text: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Return parsed JSON as a record can hold it.

    What no UTF-8 text can hold (half of a surrogate pair) becomes U+FFFD, an integer of more than 64 bits a float, or
    text beyond those.

    Raises:
        msgspec.DecodeError: it is no JSON; `NaN` and `Infinity` are not.
        RecursionError: it is nested too deeply.
    """
    found = _decoded(text)
    return _bounded(found) if _LONG.search(text) else found


def parsed_with_constants(text: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Return parsed JSON likewise; `NaN` and `Infinity`, which Python writes for a figure that is none, are null.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is nested too deeply.
    """
    try:
        return parsed(text)
    except msgspec.DecodeError:
        if not _CONSTANT.search(text):
            raise
        return parsed(json.dumps(json.loads(text, parse_constant=lambda _: None)).encode())


def _decoded(text: bytes) -> Any:  # noqa: ANN401 - any JSON value
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


def _bounded(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {key: _bounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_bounded(one) for one in value]
    if isinstance(value, int) and not -_MOST_NS <= value < 2 * _MOST_NS:
        return float(value) if abs(value) < sys.float_info.max else str(value)
    return value


NEVER = "1970-01-01T00:00:00+00:00"
"""Where another format needs a time and there is none."""
UNTIMED: dict[str, Any] = {"duration_ms": None, "start_ns": None, "end_ns": None}
"""Times of a generation, of a format that has none."""


def fitting(value: Any, kind: Any) -> Any:  # noqa: ANN401 - any JSON value, any type
    """Return a value that others wrote, or `None` where it is not of the type."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError):
        return None


def text_of(content: Any) -> str:  # noqa: ANN401 - text, parts or nothing
    """Return the content of a message as text; a part that is no text is named there, what is no part is JSON."""
    if isinstance(content, list):
        return "\n".join(map(_part, content))
    return content if isinstance(content, str) else "" if content is None else json.dumps(content)


def _part(part: Any) -> str:  # noqa: ANN401 - as above
    if not isinstance(part, dict):
        return text_of(part)
    found = next((part[key] for key in ("text", "refusal") if isinstance(part.get(key), str)), None)
    return found if found is not None else f"[{part['type']}]" if "type" in part else json.dumps(part)


def at(value: Any, *keys: str) -> Any:  # noqa: ANN401 - as above
    """Return what stands in objects within objects; `None` where there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def tokens(value: Any) -> int | None:  # noqa: ANN401 - as above
    """Return a number of tokens; what is none is not known."""
    value = _whole(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS else None


def exit_status(value: Any) -> int | None:  # noqa: ANN401 - as above
    """Return the exit status of a call likewise."""
    value = _whole(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MOST_STATUS else None


def _whole(value: Any) -> Any:  # noqa: ANN401 - as above
    """Return a number without a fraction, as tables write integers beside nothing, as the integer that it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def amount(value: Any) -> float | None:  # noqa: ANN401 - as above
    """Return a number of seconds, milliseconds or dollars likewise."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if number and 0 <= value <= _MOST else None


def dollars(value: Any) -> float | None:  # noqa: ANN401 - as above
    """Return a cost likewise, of a kit that writes 0 where it knows no price."""
    return amount(value) or None


def moment_ns(value: Any) -> int | None:  # noqa: ANN401 - as above
    """Return a moment likewise, nanoseconds since the Unix epoch: of ISO 8601 text, of seconds or of milliseconds."""
    number = amount(value)
    if isinstance(value, str):
        found = epoch_ns(value)
    elif number is None:
        return None
    else:
        found = round(number * 1_000_000) * (1 if number > _LATEST_S else 1000)
    return found if found is not None and 0 <= found < _MOST_NS else None


def between(before: int | None, after: int | None) -> dict[str, Any]:
    """Return the times of what began at a moment and ended at another, as far as they are known and in order."""
    if before is None or after is None or after < before:
        return {"end_ns": after}
    return {"start_ns": before, "end_ns": after, "duration_ms": (after - before) / 1e6}


def json_text(value: Any) -> str:  # noqa: ANN401 - as above
    """Return the arguments of a call as text: a text as it stands, an object as JSON, nothing as an empty object."""
    if value is None:
        return "{}"
    return value if isinstance(value, str) else canonical_json(value).decode()


def foreign_step(trace_id: str, number: int, **known: Any) -> LLMStep:  # noqa: ANN401 - fields of a step
    """Return a generation of a format that has not all fields; `known` are those that it has."""
    return LLMStep(**{**UNTIMED, "step_id": derived_id(trace_id, "step", number), "step_number": number, **known})


def foreign_span(step: LLMStep | None, **known: Any) -> Span:  # noqa: ANN401 - fields of a span
    """Return a call of a generation likewise: what it does not say of times, costs and ends is not known."""
    unsaid = {"telemetry": NOT_MEASURED, "exit_code": None, "status": "ok"}
    parent = None if step is None else step.step_id
    return Span(**{**UNTIMED, **unsaid, "type": "TOOL", "parent_span_id": parent, **known})
