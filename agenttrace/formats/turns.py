"""Figures of attempts at changing a checkout by blocks of commands: what turns gave, how large patches are."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

NOT_FOUND = 127
"""Exit status of the shell for a command that does not exist; all that an execution-free sandbox says to an attempt."""
KINDS = ("useful", "empty", "not_found", "timeout", "format_error")
_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")


def kinds(trace: Any) -> dict[str, int] | None:  # noqa: ANN401 - a `Trace` or what has its fields
    """Return how many turns of a trace had which kind of observation; `None` where a turn is not a block of commands.

    `useful` printed something, `empty` nothing, `not_found` asked for a command that does not exist, `timeout` was
    stopped, `format_error` had no command.
    """
    if not trace.llm_steps or not isinstance(trace.llm_steps[0].blocks, int):
        return None
    spans = {span.parent_span_id: span for span in trace.spans}
    return {**dict.fromkeys(KINDS, 0), **Counter(_kind(spans.get(step.step_id)) for step in trace.llm_steps)}


def _kind(span: Any) -> str:  # noqa: ANN401 - a `Span`, or `None`
    if span is None:
        return "format_error"
    if span.status == "timeout":
        return "timeout"
    if span.exit_code == NOT_FOUND:
        return "not_found"
    return "useful" if any(stream and stream.bytes_total for stream in (span.stdout, span.stderr)) else "empty"


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
