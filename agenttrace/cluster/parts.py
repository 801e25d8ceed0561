"""The log of one attempt at a shard: immutable parts in the store, and a manifest that the first attempt makes."""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import msgspec

from agenttrace.cluster.manifest import CASSETTE, PART, RECORDS, Part, ShardManifest, part_lines
from agenttrace.cluster.objects import MOST_BYTES
from agenttrace.errors import AgentTraceError, DataError, StorageError
from agenttrace.records import digest
from agenttrace.serving.cassette import Cassette, CassetteLog
from agenttrace.store.ids import IdIndex
from agenttrace.store.read import DECODE_ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from agenttrace.cluster.runs import StoredRun
    from agenttrace.records import Trace
    from agenttrace.serving.cassette import Exchange

PART_RECORDS = 16
PART_SECONDS = 60.0
"""What a killed attempt loses at most: so many records, or those of so many seconds."""
_LEVEL = 3

End = Literal["committed", "lost_race", "incomplete"]
"""How an attempt at a shard ended: its manifest stands; another attempt's stands; not every record is there."""


class _Metadata(msgspec.Struct):
    run_spec_sha256: str


class _Of(msgspec.Struct):
    trace_id: str
    metadata: _Metadata


_of = msgspec.json.Decoder(_Of).decode


class _Finished(NamedTuple):
    trace_id: str
    line: bytes
    turns: tuple[Exchange, ...]


