"""The door to every file of traces: what it is is told by what stands in it, and its traces come one by one.

JSON Lines, one JSON text, gzip, Zstandard, Parquet, of every format in `READERS`; held at a time is a line, some rows,
one JSON text, or one session where a file is one.
"""

from __future__ import annotations

import hashlib
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from agenttrace.errors import DataError, UsageError, command
from agenttrace.formats import READERS
from agenttrace.formats.foreign import parsed, parsed_with_constants
from agenttrace.formats.recognition import format_of, looks_like, only_written, readable, unpacked_name
from agenttrace.formats.texts import ERRORS, LARGEST_TEXT, is_json, no_json, no_line, text_values
from agenttrace.records import Trace, rollout_1_0
from agenttrace.store.opening import opened, the_file
from agenttrace.store.opening import released as is_released
from agenttrace.store.read import Problem, decode, whole_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agenttrace.formats import Reader

    OnProblem = Callable[[Problem], object] | None

OURS = frozenset({"agenttrace-1.0", "rollouts-1.0", "agenttrace-0.3"})
"""Formats of which a line can be handed on as it stands: each of its readers knows them."""
_OURS: tuple[bytes, ...] = (b'{"trace_id":', rollout_1_0.PREFIX)
"""How a line of those mostly begins, and no line of another format."""
_OUTCOME = b'"outcome":'
"""Key of records of ours alone; it is near their end, so looking for it from there is quick."""
_ROWS = 16
"""Rows of a Parquet file held at a time."""
_Item = tuple[int, Any]
"""Number of a line, a row or a value, and its content: a line of ours as it stands, else what JSON it is."""


Unit = Literal["line", "row", "value", "sample"]


class FileKind(NamedTuple):
    """What a file is: the format of its first value, a name of `READERS`, and what its values are in it."""

    format: str
    unit: Unit

    @property
    def is_ours(self) -> bool:
        """Whether it is a record file as the kit writes them."""
        return self.unit == "line" and self.format in {"agenttrace-1.0", "rollouts-1.0"}


def kind(path: Path) -> FileKind | None:
    """Return what a file is; `None` when it is empty.

    Raises:
        UsageError: the file cannot be opened, or holds something else; the message says what it looks like.
        DataError: it is damaged before its first value ends.
    """
    unit, items = _items(path, None)
    first = next(items, None)
    return None if first is None else FileKind(_reader(path, unit, first)[0], unit)


def traces(path: Path, on_problem: OnProblem = None, *, sources: bool = False) -> Iterator[tuple[int, Trace]]:
    """Yield (number of the line, row or value, trace) pairs.

    Args:
        path: the file.
        on_problem: as that of `records`; so are the errors.
        sources: with the file's name and its SHA-256 in `environment.imported` of what is read from another format.
    """
    told: dict[str, str] = {}
    for number, found in records(path, on_problem):
        try:
            trace = found if isinstance(found, Trace) else trace_of(found, unpacked_name(path))
        except DataError as error:
            _complain(Problem(str(path), number, str(error)), on_problem)
            continue
        if sources and (isinstance(found, Trace) or is_released(found)):
            told = told or {"file": path.name, "sha256": _digest(path)}
            trace = _with_source(trace, told)
        yield number, trace


def _with_source(trace: Trace, told: dict[str, str]) -> Trace:
    kept = trace.environment.get("imported")
    if not isinstance(kept, dict):  # a record of ours, as a table or in a list
        return trace
    return msgspec.structs.replace(trace, environment={**trace.environment, "imported": {**kept, **told}})


def _digest(path: Path) -> str:
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_lines(path: Path, on_problem: OnProblem = None) -> Iterator[tuple[int, bytes]]:
    """Yield (number, line) pairs: what is not a line of ours is the line that `convert` makes of it.

    Args:
        path: the file.
        on_problem: as that of `records`; so are the errors.
    """
    for number, found in records(path, on_problem):
        try:
            if isinstance(found, bytes) and not _is_released(found):
                yield number, found
            else:
                trace = trace_of(found, unpacked_name(path)) if isinstance(found, bytes) else found
                yield number, msgspec.json.encode(trace) + b"\n"
        except (DataError, OverflowError, ValueError) as error:
            _complain(Problem(str(path), number, f"no record can hold it: {error}"), on_problem)


