"""Files of traces where paths, folders and patterns are named."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from glob import glob, has_magic
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.errors import DataError, UsageError
from agenttrace.formats.reading import kind
from agenttrace.formats.recognition import readable, unpacked_name
from agenttrace.store.opening import is_failures, other_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_PUBLISHED = {"records": {"data"}, "rollouts": {"schema"}}
"""Folder of a published data set or release that has every record → folders beside it, by which it is known as such.

Its tables, sessions, trajectories and verdicts say again what the records hold: with them, each would count several
times.
"""
_TABLES = ("rollouts", "sessions", "trajectories", "agenttrace-0.3", "data")
"""Folders of tables of a published data set, each of which has every record: the ones that say most come first."""
_SHARD = re.compile(r"train-\d{5}-of-\d{5}\.parquet")
_EVENT = re.compile(r"event-\d{5,}-[0-9a-fA-F-]{8,}\.json")
"""File of an event in a conversation that the agent SDK of OpenHands keeps (`persistence_const.py` there)."""
_SUFFIXES = (".jsonl", ".json", ".traj", ".parquet", ".eval")


def files(paths: Sequence[Path], left_out: Callable[[str], object]) -> list[Path]:
    """Return the files that are named, and in place of a folder those in it that hold traces, in order of their names.

    Of a published folder these are its records; of a part of one, a table that has them.

    Args:
        paths: files, folders, and patterns such as `runs/*.jsonl` (`**` is any depth), which no shell has expanded.
        left_out: called with a line for each file of a folder that ends like one of traces and is none.

    Raises:
        UsageError: a folder holds no such file, or a pattern fits nothing.
    """
    found: list[Path] = []
    for path in chain.from_iterable(map(matching, paths)):
        inside = list(_inside(path, left_out)) if path.is_dir() else [path]
        if not inside:
            raise UsageError(f"{path}: no file of traces in this folder; readable are {readable()}")
        found += inside
    return found


def matching(path: Path) -> list[Path]:
    """Return the paths that a pattern fits, in order; of what is there, or is no pattern, itself.

    Raises:
        UsageError: a pattern fits nothing.
    """
    if os.path.lexists(path) or not has_magic(str(path)):
        return [path]
    found = sorted(map(Path, glob(str(path), recursive=True)))  # noqa: PTH207 - `Path.glob` takes no absolute one
    if not found:
        raise UsageError(f"{path}: no file fits this pattern")
    return found


def _again(parent: Path, folders: Sequence[str]) -> list[tuple[str, str]]:
    """Return the folders that have the traces of another one again, and that one: of a part of a published folder."""
    tables = [name for name in _TABLES if name in folders and _has_shards(parent / name)]
    found = [(name, tables[0]) for name in tables[1:]]
    if {"data", "sessions"} <= {*folders} and any(_has_shards(parent / "data" / name) for name in _TABLES):
        found.append(("sessions", "data"))
    return found


def _has_shards(folder: Path) -> bool:
    with suppress(OSError):  # where it cannot be read, that is said when it is gone through
        return any(_SHARD.fullmatch(path.name) for path in folder.iterdir())
    return False


def _may_hold_traces(path: Path) -> bool:
    if path.name.startswith(".") or _EVENT.fullmatch(path.name):
        return False
    return unpacked_name(path).endswith(_SUFFIXES) and not is_failures(path) and not other_kind(path, b"")


def _holds_traces(path: Path, left_out: Callable[[str], object]) -> bool:
    try:
        return kind(path) is not None
    except (UsageError, DataError) as error:
        left_out(f"{str(error).removeprefix('cannot read ')}; left out")
        return False


def _inside(folder: Path, left_out: Callable[[str], object]) -> Iterator[Path]:
    def refused(error: OSError) -> None:
        if error.filename == str(folder):
            raise UsageError(f"cannot read {folder}: {error.strerror}") from error
        left_out(f"{error.filename}: {error.strerror}; left out")

    for parent, folders, names in os.walk(folder, onerror=refused):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if events := [name for name in names if _EVENT.fullmatch(name)]:
            advice = f"as one file they are read: jq -c . {parent}/event-*.json > run.jsonl"
            left_out(f"{parent}: {len(events)} files, an event of OpenHands each; {advice}; left out")
        published = next((one for one, beside in _PUBLISHED.items() if {*folders} >= {one, *beside}), None)
        if published is not None:
            folders[:] = [published]
        for name, instead in _again(Path(parent), folders):
            folders.remove(name)
            left_out(f"{Path(parent, name)}: the same traces as in {Path(parent, instead)}; left out")
        for name in () if published is not None else sorted(names):
            path = Path(parent, name)
            if _may_hold_traces(path) and _holds_traces(path, left_out):
                yield path
