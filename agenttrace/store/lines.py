"""Yields the lines of a record file, plain, gzip or Zstandard, in bounded memory; damage ends the file, not the run."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import DataError, UsageError
from agenttrace.store.kinds import other_kind
from agenttrace.store.opening import opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

MAX_LINE_BYTES = 64 << 20
"""A longer line is no record: it is skipped without being held."""
TOO_LONG = "the line is longer than any record (64 MiB)"
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding JSON of others can raise."""
_BLANK = b" \t\r\n\xef\xbb\xbf"
_CHUNK = 1 << 20
_ZSTD_CHUNK = 4096
"""Compressed bytes handed over at a time. A block of 128 KiB takes four bytes at least, so this bounds a bomb."""
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


class DamagedFileError(DataError):
    """The rest of a file cannot be read: its compressed stream is cut off or corrupt."""


def records(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """Yield what `lines` does, without blank lines and without a byte order mark at the start.

    Raises:
        UsageError: as `lines`.
        DamagedFileError: as `lines`.
    """
    for number, line in lines(path):
        if line is None or line[0] not in _BLANK or line.strip(_BLANK):
            yield number, line.removeprefix(b"\xef\xbb\xbf") if line is not None and number == 1 else line


def lines(path: Path, *, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[tuple[int, bytes | None]]:
    """Yield (line number, line with its end) pairs; `None` stands for a line longer than `max_line_bytes`.

    The format is told by the content, not by the name.

    Raises:
        UsageError: the file cannot be opened or is of another kind (cassette, Parquet, zip, a folder).
        DamagedFileError: after the last whole line of a compressed file that is cut off or corrupt.
    """
    with opened(path) as file:
        head = file.peek(4)[:4]
        _refuse_others(path, head)
        if head.startswith(_GZIP):
            chunks = _gunzipped(path, file)
        elif head.startswith(_ZSTD):
            chunks = _unzstd(path, file)
        else:
            chunks = iter(lambda: file.read(_CHUNK), b"")
        yield from _split(chunks, max_line_bytes)


def is_compressed(head: bytes) -> bool:
    """Return whether a file that begins so is read through a decompressor."""
    return head.startswith((_GZIP, _ZSTD))


def _refuse_others(path: Path, head: bytes) -> None:
    if why := other_kind(path, head):
        raise UsageError(f"cannot read {path}: {why}")


def _gunzipped(path: Path, file: BinaryIO) -> Iterator[bytes]:
    try:
        with gzip.GzipFile(fileobj=file) as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
    except EOFError:
        raise DamagedFileError(f"{path}: the gzip stream is cut off; what stands before the cut was read") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DamagedFileError(f"{path}: the gzip stream is corrupt ({error}); what stands before was read") from None


def _unzstd(path: Path, file: BinaryIO) -> Iterator[bytes]:
    """Decompress frame after frame.

    Not with the library's stream reader: it ends without a word where a frame is cut off.
    """
    import zstandard  # noqa: PLC0415

    frame = zstandard.ZstdDecompressor().decompressobj()
    begun = False
    try:
        while chunk := file.read(_ZSTD_CHUNK):
            while chunk:
                begun = True
                yield frame.decompress(chunk)
                chunk = frame.unused_data if frame.eof else b""
                if frame.eof:
                    frame, begun = zstandard.ZstdDecompressor().decompressobj(), False
    except zstandard.ZstdError as error:
        raise DamagedFileError(
            f"{path}: the Zstandard stream is corrupt ({error}); what stands before was read"
        ) from None
    if begun:
        raise DamagedFileError(f"{path}: the Zstandard stream is cut off; what stands before the cut was read")


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
