"""Inspect's `.eval` logs, written: a zip of JSON files that `inspect view` and `inspect_ai.log` open.

Format: `EvalLog` version 2 of inspect_ai, its layout of `.eval` archives. One sample per record; each generation is a
model event, each call a tool event whose `metadata` has what it cost. All records of one log are one task there.
"""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

from agenttrace.formats.conversation import epoch_ns, iso, json_object, messages, without_none
from agenttrace.formats.measured import OURS, of_run, of_span, of_step
from agenttrace.records import derived_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from agenttrace.formats import Sourced
    from agenttrace.formats.conversation import Message
    from agenttrace.records import LLMStep, Span, ToolCall, Trace

NOT_PARSED = "not a JSON object: "
"""Says that the arguments of a call, which follow, are none."""
_STOP = {"stop": "stop", "tool_calls": "tool_calls", "length": "max_tokens"}


def write(records: Iterable[Sourced], output: Path) -> dict[str, int]:
    """Write one log of all records and return how many samples it has; record by record, memory does not grow."""
    summaries: list[dict[str, Any]] = []
    first: Trace | None = None
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        for record in records:
            first = first or record.trace
            sample = _sample(record, len(summaries) + 1)
            _put(archive, f"samples/{sample['id']}_epoch_1.json", sample)
            kept = ("id", "epoch", "input", "target", "metadata", "scores", "model_usage")
            summaries.append({**{key: sample[key] for key in kept if key in sample}, "completed": True})
        header = _header(first, len(summaries))
        _put(archive, "_journal/start.json", {key: header[key] for key in ("version", "eval", "plan")})
        _put(archive, "_journal/summaries/1.json", summaries)
        _put(archive, "summaries.json", summaries)
        _put(archive, "header.json", header)
    return {"samples": len(summaries)}


def _put(archive: zipfile.ZipFile, name: str, value: Any) -> None:  # noqa: ANN401 - any JSON value
    info = zipfile.ZipInfo(name)  # dated 1980: the same records give the same bytes
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, json.dumps(value, allow_nan=False))


def _header(first: Trace | None, count: int) -> dict[str, Any]:
    meta = {} if first is None else first.metadata
    model = "none" if first is None else first.model
    name = str(meta.get("dataset_name") or "traces")
    created = _start(first)
    run_id = str(meta.get("run_id") or "")
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": derived_id("inspect", run_id, name),
            "run_id": run_id,
            "created": created,
            "task": name,
            "task_id": derived_id("inspect task", name),
            "task_version": 0,
            "dataset": {"name": name, "samples": count},
            "model": model,
            "config": {},
            "packages": {"agenttrace": str(meta.get("collector_version") or "unknown")},
        },
        "plan": {"name": "agenttrace", "steps": [], "config": {}},
        "results": {"total_samples": count, "completed_samples": count, "scores": []},
        "stats": {"started_at": created, "completed_at": created, "model_usage": {}},
    }


def _sample(record: Sourced, number: int) -> dict[str, Any]:
    trace, spec, _ = record
    found = [_message(message, place, trace) for place, message in enumerate(messages(trace, spec))]
    answer = trace.outcome.final_answer
    choice = {"message": {"role": "assistant", "content": answer or ""}, "stop_reason": "stop"}
    solved = trace.outcome.solved
    explanation = "; ".join(f"{judged.aspect}: {judged.verdict} ({judged.method})" for judged in trace.outcome.verdicts)
    score = {"value": "C" if solved else "I", "answer": answer, "explanation": explanation}
    usage = _usage(trace.llm_steps)
    return without_none(
        {
            "id": number,
            "epoch": 1,
            "uuid": trace.trace_id,
            "input": trace.prompt,
            "target": "",
            "messages": found,
            "output": {"model": trace.model, "choices": [choice], "completion": answer or ""},
            "scores": None if solved is None else {"agenttrace": without_none(score)},
            "metadata": {**trace.metadata, OURS: of_run(trace)},
            "events": list(_events(record, found)),
            "model_usage": {} if usage is None else {trace.model: usage},
            "started_at": iso(epoch_ns(trace.timestamp_utc)),
            "total_time": None if trace.total_duration_ms is None else trace.total_duration_ms / 1000,
        }
    )


