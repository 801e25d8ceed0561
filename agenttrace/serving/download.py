"""Fills a part file from the Hub: goes on where it was cut, gives up when nothing comes any more."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, BinaryIO

from agenttrace.errors import DataError, StorageError
from agenttrace.serving import hub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import TypeVar

    from agenttrace.serving.transfer import Transfer
    from agenttrace.serving.wanted import Wanted

    T = TypeVar("T")

TRIES = 5
"""Failures in a row without a new byte before a download is given up."""
UNREACHED_TRIES = 2
"""The same while nothing answers at all: an answer to the user within seconds."""
LONGEST_WAIT_S = 60.0
_CHUNK = 1 << 20


def patiently(attempt: Callable[[], T]) -> T:
    """Return what `attempt` returns, trying again after failures that may pass.

    Raises:
        FetchError: the last failure.
    """
    failures = 0
    while True:
        try:
            return attempt()
        except hub.TryAgainError as error:
            failures += 1
            _wait_or_raise(error, failures)


def pause(seconds: float) -> None:
    """Wait between two tries; a function of its own for the tests."""
    time.sleep(seconds)


def _wait_or_raise(error: hub.TryAgainError, failures: int) -> None:
    wait_s = error.after_s if error.after_s is not None else float(2 ** (failures - 1))
    if failures >= (TRIES if error.connected else UNREACHED_TRIES) or wait_s > LONGEST_WAIT_S:
        raise error
    pause(wait_s)


def download(wanted: Wanted, size: int, part: BinaryIO, shown: Transfer) -> None:
    """Append to `part` until it has `size` bytes; what it holds already is taken for the beginning of the file.

    Raises:
        DataError: the server's file has another size.
        FetchError: the server refuses, or failed again and again; `part` keeps what came.
        StorageError: the disk is full or fails; `part` keeps what came.
    """
    best = part.seek(0, os.SEEK_END)
    failures = 0
    shown.at(best)
    while (have := part.seek(0, os.SEEK_END)) < size:
        try:
            with hub.opened(wanted, have) as body:
                _append(body, wanted, size, part, shown)
            error = hub.TryAgainError(f"{wanted.name}: the server ends the file too early, after {_length(part)} bytes")
        except hub.TryAgainError as cut:
            error = cut
        have = _length(part)
        if have >= size:
            break
        failures = 1 if have > best else failures + 1
        best = max(best, have)
        shown.note(f"cut off at {have:,} of {size:,} bytes, going on from there")
        _wait_or_raise(error, failures)


def _append(body: hub.Body, wanted: Wanted, size: int, part: BinaryIO, shown: Transfer) -> None:
    if body.total is not None and body.total != size:
        raise DataError(f"{wanted.name}: the server's file has {body.total} bytes, expected {wanted.described}")
    have = _length(part)
    if body.start != have:  # the server knows no ranges, or answered another one
        if body.start:
            raise hub.TryAgainError(f"{wanted.name}: asked for byte {have}, the server answered from {body.start}")
        part.truncate(0)
        part.seek(0)
    write_all(part, body.pieces, size, wanted, shown)


def _length(part: BinaryIO) -> int:
    return part.seek(0, os.SEEK_END)


def write_all(part: BinaryIO, pieces: Iterator[bytes], size: int, wanted: Wanted, shown: Transfer) -> None:
    """Write pieces at the part's position.

    Raises:
        DataError: they are more than `size` bytes in all.
        StorageError: the disk is full or fails.
    """
    at = part.tell()
    shown.at(at)
    for piece in pieces:
        if at + len(piece) > size:
            part.truncate(0)
            raise DataError(f"{wanted.name}: more bytes come than the {size} of {wanted.described}; nothing is kept")
        rest = memoryview(piece)
        while rest:  # a disk that is nearly full takes a part of it, and the next may fit again
            try:
                rest = rest[part.write(rest) :]  # unbuffered: what was written survives the end of this process
            except OSError as error:
                raise StorageError(_full(wanted, size, error)) from error
        at += len(piece)
        shown.at(at)


def check_space(folder: Path, wanted: Wanted, missing: int) -> None:
    """Refuse a download that cannot fit.

    Raises:
        StorageError: fewer than `missing` bytes are free.
    """
    space = os.statvfs(folder)
    free = space.f_bavail * space.f_frsize
    if free < missing:
        raise StorageError(
            f"{wanted.artifact} needs {missing:,} more bytes, the models folder has {free:,} free; "
            "make room and run again"
        )


def _full(wanted: Wanted, size: int, error: OSError) -> str:
    return (
        f"cannot write {wanted.artifact} ({size:,} bytes): {error.strerror}; "
        "make room and run again, what has come is kept and the download goes on from there"
    )


def read_pieces(file: BinaryIO) -> Iterator[bytes]:
    """Yield a file in pieces of 1 MiB."""
    while piece := file.read(_CHUNK):
        yield piece