class Tapes:
    """Takes the tapes of finished traces and holds each until its record comes: both go into one part."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[Exchange, ...]] = {}

    def append(self, trace_id: str, turns: Iterable[Exchange]) -> None:
        """Hold the tape of one trace."""
        self.held[trace_id] = tuple(turns)

    def check(self) -> None:
        """Do nothing: no other program writes here."""


class SpoiltLog:
    """Takes attempts that ended in an infrastructure failure: an object each, apart from the records.

    Attributes:
        ids: of the traces whose attempts it was given.
    """

    def __init__(self, run: StoredRun, shard: int) -> None:
        self._run = run
        self._shard = shard
        self.ids = IdIndex()

    def append(self, trace_id: str, trace: Trace) -> None:
        """Keep one attempt and return when that is durable.

        Raises:
            StorageError: it could not be written.
        """
        name = f"{self._run.spoilt(self._shard)}/{uuid.uuid4().hex}{RECORDS}"
        self._run.store.create(name, _compressed(msgspec.json.encode(trace) + b"\n"))
        self.ids.add(trace_id)

    def give_up(self, trace_id: str) -> None:
        """Do nothing: nothing is held."""


class ShardLog:
    """The log of one attempt at a shard; records that earlier attempts left are its own.

    A part is two objects, its records and their cassette, which is made first: no record is without its replies. A
    record counts when a manifest names its line, and not before: an attempt that is killed, or cut off and goes on, can
    waste work but neither lose nor double a record.

    Args:
        run: the run in its store.
        shard: its number.
        planned: trace ids of the shard, in the order of the plan.
        scratch: a folder for cassettes while they are made.
        facts: what is true of the recording, for every cassette (see `agenttrace.campaign.environment.replay_facts`).
        made_by: for the manifest.
        part_records: records of a part at most.
        part_seconds: so long a record waits for others at most.

    Attributes:
        ids: trace ids that are there, those of a part to be made among them.
        tapes: takes the tape of a trace before its record.
        spoilt: takes attempts that failed.
        unusable: parts of earlier attempts that are damaged, and why; their records are made again.

    Raises:
        StorageError: the store cannot be read.
    """

    def __init__(
        self,
        run: StoredRun,
        shard: int,
        planned: Sequence[str],
        *,
        scratch: Path,
        facts: dict[str, Any] | None = None,
        made_by: dict[str, str] | None = None,
        part_records: int = PART_RECORDS,
        part_seconds: float = PART_SECONDS,
    ) -> None:
        self.ids = IdIndex()
        self.tapes = Tapes()
        self.spoilt = SpoiltLog(run, shard)
        self.unusable: list[str] = []
        self._run, self._shard, self._planned = run, shard, tuple(planned)
        self._scratch = scratch
        self._facts, self._made_by = facts or {}, made_by or {}
        self._most, self._seconds = part_records, part_seconds
        self._attempt = uuid.uuid4().hex
        self._parts: list[Part] = []
        self._where: dict[str, tuple[int, int]] = {}
        self._waiting: list[_Finished] = []
        self._since = 0.0
        self._failure: AgentTraceError | OSError | None = None
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._take_up()
        self._watch = threading.Thread(target=self._flush_late, daemon=True)
        self._watch.start()

    def _take_up(self) -> None:
        """Take the parts of earlier attempts."""
        folder = self._run.parts(self._shard)
        for name in sorted(self._run.store.names(folder)):
            if name.endswith(RECORDS):
                stem = name.rpartition("/")[2].removesuffix(RECORDS)
                try:
                    self._add(*self._earlier(stem))
                except DataError as error:
                    self.unusable.append(f"{error}; its records are made again")
                except (ValueError, *DECODE_ERRORS) as error:
                    self.unusable.append(f"{self._run.store.url}/{name} {error}; its records are made again")

    def _earlier(self, name: str) -> tuple[Part, list[str]]:
        """Return a part of an earlier attempt and the ids of its lines.

        Raises:
            ValueError: it is damaged, or not of this run.
        """
        if not PART.fullmatch(name):
            raise ValueError("is none of the kit's")
        beginning = f"{self._run.parts(self._shard)}/{name}"
        data, tape = (self._run.store.get(beginning + ending, most=MOST_BYTES) for ending in (RECORDS, CASSETTE))
        if data is None or tape is None:
            raise ValueError("has no cassette beside it")
        found = [_of(line) for line in part_lines(data)]
        if any(one.metadata.run_spec_sha256 != self._run.spec_sha256 for one in found):
            raise ValueError("has records of another run spec")
        ids = [one.trace_id for one in found]
        path = self._scratch / f"{name}{CASSETTE}"
        path.write_bytes(tape)
        try:
            cassette = Cassette(path, verified=False)
        except AgentTraceError as error:
            raise ValueError(f"has a damaged cassette beside it ({error})") from error
        finally:
            path.unlink()
        if cassette.damage or cassette.end < len(tape) or not {*ids} <= {*cassette.trace_ids}:
            raise ValueError("has a damaged cassette beside it")
        return _part(name, len(ids), data, tape), ids

    def _add(self, part: Part, ids: Iterable[str]) -> None:
        number = len(self._parts)
        self._parts.append(part)
        for line, trace_id in enumerate(ids):
            self._where.setdefault(trace_id, (number, line))
            self.ids.add(trace_id)

    def append(self, trace_id: str, record: Trace) -> None:
        """Take one record, whose tape was taken before; it is durable with its part.

        Raises:
            StorageError: a part could not be made; its records and this one are held, and `flush` tries again.
        """
        line = msgspec.json.encode(record)
        with self._lock:
            if not self._waiting:
                self._since = time.monotonic()
            self._waiting.append(_Finished(trace_id, line, self.tapes.held.pop(trace_id)))
            self.ids.add(trace_id)
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            if len(self._waiting) >= self._most:
                self.flush()

    def flush(self) -> None:
        """Make a part of the records that wait for one.

        Raises:
            StorageError: it could not be made; its records are held.
        """
        with self._lock:
            if not self._waiting:
                return
            name = uuid.uuid4().hex
            tape = self._cassette(name)
            data = _compressed(b"".join(one.line + b"\n" for one in self._waiting))
            beginning = f"{self._run.parts(self._shard)}/{name}"
            for ending, content in ((CASSETTE, tape), (RECORDS, data)):
                if not self._run.store.create(beginning + ending, content):
                    raise StorageError(f"{self._run.store.url}/{beginning}{ending}: another one made this object")
            self._add(_part(name, len(self._waiting), data, tape), [one.trace_id for one in self._waiting])
            self._waiting.clear()

    def _cassette(self, name: str) -> bytes:
        """Return the cassette of the records that wait: a whole one, so that a part can be replayed by itself."""
        path = self._scratch / f"{name}{CASSETTE}"
        try:
            with CassetteLog(path, run_spec_sha256=self._run.spec_sha256, recorded=IdIndex()) as log:
                log.note(self._facts)
                for one in self._waiting:
                    log.append(one.trace_id, one.turns)
            return path.read_bytes()
        finally:
            path.unlink(missing_ok=True)

    def _flush_late(self) -> None:
        """Make a part of records that have waited long enough."""
        while not self._closed.wait(self._seconds / 10):
            with self._lock:
                if self._waiting and time.monotonic() - self._since >= self._seconds:
                    try:
                        self.flush()
                    except (AgentTraceError, OSError) as error:
                        self._failure = error  # the next `append` raises it
                        self._since = time.monotonic()

    def commit(self) -> End:
        """Make the manifest, once every record is in a part, and return how the attempt ended.

        Raises:
            StorageError: the store refuses, or does not answer.
        """
        with self._lock:
            self.flush()
            if any(trace_id not in self._where for trace_id in self._planned):
                return "incomplete"
            used = sorted({self._where[trace_id][0] for trace_id in self._planned})
            place = {part: number for number, part in enumerate(used)}
            lines = (self._where[trace_id] for trace_id in self._planned)
            manifest = ShardManifest(
                shard=self._shard,
                run_spec_sha256=self._run.spec_sha256,
                attempt=self._attempt,
                parts=tuple(self._parts[part] for part in used),
                lines=tuple((place[part], line) for part, line in lines),
                ids_sha256=digest(list(self._planned)),
                made_by=self._made_by,
            )
        won = self._run.store.create(self._run.manifest(self._shard), msgspec.json.encode(manifest))
        return "committed" if won else "lost_race"

    def check(self) -> None:
        """Do nothing: no other program writes here."""

    def give_up(self, trace_id: str) -> None:
        """Do nothing: a trace without a record has no tape here."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._closed.set()
        self._watch.join()
        if error is None:
            self.flush()
        else:  # what is finished stays finished; what went wrong first is what is told
            with suppress(AgentTraceError, OSError):
                self.flush()


def _compressed(data: bytes) -> bytes:
    import zstandard  # noqa: PLC0415 - heavy

    return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(data)


def _part(name: str, records: int, data: bytes, tape: bytes) -> Part:
    return Part(
        name=name,
        records=records,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        cassette_bytes=len(tape),
        cassette_sha256=hashlib.sha256(tape).hexdigest(),
    )
