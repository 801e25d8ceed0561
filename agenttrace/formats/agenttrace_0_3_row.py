"""One row of AgentTrace 0.3.0, decoded: the one description of that form, from which every reader maps.

Unknown keys are passed over, and what the tracing module of that version had a default for may be missing. What names
a trace, a step or a call may not, and no field may have another type. There, `metadata` holds both what shapes a run
and what was seen of the machine; of a record, the latter is `environment`.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.errors import DataError
from agenttrace.formats.entries import Count, Duration, Int  # noqa: TC001 - msgspec resolves them
from agenttrace.records import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from agenttrace.records import RunSpec

VERSION = "0.3.0"
KEYS = (
    "schema_version", "collector_version", "python_version", "platform", "run_id", "model_family", "model_artifact",
    "quantization", "serving_engine", "serving_engine_version", "tool_choice", "context_length", "max_steps",
    "dataset_name", "dataset_split", "dataset_offset", "chat_template", "prompt_sanitization_version",
    "fixture_version", "server_args_normalized", "server_reported", "hardware", "git_commit", "git_dirty",
    "collector_git_commit", "source", "task_id",
)  # fmt: skip
"""In the order of the released rows."""

_OBSERVED = ("python_version", "platform", "server_reported", "hardware")
_OF_HOST = {"git_commit": "git_commit", "git_dirty": "git_dirty", "collector_git_commit": "git_commit"}
_SERVER_ARGS = ("api_base", "tool_choice", "context_length", "jinja", "flash_attn")
_SERVER_REPORTED = ("chat_format", "reasoning_format", "reasoning_in_content", "n_ctx_train", "n_params")
_HARDWARE = ("os", "os_release", "machine", "cpu", "cpu_count_logical", "memory_total_bytes")
_NESTED = {"server_args_normalized": _SERVER_ARGS, "server_reported": _SERVER_REPORTED, "hardware": _HARDWARE}
FINAL_ANSWER = "final_answer"
REFUSED = -1
"""Exit code of a call that a filter refused: nothing ran."""


class _Lean(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base: immutable and not tracked by the garbage collector, as none of it can form a cycle."""


class RowCost(_Lean, frozen=True, kw_only=True, gc=False):
    """Usage of the collecting process and its children around a call; peak memory is that of their whole lives."""

    user_time_s: Duration | None = None
    system_time_s: Duration | None = None
    max_rss_bytes: Int | None = None
    read_bytes: Int | None = None
    write_bytes: Int | None = None


COSTS = RowCost.__struct_fields__


class RowSpan(_Lean, frozen=True, kw_only=True, gc=False):
    """One call; times count from an unknown instant, `tool_input` is a Python repr (see `commands`)."""

    span_id: str
    tool_name: str
    tool_input: str = ""
    tool_output: str = ""
    start_ns: Int | None = None
    end_ns: Int | None = None
    duration_ms: Duration = 0.0
    telemetry: RowCost = RowCost()
    exit_code: Int = 0

    @property
    def ran(self) -> bool:
        """Whether a process ran: no answer, and not refused."""
        return self.tool_name != FINAL_ANSWER and self.exit_code != REFUSED


class Call(_Lean, frozen=True, kw_only=True, gc=False):
    """A call as the model proposed it; it has no id."""

    name: str
    arguments: Any = None


class Step(_Lean, frozen=True, kw_only=True, gc=False):
    """One generation of the model; in the released rows `duration_ms` is `null`."""

    step_id: str
    step_number: Int
    model_output: str | None = None
    reasoning_content: str | None = None
    tool_calls: tuple[Call, ...] | None = None
    duration_ms: Duration | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None


class ReleasedRow(_Lean, frozen=True, kw_only=True, gc=False):
    """One trace: the eight keys of that version."""

    trace_id: str
    timestamp_utc: str
    prompt: str
    model: str
    spans: tuple[RowSpan, ...]
    llm_steps: tuple[Step, ...]
    total_duration_ms: Duration = 0.0
    metadata: dict[str, Any]


_decode = msgspec.json.Decoder(ReleasedRow).decode
_convert = partial(msgspec.convert, type=ReleasedRow)


def decode(line: bytes) -> ReleasedRow:
    """Return the row of a line of JSON.

    Raises:
        DataError: it is none of that version; the message names the field.
    """
    return _checked(_decode, line)


def convert(value: Any) -> ReleasedRow:  # noqa: ANN401 - whatever stood in the line
    """Return the row that a JSON value is.

    Raises:
        DataError: as `decode`.
    """
    return _checked(_convert, value)


def _checked(read: Callable[[Any], ReleasedRow], value: Any) -> ReleasedRow:  # noqa: ANN401 - as above
    try:
        row = read(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"not a row of AgentTrace {VERSION}: {error}") from None
    if (version := row.metadata.get("schema_version")) != VERSION:
        said = "nothing" if version is None else repr(version)[:40]
        raise DataError(f"not a row of AgentTrace {VERSION}: its metadata says {said} as `schema_version`")
    return row


def compose(metadata: dict[str, Any], environment: dict[str, Any], spec: RunSpec | None = None) -> dict[str, Any]:
    """Return the 0.3.0 object of a record; what is not known is `null`.

    Args:
        metadata: of the record.
        environment: of the record.
        spec: its run spec, for the server's arguments; `api_base` is then the loopback address with the spec's port.
    """
    host = environment.get("host")
    known: dict[str, Any] = {
        **{key: metadata.get(key) for key in KEYS},
        **{key: environment.get(key) for key in _OBSERVED},
        **{key: host.get(name) if isinstance(host, dict) else None for key, name in _OF_HOST.items()},
        "schema_version": VERSION,
    }
    if known["server_args_normalized"] is None:
        known["server_args_normalized"] = _server_args(metadata, spec)
    for key, names in _NESTED.items():
        inner = known[key] if isinstance(known[key], dict) else {}
        known[key] = {name: inner.get(name) for name in names}
    return {key: known[key] for key in KEYS}


def _server_args(metadata: dict[str, Any], spec: RunSpec | None) -> dict[str, Any]:
    found = {"tool_choice": metadata.get("tool_choice"), "context_length": metadata.get("context_length")}
    if spec is None:
        return found
    args = spec.serving.args
    pairs = dict(pairwise(args))
    port = pairs.get("--port")
    return {
        **found,
        "api_base": None if port is None else f"http://127.0.0.1:{port}/v1",
        "jinja": "--jinja" in args,
        "flash_attn": pairs.get("--flash-attn") in {"on", "1", "true"},
    }


def shaping(foreign: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a 0.3.0 object that shapes a run, as `metadata`."""
    left_out = {*_OBSERVED, *_OF_HOST, "schema_version"}
    return {
        "schema_version": SCHEMA_VERSION,
        **{key: foreign[key] for key in foreign if key in KEYS and key not in left_out},
    }


def observed(foreign: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a 0.3.0 object that was observed, as `environment`."""
    host = {name: foreign[key] for key, name in _OF_HOST.items() if key in foreign}
    return {**{key: foreign[key] for key in _OBSERVED if key in foreign}, **({"host": host} if host else {})}
