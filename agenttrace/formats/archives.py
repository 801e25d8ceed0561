"""Zip archives of anyone, read: member by member in memory, by their names in the list at the end; nothing is unpacked.

What zipfile lacks before Python 3.14 is read here: members packed with Zstandard (method 93). Format: APPNOTE.TXT of
PKWARE, 4.3 and 4.4.5.
"""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agenttrace.errors import DataError
from agenttrace.store.read import unzstd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

MOST_MEMBERS = 200_000
_MOST_RATIO = 2_000
"""Bytes that all members have for each byte of the archive: twice what deflate can reach."""
_ZSTD = 93
_CHUNK = 1 << 20
_TAIL = (1 << 16) + 22
"""Bytes at the end of a file in which its last record stands."""
_ENCRYPTED = 1


class Archive:
    """A zip archive.

    Args:
        file: opened for reading; it stays open.
        largest: bytes that a member may have when it is unpacked.

    Raises:
        DataError: it is no whole archive, or says that it holds more than anybody would pack.
    """

    def __init__(self, file: BinaryIO, *, largest: int) -> None:
        self._file, self._largest = file, largest
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL))
        tail = file.read()
        at = tail.rfind(b"PK\x05\x06")
        if at < 0 or len(tail) - at < 22:  # noqa: PLR2004 - bytes of that record
            raise DataError("it is a zip file, but not a whole one: its end is missing")
        count, length = struct.unpack("<HI", tail[at + 10 : at + 16])
        if at >= 20 and tail[at - 20 : at - 16] == b"PK\x06\x07":  # noqa: PLR2004 - the larger form points to such a one
            file.seek(min(size, struct.unpack("<Q", tail[at - 12 : at - 4])[0]))
            larger = file.read(56)
            count, length = struct.unpack("<QQ", larger[32:48]) if len(larger) == 56 else (0, size + 1)  # noqa: PLR2004
        if count > MOST_MEMBERS or length > size or length > MOST_MEMBERS * 512:
            raise DataError(
                f"it is a zip file of more than {MOST_MEMBERS} members, or one whose list of members is damaged"
            )
        file.seek(0)
        with _readable("it is a zip file, and its list of members"):
            self._zip = zipfile.ZipFile(file)
        self.members = {one.filename: one for one in self._zip.infolist()}
        whole = sum(one.file_size for one in self.members.values() if one.file_size <= largest)
        if whole > largest + _MOST_RATIO * size:
            raise DataError(f"it is a zip file that says of itself to hold {whole} bytes, from {size}; not read")

    def read(self, name: str) -> bytes:
        """Return what a member holds.

        Raises:
            DataError: it is damaged, encrypted, packed by a method that is not read, or larger than it may be.
        """
        member = self.members[name]
        if member.file_size > self._largest:
            raise DataError(f"has more than {self._largest >> 20} MiB")
        with _readable("it"):
            found = b"".join(self._parts(member))
        if member.compress_type == _ZSTD and zlib.crc32(found) != member.CRC:
            raise DataError("it is damaged: its checksum is another")
        return found

    def _parts(self, member: zipfile.ZipInfo) -> Iterator[bytes]:
        left = member.file_size
        for part in self._unzstd(member) if member.compress_type == _ZSTD else self._unzipped(member):
            left -= len(part)
            if left < 0:
                raise DataError("it has more bytes than the list of members says")
            yield part
        if left:
            raise DataError("it has fewer bytes than the list of members says")

    def _unzipped(self, member: zipfile.ZipInfo) -> Iterator[bytes]:
        with self._zip.open(member) as stream:
            yield from iter(lambda: stream.read(_CHUNK), b"")

    def _unzstd(self, member: zipfile.ZipInfo) -> Iterator[bytes]:
        if member.flag_bits & _ENCRYPTED:
            raise DataError("it is encrypted")
        self._file.seek(member.header_offset)
        head = self._file.read(30)
        if head[:4] != b"PK\x03\x04" or len(head) < 30:  # noqa: PLR2004 - bytes of that header
            raise DataError("it is damaged: it does not begin where the list of members says")
        self._file.seek(sum(struct.unpack("<HH", head[26:30])), 1)
        left = member.compress_size

        def packed(most: int) -> bytes:
            nonlocal left
            chunk = self._file.read(min(left, most))
            left -= len(chunk)
            return chunk

        yield from unzstd(packed)


@contextmanager
def _readable(what: str) -> Iterator[None]:
    try:
        yield
    except NotImplementedError as error:  # a method of packing that this Python has not; it is a RuntimeError, too
        raise DataError(f"{what} is packed in a way that is not read: {error}") from error
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{what} cannot be read: {error}") from error
