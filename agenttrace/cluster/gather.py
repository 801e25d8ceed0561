"""The records of a run as compacted files of about ten thousand each, made over its machines and listed at the end.

A file is made of a stretch of shards, by whichever machine comes first: its name and its bytes follow from the run, and
it is made by conditional creation, as is what describes it. So who is killed, or comes second, changes nothing, and to
go on is to list what is described.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from agenttrace.campaign.plan import write_run_spec
from agenttrace.cluster.attempts import Attempted
from agenttrace.cluster.manifest import read_manifest, records
from agenttrace.cluster.objects import Store
from agenttrace.cluster.runs import open_run
from agenttrace.errors import DataError, StorageError, UsageError, command
from agenttrace.records import Record, digest
from agenttrace.store.compact import compact, join
from agenttrace.store.jsonl import write_whole
from agenttrace.store.read import DECODE_ERRORS, run_spec_path
from agenttrace.tasks.own.loading import sidecar

if TYPE_CHECKING:
    from collections.abc import Iterator


T = TypeVar("T", bound=Record)
FORMAT = "agenttrace-gathered-1"
ROWS = 10_000
"""Records of a file, about."""
_RECORDS = ".jsonl.zst"
_NAME = re.compile(r"/(\d+-\d+)\.json$")


def check_free(output: Path) -> None:
    """Refuse the name of a file that is there, or whose run spec is.

    Raises:
        UsageError: names it.
    """
    for path in (output, run_spec_path(output)):
        if os.path.lexists(path):
            raise UsageError(f"{path} is there already; choose another --output")


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
        self._scratch = scratch
        shards = self.run.shards
        each = max(1, order.rows * shards.count // shards.jobs)
        self.stretches = [range(at, min(at + each, shards.count)) for at in range(0, shards.count, each)]

    @property
    def _list(self) -> str:
        return f"{self.run.spec.run_id}/gathered/GATHERED.json"

    def _name(self, number: int) -> str:
        of = self.stretches[number]
        return f"{self.run.spec.run_id}/gathered/{of[0]:08}-{of[-1]:08}"

    def missing(self) -> list[int]:
        """Return the shards that are not done; nothing is gathered before there are none."""
        done = self.run.done()
        return [shard for shard in range(self.run.shards.count) if shard not in done]

    def done(self) -> set[int]:
        """Return the files that are there and described."""
        found = self.run.store.names(self._list.rpartition("/")[0])
        there = {match[1] for name in found if (match := _NAME.search(name))}
        return {number for number in range(len(self.stretches)) if self._name(number).rpartition("/")[2] in there}

    def make(self, number: int, *, in_flight: int | None = None) -> Attempted:  # noqa: ARG002 - as a seat's
        """Make a file and return what became of it; one that is there and described is left alone.

        Raises:
            DataError: a part or manifest is damaged, or a shard not done any more; or what lies there is another file.
            StorageError: the store cannot be used, or the disk is full.
        """
        store, name = self.run.store, self._name(number)
        if (data := store.get(f"{name}.json")) is not None:
            there = self._decoded(f"{name}.json", data, GatheredFile)
            return Attempted(shard=number, end="done_before", records=there.records)
        with tempfile.TemporaryDirectory(prefix="agenttrace-gather-", dir=self._scratch) as folder:
            count, packed = self._packed(number, Path(folder))
        if count and not store.create(f"{name}{_RECORDS}", packed):
            raise DataError(
                f"{store.url}/{name}{_RECORDS} is damaged, or was made by another version of zstd; remove it and run "
                f"{command('cluster', 'gather')} again"
            )
        of = self.stretches[number]
        made = GatheredFile(
            name=f"{name.rpartition('/')[2]}{_RECORDS}",
            shards=(of[0], of[-1]),
            records=count,
            bytes=len(packed),
            sha256=hashlib.sha256(packed).hexdigest(),
        )
        won = store.create(f"{name}.json", msgspec.json.encode(made))
        return Attempted(shard=number, end="committed" if won else "lost_race", records=count, made=count)

    def _packed(self, number: int, folder: Path) -> tuple[int, bytes]:
        """Return how many records a file has, and its bytes."""
        lines, count = folder / "records.jsonl", 0
        try:
            with lines.open("wb") as file:
                for shard in self.stretches[number]:
                    if (manifest := read_manifest(self.run, shard)) is None:
                        raise DataError(f"{self.run.url}: shard {shard} is not done any more")
                    found = records(self.run, manifest)
                    file.writelines(one.line + b"\n" for one in found)
                    count += len(found)
            if not count:
                return 0, b""
            made = folder / f"records{_RECORDS}"
            compact(lines, made)
            return count, made.read_bytes()
        except OSError as error:
            raise StorageError(f"cannot write to {folder}: {error.strerror}") from error

    def finish(self) -> Gathered:
        """Return the list of all files, which is made where it is not there.

        Raises:
            UsageError: there is one of other files.
            DataError: a description is damaged, or a file has none.
            StorageError: the store cannot be used.
        """
        described = tuple(self._described(number) for number in range(len(self.stretches)))
        files = tuple(one for one in described if one.records)
        made = Gathered(
            run_spec_sha256=self.run.spec_sha256,
            records=sum(one.records for one in files),
            bytes=sum(one.bytes for one in files),
            sha256=digest([one.sha256 for one in files]),
            files=files,
        )
        if not self.run.store.create(self._list, msgspec.json.encode(made)):
            raise UsageError(
                f"{self.run.store.url}/{self._list} is of other files: gathered with another --rows-per-file"
            )
        return made

    def _described(self, number: int) -> GatheredFile:
        name = f"{self._name(number)}.json"
        return self._decoded(name, self.run.store.get(name) or b"", GatheredFile)

    def _decoded(self, name: str, data: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(data, type=kind)
        except DECODE_ERRORS as error:
            what = f"{self.run.store.url}/{name} is damaged ({error})"
            raise DataError(f"{what}; remove it and run {command('cluster', 'gather')} again") from error

    def fetch(self, gathered: Gathered, output: Path) -> None:
        """Write all files as one compacted file, with run spec and task set beside it, whole or not at all.

        Raises:
            UsageError: there is such a file already.
            DataError: an object is damaged; the message names it.
            StorageError: the store cannot be read, or the file cannot be written.
        """
        check_free(output)
        try:
            with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as folder:
                made = Path(folder) / output.name
                join(self._fetched(gathered, Path(folder)), made)
                write_run_spec(self.run.spec, output)
                if (packed := self.run.tasks()) is not None:
                    write_whole(sidecar(output), packed)
                made.replace(output)
        except OSError as error:
            raise StorageError(f"cannot write {output}: {error.strerror}") from error

    def _fetched(self, gathered: Gathered, folder: Path) -> Iterator[Path]:
        """Yield the files, each of which is removed when the next one is asked for."""
        for one in gathered.files:
            name = f"{self.run.spec.run_id}/gathered/{one.name}"
            data = self.run.store.get(name)
            if data is None or hashlib.sha256(data).hexdigest() != one.sha256:
                what = "is not there" if data is None else "has another digest than when it was made"
                raise DataError(
                    f"{self.run.store.url}/{name} {what}; remove it, its .json and GATHERED.json, and gather again"
                )
            path = folder / one.name
            path.write_bytes(data)
            yield path
            path.unlink()
