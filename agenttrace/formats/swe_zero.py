"""Records in the published schemas of SWE-ZERO, exactly, and back: the 1k and 1k-32k columns, those of the 12M set.

What fits are records of a bash-block agent over a checkout, with their run spec, which has the system prompt. What
these schemas cannot carry: executed commands, return codes, telemetry, stop rules, the final observation of a submitted
rollout, patch, id and index of a rollout, seed, revisions, base commit, language.

Sources: the cards of AlienKevin/SWE-ZERO-1k-trajectories-32k and AlienKevin/SWE-ZERO-12M-trajectories, and the
generator in marin-community/marin, `experiments/swe_zero/rollout_generator.py` at 242c628d.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.agents.bash_block import blocks
from agenttrace.errors import DataError
from agenttrace.formats import conversation
from agenttrace.formats.commands import NOT_FOUND
from agenttrace.formats.dialogue import Dialogue
from agenttrace.formats.foreign import amount, tokens
from agenttrace.formats.patch import as_read, with_patch
from agenttrace.records import INFRASTRUCTURE_ENDS, Outcome, Output, Totals

if TYPE_CHECKING:
    import pyarrow as pa

    from agenttrace.records import Ended, RunSpec, Trace

NAME = "swe-zero"
DETAIL_CHARS = 200
_OBSERVATION, _TIMED_OUT = "Observation: ", "[command timed out]"
_BLOCKED = re.compile(r"command blocked: .*: this is the SWE-ZERO execution-free environment\s*", re.DOTALL)
_BLOCKED_CODE = 126
"""What upstream's list of forbidden patterns answered, without running anything."""
_NOT_FOUND = re.compile(r"/bin/bash: line \d+: [^\n]*: command not found\s*")
_CHAIN = re.compile(r"[^;|\n&]+(?:&&[^;|\n&]+)*")
"""A command, or a chain in which each has to succeed: where one is not found, that is the exit status of all."""
_CUT_CHARS = 8000
"""An observation that is longer was cut."""
_STOP: dict[Ended, str] = {
    "final_answer": "submitted",
    "max_steps": "turns",
    "token_budget": "tokens",
    "format_error": "format",
    "unknown": "unknown",
}
_CAUSES: dict[str, Ended] = {"API error": "model_error", "Failed to materialize": "sandbox_error"}
"""How upstream's text of an error begins, and whose fault that is."""


class _Message(msgspec.Struct):
    role: str
    content: str | None = None


class _Row(msgspec.Struct):
    """A row, of whichever of the two schemas; figures may be of any type."""

    instance_id: str
    messages: list[_Message]
    repo: str | None = None
    exit_status: str | None = None
    exit_status_detail: str | None = None
    prompt_tokens: Any = None
    completion_tokens: Any = None
    duration_sec: Any = None
    model: str | None = None


def from_trace(trace: Trace, spec: RunSpec | None = None, source: str = "") -> dict[str, Any]:  # noqa: ARG001
    """Return one row, the columns of both schemas; counts the server did not report are 0, as no column can be empty.

    `prompt_tokens` is what upstream stores: the sum over turns of each request's prompt, so a context is counted again
    in every turn. It is no size of the conversation.

    Raises:
        DataError: the record has another conversation than these schemas hold, or not all that they ask for.
    """
    chat = messages(trace, spec)
    known, outcome, whole = trace.metadata, trace.outcome, trace.totals or Totals()
    if not isinstance(repo := known.get("repo"), str):
        raise DataError("its metadata names no repository (`repo`)")
    stop = _STOP.get(outcome.ended, "error")
    broken = "errored" if outcome.ended in INFRASTRUCTURE_ENDS else "incomplete"  # upstream does not tell limits apart
    row = {
        "instance_id": str(known.get("task_id") or known.get("task_name") or trace.trace_id),
        "repo": repo,
        "messages": chat,
        "trajectory_format": "mini-swe-agent-1",
        "exit_status": "Submitted" if outcome.ended == "final_answer" else broken,
        "exit_status_detail": f"{stop}: {outcome.detail}"[:DETAIL_CHARS] if outcome.detail else stop,
        "n_turns": len(trace.llm_steps),
        "n_messages": len(chat),
        "prompt_tokens": whole.input_tokens or sum(step.input_tokens or 0 for step in trace.llm_steps),
        "completion_tokens": whole.output_tokens or sum(step.output_tokens or 0 for step in trace.llm_steps),
        "duration_sec": ((trace.prepare_ms or 0.0) + (trace.total_duration_ms or 0.0)) / 1000,
    }
    return as_read(row, trace, NAME)


