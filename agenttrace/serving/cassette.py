"""Cassettes: the requests and replies of a campaign, compressed, content-addressed, append-only.

A cassette is a row of Zstandard frames (RFC 8878), each with its own checksum; each holds one line of JSON, so that
`zstd -dc NAME.cassette.zst` prints JSON Lines. The first frame is the header; one frame per trace follows. Values
(messages, replies, what all requests have in common) stand once under their SHA-256 and are referred to by it: those
that many traces share in a frame of their own, the others in the frame of their trace. A trace that stands there
twice, because a kill came between its frame and its record, counts as last written.
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal, Self

import msgspec
from msgspec import UNSET, UnsetType

from agenttrace.errors import DataError, StorageError, UsageError
from agenttrace.records import Record, digest
from agenttrace.serving.frames import Damage, Frame, compress, decompress, scan
from agenttrace.store.append import AppendOnly
from agenttrace.store.jsonl import check_at_end
from agenttrace.store.opening import beside, opened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from agenttrace.store.ids import IdIndex

FORMAT = "agenttrace-cassette-1"
Values = dict[str, Any]
Kind = Literal["reply", "context_full", "refused", "unparsable", "counted"]
_MOST_SHARED_BYTES = 1 << 27
"""Of values held in memory while a cassette is open; tool schemas, prompts and two file lists take a few MiB."""
_MOST_SHARED = 4096
"""Values that stand once for all traces; a campaign of many seeds has a new one with every trace."""


class Exchange(Record, frozen=True, kw_only=True):
    """One request and what came of it.

    Attributes:
        fixed: what all requests of the campaign have in common (model, tools, sampler).
        messages: the conversation as sent.
        kind: `reply`, or the error that the client raised instead: `context_full`, `refused`, `unparsable`; `counted`
            when the prompt was counted and then not sent.
        result: the reply's fields, or the error's message.
        max_tokens: limit of this reply, instead of that in `fixed`.
        counted: tokens of the prompt, as counted before it was sent.
    """

    fixed: dict[str, Any]
    messages: tuple[dict[str, Any], ...]
    kind: Kind
    result: Any
    max_tokens: int | UnsetType = UNSET
    counted: int | UnsetType = UNSET

    @property
    def request_sha256(self) -> str:
        """SHA-256 of the canonical JSON of the whole request."""
        return request_digest(self.fixed, self.messages, self.max_tokens)


def request_digest(
    fixed: dict[str, Any], messages: Iterable[dict[str, Any]], max_tokens: int | UnsetType = UNSET
) -> str:
    """Return the SHA-256 of the canonical JSON of a request."""
    limit = {} if max_tokens is UNSET else {"max_tokens": max_tokens}
    return digest({**fixed, **limit, "messages": list(messages)})


class _StoredExchange(Record, frozen=True, kw_only=True):
    """An exchange as it stands in a line: every value by its SHA-256."""

    request: str
    fixed: str
    messages: tuple[str, ...]
    kind: Kind
    result: str
    max_tokens: int | UnsetType = UNSET
    counted: int | UnsetType = UNSET


class _Line(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Any line of a cassette: a header (`format`), shared values (`values` alone), facts, or a trace."""

    format: str | None = None
    run_spec_sha256: str | None = None
    facts: dict[str, str] | None = None
    trace_id: str | None = None
    turns: tuple[_StoredExchange, ...] | None = None
    values: Values = msgspec.field(default_factory=dict)


class _Head(msgspec.Struct):
    """What a line is; the rest of it is not made into objects."""

    trace_id: str | None = None


_decode = msgspec.json.Decoder(_Line).decode
_head = msgspec.json.Decoder(_Head).decode


def cassette_path(records: Path) -> Path:
    """Return where the cassette of a record file lies: beside it."""
    return beside(records, ".cassette.zst")


