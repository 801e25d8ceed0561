"""Reads record files of any readable format and writes them as another; the output is there whole or not at all."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.errors import DataError, StorageError, UsageError
from agenttrace.formats import FORMATS, Sourced
from agenttrace.formats.reading import traces
from agenttrace.records import derived_id
from agenttrace.store.read import read_run_spec, run_spec_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

    from agenttrace.formats import Format
    from agenttrace.records import Trace

_LONGEST_NAME = 100
"""Characters of an id that names a file."""


def read(path: Path) -> Iterator[Sourced]:
    """Yield the records of a file of any readable format (see `reading.records`).

    Raises:
        DataError: a value is no trace; the message names its place.
        UsageError: the file cannot be read, or is no file of traces.
    """
    beside = run_spec_path(path)
    spec = read_run_spec(beside) if beside.is_file() else None
    try:
        for _, trace in traces(path, sources=True):
            yield Sourced(trace, spec, path.name)
    except DataError as error:
        raise DataError(f"{error}; nothing was written") from error


def convert(paths: Sequence[Path], name: str, output: Path) -> dict[str, int]:
    """Write the records of all files, in order, and return how many rows each written file or table has.

    Raises:
        UsageError: the format is unknown, or the output is there already.
        DataError: a file holds something else than records.
        StorageError: the output cannot be written.
    """
    if name not in FORMATS:
        raise UsageError(f"unknown format {name!r}; known: {', '.join(FORMATS)}")
    found = FORMATS[name]
    records = chain.from_iterable(read(path) for path in paths)
    one_file = found.suffix and found.layout != "files"
    if one_file and output.suffix != found.suffix:
        raise UsageError(f"--output {output}: a file of the format {name} has a name that ends in {found.suffix}")
    with (new_file if one_file else new_folder)(output) as temporary:
        return _counted(name, records, temporary, output.name)


def _counted(format_: str, records: Iterator[Sourced], target: Path, name: str) -> dict[str, int]:
    found = FORMATS[format_]
    module = found.load()
    if found.layout == "tables":
        with _fitting("a record"):
            counts: dict[str, int] = module.write(records, target)
        return {name: sum(counts.values())} if target.is_file() else counts
    if found.layout == "rows":
        from agenttrace.formats.tables import TableFile  # noqa: PLC0415 - pyarrow

        with TableFile(target, module.schema(format_)) as table:
            for record in records:
                table.add(value_of(module, record))
        return {name: table.rows}
    number = 0
    if found.layout == "lines":
        with target.open("wb") as file:
            for number, record in enumerate(records, start=1):  # noqa: B007 - the count
                file.write(_text(module, record) + b"\n")
        return {name: number}
    for number, record in enumerate(records, start=1):  # noqa: B007
        write_file(found, record, target)
    return {name: number}


def write_file(found: Format, record: Sourced, folder: Path) -> None:
    """Write a record as the file that it is in a format of one file per record.

    Raises:
        DataError: it cannot be written, or its id is that of one written before.
    """
    path = folder / f"{_file_name(record.trace)}{found.suffix}"
    if path.exists():
        raise DataError(f"trace id {record.trace.trace_id!r} comes twice, and there is one file for each")
    path.write_bytes(_text(found.load(), record) + b"\n")


def value_of(module: ModuleType, record: Sourced) -> Any:  # noqa: ANN401 - of any format
    """Return what a format makes of a record.

    Raises:
        DataError: it has no place in that format; the message names it and says why.
    """
    try:
        return module.from_trace(*record)
    except (DataError, OverflowError, ValueError, RecursionError) as error:
        raise DataError(f"{_named(record)} cannot be written: {error}") from error


def _text(module: ModuleType, record: Sourced) -> bytes:
    value = value_of(module, record)
    with _fitting(_named(record)):
        return b"\n".join(map(_json, value)) if isinstance(value, list) else _json(value)


def _named(record: Sourced) -> str:
    return f"{record.source}, trace {record.trace.trace_id[:60]!r}"


@contextmanager
def _fitting(what: str) -> Iterator[None]:
    """Say whose figures or nesting no file of a format can hold."""
    try:
        yield
    except (OverflowError, ValueError, RecursionError) as error:
        raise DataError(f"{what} cannot be written: {error}") from error


def _json(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Return JSON as 0.3.0 writes it for plain values (ASCII, blanks after separators), compact for records."""
    if isinstance(value, msgspec.Struct):
        return msgspec.json.encode(value)
    import json  # noqa: PLC0415 - the standard library's layout is the format's

    return json.dumps(value, allow_nan=False).encode("ascii")


def _file_name(trace: Trace) -> str:
    """Return the id of a record, or, where that cannot be the name of a file, one that is made of it."""
    plain = all(char.isalnum() or char in "-_" for char in trace.trace_id) and 0 < len(trace.trace_id) <= _LONGEST_NAME
    return trace.trace_id if plain else derived_id("file", trace.trace_id)


@contextmanager
def new_file(output: Path) -> Iterator[Path]:
    """Give a temporary path that becomes the output when all went well.

    Raises:
        UsageError: the output is there already, or its folder is not.
        StorageError: it cannot be written.
    """
    if output.exists():
        raise UsageError(f"{output} is there already: choose another --output, or remove it")
    if not output.parent.is_dir():
        raise UsageError(f"--output {output}: the folder {output.parent} does not exist")
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(output)
    except OSError as error:
        raise StorageError(f"cannot write {output}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Give a temporary folder whose content becomes that of the output folder when all went well.

    Raises:
        UsageError: the output is there already and not empty.
        StorageError: it cannot be written.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output} is there already and not an empty folder: choose another --output")
    made = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
        try:
            with TemporaryDirectory(prefix=".", suffix=".tmp", dir=output, ignore_cleanup_errors=True) as temporary:
                yield Path(temporary)
                for path in sorted(Path(temporary).iterdir()):
                    path.replace(output / path.name)
        finally:
            if made:
                with suppress(OSError):  # not empty: all went well
                    output.rmdir()
    except OSError as error:
        raise StorageError(f"cannot write {output}: {error.strerror or error}") from error
