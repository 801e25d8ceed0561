"""The rules that a trace keeps whatever its task: each yields the problems it finds."""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from agenttrace.agents.run import call_arguments
from agenttrace.records import (
    INFRASTRUCTURE_ENDS,
    LONGEST_DURATION,
    MOST_TOKENS,
    Tokens,
    canonical_json,
    derived_id,
    solved,
)
from agenttrace.records.schema import fields
from agenttrace.validate.findings import Violation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from agenttrace.records import LLMStep, Output, Span, Telemetry, ToolCall, Trace

CLOCK_SLACK_NS = 1_000_000_000
"""A wall clock may be set back a little while a campaign runs; more than this is reported."""
_SLACK_MS, _SLACK_SHARE = 5.0, 0.01


def ids(trace: Trace, kind: str = "trace") -> Iterator[Violation]:
    """Yield ids that are not the UUIDv5 of what they stand for; `kind` is the first part of a record's own id."""
    known = trace.metadata
    key = tuple(known.get(name) for name in ("run_id", "dataset_name", "task_id", "rollout_index"))
    if all(isinstance(part, (str, int)) for part in key):
        yield from same("trace_id", trace.trace_id, derived_id(kind, *map(str, key)))
    else:
        yield Violation(
            "ids", "metadata", "run_id, dataset_name, task_id and rollout_index make the trace id: one is missing"
        )
    for index, step in enumerate(trace.llm_steps):
        expected = derived_id(trace.trace_id, "step", step.step_number)
        yield from same(f"llm_steps[{index}].step_id", step.step_id, expected)
        for place, call in enumerate(step.tool_calls or (), start=1):
            where = f"llm_steps[{index}].tool_calls[{place - 1}].call_id"
            yield from same(where, call.call_id, f"call_{step.step_number}_{place}")
    for index, span in enumerate(trace.spans):
        if span.call_id is None:
            yield Violation("ids", f"spans[{index}].call_id", "is null")
        else:
            yield from same(f"spans[{index}].span_id", span.span_id, derived_id(trace.trace_id, span.call_id))


def same(where: str, found: str, expected: str) -> Iterator[Violation]:
    """Yield a problem where an id is not the one it must be."""
    if found != expected:
        yield Violation("ids", where, f"is {found[:80]!r}, must be {expected!r}")


def order(trace: Trace) -> Iterator[Violation]:
    """Yield steps out of order and times that run backwards."""
    for index, step in enumerate(trace.llm_steps):
        if step.step_number != index + 1:
            yield Violation("order", f"llm_steps[{index}].step_number", f"is {step.step_number}, must be {index + 1}")
    if trace.timestamp_utc is not None:
        yield from utc(trace.timestamp_utc)
    foreign = "imported" in trace.environment  # whose clocks may run backwards, and whose calls ran at the same time
    if not foreign:
        yield from forwards(_intervals(trace))
    items: list[LLMStep | Span] = [*trace.llm_steps, *trace.spans]
    parts = [item.duration_ms or 0.0 for item in items]
    whole = trace.total_duration_ms
    if (whole or 0.0) < 0 or (trace.prepare_ms or 0.0) < 0 or any(part < 0 for part in parts):
        yield Violation("order", "", "a duration is negative")
    elif whole is not None and not foreign and sum(parts) > whole * (1 + _SLACK_SHARE) + _SLACK_MS:
        message = f"is {whole:.3f} ms, its steps and spans add up to {sum(parts):.3f} ms"
        yield Violation("order", "total_duration_ms", message)


def utc(timestamp: str) -> Iterator[Violation]:
    """Yield a problem where a record's `timestamp_utc` is no UTC time."""
    try:
        if datetime.fromisoformat(timestamp).utcoffset() != timedelta(0):
            yield Violation("order", "timestamp_utc", "has no offset +00:00")
    except ValueError:
        yield Violation("order", "timestamp_utc", f"{timestamp[:60]!r} is no ISO 8601 time")


def forwards(intervals: Iterable[tuple[str, int | None, int | None]]) -> Iterator[Violation]:
    """Yield pairs of wall-clock times, each with the field to name, of which the second is earlier than the first."""
    for where, first, last in intervals:
        if first is not None and last is not None and last < first - CLOCK_SLACK_NS:
            yield Violation("order", where, f"runs backwards: {first} to {last}")


def _intervals(trace: Trace) -> Iterator[tuple[str, int | None, int | None]]:
    """Yield pairs of times of which the second must not be earlier."""
    parents = {step.step_id: step for step in trace.llm_steps}
    timed: dict[str, tuple[LLMStep | Span, ...]] = {"llm_steps": trace.llm_steps, "spans": trace.spans}
    for name, items in timed.items():
        for index, item in enumerate(items):
            yield f"{name}[{index}].end_ns", item.start_ns, item.end_ns
        for index, (before, item) in enumerate(pairwise(items), start=1):
            yield f"{name}[{index}].start_ns", before.start_ns, item.start_ns
    for index, span in enumerate(trace.spans):
        parent = parents.get(span.parent_span_id or "")
        if parent is not None:
            yield f"spans[{index}].start_ns", parent.end_ns, span.start_ns