def _message(message: Message, place: int, trace: Trace) -> dict[str, Any]:
    step, span = message.step, message.span
    thinks = step.reasoning_content if step else None
    parts = [{"type": "reasoning", "reasoning": thinks}, {"type": "text", "text": message.content}]
    return without_none(
        {
            "id": derived_id(trace.trace_id, "message", place),
            "role": message.role,
            "content": parts if thinks else message.content,
            "source": "generate" if step else None,
            "model": trace.model if step else None,
            "tool_calls": [_call(call) for call in message.calls] or None,
            "tool_call_id": span.call_id if span else None,
            "function": span.tool_name if span else None,
        }
    )


def _call(call: ToolCall) -> dict[str, Any]:
    values = json_object(call.arguments)
    found = {"id": call.call_id, "function": call.name, "type": "function", "arguments": values or {}}
    return found if values is not None else {**found, "parse_error": f"{NOT_PARSED}{call.arguments}"}


def _events(record: Sourced, said: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    trace, spec, _ = record
    heard: list[dict[str, Any]] = []
    started = min((s.start_ns for s in trace.llm_steps if s.start_ns is not None), default=0)
    for message, value in zip(messages(trace, spec), said, strict=True):
        if message.step is not None:
            yield _model_event(trace, message.step, heard, value, started)
            heard = []  # increments: what the generation before it had not read
        else:
            if message.span is not None:
                yield {**_tool_event(trace, message.span, started), "message_id": value["id"]}
            heard = [*heard, value]


def _model_event(
    trace: Trace, step: LLMStep, heard: list[dict[str, Any]], said: dict[str, Any], started: int
) -> dict[str, Any]:
    choice = {"message": said, "stop_reason": _STOP.get(step.finish_reason or "", "unknown")}
    return {
        "event": "model",
        "uuid": step.step_id,
        **_when(trace, step.start_ns, step.end_ns, started),
        "model": trace.model,
        "input": heard,
        "tools": [],
        "tool_choice": "auto",
        "config": {},
        "output": without_none({"model": trace.model, "choices": [choice], "usage": _usage((step,))}),
        "metadata": {OURS: of_step(step)},
    }


def _tool_event(trace: Trace, span: Span, started: int) -> dict[str, Any]:
    return {
        "event": "tool",
        "type": "function",
        "uuid": span.span_id,
        **_when(trace, span.start_ns, span.end_ns, started),
        "id": span.call_id or span.span_id,
        "function": span.tool_name,
        "arguments": json_object(span.tool_input) or {},
        "result": span.tool_output,
        "metadata": {OURS: of_span(span)},
    }


def _when(trace: Trace, start_ns: int | None, end_ns: int | None, origin_ns: int) -> dict[str, Any]:
    """Return the times of an event; of one whose record has none, those of the record."""
    if start_ns is None or end_ns is None:
        return {"timestamp": _start(trace), "working_start": 0.0}
    times = {"timestamp": iso(start_ns) or _start(trace), "completed": iso(end_ns)}
    return without_none(
        {**times, "working_start": (start_ns - origin_ns) / 1e9, "working_time": (end_ns - start_ns) / 1e9}
    )


def _start(trace: Trace | None) -> str:
    """Return the start of a record in a form that Inspect reads; the epoch where the record does not say."""
    return iso(epoch_ns(trace.timestamp_utc) if trace else 0) or "1970-01-01T00:00:00+00:00"


def _usage(steps: Sequence[LLMStep]) -> dict[str, Any] | None:
    """Return token counts as Inspect has them: `input_tokens` without what was cached; `None` where none is known."""
    read = [step.input_tokens for step in steps if step.input_tokens is not None]
    written = [step.output_tokens for step in steps if step.output_tokens is not None]
    if not read and not written:
        return None
    cached = [min(one.input_tokens or 0, one.timings.cached_n or 0) for one in steps if one.timings is not None]
    counts = {"input_tokens": sum(read) - sum(cached), "output_tokens": sum(written)}
    from_cache = {"input_tokens_cache_read": sum(cached)} if cached else {}
    return {**counts, "total_tokens": sum(read) + sum(written), **from_cache}
