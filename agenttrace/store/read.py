"""The reader of record files: plain, gzip, Zstandard or compacted, of any schema of ours; strict or tolerant."""

from __future__ import annotations

import gzip
import os
import tempfile
import weakref
import zlib
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import DataError, UsageError
from agenttrace.records import RunSpec, Trace, rollout_1_0
from agenttrace.store import opening
from agenttrace.store.lean import whole
from agenttrace.store.opening import MARK, beside, numbered_lines, opened, other_kind, released, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

TOO_LONG = "the line is longer than any record (64 MiB)"
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding JSON of others can raise."""
_BLANK = b" \t\r\n" + MARK
_SHORTEST = 64
"""Bytes. No record of any of our schemas is so short, and no row of AgentTrace 0.3.0."""
MOST_SHORT = 100_000
_CHUNK = 1 << 20
_ZSTD_CHUNK = 4096
"""Compressed bytes handed over at a time. A block of 128 KiB takes four bytes at least, so this bounds a bomb."""
_GZIP = b"\x1f\x8b"
_ZSTD = (b"\x28\xb5\x2f\xfd", *(bytes([first]) + b"\x2a\x4d\x18" for first in range(0x50, 0x60)))
"""How a frame begins; those to be passed over come first in what pzstd writes."""

_trace = msgspec.json.Decoder(Trace).decode


class _Id(msgspec.Struct):
    trace_id: str | None = None
    rollout_id: str | None = None


_id = msgspec.json.Decoder(_Id).decode


class DamagedFileError(DataError):
    """The rest of a file cannot be read: its compressed stream is cut off or corrupt."""


class Problem(msgspec.Struct, frozen=True):
    """What could not be read; `line` is `None` when it is the rest of the file.

    Attributes:
        unit: what `line` counts: lines, the rows of a table, or the values of a list.
    """

    file: str
    line: int | None
    message: str
    unit: str = "line"

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}, {self.unit} {self.line}"
        return f"{place}: {self.message}"


def decode(line: bytes) -> Trace:
    """Return the trace of a line of a record file, of whatever schema of ours.

    Raises:
        DataError: it is none; the message says what is wrong with which field.
    """
    try:
        return rollout_1_0.decode(line) if rollout_1_0.is_line(line) else _trace(line)
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
        for number, line in lines(path):
            if line is None:
                _complain(Problem(str(path), number, TOO_LONG), on_problem)
            elif line[0] not in _BLANK or line.strip(_BLANK):
                yield number, line.removeprefix(MARK) if number == 1 else line
    except DamagedFileError as error:
        if on_problem is None:
            raise
        on_problem(Problem(str(path), None, str(error).removeprefix(f"{path}: ")))


def _complain(problem: Problem, on_problem: Callable[[Problem], object] | None) -> None:
    if on_problem is None:
        raise DataError(str(problem))
    on_problem(problem)


def lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """Yield (line number, line with its end) pairs; `None` stands for a line longer than `LONGEST_LINE`.

    The format is told by the content, not by the name.

    Raises:
        UsageError: the file cannot be opened or is of another kind (cassette, Parquet, zip, a folder).
        DamagedFileError: after the last whole line of a compressed file that is cut off or corrupt, and where more than
            `MOST_SHORT` lines are no records: a small compressed file may hold a thousand million of them.
    """
    short = 0
    for number, line in _split(plain(path), opening.LONGEST_LINE):
        short += line is not None and len(line) < _SHORTEST
        if short > MOST_SHORT:
            raise DamagedFileError(f"{path}: {short} lines are too short for a record; the rest was not read")
        try:
            yield number, line and whole(line)
        except DataError as error:
            raise DamagedFileError(f"{path}: line {number}: {error}") from error


def plain(path: Path) -> Iterator[bytes]:
    """Yield the content of a file in plain form, chunk by chunk; errors are those of `lines`."""
    with opened(path) as file:
        head = file.peek(4)[:4]
        if why := other_kind(path, head):
            raise UsageError(f"cannot read {path}: {why}")
        if head.startswith(_GZIP):
            yield from _gunzipped(path, file)
        elif head.startswith(_ZSTD):
            yield from _unzstd(path, file)
        else:
            yield from iter(lambda: file.read(_CHUNK), b"")


def _gunzipped(path: Path, file: BinaryIO) -> Iterator[bytes]:
    try:
        with gzip.GzipFile(fileobj=file) as stream:
            while chunk := stream.read1(_CHUNK):  # `read` drops what stands before a cut
                yield chunk
    except EOFError:
        raise DamagedFileError(
            f"{path}: the gzip stream is cut off; get the file again (what stands before the cut is whole)"
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DamagedFileError(f"{path}: the gzip stream is corrupt ({error}); what stands before was read") from None


def _unzstd(path: Path, file: BinaryIO) -> Iterator[bytes]:
    try:
        yield from unzstd(file.read)
    except EOFError:
        raise DamagedFileError(
            f"{path}: the Zstandard stream is cut off; get the file again (what stands before the cut is whole)"
        ) from None
    except ValueError as error:
        raise DamagedFileError(
            f"{path}: the Zstandard stream is corrupt ({error}); what stands before was read"
        ) from None


def unzstd(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Yield what Zstandard frames hold, one after the other, in parts of bounded size.

    Not with the library's stream reader: it ends without a word where a frame is cut off.

    Args:
        read: gives at most so many compressed bytes; none at their end.

    Raises:
        EOFError: the last frame is cut off.
        ValueError: they are none, or corrupt.
    """
    import zstandard  # noqa: PLC0415

    frame = zstandard.ZstdDecompressor().decompressobj()
    begun = False
    try:
        while chunk := read(_ZSTD_CHUNK):
            while chunk:
                begun = True
                yield frame.decompress(chunk)
                chunk = frame.unused_data if frame.eof else b""
                if frame.eof:
                    frame, begun = zstandard.ZstdDecompressor().decompressobj(), False
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
    if begun:
        raise EOFError("the Zstandard stream is cut off")


