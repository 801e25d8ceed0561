"""What one rollout contributes to statistics: a few numbers, so that millions of rollouts need little memory."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import msgspec

from agenttrace.errors import DataError
from agenttrace.records.base import Record

if TYPE_CHECKING:
    from agenttrace.records import Span, Trace

NOT_FOUND = 127
"""Exit status of the shell for a command that does not exist; all that an execution-free sandbox says to an attempt."""
_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
Kind = Literal["useful", "empty", "not_found", "timeout", "format_error"]
_STOP = {"final_answer": "submitted", "max_steps": "turns", "token_budget": "tokens", "format_error": "format"}
"""The rule that ended it, in the words of rollouts; the rest is `error`."""

KINDS: tuple[Kind, ...] = ("useful", "empty", "not_found", "timeout", "format_error")


class Facts(Record, frozen=True, kw_only=True):
    """One rollout in numbers; a count is `None` where the server did not report it for every turn.

    Attributes:
        began_s: when the tree began to be prepared, seconds since the Unix epoch.
        ended_s: when the last turn was over.
        generated_tokens: sum of the completions.
        billed_prompt_tokens: sum of the prompts of all requests: a context counts again in every turn.
        evaluated_prompt_tokens: of those, what the server did not take from its cache.
        conversation_tokens: the last prompt and its completion: the conversation, each token once.
        observations: how many of each kind.
        first_words: first word of every executed command.
        patch_files: files in the patch.
        patch_lines: added and removed lines in the patch.
        passed: the verdict; `None` where it cannot be graded.
    """

    instance_id: str
    repo: str
    language: str
    stop: str
    began_s: float
    ended_s: float
    turns: int
    duration_s: float
    tool_s: float
    generated_tokens: int | None
    billed_prompt_tokens: int | None
    evaluated_prompt_tokens: int | None
    conversation_tokens: int | None
    observations: dict[str, int]
    first_words: tuple[str, ...]
    patch_files: int
    patch_lines: int
    passed: bool | None


def facts(trace: Trace) -> Facts:
    """Return what a trace of a bash-block agent contributes.

    Raises:
        DataError: its time is none.
    """
    steps, known = trace.llm_steps, trace.metadata
    spans = {span.parent_span_id: span for span in trace.spans}
    kinds: dict[str, int] = {}
    for step in steps:
        kind = kind_of(spans.get(step.step_id))
        kinds[kind] = kinds.get(kind, 0) + 1
    files, lines = patch_size(trace.outcome.patch or "")
    last = steps[-1] if steps else None
    prepare_ms = trace.prepare_ms or 0.0
    try:
        time = datetime.fromisoformat(trace.timestamp_utc)
        started = (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()  # never this machine's time zone
    except (ValueError, OverflowError, OSError) as error:
        raise DataError(f"trace {trace.trace_id}: timestamp_utc is no time: {error}") from error
    return Facts(
        instance_id=str(known.get("task_id")),
        repo=str(known.get("repo")),
        language=str(known.get("language")),
        stop=_STOP.get(trace.outcome.ended, "error"),
        began_s=started - prepare_ms / 1000,
        ended_s=started + trace.total_duration_ms / 1000,
        turns=len(steps),
        duration_s=trace.total_duration_ms / 1000,
        tool_s=sum(span.duration_ms for span in trace.spans) / 1000,
        generated_tokens=_total([step.output_tokens for step in steps]),
        billed_prompt_tokens=_total([step.input_tokens for step in steps]),
        evaluated_prompt_tokens=_total([step.timings.prompt_n if step.timings else None for step in steps]),
        conversation_tokens=_total([last.input_tokens, last.output_tokens]) if last else 0,
        observations=kinds,
        first_words=tuple(first_word(_command(span)) for span in trace.spans),
        patch_files=files,
        patch_lines=lines,
        passed=trace.outcome.solved,
    )


def patch_size(patch: str) -> tuple[int, int]:
    """Return how many files a `git diff` changes, and how many lines it adds or removes.

    Lines are told from headers by the counts of their hunk, so a removed line that begins with `--` counts.
    """
    files = lines = old = new = 0
    for line in patch.split("\n"):
        if old or new:
            old -= line[:1] in {" ", "-"}
            new -= line[:1] in {" ", "+"}
            lines += line[:1] in {"+", "-"}
        elif found := _HUNK.match(line):
            old, new = (1 if count is None else int(count) for count in found.groups())
        else:
            files += line.startswith("diff --git ")
    return files, lines


def kind_of(span: Span | None) -> Kind:
    """Return what the observation of a step was good for.

    `useful` printed something, `empty` nothing, `not_found` asked for a command that does not exist, `timeout` was
    stopped, `format_error` had no command.
    """
    if span is None:
        return "format_error"
    if span.status == "timeout":
        return "timeout"
    if span.exit_code == NOT_FOUND:
        return "not_found"
    return "useful" if any(stream.bytes_total for stream in (span.stdout, span.stderr) if stream) else "empty"


def _command(span: Span) -> str:
    return str(msgspec.json.decode(span.tool_input)["command"])


def first_word(command: str) -> str:
    """Return the first word of a command, `#` for a comment."""
    word = command.split(maxsplit=1)[0] if command.split() else ""
    return "#" if word.startswith("#") else word[:40]


def _total(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
