"""What is asked of parsers of TOML and JSON beside what they give, and what they say in plain words."""

from __future__ import annotations

import json
from typing import Any


def plain(error: Exception) -> str:
    """Return what a parser says, without the terms of its insides."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return "a number with too many digits" if "integer string conversion" in str(error) else str(error)


def is_json(text: str) -> bool:
    """Return whether a text is JSON, as a whole."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def noted(repeated: list[str], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, and note the keys that stand in it twice."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            repeated.append(name)
        found[name] = value
    return found