class Cassette:
    """A cassette as it is on disk.

    Attributes:
        path: the file.
        run_spec_sha256: digest of the run spec it was recorded under; `None` when the header is not readable.
        facts: values by name that were true of the recording, such as the fixture's manifest.
        damage: stretches that cannot be read, in file order.
    """

    def __init__(self, path: Path, *, verified: bool = True) -> None:
        """Read what is there and where.

        Args:
            path: the file.
            verified: whether the values of every trace are held against their digests now, not only by `turns`. Flipped
                bytes are found in either case, by the checksum of their frame; edits are not.

        Raises:
            UsageError: the file cannot be opened.
            DataError: it is no cassette.
        """
        self.path = path
        self.run_spec_sha256: str | None = None
        self.facts: dict[str, Any] = {}
        self.damage: list[Damage] = []
        self._verified = verified
        self._shared: Values = {}
        self._shared_bytes = 0
        self._where: dict[str, Frame] = {}
        self.end = 0
        """Where the last whole frame ends: what follows is a torn tail."""
        if not os.path.lexists(path):
            raise UsageError(f"cannot read {path}: there is no such file; a cassette lies beside its records")
        with opened(path) as file:
            self._index(scan(file))
        if self.end and not self.damage and self.run_spec_sha256 is None:
            raise DataError(f"{path}: not a cassette of the kit (no header)")

    def _index(self, frames: Iterable[Frame | Damage]) -> None:
        for frame in frames:
            if isinstance(frame, Damage) and frame.torn:  # it is the last: a torn tail ends no frame
                return
            self.end = frame.offset + frame.size
            if isinstance(frame, Damage):
                self.damage.append(frame)
                continue
            try:
                if self._verified or (trace_id := _head(frame.data).trace_id) is None:
                    self._take(_checked(frame.data), frame)
                else:
                    self._where[trace_id] = msgspec.structs.replace(frame, data=b"")
            except (msgspec.MsgspecError, RecursionError, LookupError, ValueError) as error:
                self.damage.append(Damage(offset=frame.offset, size=frame.size, reason=str(error)))

    def _take(self, line: _Line, frame: Frame) -> None:
        if line.format is not None:
            if line.format != FORMAT:
                raise DataError(f"{self.path}: a cassette of another format ({line.format!r}, not {FORMAT!r})")
            self.run_spec_sha256 = line.run_spec_sha256
        elif line.trace_id is not None:
            self._where[line.trace_id] = msgspec.structs.replace(frame, data=b"")
        else:
            self._shared_bytes += len(frame.data)
            if self._shared_bytes > _MOST_SHARED_BYTES:
                raise DataError(f"{self.path}: what all traces share is more than {_MOST_SHARED_BYTES >> 20} MiB")
            self._shared.update(line.values)
            for name, sha256 in (line.facts or {}).items():
                self.facts[name] = line.values[sha256]

    @property
    def trace_ids(self) -> list[str]:
        """Ids of the traces that are there, in the order in which they were written."""
        return list(self._where)

    @property
    def shared(self) -> frozenset[str]:
        """Digests of the values that stand there for all traces."""
        return frozenset(self._shared)

    def turns(self, trace_id: str) -> tuple[Exchange, ...]:
        """Return the requests and replies of a trace, in order.

        Raises:
            DataError: they are not there, or not whole.
        """
        frame = self._where.get(trace_id)
        if frame is None:
            near = "; " + "; ".join(str(one) for one in self.damage) if self.damage else ""
            raise DataError(f"{self.path}: no replies of trace {trace_id}{near}")
        with opened(self.path) as file:
            data = os.pread(file.fileno(), frame.size, frame.offset)
        try:
            line = _checked(decompress(data))
            values = {**self._shared, **line.values}
            return tuple(_turn(entry, values) for entry in line.turns or ())
        except KeyError as error:
            raise DataError(f"{self.path}: trace {trace_id} refers to a value that is not there ({error})") from error
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise DataError(f"{self.path}: the replies of trace {trace_id} are damaged: {error}") from error


def _checked(data: bytes) -> _Line:
    """Return a line whose values all have the digest they stand under."""
    line = _decode(data)
    for name, value in line.values.items():
        if digest(value) != name:
            where = "shared by all traces" if line.trace_id is None else f"of trace {line.trace_id}"
            raise ValueError(f"the value {name[:16]}… {where} has been changed")
    return line


def _turn(entry: _StoredExchange, values: Values) -> Exchange:
    fixed, messages = values[entry.fixed], tuple(values[name] for name in entry.messages)
    if not all(isinstance(one, dict) for one in (fixed, *messages)):
        raise ValueError(f"the request {entry.request[:16]}… is none")
    turn = Exchange(
        fixed=fixed,
        messages=messages,
        kind=entry.kind,
        result=values[entry.result],
        max_tokens=entry.max_tokens,
        counted=entry.counted,
    )
    if turn.request_sha256 != entry.request:
        raise ValueError(f"the request {entry.request[:16]}… has been changed")
    return turn


