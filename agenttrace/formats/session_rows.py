"""Sessions as rows of a table, with the columns that `datasets` itself makes of session files by way of `teich`.

Source: `datasets` 5.2, `packaged_modules/json/json.py` (`AGENT_TRACES_FEATURES`). All configurations of a folder have
one kind of file there, so beside other Parquet tables sessions are one, too: it opens without `teich`. `trace` is the
text of the file that `session_trace` writes. The schema's `huggingface` says which columns are JSON.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agenttrace.errors import DataError
from agenttrace.formats import READERS, session_trace
from agenttrace.formats.conversation import messages, outcome_of, spoken, tool_schemas, without_none
from agenttrace.formats.foreign import parsed
from agenttrace.formats.tables import json_schema

if TYPE_CHECKING:
    import pyarrow as pa

    from agenttrace.formats.conversation import Message
    from agenttrace.records import RunSpec, Trace

_COLUMNS = {
    "harness": "text", "session_id": "text", "prompt": "text", "messages": "texts", "tools": "texts",
    "metadata": "json", "sent_at": "text", "num_user_messages": "count", "num_tool_calls": "count", "trace": "json",
    "file_path": "text",
}  # fmt: skip


def schema(name: str = "") -> pa.Schema:  # noqa: ARG001 - as all formats
    """Return the Arrow schema, with what `datasets` reads of it."""
    return json_schema(_COLUMNS)


def from_trace(trace: Trace, spec: RunSpec | None = None, source: str = "") -> dict[str, Any]:
    """Return one row; `messages` are those of `trace`, in OpenAI's form with the arguments of calls as objects."""
    said = messages(trace, spec)
    lines = session_trace.from_trace(trace, spec, source)
    outcome = outcome_of(trace)
    facts = {
        "session_id": trace.trace_id,
        "model": trace.model,
        **{name: trace.metadata.get(name) for name in ("run_id", "dataset_name", "task_id", "task_name")},
        **{name: outcome[name] for name in ("ended", "end_class", "solved")},
    }
    return {
        "harness": session_trace.HARNESS,
        "session_id": trace.trace_id,
        "prompt": trace.prompt,
        "messages": [_json(_message(one)) for one in said],
        "tools": [_json(tool) for tool in tool_schemas(spec) or ()],
        "metadata": _json(session_trace.bounded(without_none(facts))),
        "sent_at": trace.timestamp_utc,
        "num_user_messages": sum(one.role == "user" for one in said),
        "num_tool_calls": sum(len(one.calls) for one in said),
        "trace": _json("".join(f"{_json(line)}\n" for line in lines)),
        "file_path": f"{trace.trace_id}.jsonl",
    }


def to_trace(value: dict[str, Any], source: str = "") -> Trace:
    """Return the session of a row, of whichever harness that is read as a record.

    Raises:
        DataError: `trace` is no text of a session that is read.
    """
    try:
        text = value["trace"]
        lines = (json.loads(text) if text.startswith('"') else text).splitlines()
        values = [(number, parsed(line.encode())) for number, line in enumerate(lines, start=1) if line.strip()]
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"its `trace` is no text of JSON Lines: {error}") from error
    for reader in READERS.values():
        if reader.whole and any(isinstance(one, dict) and reader.known(one) for _, one in values[:1]):
            for _, trace in reader.load().read(values, value.get("file_path") or source):
                found: Trace = trace
                return found
    raise DataError("its `trace` is of no harness whose sessions are read")


def _message(found: Message) -> dict[str, Any]:
    said: dict[str, Any]
    if found.span is not None:
        called = found.span.call_id or found.span.span_id
        said = {"role": "tool", "tool_call_id": called, "name": found.span.tool_name, "content": found.content}
        return {**said, "is_error": True} if session_trace.is_error(found.span) else said
    said = {"role": found.role, "content": found.content}
    if found.step is not None and found.step.reasoning_content:
        said["reasoning_content"] = found.step.reasoning_content
    if found.calls:
        said["tool_calls"] = [
            {
                "id": call.call_id,
                "type": "function",
                "function": {"name": call.name, "arguments": session_trace.bounded(spoken(call))},
            }
            for call in found.calls
        ]
    return said


def _json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return json.dumps(value, allow_nan=False)