def _is_released(line: bytes) -> bool:
    # What most lines are is told from their ends, before one is searched as a whole.
    return not line.startswith(rollout_1_0.PREFIX) and line.rfind(_OUTCOME) < 0 and is_released(line) is not None


def records(path: Path, on_problem: OnProblem = None) -> Iterator[tuple[int, bytes | Trace]]:
    """Yield what a file holds, with the number of the line, row or value; lines of formats in `OURS` as they stand.

    Args:
        path: the file.
        on_problem: called for what is left out: a value that is no trace, the rest of a damaged file.

    Raises:
        UsageError: the file cannot be opened or is of another kind, or already its first value is of no known format.
        DataError: without `on_problem`, what it would be called for; the message names the place.
    """
    unit, items = _items(path, on_problem)
    first = next(items, None)
    if first is None:
        return
    _, reader = _reader(path, unit, first)
    items = chain([first], items)
    if reader.whole:
        try:
            yield from reader.load().read(items, unpacked_name(path))
        except (DataError, RecursionError) as error:
            if str(error).startswith((f"{path}, ", f"{path}: ")):  # of a bad line, which says its own place
                raise
            _complain(Problem(str(path), None, str(error), unit), on_problem)
        return
    for number, value in items:
        if isinstance(value, bytes):
            yield number, value
            continue
        try:
            yield number, to_trace(value, unpacked_name(path))
        except (DataError, RecursionError) as error:
            _complain(Problem(str(path), number, str(error), unit), on_problem)


def to_trace(value: Any, source: str = "") -> Trace:  # noqa: ANN401 - any JSON value
    """Return a JSON value, of whatever format that has a trace in one, as a record.

    Args:
        value: parsed JSON, or a row of a table.
        source: the name of its file.

    Raises:
        DataError: it is of none, or not what it says it is; the message names the field.
    """
    name = format_of(value)
    if name is None or READERS[name].whole:
        raise DataError(f"{looks_like(value)}")
    found: Trace = READERS[name].load().to_trace(value, source)
    return found


def trace_of(line: bytes, source: str = "") -> Trace:
    """Return the record of a line of a format in `OURS`; raises `DataError` when it is none."""
    try:
        return decode(line)
    except DataError as error:  # 0.3.0, or of ours with what only the slower way reads
        try:
            value = parsed(line)
        except ERRORS:
            raise error from None
        return to_trace(value, source)


def _reader(path: Path, unit: str, first: _Item) -> tuple[str, Reader]:
    number, value = first
    name = _format_of_line(value) if isinstance(value, bytes) else format_of(value)
    if name is None:
        raise UsageError(f"cannot read {path}: {unit} {number}: {looks_like(value)}; readable are {readable()}")
    return name, READERS[name]


def _format_of_line(line: bytes) -> str:
    try:
        return format_of(parsed(line)) or "agenttrace-1.0"
    except ERRORS:
        return "agenttrace-1.0"


def is_parquet(path: Path) -> bool:
    """Return whether a file says that it is one; raises `UsageError` where it cannot be opened."""
    return _begin(path) == b"PAR1"


def _begin(path: Path) -> bytes:
    with opened(path) as file:
        return file.peek(4)[:4]


def _items(path: Path, on_problem: OnProblem) -> tuple[Unit, Iterator[_Item]]:
    """Return how the values of a file are counted, and the values."""
    begin = _begin(path)
    if why := only_written(path):
        raise UsageError(f"cannot read {path}: {why}; readable are {readable()}")
    if why := no_json(begin):
        raise UsageError(f"cannot read {path}: {why}")
    if begin == b"PAR1":
        return "row", _rows(path, on_problem)
    if begin == b"PK\x03\x04":
        return "sample", _archived(path, on_problem)
    lines = whole_lines(path, on_problem)
    head = list(islice(lines, 2))
    unit: Unit = "value" if _is_one_text([line for _, line in head]) else "line"
    found = (
        enumerate(text_values(path), start=1) if unit == "value" else _of_lines(path, chain(head, lines), on_problem)
    )
    first = list(islice(found, 1))
    found = chain(first, found)
    if first and _has_parts(first[0][1]):
        return "sample", enumerate(_parts(path, found, on_problem), start=1)
    return unit, found