def joins(trace: Trace) -> Iterator[Violation]:
    """Yield spans that do not follow from a proposed call, and calls without a span."""
    proposed = [(step, call) for step in trace.llm_steps for call in step.tool_calls or ()]
    by_id = {call.call_id: (place, step, call) for place, (step, call) in enumerate(proposed)}
    if len(by_id) < len(proposed):
        yield Violation("joins", "llm_steps", "two proposed calls have the same call_id")
    used: set[str] = set()
    latest = -1
    foreign = "imported" in trace.environment  # where calls may have several results, in any order, or unnamed ones
    for index, span in enumerate(trace.spans):
        where = f"spans[{index}]"
        if span.call_id is None:
            if span.parent_span_id is not None and not foreign:
                yield Violation("joins", f"{where}.call_id", "is null although the span has a parent")
        elif span.call_id not in by_id:
            yield Violation("joins", f"{where}.call_id", f"{span.call_id[:60]!r} was never proposed")
        else:
            place, step, call = by_id[span.call_id]
            if span.call_id in used and not foreign:
                yield Violation("joins", f"{where}.call_id", f"{span.call_id!r} has a span already")
            if place < latest and not foreign:
                yield Violation("joins", f"{where}.call_id", "stands after the span of a later call")
            used.add(span.call_id)
            latest = max(latest, place)
            yield from _joined(where, span, step, call)
    yield from _without_span(trace, [call for _, call in proposed if call.call_id not in used])


def _without_span(trace: Trace, calls: list[ToolCall]) -> Iterator[Violation]:
    """Yield calls that nothing was recorded of; only a fault of the kit, or a foreign format, may leave some."""
    if trace.outcome.ended != "internal_error" and "imported" not in trace.environment:
        yield from (Violation("joins", "spans", f"the proposed call {call.call_id[:60]} has no span") for call in calls)


def _joined(where: str, span: Span, step: LLMStep, call: ToolCall) -> Iterator[Violation]:
    if span.parent_span_id != step.step_id:
        yield Violation(
            "joins", f"{where}.parent_span_id", f"is not the step that proposed {call.call_id}: {step.step_id}"
        )
    if span.tool_name != call.name:
        yield Violation("joins", f"{where}.tool_name", f"is {span.tool_name[:60]!r}, proposed was {call.name[:60]!r}")
    if not _same(span.tool_input, call.arguments):
        yield Violation("joins", f"{where}.tool_input", "is not what the proposed call says")


def _same(carried_out: str, proposed: str) -> bool:
    """Return whether two texts are the same arguments, a number that was taken as its text included."""
    if carried_out == proposed or _value(carried_out) == _value(proposed):
        return True
    read = call_arguments(proposed)
    return read is not None and read == call_arguments(carried_out)


