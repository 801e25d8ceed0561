"""The Python repr of a call, as AgentTrace 0.3.0 stores tool inputs: `kwargs={...}`, `args=(...)`, or both joined.

It comes from a model and can be anything, so it is parsed as literals only, below a size, and never evaluated.
"""

from __future__ import annotations

import ast
import threading
import warnings
from typing import Any

import msgspec

LONGEST = 1 << 20
"""Characters of a text that is parsed; a parser's memory is many times its input's."""
_POSITIONAL = {"bash": "command", "python_interpreter": "code", "final_answer": "answer"}
_PARSING = threading.Lock()


def arguments(text: str, tool: str) -> dict[str, Any] | None:
    """Return the arguments of a call as a JSON object, or `None` when the text is no such repr.

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


def text(values: dict[str, Any]) -> str:
    """Return the repr of a call with these keyword arguments."""
    return f"kwargs={values!r}"