class CassetteLog:
    """A cassette opened for appending, by exactly one campaign.

    Opening takes an exclusive lock and cuts off a torn tail; a damaged cassette is refused as it is.
    """

    def __init__(self, path: Path, *, run_spec_sha256: str, recorded: IdIndex) -> None:
        """Open or create the file.

        Args:
            path: the file.
            run_spec_sha256: digest of the campaign's run spec.
            recorded: ids of the traces that have a record; their replies must be there.

        Raises:
            UsageError: another campaign has it open, or it belongs to another run spec.
            DataError: it is damaged, or replies of recorded traces are missing; nothing of it was changed.
        """
        if len(recorded) and not path.exists():
            raise _missing(path, len(recorded))
        self._run_spec_sha256 = run_spec_sha256
        self._file = AppendOnly(path, self._lacking)
        try:
            self.torn_bytes = self._open(path, run_spec_sha256, recorded)
        except BaseException:
            self._file.close()
            raise

    def _open(self, path: Path, run_spec_sha256: str, recorded: IdIndex) -> int:
        there = Cassette(path, verified=False)
        if there.damage:
            raise DataError(f"{path} is damaged ({there.damage[0]}); restore it, or choose another --output")
        if there.run_spec_sha256 not in {None, run_spec_sha256}:
            raise UsageError(
                f"{path} belongs to another campaign (run spec {there.run_spec_sha256}, this one has "
                f"{run_spec_sha256}); move it away or choose another --output"
            )
        if missing := len(recorded) - sum(trace_id in recorded for trace_id in there.trace_ids):
            raise _missing(path, missing)
        torn = self._file.cut(there.end)
        self._shared = set(there.shared)
        if there.run_spec_sha256 is None:
            self._append(self._header)
        self._facts = dict(there.facts)
        return torn

    def append(self, trace_id: str, turns: Iterable[Exchange]) -> None:
        """Write the requests and replies of one trace and return when they are durable.

        Raises:
            ChangedFileError: the file is another one now; they are durable in the rescue beside it.
            StorageError: they could not be written whole; the file is as it was before.
        """
        self._file.look()  # first: a rescue holds anew what all traces share
        values: Values = {}
        common: Values = {}
        entries = [_entry(turn, values, common) for turn in turns]
        new = {name: value for name, value in common.items() if name not in self._shared}
        if new and len(self._shared) < _MOST_SHARED:
            self._append(_Line(values=new))
            self._shared |= set(new)
            new = {}
        own = {**{name: value for name, value in values.items() if name not in common}, **new}
        self._append(_Line(trace_id=trace_id, turns=tuple(entries), values=own))
        if self._file.changed is not None:
            self.check()

    def check(self) -> None:
        """See that the file holds what was appended.

        Raises:
            ChangedFileError: it is another one now; what it lacks is in the rescue beside it.
        """
        self._file.check()

    def note(self, facts: dict[str, Any]) -> None:
        """Write what is true of the recording, by name, unless it stands there already."""
        new = {name: value for name, value in facts.items() if name not in self._facts or self._facts[name] != value}
        if new:
            names = {name: digest(value) for name, value in new.items()}
            self._append(_Line(facts=names, values={names[name]: value for name, value in new.items()}))
            self._facts |= new

    def _append(self, line: _Line) -> None:
        self._write(msgspec.json.encode(line) + b"\n")

    def _write(self, line: bytes) -> None:
        try:
            self._file.append(compress(line))
        except OSError as error:
            raise StorageError(
                f"cannot append to {self._file.path}: {error.strerror}; everything earlier is kept, "
                "make room and run the same command again to go on"
            ) from error

    @property
    def _header(self) -> _Line:
        return _Line(format=FORMAT, run_spec_sha256=self._run_spec_sha256)

    def _lacking(self, frames: Iterable[bytes]) -> Iterator[bytes]:
        """Yield a header and the frames, so that the rescue is a cassette; what stands there twice does no harm."""
        self._shared = set()
        yield compress(msgspec.json.encode(self._header) + b"\n")
        yield from frames

    def take_in(self, rescue: Path) -> None:
        """Append what a rescue holds of this campaign.

        Raises:
            UsageError: it is of another campaign, or cannot be read.
            DataError: it is damaged.
            StorageError: as `append`.
        """
        there = Cassette(rescue, verified=False)
        if there.damage or there.run_spec_sha256 not in {None, self._run_spec_sha256}:  # `None`: a kill left no frame
            what = there.damage[0] if there.damage else "it is of another run spec"
            raise DataError(f"{rescue} cannot be taken in: {what}; move it away")
        with opened(rescue) as file:
            for frame in scan(file):
                if isinstance(frame, Frame):
                    self._write(frame.data)

    def close(self) -> None:
        """Release the file and its lock."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        with closing(self._file):
            check_at_end(self.check, error)


def _entry(turn: Exchange, values: Values, common: Values) -> _StoredExchange:
    names = []
    for message in turn.messages:
        name = digest(message)
        names.append(name)
        (common if message.get("role") == "system" else values)[name] = message
    fixed, result = digest(turn.fixed), digest(turn.result)
    common[fixed] = turn.fixed
    values[result] = turn.result
    return _StoredExchange(
        request=turn.request_sha256,
        fixed=fixed,
        messages=tuple(names),
        kind=turn.kind,
        result=result,
        max_tokens=turn.max_tokens,
        counted=turn.counted,
    )


def _missing(path: Path, missing: int) -> DataError:
    return DataError(
        f"{path} lacks the replies of {missing} recorded traces: the campaign could not be replayed in full; "
        "restore it, or choose another --output"
    )
