"""Writes cassettes: whole frames, durable one by one, after a torn tail was cut off and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import msgspec

from agenttrace.errors import DataError, StorageError, UsageError
from agenttrace.records import digest
from agenttrace.serving.cassette import FORMAT, Cassette, Exchange, Line, StoredExchange, Values
from agenttrace.serving.frames import compress
from agenttrace.store.append import AppendOnly

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from agenttrace.store.ids import IdIndex

_MOST_SHARED = 4096
"""Values that stand once for all traces; a campaign of many seeds has a new one with every trace."""


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
            raise _lacking(path, len(recorded))
        self._file = AppendOnly(path)
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
            raise _lacking(path, missing)
        torn = self._file.cut(there.end)
        self._shared = set(there.shared)
        if there.run_spec_sha256 is None:
            self._append(Line(format=FORMAT, run_spec_sha256=run_spec_sha256))
        self._facts = dict(there.facts)
        return torn

    def append(self, trace_id: str, turns: Iterable[Exchange]) -> None:
        """Write the requests and replies of one trace and return when they are durable.

        Raises:
            StorageError: they could not be written whole; the file is as it was before.
        """
        values: Values = {}
        common: Values = {}
        entries = [_entry(turn, values, common) for turn in turns]
        new = {name: value for name, value in common.items() if name not in self._shared}
        if new and len(self._shared) < _MOST_SHARED:
            self._append(Line(values=new))
            self._shared |= set(new)
            new = {}
        own = {**{name: value for name, value in values.items() if name not in common}, **new}
        self._append(Line(trace_id=trace_id, turns=tuple(entries), values=own))

    def note(self, facts: dict[str, Any]) -> None:
        """Write what is true of the recording, by name, unless it stands there already."""
        new = {name: value for name, value in facts.items() if name not in self._facts or self._facts[name] != value}
        if new:
            names = {name: digest(value) for name, value in new.items()}
            self._append(Line(facts=names, values={names[name]: value for name, value in new.items()}))
            self._facts |= new

    def _append(self, line: Line) -> None:
        try:
            self._file.append(compress(msgspec.json.encode(line) + b"\n"))
        except OSError as error:
            raise StorageError(
                f"cannot append to {self._file.path}: {error.strerror}; everything earlier is kept, "
                "make room and run the same command again to go on"
            ) from error

    def close(self) -> None:
        """Release the file and its lock."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _entry(turn: Exchange, values: Values, common: Values) -> StoredExchange:
    names = []
    for message in turn.messages:
        name = digest(message)
        names.append(name)
        (common if message.get("role") == "system" else values)[name] = message
    fixed, result = digest(turn.fixed), digest(turn.result)
    common[fixed] = turn.fixed
    values[result] = turn.result
    return StoredExchange(
        request=turn.request_sha256,
        fixed=fixed,
        messages=tuple(names),
        kind=turn.kind,
        result=result,
        max_tokens=turn.max_tokens,
        counted=turn.counted,
    )


def _lacking(path: Path, missing: int) -> DataError:
    return DataError(
        f"{path} lacks the replies of {missing} recorded traces: the campaign could not be replayed in full; "
        "restore it, or choose another --output"
    )
