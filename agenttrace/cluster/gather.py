"""The records of a run as compacted files of about ten thousand each, made over its machines and listed at the end.

A file is made of a stretch of shards, by whichever machine comes first: its name and its bytes follow from the run, and
it is made by conditional creation, as is what describes it. So who is killed, or comes second, changes nothing, and to
go on is to list what is described.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from agenttrace.cluster.attempts import Attempted
from agenttrace.cluster.manifest import read_manifest, records
from agenttrace.cluster.merge import check_free, making, write_beside
from agenttrace.cluster.objects import Store
from agenttrace.cluster.runs import open_run
from agenttrace.errors import DataError, StorageError, UsageError, command
from agenttrace.records import Record, digest
from agenttrace.store.append import sync_folder
from agenttrace.store.compact import Compacted, compact, join
from agenttrace.store.read import DECODE_ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterator


FORMAT = "agenttrace-gathered-1"
ROWS = 10_000
"""Records of a file, about."""
_RECORDS = ".jsonl.zst"
_ROOM = (
    "; lines of as many files lie there as are made at a time: name another folder in TMPDIR, say a smaller "
    "--rows-per-file, or let Ray have fewer processors of the node (`ray start --num-cpus N`)"
)
_NAME = re.compile(r"/((\d+)-(\d+))(\.json|\.jsonl\.zst)$")


class GatheredFile(Record, frozen=True, kw_only=True):
    """A file of records; there is none where no task of its shards has a tree.

    Attributes:
        name: in the folder `gathered` of the run.
        shards: the first and the last that it is made of.
        records: in it.
        bytes: of it.
        sha256: of it.
    """

    name: str
    shards: tuple[int, int]
    records: int
    bytes: int
    sha256: str


class Gathered(Record, frozen=True, kw_only=True):
    """What `GATHERED.json` holds; made once, when all files are there.

    Attributes:
        format: of this file.
        run_spec_sha256: digest of the run spec.
        records: in all files.
        bytes: of all files.
        sha256: digest of the list of theirs.
        files: in the order of the plan.
    """

    run_spec_sha256: str
    records: int
    bytes: int
    sha256: str
    files: tuple[GatheredFile, ...]
    format: str = FORMAT


class GatherOrder(Record, frozen=True, kw_only=True, tag="gather"):
    """What a machine needs to know to make files: URL of the store, run, records of a file."""

    store: str
    run_id: str
    rows: int = ROWS

    @property
    def takes(self) -> tuple[str, int]:
        """What Ray counts of a node for a file."""
        return "CPU", 1

    @property
    def in_flight(self) -> None:
        """No endpoint is asked for anything."""
        return


class Gatherer:
    """Makes the files of a run; none needs a sandbox or an endpoint.

    Args:
        order: what is gathered.
        scratch: folder for what is removed at the end; `None` is the system's. It takes the lines of a file.

    Attributes:
        run: in its store.
        stretches: the shards of each file.

    Raises:
        UsageError: there is no such run, or it was gathered otherwise before.
        StorageError: the store cannot be read.
    """

    def __init__(self, order: GatherOrder, *, scratch: Path | None = None) -> None:
        if order.rows < 1:
            raise UsageError("--rows-per-file: expected 1 or more")
        self.run = open_run(Store(order.store, make=False), order.run_id)
        self._rows, self._scratch = order.rows, scratch
        shards = self.run.shards
        each = max(1, order.rows * shards.count // shards.jobs)
        self.stretches = [range(at, min(at + each, shards.count)) for at in range(0, shards.count, each)]
        self._refuse_others()

    @property
    def _folder(self) -> str:
        return f"{self.run.spec.run_id}/gathered"

    def _name(self, number: int) -> str:
        of = self.stretches[number]
        return f"{self._folder}/{of[0]:08}-{of[-1]:08}"

    def _refuse_others(self) -> None:
        """Refuse to make files beside those of other stretches: all records would be there twice."""
        own = {self._name(number).rpartition("/")[2] for number in range(len(self.stretches))}
        found = [match for name in self.run.store.names(self._folder) if (match := _NAME.search(name))]
        others = [(int(match[3]) - int(match[2]) + 1, int(match[2])) for match in found if match[1] not in own]
        if not others:
            return
        shards, (width, first) = self.run.shards, max(others)
        each = next((size for size in range(max(1, width), first + 1) if first % size == 0), width)  # the last is short
        raise UsageError(
            f"{self.run.store.url}/{self._folder} has files that --rows-per-file {self._rows} does not make; go on "
            f"with --rows-per-file {-(-each * shards.jobs // shards.count)}, which makes them ({each} shards a file), "
            "or remove that folder first"
        )

    def missing(self) -> list[int]:
        """Return the shards that are not done; nothing is gathered before there are none."""
        done = self.run.done()
        return [shard for shard in range(self.run.shards.count) if shard not in done]

    def done(self) -> set[int]:
        """Return the files that are there and described."""
        found = (_NAME.search(name) for name in self.run.store.names(self._folder))
        there = {match[1] for match in found if match and match[4] == ".json"}
        return {number for number in range(len(self.stretches)) if self._name(number).rpartition("/")[2] in there}

    def make(self, number: int, *, in_flight: int | None = None) -> Attempted:  # noqa: ARG002 - as a seat's
        """Make a file and return what became of it; one that is there and described is left alone.

        Raises:
            DataError: a part or manifest is damaged, or a shard not done any more; or what lies there is another file.
            StorageError: the store cannot be used, or the disk is full.
        """
        store, name = self.run.store, self._name(number)
        if (there := self._described(number)) is not None:
            return Attempted(shard=number, end="done_before", records=there.records)
        count, packed = self._packed(number)
        if count and not store.create(f"{name}{_RECORDS}", packed):
            if (there := self._described(number)) is not None:
                return Attempted(shard=number, end="lost_race", records=there.records, made=count)
            raise DataError(
                f"{store.url}/{name}{_RECORDS} is another file than is made here, and nothing describes it: another "
                f"machine, with another version of zstd, may just be making it; run {command('cluster', 'gather')} "
                "again when none is, and if this is said again, it is damaged: remove it first"
            )
        made = GatheredFile(
            **self._expected(number), records=count, bytes=len(packed), sha256=hashlib.sha256(packed).hexdigest()
        )
        won = store.create(f"{name}.json", msgspec.json.encode(made))
        return Attempted(shard=number, end="committed" if won else "lost_race", records=count, made=count)

    def _packed(self, number: int) -> tuple[int, bytes]:
        """Return how many records a file has, and its bytes."""
        try:
            with tempfile.TemporaryDirectory(prefix="agenttrace-gather-", dir=self._scratch) as folder:
                lines, made = Path(folder, "records.jsonl"), Path(folder, f"records{_RECORDS}")
                if not (count := self._write_lines(number, lines)):
                    return 0, b""
                try:
                    compact(lines, made)
                except StorageError as error:
                    raise StorageError(f"{error}{_ROOM}") from error
                return count, made.read_bytes()
        except OSError as error:
            where = self._scratch or "the temporary folder"
            raise StorageError(f"cannot write to {where}: {error.strerror}{_ROOM}") from error

    def _write_lines(self, number: int, path: Path) -> int:
        """Write the records of a file as they were collected; return how many."""
        count = 0
        with path.open("wb") as file:
            for shard in self.stretches[number]:
                if (manifest := read_manifest(self.run, shard)) is None:
                    raise DataError(f"{self.run.url}: shard {shard} is not done any more")
                found = records(self.run, manifest)
                file.writelines(one.line + b"\n" for one in found)
                count += len(found)
        return count

    def finish(self) -> Gathered:
        """Return the list of all files, which is made where it is not there.

        Raises:
            DataError: a description is damaged, or not there, or there is a list of other files.
            StorageError: the store cannot be used.
        """
        described = []
        for number in range(len(self.stretches)):
            if (one := self._described(number)) is None:
                raise DataError(
                    f"{self.run.store.url}/{self._name(number)}.json is not there any more; run "
                    f"{command('cluster', 'gather')} again"
                )
            described.append(one)
        files = tuple(one for one in described if one.records)
        made = Gathered(
            run_spec_sha256=self.run.spec_sha256,
            records=sum(one.records for one in files),
            bytes=sum(one.bytes for one in files),
            sha256=digest([one.sha256 for one in files]),
            files=files,
        )
        name = f"{self._folder}/GATHERED.json"
        if not self.run.store.create(name, msgspec.json.encode(made)):
            raise self._damaged(name, "lists other files than are there")
        return made

    def _expected(self, number: int) -> dict[str, Any]:
        """Return what a file's description says before anything is known of its content."""
        of = self.stretches[number]
        return {"name": f"{self._name(number).rpartition('/')[2]}{_RECORDS}", "shards": (of[0], of[-1])}

    def _described(self, number: int) -> GatheredFile | None:
        """Return what describes a file; `None` where nothing does."""
        name = f"{self._name(number)}.json"
        if (data := self.run.store.get(name)) is None:
            return None
        try:
            found = msgspec.json.decode(data, type=GatheredFile)
        except DECODE_ERRORS as error:
            raise self._damaged(name, f"is damaged ({error})") from error
        if {"name": found.name, "shards": found.shards} != self._expected(number):
            raise self._damaged(name, "describes another file")
        shards = self.run.shards
        jobs = sum(len(shards.stretch(shard)) for shard in self.stretches[number])
        least = jobs if shards.dataset.sampling is UNSET else 0  # a task that was drawn may have no tree
        if not least <= found.records <= jobs:
            raise self._damaged(name, f"describes {found.records} records of {jobs}")
        return found

    def _damaged(self, name: str, why: str) -> DataError:
        again = f"remove it and run {command('cluster', 'gather')} again"
        return DataError(f"{self.run.store.url}/{name} {why}; {again}")

    def fetch(self, gathered: Gathered, output: Path) -> None:
        """Write all files as one compacted file, with run spec and task set beside it, whole or not at all.

        Raises:
            UsageError: there is such a file already, or is just being made; or no such folder.
            DataError: an object is damaged; the message names it.
            StorageError: the store cannot be read, or the file cannot be written.
        """
        check_free(self.run, output)
        try:
            with making(output) as folder:
                made = folder / output.name
                join(self._fetched(gathered, folder), made)
                write_beside(self.run, output)
                made.replace(output)
                sync_folder(output.parent)
        except OSError as error:
            raise StorageError(f"cannot write {output}: {error.strerror}") from error

    def _fetched(self, gathered: Gathered, folder: Path) -> Iterator[Path]:
        """Yield the files, each of which is removed when the next one is asked for."""
        for one in gathered.files:
            name, path, what = f"{self._folder}/{one.name}", folder / one.name, ""
            try:
                data = self.run.store.get(name, most=one.bytes)
            except DataError:
                data = b""  # it is longer than when it was made
            if data is None:
                what = "is not there"
            elif hashlib.sha256(data).hexdigest() != one.sha256:
                what = "has another digest than when it was made"
            else:
                path.write_bytes(data)
                with Compacted(path) as opened:
                    if opened.records != one.records:
                        what = f"has {opened.records} records, and is described with {one.records}"
            if what:
                raise DataError(
                    f"{self.run.store.url}/{name} {what}; remove it, its .json and GATHERED.json, and gather again"
                )
            yield path
            path.unlink()
