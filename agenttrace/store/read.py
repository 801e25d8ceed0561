"""The reader of record files: plain, gzip, Zstandard or compacted, of any schema of ours; strict or tolerant."""

from __future__ import annotations

import os
import tempfile
import weakref
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import DataError, UsageError
from agenttrace.records import RunSpec, Trace, rollout_1_0
from agenttrace.store.kinds import released
from agenttrace.store.lines import DECODE_ERRORS, TOO_LONG, DamagedFileError, is_compressed, records
from agenttrace.store.opening import content, numbered_lines, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

_trace = msgspec.json.Decoder(Trace).decode


class _Id(msgspec.Struct):
    trace_id: str | None = None
    rollout_id: str | None = None


_id = msgspec.json.Decoder(_Id).decode


class Problem(msgspec.Struct, frozen=True):
    """What could not be read; `line` is `None` when it is the rest of the file."""

    file: str
    line: int | None
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}, line {self.line}"
        return f"{place}: {self.message}"


def decode(line: bytes) -> Trace:
    """Return the trace of a line of a record file, of whatever schema of ours.

    Raises:
        DataError: it is none; the message says what is wrong with which field.
    """
    try:
        return rollout_1_0.decode(line) if line.startswith(rollout_1_0.PREFIX) else _trace(line)
    except DECODE_ERRORS as error:
        torn = "" if line.endswith(b"\n") else "; the line is cut off, collecting again repairs the file"
        raise DataError(f"not a trace record: {error}{torn}") from error


def read_traces(path: Path, on_problem: Callable[[Problem], object] | None = None) -> Iterator[Trace]:
    """Yield the traces of a record file in file order.

    Args:
        path: the file.
        on_problem: called for what is left out: a line that is no record, the rest of a damaged file.

    Raises:
        UsageError: the file cannot be opened, or is of another kind.
        DataError: without `on_problem`, what it would be called for; the message names the line.
    """
    for number, line in whole_lines(path, on_problem):
        try:
            yield decode(line)
        except DataError as error:
            if number == 1 and (why := released(line)):
                raise UsageError(f"cannot read {path}: {why}") from None
            _complain(Problem(str(path), number, str(error)), on_problem)


def whole_lines(path: Path, on_problem: Callable[[Problem], object] | None = None) -> Iterator[tuple[int, bytes]]:
    """Yield (line number, line) pairs, blank lines and a byte order mark left out; arguments and errors as above."""
    try:
        for number, line in records(path):
            if line is None:
                _complain(Problem(str(path), number, TOO_LONG), on_problem)
            else:
                yield number, line
    except DamagedFileError as error:
        if on_problem is None:
            raise
        on_problem(Problem(str(path), None, str(error).removeprefix(f"{path}: ")))


def _complain(problem: Problem, on_problem: Callable[[Problem], object] | None) -> None:
    if on_problem is None:
        raise DataError(str(problem))
    on_problem(problem)


def run_spec_path(records: Path) -> Path:
    """Return where the run spec of a record file lies: beside it, `.run.json` for `.jsonl` and `.jsonl.gz`."""
    return records.with_name(records.name.removesuffix(".gz").removesuffix(".zst")).with_suffix(".run.json")


def read_run_spec(path: Path) -> RunSpec:
    """Return a run spec, of whatever schema of ours.

    Raises:
        DataError: the file is not one.
        UsageError: the file cannot be read.
    """
    if not os.path.lexists(path):
        raise UsageError(f"cannot read {path}: there is no such file; a run spec lies beside its records")
    try:
        data = content(path)
        if rollout_1_0.is_spec(data):
            return rollout_1_0.decode_spec(data)
        return msgspec.json.decode(data, type=RunSpec)
    except DECODE_ERRORS as error:
        raise DataError(f"{path}: not a run spec of this version: {error}") from error


class RecordIndex:
    """Where each record of a file lies, so that one at a time can be read.

    A compressed file is unpacked once, into a temporary file without a name.
    """

    def __init__(self, path: Path) -> None:
        """Read the ids of all records.

        Raises:
            UsageError: the file cannot be opened.
            DataError: a line is not a record or is cut off, or an id stands there twice.
        """
        self.path = path
        self._where: dict[str, tuple[int, int]] = {}
        self._file = plain_file(path)
        weakref.finalize(self, self._file.close)
        offset = 0
        for number, line in numbered_lines(self._file, path):
            try:
                found = _id(line)
            except DECODE_ERRORS as error:
                raise DataError(f"{path}, line {number}: not a trace record: {error}") from error
            trace_id = found.trace_id or found.rollout_id
            if trace_id is None:
                raise DataError(f"{path}, line {number}: not a trace record: it has no trace_id")
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
        return os.pread(self._file.fileno(), size, offset)


def plain_file(path: Path) -> BinaryIO:
    """Return a record file, open for reading and in plain form."""
    file = opened(path)
    if not is_compressed(file.peek(4)):
        return file
    file.close()
    unpacked = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        unpacked.writelines(line for _, line in whole_lines(path))
    except BaseException:
        unpacked.close()
        raise
    unpacked.seek(0)
    return unpacked