def _has_parts(value: Any) -> bool:  # noqa: ANN401 - any JSON value, or a line
    name = None if isinstance(value, bytes) else format_of(value)
    return name is not None and READERS[name].parts


def _parts(path: Path, found: Iterator[_Item], on_problem: OnProblem) -> Iterator[Any]:
    """Yield the values of a file, in place of one that holds several traces a value for each."""
    for number, value in found:
        if not _has_parts(value):
            yield value
            continue
        try:
            yield from READERS[str(format_of(value))].load().parts(value)
        except DataError as error:
            _complain(Problem(str(path), number, str(error)), on_problem)


def _archived(path: Path, on_problem: OnProblem) -> Iterator[_Item]:
    from agenttrace.formats import inspect_read  # noqa: PLC0415 - as all readers
    from agenttrace.formats.archives import Archive  # noqa: PLC0415

    with opened(path) as file:
        try:
            found = inspect_read.members(Archive(file, largest=LARGEST_TEXT))
        except DataError as error:
            raise UsageError(f"cannot read {path}: {error}; readable are {readable()}") from None
        for number, one in enumerate(found, start=1):
            if isinstance(one, DataError):
                _complain(Problem(str(path), number, str(one), "sample"), on_problem)
            else:
                yield number, one


def _is_one_text(first: list[bytes]) -> bool:
    """Return whether a file is one JSON text over several lines, by its first two: neither is JSON by itself."""
    if not first or first[0].startswith(_OURS):
        return False
    if first[0].strip() in {b"[", b"{"} or _is_list(first[0]):
        return True
    return len(first) > 1 and not any(map(is_json, first))


def _is_list(line: bytes) -> bool:
    return line.startswith((b"[{", b"[ {")) and is_json(line)


def _of_lines(path: Path, found: Iterator[tuple[int, bytes]], on_problem: OnProblem) -> Iterator[_Item]:
    begins: tuple[bytes, ...] | None = None  # what the first line that can be read decides
    none: tuple[bytes, ...] = ()
    held, most = 0, float("inf")
    for number, line in found:
        held += len(line)
        if held > most:
            raise UsageError(f"cannot read {path}: one session of more than {LARGEST_TEXT >> 20} MiB; split the file")
        if begins is not None and line.startswith(begins):  # not parsed here: whoever takes it does that
            yield number, line
            continue
        try:
            value = parsed_with_constants(line)
        except ERRORS as error:
            _complain(Problem(str(path), number, no_line(line, error)), on_problem)
        else:
            name = format_of(value)
            ours = name in OURS or (name is None and line.startswith(_OURS))
            if begins is None:
                begins = _OURS if ours else none
                if name is not None and READERS[name].whole:
                    most = LARGEST_TEXT
                    held = max(held, path.stat().st_size)  # so the next line is refused, before so much is held
            yield number, line if ours else value


def _rows(path: Path, on_problem: OnProblem) -> Iterator[_Item]:
    try:
        import pyarrow as pa  # noqa: PLC0415 - heavy
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError:
        raise UsageError(
            f"cannot read {path}: a Parquet file needs pyarrow, which is not here; convert it first: "
            + command("convert", str(path), "--to agenttrace-1.0 -o new.jsonl")
        ) from None
    try:
        file = pq.ParquetFile(the_file(path))
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"cannot read {path}: it is a Parquet file, but not a whole one: {_in_line(error)}") from error
    with file:
        found = (row for batch in file.iter_batches(batch_size=_ROWS) for row in batch.to_pylist())
        try:
            yield from enumerate(map(_as_json, found), start=1)
        except (OSError, pa.ArrowException, ValueError) as error:
            said = f"the rest of the Parquet file cannot be read: {_in_line(error)}"
            _complain(Problem(str(path), None, said), on_problem)


def _as_json(row: Any) -> Any:  # noqa: ANN401 - of any table
    """Return a row as the JSON value that it would be in a line: a moment is text, what is no number is null."""
    return parsed(msgspec.json.encode(row, enc_hook=str))


def _in_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _complain(problem: Problem, on_problem: OnProblem) -> None:
    if on_problem is None:
        raise DataError(str(problem))
    on_problem(problem)