def _split(chunks: Iterator[bytes], limit: int) -> Iterator[tuple[int, bytes | None]]:
    """Cut chunks into lines; of a line over the limit nothing is held."""
    number, parts, held, too_long = 1, list[bytes](), 0, False
    for chunk in chunks:
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            whole = not too_long and held + end - start <= limit
            line = chunk[start : end + 1]
            yield number, (b"".join([*parts, line]) if parts else line) if whole else None
            number, start, held, too_long = number + 1, end + 1, 0, False
            parts.clear()
        held += len(chunk) - start
        too_long = too_long or held > limit
        if too_long:
            parts.clear()
        elif start < len(chunk):
            parts.append(chunk[start:])
    if held:
        yield number, None if too_long else b"".join(parts)


def run_spec_path(records: Path) -> Path:
    """Return where the run spec of a record file lies: beside it."""
    return beside(records, ".run.json")


def read_run_spec(path: Path) -> RunSpec:
    """Return a run spec, of whatever schema of ours.

    Raises:
        DataError: the file is not one.
        UsageError: the file cannot be read.
    """
    if not os.path.lexists(path):
        raise UsageError(f"cannot read {path}: there is no such file; a run spec lies beside its records")
    try:
        data = text(path)
        if rollout_1_0.is_spec(data):
            return rollout_1_0.decode_spec(data)
        return msgspec.json.decode(data, type=RunSpec)
    except DECODE_ERRORS as error:
        raise DataError(f"{path}: not a run spec of this version: {error}") from error


class RecordIndex:
    """Where each record of a file lies, so that one at a time can be read.

    A compressed file is unpacked once, into a temporary file without a name.

    Attributes:
        path: the file.
        bytes: in all records, unpacked.
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
            self._where[trace_id] = (self._file.tell() - len(line), len(line))
        self.bytes = self._file.tell()

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


def is_compressed(head: bytes) -> bool:
    """Return whether a file that begins so is read through a decompressor."""
    return head.startswith((_GZIP, *_ZSTD))
