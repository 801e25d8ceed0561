"""Reads record files and run specs; what cannot be read is named by file and line."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import DataError, UsageError
from agenttrace.records import RunSpec, Trace
from agenttrace.store.kinds import compressed, other_kind, released, rollouts
from agenttrace.store.opening import content, numbered_lines, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class _Id(msgspec.Struct):
    trace_id: str


def read_traces(path: Path) -> Iterator[Trace]:
    """Yield the traces of a record file in file order.

    Raises:
        UsageError: the file cannot be opened, or is of another kind.
        DataError: a line is not a trace of schema 1.0.0; the message names the line.
    """
    decode = msgspec.json.Decoder(Trace).decode
    with opened(path) as file:
        for number, line in numbered_lines(file, path):
            try:
                yield decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                why = other_kind(path, line) or compressed(line) or released(line) or rollouts(line)
                if number == 1 and why:
                    raise UsageError(f"cannot read {path}: {why}") from None
                torn = "" if line.endswith(b"\n") else "; the line is cut off, collecting again repairs the file"
                raise DataError(f"{path}, line {number}: not a trace record: {error}{torn}") from error


def run_spec_path(records: Path) -> Path:
    """Return where the run spec of a record file lies: beside it, `.run.json` for `.jsonl` and `.jsonl.gz`."""
    return records.with_name(records.name.removesuffix(".gz").removesuffix(".zst")).with_suffix(".run.json")


def read_run_spec(path: Path) -> RunSpec:
    """Return a run spec.

    Raises:
        DataError: the file is not one.
        UsageError: the file cannot be read.
    """
    if not os.path.lexists(path):
        raise UsageError(f"cannot read {path}: there is no such file; a run spec lies beside its records")
    try:
        data = content(path)
        return msgspec.json.decode(data, type=RunSpec)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if why := rollouts(data):
            raise UsageError(f"cannot read {path}: {why}") from None
        raise DataError(f"{path}: not a run spec of this version: {error}") from error


class RecordIndex:
    """Where each record of a file lies, so that one at a time can be read."""

    def __init__(self, path: Path) -> None:
        """Read the ids of all records.

        Raises:
            UsageError: the file cannot be opened.
            DataError: a line is not a record or is cut off, or an id stands there twice.
        """
        self.path = path
        self._where: dict[str, tuple[int, int]] = {}
        decode = msgspec.json.Decoder(_Id).decode
        offset = 0
        with opened(path) as file:
            for number, line in numbered_lines(file, path):
                try:
                    trace_id = decode(line).trace_id
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                    raise DataError(f"{path}, line {number}: not a trace record: {error}") from error
                if trace_id in self._where:
                    raise DataError(f"{path}, line {number}: trace {trace_id} is there twice")
                self._where[trace_id] = (offset, len(line))
                offset += len(line)

    @property
    def ids(self) -> list[str]:
        """Trace ids in file order."""
        return list(self._where)

    def line(self, trace_id: str) -> bytes:
        """Return the line of a record, as it stands in the file."""
        offset, size = self._where[trace_id]
        with opened(self.path) as file:
            return os.pread(file.fileno(), size, offset)
