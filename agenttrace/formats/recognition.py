"""What a JSON value or a row of a table is: the format that it is of, or what it is instead."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from agenttrace.formats import FORMATS, READERS

_LOOKS: dict[str, tuple[str, ...]] = {
    "a run spec": ("run_id", "agent", "dataset"),
    "predictions without their trajectories": ("model_patch", "instance_id"),
    "tasks, not runs of them": ("problem_statement", "instance_id"),
    "a manifest": ("files", "schema_version"),
}
"""What is often mistaken for traces → keys that it has."""
_NAMED_KEYS = 6
_TEXT = {"", ".jsonl"}
"""Suffixes of written formats whose files are told by what stands in them."""


def format_of(value: Any) -> str | None:  # noqa: ANN401 - any JSON value
    """Return the name of the format of a JSON value or a row; `None` when it is of none that is known."""
    if not isinstance(value, dict):
        return None
    return next((name for name, reader in READERS.items() if reader.known(value)), None)


def looks_like(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return what a value of no known format is, as far as it can be told."""
    if not isinstance(value, dict):
        return f"a JSON {_TYPES.get(type(value), 'value')} is no trace"
    name = format_of(value)
    if name is not None:
        return f"this looks like a part of {READERS[name].about}, which is read as a whole file"
    for name, written in FORMATS.items():
        if written.known is not None and written.known(value):
            return _only_written(name)
    for what, keys in _LOOKS.items():
        if all(key in value for key in keys):
            return f"this looks like {what}"
    named = ", ".join(repr(key[:30]) for key in islice(value, _NAMED_KEYS)) or "none"
    return f"an object of no known format (its keys: {named}{', ...' if len(value) > _NAMED_KEYS else ''})"


def unpacked_name(path: Path) -> str:
    """Return the name that a file has without its compression, which may name a task or a session."""
    return path.name.removesuffix(".gz").removesuffix(".zst")


def only_written(path: Path) -> str | None:
    """Return that a file is of a format that is written here and not read, where its suffix says so."""
    suffix = Path(unpacked_name(path)).suffix
    found = (
        name for name, written in FORMATS.items() if written.known is not None and suffix in {written.suffix} - _TEXT
    )
    return next(map(_only_written, found), None)


def _only_written(name: str) -> str:
    return f"this is {name} ({FORMATS[name].about}), which is written here and not read"


_TYPES: dict[type, str] = {list: "list", str: "text", int: "number", float: "number", bool: "truth value"}


def readable() -> str:
    """Return the names of the formats that are read; docs/formats.md explains each."""
    return ", ".join(READERS)