def _value(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return the canonical bytes of a JSON text; of other text the text."""
    try:
        return canonical_json(json.loads(text))
    except (ValueError, RecursionError):
        return text


def counts(trace: Trace) -> Iterator[Violation]:
    """Yield byte counts, exit codes and costs that contradict each other."""
    for where, output in _outputs(trace):
        yield from _output(where, output)
    for index, span in enumerate(trace.spans):
        where = f"spans[{index}]"
        yield from _exit(where, span)
        yield from cost(f"{where}.telemetry", span.telemetry)
    limit = trace.metadata.get("max_steps")
    if isinstance(limit, int) and len(trace.llm_steps) > limit:
        yield Violation("counts", "llm_steps", f"are {len(trace.llm_steps)}, max_steps is {limit}")
    for index, step in enumerate(trace.llm_steps):
        if min(step.input_tokens or 0, step.output_tokens or 0, step.counted_tokens or 0) < 0:
            yield Violation("counts", f"llm_steps[{index}]", "a number of tokens is negative")
        said = step.tokens or Tokens()
        for lists in ((said.prompt_ids, said.prompt_logprobs), (said.output_ids, said.output_logprobs, said.margins)):
            if len({len(one) for one in lists if one is not None}) > 1:
                yield Violation("counts", f"llm_steps[{index}].tokens", "has lists of one text with other lengths")


def _outputs(trace: Trace) -> Iterator[tuple[str, Output]]:
    for index, span in enumerate(trace.spans):
        for name, output in (("stdout", span.stdout), ("stderr", span.stderr)):
            if output is not None:
                yield f"spans[{index}].{name}", output


def _output(where: str, output: Output) -> Iterator[Violation]:
    total, kept, text = output.bytes_total, output.bytes_kept, output.text
    size = len((text or "").encode("utf-8", "surrogatepass"))
    if not 0 <= kept <= total:
        yield Violation("counts", f"{where}.bytes_kept", f"is {kept} of {total} bytes")
    elif text is None:
        return
    elif kept < total and f"[... {total - kept} bytes left out ...]" not in text:
        yield Violation("counts", f"{where}.text", f"does not say that {total - kept} bytes were left out")
    elif kept == total and output.encoding == "utf-8" and size != kept:
        yield Violation("counts", f"{where}.text", f"has {size} bytes, bytes_kept is {kept}")


def _exit(where: str, span: Span) -> Iterator[Violation]:
    if span.signal is not None and span.exit_code != 128 + span.signal:
        yield Violation(
            "counts", f"{where}.exit_code", f"is {span.exit_code}, signal {span.signal} gives {128 + span.signal}"
        )
    if span.status == "not_executed" and span.exit_code not in {-1, 0, None}:
        yield Violation("counts", f"{where}.exit_code", f"is {span.exit_code} of a call that was not executed")


def cost(where: str, cost: Telemetry) -> Iterator[Violation]:
    """Yield costs that contradict each other, or the way in which they were measured."""
    five = (cost.user_time_s, cost.system_time_s, cost.max_rss_bytes, cost.read_bytes, cost.write_bytes)
    if cost.method == "no-process" and any(five):
        yield Violation("counts", where, "no process ran, but a cost is not 0")
    if cost.method == "not-measured" and any(figure is not None for figure in five):
        yield Violation("counts", where, "was not measured, but has figures")
    if any(figure is not None and figure < 0 for figure in five):
        yield Violation("counts", where, "a cost is negative")
    for mode in ("user", "system"):
        name, seconds, nanoseconds = f"{mode}_time_s", getattr(cost, f"{mode}_time_s"), getattr(cost, f"cpu_{mode}_ns")
        if seconds is not None and nanoseconds is not None and abs(seconds - nanoseconds / 1e9) > 1e-6:  # noqa: PLR2004 - a microsecond
            yield Violation("counts", f"{where}.{name}", f"is {seconds} s beside {nanoseconds} ns")


def sizes(raw: Any) -> Iterator[Violation]:  # noqa: ANN401 - any JSON value
    """Yield figures beyond every measure, which tables and exports have no place for; metadata may hold any."""
    waiting = [("", raw)]
    while waiting:
        where, item = waiting.pop()
        inner = item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, list) else ()
        for key, value in inner:
            at = f"{where}[{key}]" if isinstance(key, int) else f"{where}.{key}".removeprefix(".")
            if isinstance(value, dict | list):
                waiting += [] if at in {"metadata", "environment"} else [(at, value)]
            elif isinstance(value, int | float) and abs(value) > _most(str(key)):
                yield Violation("counts", at, f"is {value:.3g}, beyond {_most(str(key)):.3g}")


def _most(key: str) -> float:
    if key.endswith(("_ms", "_s")):
        return LONGEST_DURATION
    return (
        MOST_TOKENS if key.endswith(("_tokens", "_n")) else 2**63 - 1 if key.endswith(("_ns", "_bytes")) else math.inf
    )


def outcome(trace: Trace, *, tool_calling: bool = True) -> Iterator[Violation]:
    """Yield ends and verdicts that contradict each other or the run; only a tool-calling agent answers by a tool."""
    found = trace.outcome
    if (found.final_answer is not None) != (found.ended == "final_answer"):
        unrecorded = found.ended == "final_answer" and found.detail is not None
        if tool_calling or not (unrecorded or found.ended in INFRASTRUCTURE_ENDS):
            message = f"is {found.final_answer!r:.60} although the run ended by {found.ended}"
            yield Violation("outcome", "outcome.final_answer", message)
    elif tool_calling and found.final_answer is not None:
        answers = [span for span in trace.spans if span.tool_name == "final_answer" and span.exit_code == 0]
        if not answers or answers[-1].tool_output != found.final_answer:
            yield Violation("outcome", "outcome.final_answer", "is not what the final_answer call says")
    if found.verdicts and found.solved != solved(found.verdicts):
        yield Violation("outcome", "outcome.solved", f"is {found.solved}, the verdicts say {solved(found.verdicts)}")
    if not found.verdicts and found.solved is not None:
        yield Violation("outcome", "outcome.solved", f"is {found.solved} without a verdict")
    if found.ended in INFRASTRUCTURE_ENDS and found.verdicts:
        yield Violation("outcome", "outcome.verdicts", f"are given although the run ended by {found.ended}")


def texts(trace: Trace) -> Iterator[Violation]:
    """Yield outputs without their text, which only records read from another format may lack."""
    yield from (Violation("schema", f"{where}.text", "is null") for where, one in _outputs(trace) if one.text is None)


def later_fields(trace: Trace, version: str) -> Iterator[str]:
    """Yield the fields that are there and that an earlier version of the schema had not."""
    yield from _later(trace, "", fields(version))


def _later(record: msgspec.Struct, where: str, known: Mapping[str, frozenset[str]]) -> Iterator[str]:
    names = known.get(type(record).__name__, frozenset())
    for field in record.__struct_fields__:
        value, place = getattr(record, field), f"{where}{field}"
        if field not in names:
            if value is not UNSET:
                yield place
        elif isinstance(value, msgspec.Struct):
            yield from _later(value, f"{place}.", known)
        elif isinstance(value, tuple):
            for number, one in enumerate(value):
                if isinstance(one, msgspec.Struct):
                    yield from _later(one, f"{place}[{number}].", known)
