"""What tool calls ran, and what came of them: inputs, first words of commands, kinds of observations, sizes of patches.

AgentTrace 0.3.0 stores inputs as the Python repr of a call: `kwargs={...}`, `args=(...)`, or both joined. It comes from
a model and can be anything, so it is parsed as literals only, below a size, and never evaluated.
"""

from __future__ import annotations

import ast
import re
import threading
import warnings
from typing import Any

import msgspec

_BEFORE = r"[\s;&|({!]*"
"""What may stand before a command: groups, and the end of another that only assigned."""
_ASSIGNS = re.compile(_BEFORE + r"[A-Za-z_]\w*(?:\[[^\]\s]*\])?\+?=")
_SIGNS = frozenset("=[")
"""What the word that an assignment begins with has in it."""
_WORD = re.compile(_BEFORE + r"([^\s;|&<>(){}'\"`$]+)")
"""Ends where the shell's grammar ends it."""
_PLAIN = re.compile(r"[^\s;&|()'\"`\\]+|\\.", re.DOTALL)
_QUOTED = re.compile(r"'[^']*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`", re.DOTALL)
_LOOKED_AT = 4096
"""Characters of a command in which its first word is looked for."""
_LONGEST = 40
NOT_FOUND = 127
"""Exit status of the shell for a command that does not exist; all that an execution-free sandbox says to an attempt."""
_REFUSED = 126
"""Exit status of the shell for what it may not execute, and of upstream's list of forbidden commands."""
KINDS = ("useful", "empty", "not_found", "timeout", "format_error")
_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")

LONGEST = 1 << 20
"""Characters of a text that is parsed; a parser's memory is many times its input's."""
_POSITIONAL = {"bash": "command", "python_interpreter": "code", "final_answer": "answer"}
_PARSING = threading.Lock()


class _Arguments(msgspec.Struct):
    command: str


_decode = msgspec.json.Decoder(_Arguments).decode


def first_word(tool_input: str) -> str | None:
    """Return the first word of a bash call's command, its folder cut off; `None` when there is none.

    Args:
        tool_input: JSON (`{"command": …}`) or, in AgentTrace 0.3.0, the Python repr `kwargs={'command': …}`.
    """
    command = (command_of(tool_input) or "")[:_LOOKED_AT]
    found = _WORD.match(command)
    while found and not _SIGNS.isdisjoint(found[1]) and (assigned := _ASSIGNS.match(command, found.start())):
        found = _WORD.match(command, _after_value(command, assigned.end()))
    if found is None:
        return None
    word = found[1]
    if "/" in word:
        word = word.rstrip("/").rsplit("/", 1)[-1] or word
    return word[:_LONGEST]


def _after_value(command: str, at: int) -> int:
    """Return where the value of an assignment ends, which may be a list, or hold commands of its own."""
    depth = 0
    while at < len(command):
        char = command[at]
        if found := _QUOTED.match(command, at) or _PLAIN.match(command, at):
            at = found.end()
        elif char == "(" or (char == ")" and depth):
            depth += 1 if char == "(" else -1
            at += 1
        elif depth or char in "'\"`":  # a quotation that does not end is no quotation
            at += 1
        else:
            break
    return at


def command_of(tool_input: str) -> str | None:
    """Return the command of a bash call, or `None` when the input holds none."""
    try:
        return _decode(tool_input).command
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _released(tool_input)


def _released(tool_input: str) -> str | None:
    if not tool_input.startswith(("kwargs=", "args=")):
        return None
    command = (call_arguments(tool_input, "bash") or {}).get("command")
    return command if isinstance(command, str) else None


def kinds_of_turns(trace: Any) -> dict[str, int] | None:  # noqa: ANN401 - a `Trace` or what has its fields
    """Return how many turns of a trace had which kind of observation; `None` where a turn is not a block of commands.

    `useful` printed something, `empty` nothing, `not_found` asked for a command that does not exist or is blocked,
    `timeout` was stopped, `format_error` had no command.
    """
    if not trace.llm_steps or not isinstance(trace.llm_steps[0].blocks, int):
        return None
    spans = {span.parent_span_id: span for span in trace.spans}
    found = dict.fromkeys(KINDS, 0)
    for step in trace.llm_steps:
        span = spans.get(step.step_id)
        if span or not step.tool_calls:  # else another format left it out: it is not known what the call gave
            found[_kind(span)] += 1
    return found


def _kind(span: Any) -> str:  # noqa: ANN401 - a `Span`, or `None`
    if span is None:
        return "format_error"
    if span.status == "timeout":
        return "timeout"
    if span.exit_code in {NOT_FOUND, _REFUSED}:
        return "not_found"
    printed = (span.stdout and span.stdout.bytes_total) or (span.stderr and span.stderr.bytes_total)
    return "useful" if printed else "empty"


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


def call_arguments(text: str, tool: str) -> dict[str, Any] | None:
    """Return the arguments of a Python call as a JSON object, or `None` when the text is no such repr.

    A single positional argument of a known tool gets its parameter's name.
    """
    if len(text) > LONGEST:
        return None
    try:
        with _PARSING, warnings.catch_warnings():  # filters are the whole process's
            warnings.simplefilter("ignore")  # a backslash in a text is not ours to warn of
            call = ast.parse(f"f({text})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            return None
        parts = {part.arg: ast.literal_eval(part.value) for part in call.keywords}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None
    positional, named = parts.pop("args", ()), parts.pop("kwargs", {})
    if parts or not isinstance(positional, tuple) or not isinstance(named, dict):
        return None
    if len(positional) == 1 and tool in _POSITIONAL and _POSITIONAL[tool] not in named:
        named, positional = {_POSITIONAL[tool]: positional[0], **named}, ()
    return named if not positional and _is_json(named) else None


def _is_json(value: dict[str, Any]) -> bool:
    """Return whether JSON gives a Python literal back: no other types, no NaN, no half of a surrogate pair."""
    try:
        found: bool = msgspec.json.decode(msgspec.json.encode(value)) == value
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return False
    return found