def messages(trace: Trace, spec: RunSpec | None) -> list[dict[str, str]]:
    """Return the conversation: system, task, then assistant and user in turn; without what answered a submission.

    Raises:
        DataError: calls stand apart from the replies, or the system prompt is not known.
    """
    if not conversation.in_text(trace, spec):
        raise DataError("its calls are not bash blocks in its replies")
    if conversation.system_prompt(trace, spec) is None:
        raise DataError("its system prompt is not known: the run spec (NAME.run.json) must lie beside the record file")
    found = [
        {"role": "user" if message.role == "tool" else message.role, "content": message.content}
        for message in conversation.messages(trace, spec)
    ]
    if trace.outcome.ended == "final_answer" and found[-1]["role"] == "user":
        found.pop()
    return found


def to_trace(value: Any, source: str = "") -> Trace:  # noqa: ANN401, ARG001 - whatever stood in the row; as all formats
    """Return a row as a record; written in these schemas again, it is as it was.

    The first bash block of a reply is its call, as upstream runs it, and the message after it the observation. Return
    codes, but of what was blocked or not found, and the times of calls and replies are not in it. What ended with an
    error counts as one of the machinery.

    Raises:
        DataError: it is no such row; the message names the field.
    """
    try:
        row = msgspec.convert(value, _Row)
    except (msgspec.ValidationError, RecursionError) as error:
        raise DataError(f"not a row of SWE-ZERO: {error}") from error
    talk, ran = Dialogue(), ""
    for message in row.messages:
        text = message.content or ""
        if message.role == "assistant":
            talk.replied_in_blocks(text, runs_first=True)
            ran = next(iter(blocks(text)), "")
        elif message.role == "system":
            talk.told(text)
        elif talk.waits:
            talk.came_back(text, **_observed(text, ran))
        else:
            talk.asked(text)
    seconds = amount(row.duration_sec)
    trace = talk.trace(
        NAME,
        [row.instance_id, str(row.duration_sec)],
        outcome=_outcome(row),
        model=row.model,
        metadata={"task_id": row.instance_id, "task_name": row.instance_id, "repo": row.repo},
        total_duration_ms=None if seconds is None else 1000 * seconds,
        totals=Totals(input_tokens=tokens(row.prompt_tokens), output_tokens=tokens(row.completion_tokens)),
    )
    try:
        written = from_trace(trace)
    except DataError:  # without a reply, or without a system prompt, there is nothing to write
        return trace
    return with_patch(trace, written, {**written, **value})


def _observed(text: str, command: str) -> dict[str, Any]:
    """Return what an observation says of its call: that it was stopped, how much it printed, if it shows all.

    Exit codes are not in these rows, but where all that was printed is that a command was blocked or does not exist.
    """
    stopped = text.endswith(_TIMED_OUT)
    shown = text.removeprefix(_OBSERVATION).removesuffix(_TIMED_OUT)
    size = len(shown.encode("utf-8", "surrogatepass"))
    whole = len(shown) < _CUT_CHARS
    return {
        "status": "timeout" if stopped else "ok",
        "exit_code": _exit_code(shown, command),
        "stdout": Output(text=None, bytes_total=size, bytes_kept=size) if whole else None,
    }


def _exit_code(shown: str, command: str) -> int | None:
    if len(shown) >= _CUT_CHARS:
        return None
    if _BLOCKED.fullmatch(shown):
        return _BLOCKED_CODE
    return NOT_FOUND if _NOT_FOUND.fullmatch(shown) and _CHAIN.fullmatch(command.strip()) else None


def _outcome(row: _Row) -> Outcome:
    said, detail = row.exit_status or "", row.exit_status_detail or ""
    if said == "Submitted":
        return Outcome(ended="final_answer", detail=detail or said)
    if said == "incomplete":
        known = {stop: ended for ended, stop in _STOP.items()}
        return Outcome(ended=known.get(detail.partition(":")[0], "unknown"), detail=detail or said)
    text = detail or said
    found: Ended = next((ended for cause, ended in _CAUSES.items() if text.startswith(cause)), "unknown")
    if found == "unknown" and said == "errored":
        found = "internal_error"
    return Outcome(ended=found, detail=": ".join(part for part in (said, detail) if part) or None)


def schema(name: str) -> pa.Schema:
    """Return the Arrow schema of a form, `swe-zero-1k-32k` or `swe-zero-12m`, columns in the order of the cards."""
    import pyarrow as pa  # noqa: PLC0415 - heavy

    text, number = pa.string(), pa.int64()
    chat = pa.list_(pa.struct([("role", text), ("content", text)]))
    columns: dict[str, list[tuple[str, pa.DataType]]] = {
        "swe-zero-1k-32k": [
            ("instance_id", text), ("messages", chat), ("repo", text), ("exit_status", text),
            ("exit_status_detail", text), ("n_turns", number), ("n_messages", number), ("prompt_tokens", number),
            ("completion_tokens", number), ("duration_sec", pa.float64()),
        ],
        "swe-zero-12m": [
            ("instance_id", text), ("repo", text), ("messages", chat), ("trajectory_format", text),
            ("exit_status", text), ("duration_sec", pa.float64()),
        ],
    }  # fmt: skip
    return pa.schema(columns[name])
