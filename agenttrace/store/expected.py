"""What a field of a record is, in most records, by what other fields of it say: the rules of the lean form.

A record is columns here, by the name of a kind and a field (`step.duration_ms`: one value a step), texts as their JSON.
Beside fields there are: `trace_id`; of each kind in `INSIDE` how many each step or span has (`call.counts`) and the
step or span that each is in (`call.in`); of both outputs where they stand in what the model was shown (`stdout.at`).
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from agenttrace.records import derived_ids

if TYPE_CHECKING:
    from collections.abc import Callable

Column = list[Any]
Columns = dict[str, Column]

NULL = b"null"
INSIDE = {
    "call": "step.tool_calls",
    "timings": "step.timings",
    "telemetry": "span.telemetry",
    "stdout": "span.stdout",
    "stderr": "span.stderr",
}
"""Kind → the field that holds it; of calls a step may hold several."""


def between(times: Column) -> Column:
    """Return the first time and how long after one the next is; `added` gives the times back."""
    if any(type(time) is not int for time in times):
        return times
    return [*times[:1], *(after - before for before, after in pairwise(times))]


def added(times: Column) -> Column:
    """Return the times that `between` was given."""
    return times if any(type(time) is not int for time in times) else list(accumulate(times))


def _nanoseconds(duration_ms: float | None) -> int:
    return 0 if duration_ms is None else round(duration_ms * 1e6)


def _after(starts: Column, durations: Column) -> Column:
    pairs = zip(starts, durations, strict=True)
    return [None if start is None else start + _nanoseconds(duration) for start, duration in pairs]


def _waits(known: Columns) -> Column:
    """How long after its start a step and the calls that it proposed are done: when the next one starts."""
    waits = list(map(_nanoseconds, known["step.duration_ms"]))
    for step, duration in zip(known["call.in"], known["span.duration_ms"], strict=False):
        waits[step] += _nanoseconds(duration)
    return [None, *waits][: len(waits)]


def _outer(known: Columns, kind: str, field: str) -> Column:
    """A field of the step or span that each of a kind is in."""
    column = known[f"{INSIDE[kind].partition('.')[0]}.{field}"]
    return [column[number] for number in known[f"{kind}.in"]]


def _of_call(known: Columns, column: Column) -> Column:
    """A column of calls, for each span: they are carried out in order."""
    count = len(known["telemetry.counts"])
    return [*column[:count], *[None] * (count - len(column))]


def _ids(known: Columns, parts: Column) -> Column:
    (trace_id,) = known["trace_id"]
    return derived_ids(trace_id, parts)


def _call_ids(known: Columns) -> Column:
    numbers = (number for count in known["call.counts"] for number in range(1, count + 1))
    return [f"call_{step}_{number}" for step, number in zip(_outer(known, "call", "step_number"), numbers, strict=True)]


def _arguments(known: Columns) -> Column:
    """The bash block of each reply with a single call, as the argument of a command."""
    found = []
    for step, reply in zip(known["call.in"], _outer(known, "call", "model_output"), strict=True):
        block, end, _ = reply.partition(b"```bash\\n")[2].partition(b"\\n```")
        single = end and known["call.counts"][step] == 1  # else a long reply could be asked for again and again
        text = block.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        found.append(b'"{\\"command\\":\\"%b\\"}"' % text if single else NULL)
    return found


def _canonical(arguments: bytes) -> bytes:
    """Arguments that a server wrote with a blank, without it."""
    return arguments.replace(b'\\": \\"', b'\\":\\"', 1)


def _unprocessed(known: Columns) -> Column:
    """Tokens of each prompt that were not in the cache."""
    pairs = zip(_outer(known, "timings", "input_tokens"), known["timings.cached_n"], strict=True)
    return [None if prompt is None else prompt - (cached or 0) for prompt, cached in pairs]


def _scaled(column: Column, by: float) -> Column:
    return [None if value is None else value / by for value in column]


def _place(text: bytes, shown: bytes) -> list[int | None] | None:
    r"""Where a text stands in another (from, until; `None` is its end), and how many `\n` follow on it."""
    end = len(text) - 1
    while text.endswith(b"\\n", 1, end):
        end -= 2
    for last in (len(text) - 1, end):
        if last > 1 and text != NULL and (start := shown.rfind(text[1:last], 0, -1)) >= 0:
            until = start + last - 1
            return [start, None if until == len(shown) - 1 else until, (len(text) - 1 - last) // 2]
    return None


def _cut(place: Any, shown: bytes) -> bytes:  # noqa: ANN401 - what stands in a file
    """Return the text of which `_place` gave the place; without one it is empty."""
    if place is None:
        return b'""'
    start, until, ends = place
    if not 0 <= ends <= len(shown):
        raise ValueError("more line ends than characters")
    return b'"%b%b"' % (shown[start : -1 if until is None else until], b"\\n" * ends)


def places(known: Columns, kind: str) -> Column:
    """Return where the texts of an output (`stdout`, `stderr`) stand in what the model was shown of its call."""
    return list(map(_place, known[f"{kind}.text"], _outer(known, kind, "tool_output")))


def _outputs(known: Columns, kind: str) -> Column:
    return list(map(_cut, known[f"{kind}.at"], _outer(known, kind, "tool_output")))


STARTS = "step.start_ns"
SUMS = {STARTS, "step.end_ns", "span.start_ns", "span.end_ns"}
"""Columns of which the difference to what is expected is stored."""
EXPECTED: dict[str, Callable[[Columns], Column]] = {
    "step.step_number": lambda known: list(range(1, len(known["call.counts"]) + 1)),
    "step.step_id": lambda known: _ids(known, [f"step\n{number}" for number in known["step.step_number"]]),
    "step.counted_tokens": lambda known: known["step.input_tokens"],
    "timings.prompt_n": _unprocessed,
    "timings.predicted_n": lambda known: _outer(known, "timings", "output_tokens"),
    "call.call_id": _call_ids,
    "call.arguments": _arguments,
    "span.call_id": lambda known: _of_call(known, known["call.call_id"]),
    "span.span_id": lambda known: _ids(known, list(map(str, known["span.call_id"]))),
    "span.parent_span_id": lambda known: _of_call(known, _outer(known, "call", "step_id")),
    "span.tool_name": lambda known: _of_call(known, known["call.name"]),
    "span.tool_input": lambda known: _of_call(known, list(map(_canonical, known["call.arguments"]))),
    "telemetry.user_time_s": lambda known: _scaled(known["telemetry.cpu_user_ns"], 1e9),
    "telemetry.system_time_s": lambda known: _scaled(known["telemetry.cpu_system_ns"], 1e9),
    "span.duration_ms": lambda known: _scaled(known["telemetry.wall_ns"], 1e6),
    STARTS: _waits,
    "step.end_ns": lambda known: _after(known[STARTS], known["step.duration_ms"]),
    "span.start_ns": lambda known: _of_call(known, _outer(known, "call", "end_ns")),
    "span.end_ns": lambda known: _after(known["span.start_ns"], known["span.duration_ms"]),
    "stdout.text": lambda known: _outputs(known, "stdout"),
    "stderr.text": lambda known: _outputs(known, "stderr"),
    "stdout.bytes_kept": lambda known: known["stdout.bytes_total"],
    "stderr.bytes_kept": lambda known: known["stderr.bytes_total"],
}
"""Column → what it is in most records, from columns above it and from those that are not here."""
