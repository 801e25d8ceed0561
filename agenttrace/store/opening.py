"""Opens files that anyone may have made, and only regular ones: a pipe or device would make a reader wait for ever.

What is no record file is called by its name, with what to do instead.
"""

from __future__ import annotations

import codecs
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.errors import DataError, UsageError, command

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator
    from typing import BinaryIO

    Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]

MARK = codecs.BOM_UTF8
"""What some editors put before a text; no part of it."""
LONGEST_LINE = 64 << 20
"""Bytes. A record holds two output streams of 64 KiB for each of some ten calls; this is far beyond."""
LARGEST_SPEC = 64 << 20
"""Bytes of a small file, such as a run spec, that is read as a whole."""
FAILURES = ".failures.jsonl"
"""End of the name of a file with attempts that ended in an infrastructure failure; it lies beside the records."""
_PIECE = 1 << 20
_BESIDE = {
    ".cassette.zst": "a cassette",
    ".run.json": "a run spec",
    ".tasks.tar": "a task set",
}
_RELEASED = re.compile(rb'"schema_version"\s*:\s*"0\.3\.0"')
_OTHERS = {b"PAR1": "a Parquet file", b"PK\x03\x04": "a zip file"}


def as_paths(paths: Paths) -> list[Path]:
    """Return paths as a list; one alone, a text among them, is a list of one.

    Raises:
        UsageError: one is empty, which would be the current folder, or is no path.
    """
    if isinstance(paths, str | bytes | os.PathLike) or not isinstance(paths, Iterable):
        return [as_path(paths)]
    return [as_path(one) for one in paths]


def as_path(path: str | os.PathLike[str]) -> Path:
    """Return a path that code of others has given; errors are those of `as_paths`."""
    if not isinstance(path, str | os.PathLike):
        raise UsageError(f"expected the name of a file or folder, as text or pathlib.Path, not {type(path).__name__}")
    if "\0" in (name := os.fspath(path)) or not name:
        raise UsageError(f"a name of a file with a NUL: {name[:80]!r}" if name else "an empty name of a file")
    return Path(path)


def opened(path: Path) -> io.BufferedReader:
    """Return a regular file, opened for reading.

    Raises:
        UsageError: it cannot be opened, or is a folder, a pipe or a device.
    """
    try:
        # Another thing by the name of a file must not make us wait, whenever it came there.
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    except IsADirectoryError:
        raise UsageError(f"cannot read {path}: it is a folder, and a file is read here") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise UsageError(f"cannot read {path}: it is a pipe or a device; write what it gives into a file first")
    return file


def the_file(path: Path) -> Path:
    """Return the file itself where a link leads, after it was seen that it can be read.

    What lies beside a record file lies there, and a container that is given a folder cannot follow a link out of it.

    Raises:
        UsageError: see `opened`.
    """
    opened(path).close()
    return path.resolve() if path.is_symlink() else path


def content(path: Path, *, most: int = LARGEST_SPEC) -> bytes:
    """Return a whole small file.

    Raises:
        UsageError: see `opened`.
        DataError: it has more than `most` bytes.
    """
    with opened(path) as file:
        pieces, left = [], most + 1
        while left and (piece := file.read(min(left, _PIECE))):  # all of `left` at once would be memory for all of it
            pieces.append(piece)
            left -= len(piece)
    data = b"".join(pieces)
    if len(data) > most:
        raise DataError(f"{path}: has more than {most} bytes; not read")
    return data


def text(path: Path) -> bytes:
    """Return a whole small file of text, without a byte order mark; errors are those of `content`."""
    return content(path).removeprefix(MARK)


def numbered_lines(file: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (line number, line with its end) pairs, without a byte order mark.

    Raises:
        DataError: a line has more than `LONGEST_LINE` bytes; of it no more than that is held.
    """
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise DataError(f"{path}, line {number}: has more than {LONGEST_LINE} bytes, so it is no record")
        yield number, line.removeprefix(MARK) if number == 1 else line


def stem(path: Path) -> str:
    """Return what the names of a record file and of all that lies beside it begin with."""
    return path.name.removesuffix(".gz").removesuffix(".zst").removesuffix(".jsonl")


def beside(path: Path, ending: str) -> Path:
    """Return what lies beside a record file and has a name with that ending."""
    return path.with_name(stem(path) + ending)


def is_failures(path: Path) -> bool:
    """Return whether a file holds attempts that ended in an infrastructure failure."""
    return path.name.removesuffix(".gz").removesuffix(".zst").endswith(FAILURES)


def other_kind(path: Path, head: bytes) -> str | None:
    """Return what a file is instead of a record file, and what to do; `None` when it may be one, compressed or not.

    Args:
        path: its name is looked at.
        head: its first bytes, four at least where it has them.
    """
    for suffix, kind in _BESIDE.items():
        if path.name.endswith(suffix):
            names = [f"{path.name.removesuffix(suffix)}.jsonl{packed}" for packed in ("", ".zst", ".gz")]
            there = next((name for name in names if path.with_name(name).is_file()), names[0])
            return f"it is {kind}; give the record file beside it ({there})"
    for magic, kind in _OTHERS.items():
        if head.startswith(magic):
            return f"it is {kind}; give record files (.jsonl)"
    return None


def released(line: bytes) -> str | None:
    """Return that a line is a row of AgentTrace 0.3.0 and how to read it, for those who read our records only."""
    if _RELEASED.search(line):
        return (
            f"it holds rows of AgentTrace 0.3.0; convert it first: {command('convert', 'FILE', '--to agenttrace-1.0')}"
        )
    return None
