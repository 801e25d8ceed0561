"""Names what a tool call ran: the first word of its command."""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from agenttrace.formats import python_call

_WORD = re.compile(r"\s*(?:[A-Za-z_]\w*=(?:'[^']*'|\"[^\"]*\"|[^\s'\"])*\s+)*([^\s;|&<>(){}'\"`$]+)")
"""Skips leading assignments (`LC_ALL=C sort`); the word ends where the shell's grammar ends it."""
_LONGEST = 40
_SHORT = 400


class _Arguments(msgspec.Struct):
    command: str


_decode = msgspec.json.Decoder(_Arguments).decode


def first_word(tool_input: str) -> str | None:
    """Return the first word of a bash call's command, its folder cut off; `None` when there is none.

    Args:
        tool_input: JSON (`{"command": …}`) or, in AgentTrace 0.3.0, the Python repr `kwargs={'command': …}`.
    """
    return _remembered(tool_input) if len(tool_input) <= _SHORT else _first_word(tool_input)


def _first_word(tool_input: str) -> str | None:
    command = command_of(tool_input)
    found = None if command is None else _WORD.match(command[:4096])
    if found is None:
        return None
    word = found[1].rstrip("/").rsplit("/", 1)[-1] or found[1]
    return word[:_LONGEST]


_remembered = lru_cache(maxsize=16_384)(_first_word)


def command_of(tool_input: str) -> str | None:
    """Return the command of a bash call, or `None` when the input holds none."""
    try:
        return _decode(tool_input).command
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _released(tool_input)


def _released(tool_input: str) -> str | None:
    if not tool_input.startswith(("kwargs=", "args=")):
        return None
    command = (python_call.arguments(tool_input, "bash") or {}).get("command")
    return command if isinstance(command, str) else None
