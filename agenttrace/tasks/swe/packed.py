"""A pristine tree as one compressed archive, the same bytes every time, and back; nothing that comes in is trusted.

An archive says which paths there are, what files hold, which of them can be executed and where links point. Modes and
times are those that every tree has. So nothing else of it is obeyed, and who unpacks compares the digest.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
from typing import TYPE_CHECKING

from agenttrace.errors import DataError
from agenttrace.sandbox.runner.tree import walk
from agenttrace.store.read import unzstd
from agenttrace.tasks.swe import trees

if TYPE_CHECKING:
    from pathlib import Path

_MOST_BYTES = 1 << 30
"""Of an archive unpacked: a tree of the largest size, with its objects and headers."""
MOST_PATHS = 4 * trees.MAX_PATHS
"""Files, folders, links, and what lies in `.git`."""
_LEVEL = 3


def pack(folder: Path) -> bytes:
    """Return a tree that `trees.make` left, as an archive (tar, Zstandard)."""
    import zstandard  # noqa: PLC0415 - heavy

    packed = io.BytesIO()
    with (
        zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).stream_writer(packed, closefd=False) as whole,
        tarfile.open(fileobj=whole, mode="w|", format=tarfile.GNU_FORMAT, encoding="utf-8") as archive,
    ):
        for path, info in sorted(walk(str(folder)), key=lambda found: found[0]):
            member = tarfile.TarInfo(path)
            member.mode = stat.S_IMODE(info.st_mode)
            if stat.S_ISREG(info.st_mode):
                member.size = info.st_size
                with (folder / path).open("rb") as file:
                    archive.addfile(member, file)
            elif stat.S_ISLNK(info.st_mode):
                member.type, member.linkname = tarfile.SYMTYPE, str((folder / path).readlink())
                archive.addfile(member)
            else:
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
    return packed.getvalue()


def unpack(data: bytes, root: Path) -> None:
    """Make the tree of an archive in an empty folder.

    Raises:
        DataError: it is none, or holds what no tree does: other paths, other kinds of files, too much.
        OSError: it cannot be written.
    """
    made: dict[bytes, bool] = {}
    try:
        with tarfile.open(fileobj=_Stream(data), mode="r|", encoding="utf-8", errors="surrogateescape") as archive:  # type: ignore[call-overload]
            for number, member in enumerate(archive):
                if number >= MOST_PATHS:
                    raise DataError(f"more than {MOST_PATHS} paths")
                _make(archive, member, os.fsencode(root), made)
                archive.members = []  # else it keeps them all
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise DataError(f"not an archive: {error}") from error
    trees.settle(root)


def _make(archive: tarfile.TarFile, member: tarfile.TarInfo, root: bytes, made: dict[bytes, bool]) -> None:
    """Make one path; none but a folder that was made here is above it, and none is made twice."""
    path = os.fsencode(member.name)
    if not set(path.split(b"/")).isdisjoint({b"", b".", b".."}) or b"\0" in path:
        raise DataError(f"the path {member.name[:80]!r}")
    trees.folders(root, path, made)
    if made.setdefault(path, member.isdir()) != member.isdir():
        raise DataError(f"{member.name[:80]!r} is a file and a folder at once")
    full = os.path.join(root, path)  # noqa: PTH118 - bytes
    try:
        if member.isdir():
            os.mkdir(full, 0o755)  # noqa: PTH102 - bytes
        elif member.issym():
            os.symlink(os.fsencode(member.linkname), full)  # noqa: PTH211 - bytes
        elif member.isreg() and not member.issparse() and (content := archive.extractfile(member)) is not None:
            fd = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                shutil.copyfileobj(content, file)
                os.fchmod(fd, 0o755 if member.mode & 0o100 else 0o644)
        else:
            raise DataError(f"{member.name[:80]!r} is neither file, folder nor link")
    except FileExistsError:
        raise DataError(f"{member.name[:80]!r} is there twice") from None


class _Stream:
    """What an archive holds, unpacked as it is read, and no more of it than a tree can have."""

    def __init__(self, data: bytes) -> None:
        self._parts = unzstd(io.BytesIO(data).read)
        self._held = b""
        self._given = 0

    def read(self, size: int) -> bytes:
        """Return the next so many bytes; fewer at the end."""
        while len(self._held) < size and (part := next(self._parts, None)) is not None:
            self._held += part
        given, self._held = self._held[:size], self._held[size:]
        self._given += len(given)
        if self._given > _MOST_BYTES:
            raise ValueError(f"unpacks to more than {_MOST_BYTES >> 20} MiB")
        return given
