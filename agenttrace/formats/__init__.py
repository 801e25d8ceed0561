"""Formats that records are written as and read from; `FORMATS` and `READERS` list them, one line each.

A module of layout `lines`, `files` or `rows` has `from_trace(trace, spec, source) -> value` (pure; `spec` is the run
spec or `None`, `source` the name of the record file) and, when it can be read, `to_trace(value) -> Trace`. A record
that a format has no place for is a `DataError` that says why. `lines`: one JSON text a line, all records in one file.
`files`: a folder with one file per record; a list is written as JSON Lines, anything else as one JSON text. `rows`: one
Parquet table, a row per record; the module has `schema(name)`, the Arrow schema of the format of that name. A module of
layout `tables` has `write(records, output)` and does the writing itself.

The module of a reader has `to_trace(value, source="") -> Trace`, of one JSON value or row; or, where a trace is made of
all values of a file, `read(values, source) -> Iterator[tuple[int, Trace]]` of (number, value) pairs; where a JSON text
holds several, also `parts(value) -> Iterator`, the values that `to_trace` takes. `source` is the name of the file. What
the value does not say is `None` in the record. `DataError` says why a value is none.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from agenttrace.records import RunSpec, Trace


class Format(NamedTuple):
    """One format.

    Attributes:
        module: what turns records into it; one of this folder is named from here (`.otlp`).
        layout: how its output lies on disk.
        suffix: of a file.
        about: one line for `--help`.
        known: of a format that is not read, as that of a `Reader`, so that its files can be called by their name; what
            is neither JSON nor a table is told by its suffix.
    """

    module: str
    layout: Literal["lines", "files", "rows", "tables"]
    suffix: str
    about: str
    known: Callable[[dict[str, Any]], bool] | None = None

    def load(self) -> ModuleType:
        """Return its module, imported when it is needed: some are heavy."""
        return import_module(self.module, __name__)


class Reader(NamedTuple):
    """One format that is read.

    Attributes:
        module: as that of a `Format`.
        about: for people.
        known: whether a JSON object, or a row of a table, is of this format, by its keys and by what it says of itself.
        whole: a trace is made of all values of a file.
        parts: a JSON text of it holds several; its module has `parts(value)`, the values that `to_trace` takes.
    """

    module: str
    about: str
    known: Callable[[dict[str, Any]], bool]
    whole: bool = False
    parts: bool = False

    def load(self) -> ModuleType:
        """Return its module."""
        return import_module(self.module, __name__)


class Sourced(NamedTuple):
    """A record with where it comes from: its run spec, if there is one, and the name of its file."""

    trace: Trace
    spec: RunSpec | None
    source: str


def _says(key: str, start: str) -> Callable[[dict[str, Any]], bool]:
    return lambda value: str(value.get(key)).startswith(start)


def _has(*keys: str) -> Callable[[dict[str, Any]], bool]:
    return lambda value: all(key in value for key in keys)


def _swe_agent(value: dict[str, Any]) -> bool:
    turns = value.get("trajectory")
    first = turns[0] if isinstance(turns, list) and turns and isinstance(turns[0], dict) else {}
    return "action" in first or "text" in first or (turns == [] and "history" in value)


def _chat(value: dict[str, Any]) -> bool:
    chats = ("messages", "trajectory", "conversation", "conversations")
    return any(isinstance(value.get(key), (list, str)) for key in chats) and "evaluation_result_id" not in value


_SWE_ZERO = {"messages", "exit_status", "duration_sec"}


def _calls_apart(messages: Any) -> bool:  # noqa: ANN401 - whatever stood in the row
    """Return whether messages have calls beside their text, as none of SWE-ZERO and ShareGPT do."""
    return isinstance(messages, list) and any(isinstance(one, dict) and one.get("tool_calls") for one in messages)


def _event(value: dict[str, Any]) -> bool:
    old = ("action" in value and "args" in value) or ("observation" in value and "extras" in value)
    return "source" in value and (old or str(value.get("kind")).endswith(("Event", "Observation")))


def _printed_span(context: Any) -> bool:  # noqa: ANN401 - whatever stood in the value
    return isinstance(context, dict) and {"trace_id", "span_id"} <= context.keys()


def _binary(value: dict[str, Any]) -> bool:  # noqa: ARG001 - as all of them
    return False


FORMATS: dict[str, Format] = {
    "agenttrace-1.0": Format(".own", "lines", ".jsonl", "records of this version"),
    "agenttrace-0.3": Format(".agenttrace_0_3", "lines", ".jsonl", "rows of AgentTrace 0.3.0"),
    "agenttrace-0.3-parquet": Format(
        ".agenttrace_0_3_view", "rows", ".parquet", "the 14-column view of AgentTrace 0.3.0"
    ),
    "parquet": Format(".tables", "tables", "", "a folder of typed tables: runs, steps, spans", _has("trace_id", "run")),
    "records-parquet": Format(
        ".record_rows", "rows", ".parquet", "every field of a record, typed and nested, one row each"
    ),
    "atif": Format(".atif", "files", ".json", "ATIF v1.7 trajectories (Harbor), one file each"),
    "session-traces": Format(".session_trace", "files", ".jsonl", "sessions for the Hub's trace viewer, one file each"),
    "session-traces-parquet": Format(
        ".session_rows", "rows", ".parquet", "the columns that `datasets` makes of such sessions, one row each"
    ),
    "otlp": Format(".otlp", "lines", ".jsonl", "OpenTelemetry spans as OTLP/JSON, one request a line"),
    "otlp-protobuf": Format(
        ".otlp_protobuf", "tables", ".binpb", "OpenTelemetry spans as protobuf, each request after its size", _binary
    ),
    "mini-swe-agent": Format(".mini_swe", "files", ".traj.json", "mini-swe-agent v1 trajectories, one file each"),
    "mini-swe-agent-1.1": Format(
        ".mini_swe_1_1", "files", ".traj.json", "mini-swe-agent v2 trajectories (native calls), one file each"
    ),
    "mini-swe-agent-1.1-parquet": Format(
        ".mini_swe_rows", "rows", ".parquet", "the same as rows of a table, messages as JSON"
    ),
    "swe-zero-1k-32k": Format(".swe_zero", "rows", ".parquet", "the columns of SWE-ZERO 1k-32k"),
    "swe-zero-12m": Format(".swe_zero", "rows", ".parquet", "the columns of SWE-ZERO 12M"),
    "inspect": Format(".inspect_eval", "tables", ".eval", "one log for Inspect's viewer"),
    "adp": Format(
        ".adp",
        "lines",
        ".jsonl",
        "trajectories of the Agent Data Protocol, one a line",
        _has("id", "content", "details"),
    ),
    "every-eval-ever": Format(
        ".every_eval_ever",
        "tables",
        "",
        "a folder of results for Every Eval Ever: summaries and samples",
        _has("schema_version", "evaluation_id"),
    ),
    "perfetto": Format(
        ".perfetto", "tables", ".pftrace", "one Perfetto trace: model, tools, CPU, memory on one axis", _binary
    ),
    "mooncake": Format(
        ".mooncake",
        "tables",
        ".jsonl",
        "requests as Mooncake's trace: times, tokens, prefix blocks",
        lambda it: _has("timestamp", "input_length", "output_length", "hash_ids")(it) and "session_id" not in it,
    ),
    "aiperf": Format(
        ".aiperf",
        "lines",
        ".jsonl",
        "requests as sessions for AIPerf: turns, what tools took as delay",
        _has("session_id", "input_length", "output_length"),
    ),
    "sharegpt": Format(".sharegpt", "lines", ".jsonl", "ShareGPT conversations, one a line"),
}
"""Name → format, in the order in which `--help` lists them."""


_CODEX = frozenset({"session_meta", "turn_context", "response_item", "event_msg"})
READERS: dict[str, Reader] = {
    "records-parquet": Reader(
        ".record_rows", "records of ours as a table (records-parquet)", _has("metadata_json", "llm_steps")
    ),
    "session-traces-parquet": Reader(
        ".session_rows", "session traces as rows of a table", _has("harness", "session_id", "trace")
    ),
    "agenttrace-1.0": Reader(
        ".own", "records of ours", lambda it: "outcome" in it and ("trace_id" in it or "llm_steps" in it)
    ),
    "rollouts-1.0": Reader(".own", "rollouts of ours of schema 1.0.0", _has("rollout_id")),
    "agenttrace-0.3-parquet": Reader(".agenttrace_0_3_view", "the 0.3.0 Parquet view", _has("spans_json")),
    "agenttrace-0.3": Reader(
        ".agenttrace_0_3", "AgentTrace 0.3.0", lambda it: "llm_steps" in it or ("trace_id" in it and "spans" in it)
    ),
    "atif": Reader(".atif", "ATIF v1.0 to v1.8 (Harbor)", _says("schema_version", "ATIF-")),
    "swe-zero": Reader(
        ".swe_zero",
        "rows of SWE-ZERO",
        lambda it: it.keys() >= _SWE_ZERO and "info" not in it and not _calls_apart(it["messages"]),
    ),
    "mini-swe-agent-1.1-parquet": Reader(
        ".mini_swe_rows",
        "mini-swe-agent trajectories as rows of a table",
        lambda it: _says("trajectory_format", "mini-swe-agent-1")(it) and isinstance(it.get("info"), str),
    ),
    "mini-swe-agent": Reader(
        ".mini_swe_read", "mini-swe-agent v1 and v2 trajectories", _says("trajectory_format", "mini-swe-agent-1")
    ),
    "otlp": Reader(
        ".otlp_read",
        "OpenTelemetry spans (OTLP/JSON, a console exporter's JSON; GenAI, OpenInference)",
        lambda it: "resourceSpans" in it or ("attributes" in it and _printed_span(it.get("context"))),
        whole=True,
    ),
    "claude-code": Reader(
        ".claude_code",
        "sessions of Claude Code",
        lambda it: "type" in it and ("sessionId" in it or "leafUuid" in it or it["type"] == "file-history-snapshot"),
        whole=True,
    ),
    "codex": Reader(
        ".codex",
        "sessions of Codex",
        lambda it: str(it.get("type")) in _CODEX or ("instructions" in it and "id" in it and "timestamp" in it),
        whole=True,
    ),
    "pi": Reader(".pi", "sessions of Pi and the Hub's session traces", _says("type", "session"), whole=True),
    "gemini-cli": Reader(".gemini_cli", "sessions of the Gemini CLI", _has("sessionId", "projectHash"), whole=True),
    "inspect": Reader(
        ".inspect_read",
        "logs of Inspect (.eval, .json)",
        lambda it: isinstance(it.get("eval"), dict) and not it.keys().isdisjoint({"plan", "sample", "samples"}),
        parts=True,
    ),
    "openhands": Reader(".openhands", "events of OpenHands (trajectory.json)", _event, whole=True),
    "openhands-rows": Reader(
        ".openhands",
        "rows of OpenHands' evaluations (output.jsonl)",
        lambda it: "instance_id" in it and isinstance(it.get("history"), list) and "trajectory" not in it,
    ),
    "sharegpt": Reader(
        ".sharegpt",
        "ShareGPT conversations",
        lambda it: isinstance(it.get("conversations"), list) and not _calls_apart(it["conversations"]),
    ),
    "swe-agent": Reader(".swe_agent", "SWE-agent trajectories (.traj, nebius rows)", _swe_agent),
    "chat": Reader(".chat_rows", "rows of chat messages (OpenAI's form)", _chat),
}
"""Name → reader, in the order in which a value is held against them: the first that knows it reads it."""
