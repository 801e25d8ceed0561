"""Manifests: which lines of which parts are the records of a shard. What no manifest names does not count."""

from __future__ import annotations

import hashlib
import io
import re
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec import UNSET

from agenttrace.cluster.objects import MOST_BYTES
from agenttrace.errors import DataError
from agenttrace.records import Record, digest
from agenttrace.store.read import DECODE_ERRORS, unzstd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agenttrace.cluster.runs import StoredRun

FORMAT = "agenttrace-manifest-1"
RECORDS, CASSETTE = ".jsonl.zst", ".cassette.zst"
"""Endings of the two objects of a part."""
PART = re.compile(r"[0-9a-f]{32}")
"""Its name, which becomes one of a file, too."""


class Part(Record, frozen=True, kw_only=True):
    """A part: records of one shard, and their cassette.

    Attributes:
        name: without its endings, in the folder of the shard's parts.
        records: lines in it.
        bytes: of the records' object.
        sha256: of it.
        cassette_bytes: of the cassette's object.
        cassette_sha256: of it.
    """

    name: str
    records: int
    bytes: int
    sha256: str
    cassette_bytes: int
    cassette_sha256: str


class ShardManifest(Record, frozen=True, kw_only=True):
    """What a shard consists of; made once, by the attempt that was done first.

    Attributes:
        format: of this file.
        shard: its number.
        run_spec_sha256: digest of the run spec.
        attempt: name of the attempt that made it.
        parts: named by `lines`.
        lines: of every record, in the order of the plan, the part (its index) and the line in it, both from 0 on.
        ids_sha256: digest of the list of trace ids, in the same order.
        made_by: what is known of the attempt and shapes no record: node, endpoint, version of the kit.
    """

    shard: int
    run_spec_sha256: str
    attempt: str
    parts: tuple[Part, ...]
    lines: tuple[tuple[int, int], ...]
    ids_sha256: str
    made_by: dict[str, str] = msgspec.field(default_factory=dict)
    format: str = FORMAT


class Stored(NamedTuple):
    """A record of a shard: its id, its line (without the line's end), and the part that has its replies, too."""

    trace_id: str
    line: bytes
    part: Part


class _Id(msgspec.Struct):
    trace_id: str


_id = msgspec.json.Decoder(_Id).decode


def read_manifest(run: StoredRun, shard: int) -> ShardManifest | None:
    """Return what a shard consists of; `None` where it is not done.

    Raises:
        DataError: the manifest is damaged, or of another run.
        StorageError: the store cannot be read.
    """
    name = run.manifest(shard)
    data = run.store.get(name)
    if data is None:
        return None
    try:
        found = msgspec.json.decode(data, type=ShardManifest)
    except DECODE_ERRORS as error:
        raise _damaged(run, shard, name, f"is no manifest ({error})") from error
    if found.format != FORMAT or found.shard != shard or found.run_spec_sha256 != run.spec_sha256:
        raise _damaged(run, shard, name, "is of another format, shard or run spec")
    if odd := [part.name[:40] for part in found.parts if not PART.fullmatch(part.name)]:
        raise _damaged(run, shard, name, f"names {odd[0]!r}, which is no part")
    size = len(run.shards.stretch(shard))
    if len(found.lines) != size and (found.lines or run.spec.dataset.sampling is UNSET):  # else it may have no tree
        raise _damaged(run, shard, name, f"names {len(found.lines)} records of {size}")
    sizes = [part.records for part in found.parts]
    if not all(0 <= part < len(sizes) and 0 <= line < sizes[part] for part, line in found.lines):
        raise _damaged(run, shard, name, "names lines that are no records")
    return found


def records(run: StoredRun, manifest: ShardManifest) -> list[Stored]:
    """Return the records of a shard in the order of the plan, each line as it was written.

    Raises:
        DataError: a part is damaged, or not there, or the records are not those that the manifest was made of.
        StorageError: the store cannot be read.
    """
    shard = manifest.shard
    lines = []
    for part in manifest.parts:
        name = f"{run.parts(shard)}/{part.name}{RECORDS}"
        try:
            lines.append(part_lines(_whole(run, shard, name, part.bytes, part.sha256)))
        except ValueError as error:
            raise _damaged(run, shard, name, str(error)) from error
    try:
        found = [(lines[part][line], manifest.parts[part]) for part, line in manifest.lines]
        stored = [Stored(_id(line).trace_id, line, part) for line, part in found]
    except (IndexError, *DECODE_ERRORS) as error:
        raise _damaged(run, shard, run.manifest(shard), f"names lines that are no records ({error})") from error
    if digest([one.trace_id for one in stored]) != manifest.ids_sha256:
        raise _damaged(run, shard, run.manifest(shard), "names other records than those that it was made of")
    return stored


def cassette(run: StoredRun, manifest: ShardManifest, part: Part) -> bytes:
    """Return the cassette of a part; errors are those of `records`."""
    name = f"{run.parts(manifest.shard)}/{part.name}{CASSETTE}"
    return _whole(run, manifest.shard, name, part.cassette_bytes, part.cassette_sha256)


def every_record(run: StoredRun) -> Iterator[Stored]:
    """Yield the records of all shards that are done, in the order of the plan; errors are those of `records`."""
    for shard in sorted(run.done()):
        manifest = read_manifest(run, shard)
        if manifest is not None:
            yield from records(run, manifest)


def damage(run: StoredRun) -> Iterator[str]:
    """Yield what is wrong with the shards that are done, a line for each that is damaged; every object is read.

    Raises:
        StorageError: the store cannot be read.
    """
    yield from (str(found) for found in run.look_at_done(partial(_read, run)) if isinstance(found, DataError))


def _read(run: StoredRun, shard: int) -> None:
    if (manifest := read_manifest(run, shard)) is not None:
        records(run, manifest)
        for part in manifest.parts:
            cassette(run, manifest, part)


def part_lines(data: bytes) -> list[bytes]:
    """Return the lines that a part's object holds.

    Raises:
        ValueError: it is damaged, or not whole.
    """
    whole = bytearray()
    try:
        for chunk in unzstd(io.BytesIO(data).read):
            whole += chunk
            if len(whole) > MOST_BYTES:
                raise ValueError(f"unpacks to more than {MOST_BYTES >> 20} MiB")
    except EOFError:
        raise ValueError("is cut off") from None
    *lines, rest = bytes(whole).split(b"\n")
    if rest or not lines:
        raise ValueError("is cut off")
    return lines


def _whole(run: StoredRun, shard: int, name: str, size: int, sha256: str) -> bytes:
    try:
        data = run.store.get(name, most=min(size, MOST_BYTES))
    except DataError:
        raise _damaged(run, shard, name, f"has more than the {size} bytes that it was made with") from None
    if data is None:
        raise _damaged(run, shard, name, "is not there")
    if (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise _damaged(run, shard, name, f"has another digest ({found[:12]}…, {len(data)} bytes) than when it was made")
    return data


def _damaged(run: StoredRun, shard: int, name: str, why: str) -> DataError:
    return DataError(
        f"{run.store.url}/{name} {why}; restore it, or remove the manifest of shard {shard} ({run.manifest(shard)}) "
        "and run the shard again"
    )
