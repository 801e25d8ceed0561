"""What one trace contributes to statistics: a few numbers, so that millions of traces need little memory."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from msgspec import UNSET

from agenttrace.errors import DataError
from agenttrace.formats.commands import first_word
from agenttrace.formats.times import epoch_ns
from agenttrace.records.base import Record

if TYPE_CHECKING:
    from agenttrace.records import LLMStep, Span, Trace

NOT_FOUND = 127
"""Exit status of the shell for a command that does not exist; all that an execution-free sandbox says to an attempt."""
_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
Kind = Literal["useful", "empty", "not_found", "timeout", "format_error"]


KINDS: tuple[Kind, ...] = ("useful", "empty", "not_found", "timeout", "format_error")


class Facts(Record, frozen=True, kw_only=True):
    """One trace in numbers; a count is `None` where the server did not report it for every step, or does not apply.

    Attributes:
        task: its name; with the data set's where it is a number.
        ended: the stop rule.
        began_s: when the tree began to be prepared, seconds since the Unix epoch.
        ended_s: when the last turn was over.
        turns: generations.
        generated_tokens: sum of the completions.
        billed_prompt_tokens: sum of the prompts of all requests: a context counts again in every turn.
        evaluated_prompt_tokens: of those, what the server did not take from its cache.
        conversation_tokens: the last prompt and its completion: the conversation, each token once.
        observations: how many of each kind; none where a turn is not one block of commands.
        first_words: first word of every executed bash command.
        patch_files: files in the patch; `None` where the task is not a change of a checkout.
        patch_lines: added and removed lines in the patch.
        passed: whether it was solved; `None` where it cannot be graded.
    """

    task: str
    repo: str | None
    language: str | None
    ended: str
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
    patch_files: int | None
    patch_lines: int | None
    passed: bool | None


def facts(trace: Trace) -> Facts:
    """Return what a trace contributes.

    Raises:
        DataError: its time is none.
    """
    steps, known = trace.llm_steps, trace.metadata
    began_ns = epoch_ns(trace.timestamp_utc)
    if began_ns is None:
        raise DataError(f"trace {trace.trace_id}: timestamp_utc is no time: {trace.timestamp_utc[:60]!r}")
    ran = {span.parent_span_id: span for span in trace.spans}
    patch = trace.outcome.patch
    files, lines = (None, None) if patch is UNSET else patch_size(patch or "")
    return Facts(
        task=task_of(trace),
        repo=_text(known.get("repo")),
        language=_text(known.get("language")),
        ended=trace.outcome.ended,
        began_s=began_ns / 1e9 - (trace.prepare_ms or 0) / 1000,
        ended_s=began_ns / 1e9 + trace.total_duration_ms / 1000,
        turns=len(steps),
        duration_s=trace.total_duration_ms / 1000,
        tool_s=sum(span.duration_ms for span in trace.spans) / 1000,
        generated_tokens=_total([step.output_tokens for step in steps]),
        billed_prompt_tokens=_total([step.input_tokens for step in steps]),
        evaluated_prompt_tokens=_total([step.timings.prompt_n if step.timings else None for step in steps]),
        conversation_tokens=_total([steps[-1].input_tokens, steps[-1].output_tokens]) if steps else 0,
        observations=Counter(kind_of(step, ran.get(step.step_id)) for step in steps if step.blocks is not UNSET),
        first_words=tuple(first_word(span.tool_input) or "" for span in trace.spans if span.tool_name == "bash"),
        patch_files=files,
        patch_lines=lines,
        passed=trace.outcome.solved,
    )


def task_of(trace: Trace) -> str:
    """Return the name of a trace's task, by which attempts at it are known; without one, its own id."""
    task = trace.metadata.get("task_id")
    if task is None:
        return trace.trace_id
    return task if isinstance(task, str) else f"{trace.metadata.get('dataset_name')} {task}"


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


def kind_of(step: LLMStep, span: Span | None) -> Kind:
    """Return what the observation of a turn was good for.

    `useful` printed something, `empty` nothing, `not_found` asked for a command that does not exist, `timeout` was
    stopped, `format_error` had no command.
    """
    if not step.tool_calls or span is None:
        return "format_error"
    if span.status == "timeout":
        return "timeout"
    if span.exit_code == NOT_FOUND:
        return "not_found"
    return "useful" if any(stream and stream.bytes_total for stream in (span.stdout, span.stderr)) else "empty"


def _text(value: Any) -> str | None:  # noqa: ANN401 - any JSON value
    return value if isinstance(value, str) else None


def _total(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
