"""Which file a campaign writes, and whether it goes on with one that is there."""

from __future__ import annotations

import itertools
import re
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from agenttrace.campaign.inputs import named
from agenttrace.errors import DataError, UsageError
from agenttrace.records import differences
from agenttrace.store.jsonl import write_whole
from agenttrace.store.read import read_run_spec, run_spec_path

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

    from agenttrace.campaign.options import Options
    from agenttrace.records import RunSpec

STAMP_FORMAT = "%Y%m%dT%H%M%SZ"
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9.-]+")


def place(draft: RunSpec, options: Options, folder: Path, now: datetime) -> tuple[RunSpec, Path, bool]:
    """Return the run spec with its name, the record file, and whether that is resumed.

    Raises:
        UsageError: the file or the run id belongs to a campaign with another spec.
    """
    if options.output is not None:
        stamp = options.stamp or now.strftime(STAMP_FORMAT)
        return _given(folder / options.output, draft, _named(draft, options, stamp), options)
    if not options.fresh:
        for candidate in _newest_first(folder.glob("*.run.json")):
            earlier = _readable_spec(candidate)
            if earlier is not None and _same(earlier, draft, options.run_id):
                path = candidate.with_name(candidate.name.replace(".run.json", ".jsonl"))
                return msgspec.structs.replace(draft, run_id=earlier.run_id), path, True
            if earlier is not None and _taken(earlier, draft):
                raise _other_spec(f"run id {options.run_id} ({candidate.name})", draft, earlier, "--run-id")
    stamps = itertools.chain(
        [options.stamp] if options.stamp else [],
        ((now + timedelta(seconds=late)).strftime(STAMP_FORMAT) for late in itertools.count()),
    )
    for stamp in stamps:  # the names of another campaign's files are never taken
        path = folder / f"{_dataset(draft)}_{draft.model.size}_{stamp}.jsonl"
        if not path.exists() and not run_spec_path(path).exists():
            break
    return _named(draft, options, stamp), path, False


def write_run_spec(spec: RunSpec, path: Path) -> None:
    """Put the run spec beside a record file."""
    # Not sorted: the order of keys in a tool schema is part of the prompt, and whoever sends it again must know it.
    text = msgspec.json.format(msgspec.json.encode(spec), indent=2)
    write_whole(run_spec_path(path), text + b"\n")


def _dataset(draft: RunSpec) -> str:
    """Return what names of files say of the task set."""
    if draft.dataset.sampling is UNSET:
        return draft.dataset.name
    return f"rollouts_{_NOT_IN_NAMES.sub('-', draft.dataset.name.rpartition('/')[2]) or 'tasks'}"


def _named(draft: RunSpec, options: Options, stamp: str) -> RunSpec:
    name = options.run_id or f"collect-{draft.model.size}-{stamp}-{_dataset(draft)}"
    return msgspec.structs.replace(draft, run_id=name)


def _taken(earlier: RunSpec, draft: RunSpec) -> bool:
    """Return whether an earlier campaign would give other tasks' records the ids of this one's."""
    return bool(draft.run_id) and (earlier.run_id, earlier.dataset.name) == (draft.run_id, draft.dataset.name)


def _other_spec(what: str, asked: RunSpec, earlier: RunSpec, option: str) -> UsageError:
    lines = "\n  ".join(named(line) for line in differences(asked, earlier))
    return UsageError(
        f"{what} belongs to a campaign with another run spec; nothing was written. "
        f"It differs in (asked for / in the file):\n  {lines}\nChoose another {option}."
    )


def _newest_first(paths: Iterable[Path]) -> list[Path]:
    return sorted((path for path in paths if path.is_file()), key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _given(path: Path, draft: RunSpec, new: RunSpec, options: Options) -> tuple[RunSpec, Path, bool]:
    if not path.parent.is_dir():
        raise UsageError(f"--output {path}: the folder {path.parent} does not exist")
    beside = run_spec_path(path)
    if beside.exists():
        earlier = read_run_spec(beside)
        if not _same(earlier, draft, options.run_id):
            asked = draft if options.run_id else msgspec.structs.replace(draft, run_id=earlier.run_id)
            raise _other_spec(path.name, asked, earlier, "--output")
        return msgspec.structs.replace(draft, run_id=earlier.run_id), path, True
    if path.exists() and path.stat().st_size:
        raise UsageError(f"{path.name} has records but no run spec ({beside.name}) beside it; choose another --output")
    return new, path, False


def _same(earlier: RunSpec, draft: RunSpec, run_id: str | None) -> bool:
    return earlier.campaign_key == draft.campaign_key and (run_id is None or earlier.run_id == run_id)


def _readable_spec(path: Path) -> RunSpec | None:
    try:
        return read_run_spec(path)
    except (DataError, UsageError):  # of another version, or not ours: it cannot be the same campaign
        return None
