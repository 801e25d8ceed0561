"""What one rollout contributes to statistics: a few numbers, so that millions of rollouts need little memory."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from agenttrace.errors import DataError
from agenttrace.records.base import Record

if TYPE_CHECKING:
    from agenttrace.records.rollout import Rollout, Turn

NOT_FOUND = 127
"""Exit status of the shell for a command that does not exist; all that an execution-free sandbox says to an attempt."""
_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
Kind = Literal["useful", "empty", "not_found", "timeout", "format_error"]


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


def facts(rollout: Rollout) -> Facts:
    """Return what a rollout contributes.

    Raises:
        DataError: its time is none.
    """
    turns = rollout.turns
    executions = [turn.execution for turn in turns if turn.execution is not None]
    kinds: dict[str, int] = {}
    for turn in turns:
        kind = kind_of(turn)
        kinds[kind] = kinds.get(kind, 0) + 1
    files, lines = patch_size(rollout.patch or "")
    last = turns[-1] if turns else None
    try:
        time = datetime.fromisoformat(rollout.timestamp_utc)
        started = (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()  # never this machine's time zone
    except (ValueError, OverflowError, OSError) as error:
        raise DataError(f"rollout {rollout.rollout_id}: timestamp_utc is no time: {error}") from error
    return Facts(
        instance_id=rollout.instance_id,
        repo=rollout.repo,
        language=rollout.language,
        stop=rollout.stop,
        began_s=started - rollout.prepare_ms / 1000,
        ended_s=started + rollout.duration_ms / 1000,
        turns=len(turns),
        duration_s=rollout.duration_ms / 1000,
        tool_s=sum(execution.duration_ms for execution in executions) / 1000,
        generated_tokens=_total([turn.output_tokens for turn in turns]),
        billed_prompt_tokens=_total([turn.input_tokens for turn in turns]),
        evaluated_prompt_tokens=_total([turn.timings.prompt_n if turn.timings else None for turn in turns]),
        conversation_tokens=_total([last.input_tokens, last.output_tokens]) if last else 0,
        observations=kinds,
        first_words=tuple(first_word(execution.command) for execution in executions),
        patch_files=files,
        patch_lines=lines,
        passed=_passed(rollout),
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


def kind_of(turn: Turn) -> Kind:
    """Return what a turn's observation was good for.

    `useful` printed something, `empty` nothing, `not_found` asked for a command that does not exist, `timeout` was
    stopped, `format_error` had no command.
    """
    execution = turn.execution
    if execution is None:
        return "format_error"
    if execution.status == "timeout":
        return "timeout"
    if execution.exit_code == NOT_FOUND:
        return "not_found"
    return "useful" if execution.stdout_bytes + execution.stderr_bytes else "empty"


def first_word(command: str) -> str:
    """Return the first word of a command, `#` for a comment."""
    word = command.split(maxsplit=1)[0] if command.split() else ""
    return "#" if word.startswith("#") else word[:40]


def _total(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _passed(rollout: Rollout) -> bool | None:
    graded = [verdict.verdict for verdict in rollout.verdicts]
    if "failed" in graded:
        return False
    return True if graded and all(verdict == "passed" for verdict in graded) else None
