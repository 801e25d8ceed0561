"""Which file a run writes, and whether it goes on with one that is there."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import DataError, UsageError
from agenttrace.records import Record, differences, digest
from agenttrace.records.rollout import RolloutSpec
from agenttrace.rollouts.spec import Job, jobs
from agenttrace.store.jsonl import write_whole
from agenttrace.store.opening import content
from agenttrace.store.read import run_spec_path

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from agenttrace.rollouts.options import RolloutOptions
    from agenttrace.rollouts.prepare import Prepared

_STAMP = "%Y%m%dT%H%M%SZ"
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9.-]+")


class Plan(Record, frozen=True, kw_only=True):
    """A run ready to start.

    Attributes:
        spec: everything that shapes its records.
        spec_sha256: `spec.digest`.
        path: the record file.
        jobs: every rollout, in order.
        resumes: whether the run spec was there before.
    """

    spec: RolloutSpec
    spec_sha256: str
    path: Path
    jobs: tuple[Job, ...]
    resumes: bool


def make_plan(draft: RolloutSpec, prepared: Prepared, options: RolloutOptions, *, folder: Path, now: datetime) -> Plan:
    """Return the plan of a run, resuming the newest one in `folder` that had the same spec.

    Args:
        draft: the run spec, without a run id unless one was asked for.
        prepared: tasks and trees.
        options: what the user asked for.
        folder: where record files lie.
        now: names a new run; used for nothing else.

    Raises:
        UsageError: the file belongs to a run with another spec, or its name is none.
    """
    if options.output is not None:
        path, spec, resumes = _given(folder / options.output, draft, now)
    else:
        path, spec, resumes = (None if options.fresh else _earlier(draft, folder)) or _new(draft, folder, now)
    return Plan(spec=spec, spec_sha256=spec.digest, path=path, jobs=tuple(jobs(prepared)), resumes=resumes)


def write_spec(plan: Plan, prepared: Prepared) -> None:
    """Store run spec and sampling plan beside the record file, before the first rollout, and which tasks have no tree.

    A resumed run keeps the spec it has.
    """
    skipped = plan.path.with_suffix(".skipped.json")
    if prepared.skipped:
        write_whole(skipped, msgspec.json.format(msgspec.json.encode(prepared.skipped), indent=2) + b"\n")
    else:
        skipped.unlink(missing_ok=True)
    if not plan.resumes:
        text = msgspec.json.format(msgspec.json.encode(plan.spec), indent=2)
        write_whole(run_spec_path(plan.path), text + b"\n")


def read_spec(path: Path) -> RolloutSpec:
    """Return the run spec in a `.run.json` file.

    Raises:
        UsageError: it cannot be read.
        DataError: it is no spec of rollouts.
    """
    try:
        if not os.path.lexists(path):
            raise UsageError(f"cannot read {path}: there is no such file; a run spec lies beside its records")
        return msgspec.json.decode(content(path), type=RolloutSpec)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}: not a run spec of rollouts: {error}") from error


def _key(spec: RolloutSpec) -> str:
    return digest(msgspec.structs.replace(spec, run_id=""))


def _same(earlier: RolloutSpec, draft: RolloutSpec) -> bool:
    return _key(earlier) == _key(draft) and draft.run_id in {"", earlier.run_id}


def _earlier(draft: RolloutSpec, folder: Path) -> tuple[Path, RolloutSpec, bool] | None:
    """Return the newest run in the folder that did, or began, the same work."""
    found = [path for path in folder.glob("*.run.json") if path.is_file()]
    for candidate in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            earlier = read_spec(candidate)
        except (DataError, UsageError):  # traces, or another version: it cannot be the same run
            continue
        path = candidate.with_name(candidate.name.replace(".run.json", ".jsonl"))
        if _same(earlier, draft):
            return path, earlier, True
        if draft.run_id and (earlier.run_id, earlier.dataset.name) == (draft.run_id, draft.dataset.name):
            raise _other(f"run id {draft.run_id} ({candidate.name})", draft, earlier, "--run-id")
    return None


def _new(draft: RolloutSpec, folder: Path, now: datetime) -> tuple[Path, RolloutSpec, bool]:
    name = _NOT_IN_NAMES.sub("-", draft.dataset.name.rpartition("/")[2]) or "tasks"
    late = 0
    while True:
        stamp = (now + timedelta(seconds=late)).strftime(_STAMP)
        path = folder / f"rollouts_{name}_{draft.model.size}_{stamp}.jsonl"
        if not path.exists() and not run_spec_path(path).exists():
            return path, _named(draft, stamp), False
        late += 1


def _named(draft: RolloutSpec, stamp: str) -> RolloutSpec:
    run_id = draft.run_id or f"rollouts-{draft.model.size}-{stamp}"
    return msgspec.structs.replace(draft, run_id=run_id)


def _given(path: Path, draft: RolloutSpec, now: datetime) -> tuple[Path, RolloutSpec, bool]:
    if path.suffix != ".jsonl":
        raise UsageError(f"--output {path.name}: the name of a record file ends in .jsonl")
    if not path.parent.is_dir():
        raise UsageError(f"--output {path}: the folder {path.parent} does not exist")
    beside = run_spec_path(path)
    if beside.exists():
        earlier = read_spec(beside)
        if not _same(earlier, draft):
            raise _other(path.name, draft, earlier, "--output")
        return path, earlier, True
    if path.exists() and path.stat().st_size:
        raise UsageError(f"{path.name} has records but no run spec ({beside.name}) beside it; choose another --output")
    return path, _named(draft, now.strftime(_STAMP)), False


def _other(what: str, draft: RolloutSpec, earlier: RolloutSpec, option: str) -> UsageError:
    wanted = msgspec.structs.replace(draft, run_id=draft.run_id or earlier.run_id)
    lines = "\n  ".join(differences(wanted, earlier))
    return UsageError(
        f"{what} belongs to a run with another run spec; nothing was written. "
        f"It differs in (asked for / in the file):\n  {lines}\nChoose another {option}."
    )
