"""Writes the example of a task set, which works as it is."""

from __future__ import annotations

import shutil
from pathlib import Path

from agenttrace.errors import StorageError, UsageError
from agenttrace.tasks import TASK_SETS
from agenttrace.tasks.own.format import HEAD

EXAMPLE = Path(__file__).with_name("example")
_NAMED = {"tasks.toml", "README.md"}
"""Files in which the word NAME stands for the name of the set."""


def write(folder: Path) -> list[str]:
    """Write the example into a new folder, whose name becomes that of the set, and return the paths of its files.

    Raises:
        UsageError: the folder is there already, or its name cannot be that of a set.
        StorageError: it cannot be written.
    """
    name = folder.resolve().name
    if not HEAD["name"].holds(name) or name in TASK_SETS:
        kept = f"{HEAD['name'].expected}, and none of {', '.join(TASK_SETS)}"
        raise UsageError(f"{name!r} cannot be the name of a task set: expected {kept}")
    if folder.exists() or folder.is_symlink():
        raise UsageError(f"{folder} is there already, and nothing is written over: choose another name, or remove it")
    files = sorted(path.relative_to(EXAMPLE) for path in EXAMPLE.rglob("*") if path.is_file())
    try:
        for path in files:
            text = (EXAMPLE / path).read_text(encoding="utf-8")
            made = folder / path
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_text(text.replace("NAME", name) if path.name in _NAMED else text, encoding="utf-8")
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)  # it was not there before, and half an example would be in the way
        raise StorageError(f"cannot write {error.filename or folder}: {error.strerror}") from error
    return [path.as_posix() for path in files]
