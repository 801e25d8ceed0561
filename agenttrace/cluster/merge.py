"""A run of several machines as the files of a campaign on one: records, cassette, run spec, failures, task set."""

from __future__ import annotations

import contextlib
import fcntl
import filecmp
import os
import shutil
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from agenttrace.campaign.plan import run_spec_text
from agenttrace.cluster.manifest import CASSETTE, cassette, part_lines, read_manifest, records
from agenttrace.cluster.objects import MOST_BYTES
from agenttrace.errors import DataError, StorageError, UsageError
from agenttrace.serving.cassette import Cassette, CassetteLog, cassette_path
from agenttrace.store.append import sync_folder
from agenttrace.store.ids import IdIndex
from agenttrace.store.jsonl import replacing, write_whole
from agenttrace.store.opening import FAILURES
from agenttrace.store.read import run_spec_path
from agenttrace.tasks.own.loading import sidecar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agenttrace.cluster.manifest import Part, ShardManifest
    from agenttrace.cluster.runs import StoredRun


class Merged(NamedTuple):
    """What was merged.

    Attributes:
        records: written.
        failures: attempts that ended in an infrastructure failure, written beside them.
        unreadable: objects of such attempts that are damaged, and why.
        missing: the shards that are not done.
    """

    records: int
    failures: int
    unreadable: tuple[str, ...]
    missing: tuple[int, ...]


def check_free(run: StoredRun, output: Path) -> None:
    """Refuse a name for the records of a run where files are there that would be replaced.

    Run spec and task set, which are written first, may be there as this run has them: a kill left them.

    Args:
        run: the run.
        output: the record file.

    Raises:
        UsageError: names the file, or the folder that is not there.
        StorageError: the store cannot be read.
    """
    if not output.parent.is_dir():
        raise UsageError(f"{output.parent}: there is no such folder; make it, or choose another --output")
    beside = _beside(run, output)
    for path in (output, *beside):
        if os.path.lexists(path) and not (path in beside and path.is_file() and path.read_bytes() == beside[path]):
            raise UsageError(f"{path} is there already; choose another --output")


def _beside(run: StoredRun, output: Path) -> dict[Path, bytes | None]:
    """Return what belongs beside the records of a run; `None` where it has no such thing."""
    return {run_spec_path(output): run_spec_text(run.spec), sidecar(output): run.tasks()}


def write_beside(run: StoredRun, output: Path) -> None:
    """Write run spec and task set beside the records of a run.

    Raises:
        StorageError: the store cannot be read, or the files cannot be written.
    """
    for path, data in _beside(run, output).items():
        if data is not None:
            write_whole(path, data)


@contextlib.contextmanager
def making(output: Path) -> Iterator[Path]:
    """Yield a folder beside a file to make it in, which goes at the end; what a killed process left there goes first.

    Raises:
        UsageError: another process is just making this file.
        OSError: the folder cannot be used.
    """
    folder = output.with_name(f".{output.name}.making")
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{output} is just being made by another process; wait for it") from None
        for left in folder.iterdir():
            if left.name != "lock":
                left.unlink()
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


def merge(run: StoredRun, output: Path) -> Merged:
    """Write a run as record file and what lies beside one, in the order of the plan.

    The files are there whole at the end, the records last, or not at all. What a killed merge had put in its place is
    made again and must be the same. Where shards are not done, the file lacks their records, and a campaign on one
    machine goes on from it.

    Raises:
        UsageError: there is such a file already, or is just being made.
        DataError: a part or manifest is damaged; the message names it.
        StorageError: the store cannot be read, or the files cannot be written.
    """
    check_free(run, output)
    done = run.done()
    try:
        with making(output) as folder:
            made = folder / output.name
            with (
                made.open("wb") as file,
                CassetteLog(cassette_path(made), run_spec_sha256=run.spec_sha256, recorded=IdIndex()) as log,
            ):
                count = sum(_write(run, shard, file, log, folder) for shard in sorted(done))
                file.flush()
                os.fsync(file.fileno())
            failures, unreadable = _failures(run, made.with_suffix(FAILURES))
            _check_same(made, output)
            write_beside(run, output)
            for path in (made.with_suffix(FAILURES), cassette_path(made), made):
                if path.exists():
                    path.replace(output.with_name(path.name))
            sync_folder(output.parent)
    except OSError as error:
        raise StorageError(f"cannot write {output}: {error.strerror}") from error
    return Merged(count, failures, unreadable, tuple(one for one in range(run.shards.count) if one not in done))


def _check_same(made: Path, output: Path) -> None:
    """Refuse to replace what lies there, unless it is what was made: then a kill has left it."""
    other = []
    for ours in (made, cassette_path(made), made.with_suffix(FAILURES)):
        there = output.with_name(ours.name)
        same = there.is_file() and ours.is_file() and filecmp.cmp(there, ours, shallow=False)
        if os.path.lexists(there) and not same:
            other.append(str(there))
    if other:
        raise UsageError(
            f"{' and '.join(other)}: there already, and not what this run has now; where a merge that was killed left "
            "that before more shards were done, remove it; else choose another --output"
        )


def _failures(run: StoredRun, path: Path) -> tuple[int, tuple[str, ...]]:
    """Write the attempts that failed, if there are any; return how many, and what could not be read."""
    count, unreadable = 0, []
    if not (names := run.every_spoilt()):
        return 0, ()
    with replacing(path) as file:
        for name in names:
            try:
                lines = part_lines(run.store.get(name, most=MOST_BYTES) or b"")
            except DataError as error:
                unreadable.append(str(error))
                continue
            except ValueError as error:
                unreadable.append(f"{run.store.url}/{name} {error}")
                continue
            file.writelines(line + b"\n" for line in lines)
            count += len(lines)
    return count, tuple(unreadable)


def _write(run: StoredRun, shard: int, file: BinaryIO, log: CassetteLog, folder: Path) -> int:
    """Write the records of a shard and their tapes; return how many."""
    manifest = read_manifest(run, shard)
    if manifest is None:  # a person has removed it meanwhile
        raise DataError(f"{run.url}: shard {shard} is not done any more; run it, or merge again without it")
    found = records(run, manifest)
    tapes = {part.name: _tape(run, manifest, part, folder) for part in manifest.parts}
    for tape in tapes.values():
        log.note(tape.facts)
    for one in found:
        log.append(one.trace_id, tapes[one.part.name].turns(one.trace_id))
        file.write(one.line + b"\n")
    for tape in tapes.values():
        tape.path.unlink()
    return len(found)


def _tape(run: StoredRun, manifest: ShardManifest, part: Part, folder: Path) -> Cassette:
    path = folder / f"{part.name}{CASSETTE}"
    path.write_bytes(cassette(run, manifest, part))
    return Cassette(path, verified=False)
