"""Opens files that anyone may have made, and only regular ones: a pipe or device would make a reader wait for ever."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from agenttrace.errors import DataError, UsageError

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

LONGEST_LINE = 64 << 20
"""Bytes. A record holds two output streams of 64 KiB for each of some ten calls; this is far beyond."""
LARGEST_SPEC = 64 << 20
"""Bytes of a small file, such as a run spec, that is read as a whole."""


def opened(path: Path) -> io.BufferedReader:
    """Return a regular file, opened for reading.

    Raises:
        UsageError: it cannot be opened, or is a folder, a pipe or a device.
    """
    try:
        # Another thing by the name of a file must not make us wait, whenever it came there.
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    except IsADirectoryError:
        raise UsageError(f"cannot read {path}: it is a folder; name its record files, such as {path}/*.jsonl") from None
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
        data = file.read(most + 1)
    if len(data) > most:
        raise DataError(f"{path}: has more than {most} bytes; not read")
    return data


def numbered_lines(file: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (line number, line with its end) pairs.

    Raises:
        DataError: a line has more than `LONGEST_LINE` bytes; of it no more than that is held.
    """
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise DataError(f"{path}, line {number}: has more than {LONGEST_LINE} bytes, so it is no record")
        yield number, line
