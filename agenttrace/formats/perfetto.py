"""Records as a Perfetto trace: model, tools, CPU and memory on one axis; opens in ui.perfetto.dev and trace processor.

Source: google/perfetto, `protos/perfetto/trace` (`TracePacket`, `TrackDescriptor`, `TrackEvent`), protobuf's encoding.
A record is a process; its tracks are the generations, the calls, the CPU and the memory of the calls. Calls that ran at
once lie on tracks of their own, as slices of one track may only nest. Time is the wall clock of the record, so records
of several workers lie beside each other.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.errors import DataError
from agenttrace.formats.otlp import timeline

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from agenttrace.formats import Sourced
    from agenttrace.formats.conversation import Turn
    from agenttrace.formats.otlp import Times
    from agenttrace.records import Span, Trace

_TEXT_CHARS = 4096
"""What is shown of a text; a timeline is no place for all of it."""
_BEGIN, _END, _COUNTER = 1, 2, 4
_BYTES = 3
"""`CounterDescriptor.Unit`: bytes."""
_MOST = 1 << 63


def write(records: Iterable[Sourced], output: Path) -> dict[str, int]:
    """Write all records into one trace and return how many.

    Raises:
        DataError: a time of a record is none that a trace can hold.
    """
    number = 0
    with output.open("wb") as file:
        for number, record in enumerate(records, start=1):
            try:
                for packet in _packets(record.trace, number):
                    file.write(_message(1, packet))
            except OverflowError as error:
                named = f"{record.source}, trace {record.trace.trace_id[:60]!r}"
                raise DataError(f"{named} cannot be written: {error}") from error
    return {output.name: number}


def _packets(trace: Trace, number: int) -> Iterator[bytes]:
    """Yield the packets of a record, which is the `number`-th process."""
    process, model = _track(trace, "process"), _track(trace, "model")
    cpu, memory = _track(trace, "cpu"), _track(trace, "memory")
    named = trace.metadata.get("task_name") or trace.metadata.get("task_id") or trace.prompt[:80]
    name = f"{named} ({trace.trace_id[:8]})"
    yield _described(_uint(1, process) + _message(3, _uint(1, number) + _text(6, name)), first=number == 1)
    yield _described(_uint(1, model) + _uint(5, process) + _text(2, f"model: {trace.model}"))
    cores = _message(8, _text(6, "cores"))
    yield _described(_uint(1, cpu) + _uint(5, process) + _text(2, "CPU of calls (cores, mean of each)") + cores)
    size = _message(8, _uint(3, _BYTES))
    yield _described(_uint(1, memory) + _uint(5, process) + _text(2, "memory of calls (peak RSS of each)") + size)
    lanes: list[int] = []
    for turn, times, calls in timeline(trace).turns:
        yield from _slice(model, f"generation {turn.step.step_number}", times, _said(turn))
        for span, spent in zip(turn.spans, calls, strict=True):
            lane = next((at for at, end in enumerate(lanes) if end <= spent.start), len(lanes))
            track = _track(trace, f"tools {lane}")
            if lane == len(lanes):
                lanes.append(0)
                yield _described(_uint(1, track) + _uint(5, process) + _text(2, f"tools {lane + 1}"))
            lanes[lane] = spent.end
            yield from _slice(track, span.tool_name, spent, _called(span))
            yield from _counted(cpu, spent, _cores(span))
            yield from _counted(memory, spent, span.telemetry.max_rss_bytes)


def _track(trace: Trace, name: str) -> int:
    """Return the id of a track: 63 bits of the SHA-256 of the trace id and its name."""
    return int.from_bytes(hashlib.sha256(f"{trace.trace_id}\n{name}".encode()).digest()[:8], "big") >> 1


def _cores(span: Span) -> float | None:
    """Return how many cores a call kept busy in the mean; unknown where no time passed."""
    cost = span.telemetry
    if cost.user_time_s is None or cost.system_time_s is None or not cost.wall_ns or cost.wall_ns < 0:
        return None
    return (cost.user_time_s + cost.system_time_s) / (cost.wall_ns / 1e9)


def _said(turn: Turn) -> dict[str, Any]:
    step = turn.step
    timings = {} if step.timings is None else msgspec.to_builtins(step.timings)
    return {
        "input_tokens": step.input_tokens,
        "output_tokens": step.output_tokens,
        "finish_reason": step.finish_reason,
        "calls": len(step.tool_calls or ()),
        **timings,
        "reasoning": step.reasoning_content,
        "text": step.model_output,
    }


def _called(span: Span) -> dict[str, Any]:
    cost = {name: one for name, one in msgspec.to_builtins(span.telemetry).items() if one != []}
    return {
        "call_id": span.call_id,
        "input": span.tool_input,
        "output": span.tool_output,
        "status": span.status,
        "exit_code": span.exit_code,
        "signal": span.signal,
        "duration_ms": span.duration_ms,
        **cost,
    }


def _slice(track: int, name: str, times: Times, facts: dict[str, Any]) -> Iterator[bytes]:
    facts = {**facts, "time": "recorded" if times.recorded else "laid out"}
    notes = b"".join(_message(4, _note(key, value)) for key, value in facts.items() if value is not None)
    yield _event(times.start, _uint(9, _BEGIN) + _uint(11, track) + _text(23, name) + notes)
    yield _event(times.end, _uint(9, _END) + _uint(11, track))


def _counted(track: int, times: Times, value: float | None) -> Iterator[bytes]:
    """Yield a counter that has a value while a call runs and is 0 after it; none where it was not measured."""
    if value is None:
        return
    for moment, one in ((times.start, value), (times.end, 0)):
        yield _event(moment, _uint(9, _COUNTER) + _uint(11, track) + _double(44, float(one)))


def _note(key: str, value: Any) -> bytes:  # noqa: ANN401 - a fact of any kind
    """Return a `DebugAnnotation`."""
    named = _text(10, key)
    if isinstance(value, bool):
        return named + _uint(2, int(value))
    if isinstance(value, int) and -_MOST <= value < _MOST:
        return named + _uint(4, value % (1 << 64))
    if isinstance(value, float):
        return named + _double(5, value)
    return named + _text(6, value if isinstance(value, str) else msgspec.json.encode(value).decode())


def _described(descriptor: bytes, *, first: bool = False) -> bytes:
    """Return a packet of a `TrackDescriptor`; the first packet of a file says that nothing stands before it."""
    return _message(60, descriptor) + _uint(10, 1) + (_uint(13, 1) if first else b"")


def _event(moment_ns: int, event: bytes) -> bytes:
    if not 0 <= moment_ns < _MOST:
        raise OverflowError("a time lies outside of those of a trace (nanoseconds since 1970, 63 bits)")
    return _uint(8, moment_ns) + _uint(10, 1) + _message(11, event)


def _uint(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _text(field: int, text: str) -> bytes:
    return _message(field, text[:_TEXT_CHARS].encode("utf-8", "replace"))


def _message(field: int, body: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
