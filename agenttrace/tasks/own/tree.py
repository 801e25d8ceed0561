"""A tree of the user's: read from a folder or an archive, never obeyed, and laid out with the same bytes anywhere.

Of modes only the owner's x counts, as for Git, and every time stamp is `MTIME_NS`: umask, clock and the way of packing
change no digest. Links are read and never followed.
"""

from __future__ import annotations

import bisect
import hashlib
import io
import itertools
import os
import posixpath
import stat
import tarfile
import zipfile
import zlib
from gzip import GzipFile
from typing import TYPE_CHECKING, BinaryIO, Literal, NamedTuple

import msgspec

from agenttrace.errors import DataError
from agenttrace.records import Record
from agenttrace.sandbox.runner import tree as listing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

MTIME_NS = 1_704_067_200 * 10**9
"""2024-01-01T00:00:00Z, of everything in a tree."""
MAX_PATHS = 10_000
MAX_BYTES = 64 * 2**20
LONGEST_PATH = 1_000
_LONGEST_NAME = 255
_OVERHEAD = 2_048
"""Bytes that an archive may have for each path beside its content."""
_LEFT_OUT = {".DS_Store", "__MACOSX"}
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")


class UnusableTreeError(DataError):
    """A folder or archive holds what no tree may hold, or cannot be read; the message names the path."""


class Bounds(NamedTuple):
    """How much of one tree is read: paths, bytes in all files, bytes of a path."""

    paths: int
    bytes: int
    longest: int = LONGEST_PATH


ONE = Bounds(paths=MAX_PATHS, bytes=MAX_BYTES)
"""Of one tree."""


class OwnEntry(Record, frozen=True, kw_only=True):
    """One path of a tree; `content` is of a file, `target` of a link."""

    path: str
    type: Literal["file", "dir", "symlink"]
    executable: bool = False
    content: bytes = b""
    target: str = ""

    @property
    def mode(self) -> int:
        """Permission bits."""
        if self.type == "symlink":
            return 0o777
        return 0o755 if self.type == "dir" or self.executable else 0o644


class OwnTree(Record, frozen=True, kw_only=True):
    """A tree, by path; each folder before what it holds."""

    entries: tuple[OwnEntry, ...]

    @property
    def digest(self) -> str:
        """What a sandbox worker computes over the tree that `write` makes."""
        return listing.digest(
            {
                "path": entry.path,
                "type": entry.type,
                "mode": f"{entry.mode:04o}",
                "size": len(entry.content) if entry.type == "file" else None,
                "sha256": hashlib.sha256(entry.content).hexdigest() if entry.type == "file" else None,
                "target": entry.target if entry.type == "symlink" else None,
                "mtime_ns": MTIME_NS,
            }
            for entry in self.entries
        )

    @property
    def bytes(self) -> int:
        """Bytes in all files."""
        return sum(len(entry.content) for entry in self.entries)

    def find(self, path: str) -> OwnEntry | None:
        """Return one entry."""
        at = self._first(path)
        return self.entries[at] if at < len(self.entries) and self.entries[at].path == path else None

    def below(self, folder: str) -> OwnTree:
        """Return what lies below one of its folders, as a tree of its own.

        Raises:
            UnusableTreeError: it would not be one: a link leads out of that folder, or it is too large.
        """
        start = f"{folder}/"
        found = itertools.takewhile(
            lambda entry: entry.path.startswith(start), itertools.islice(self.entries, self._first(start), None)
        )
        return _built((msgspec.structs.replace(entry, path=entry.path.removeprefix(start)) for entry in found), ONE)

    def _first(self, path: str) -> int:
        return bisect.bisect_left(self.entries, path, key=lambda entry: entry.path)

    def write(self, destination: Path) -> None:
        """Make the tree below a folder that is not there yet."""
        destination.mkdir()
        for entry in self.entries:
            path = destination / entry.path
            if entry.type == "dir":
                path.mkdir()
            elif entry.type == "symlink":
                path.symlink_to(entry.target)
            else:
                with path.open("xb") as file:
                    file.write(entry.content)
        for entry in reversed(self.entries):
            path = destination / entry.path
            if entry.type != "symlink":
                path.chmod(entry.mode)
            os.utime(path, ns=(MTIME_NS, MTIME_NS), follow_symlinks=False)
        destination.chmod(0o755)
        os.utime(destination, ns=(MTIME_NS, MTIME_NS))


def is_archive(name: str) -> bool:
    """Return whether a file is taken for an archive, by its name."""
    return name.lower().endswith(_ARCHIVES)


def of_folder(folder: Path, bounds: Bounds = ONE) -> OwnTree:
    """Return the tree in a folder.

    Raises:
        UnusableTreeError: it cannot be read, is too large, or holds what no tree may hold.
    """
    return _built(_walked(folder, bounds), bounds)


def of_archive(data: bytes, name: str, bounds: Bounds = ONE) -> OwnTree:
    """Return the tree in an archive; what lies in it is read in bounded memory and never run, linked or followed.

    Args:
        data: the archive.
        name: of its file, by whose end it is read as a zip or a tar file.
        bounds: how much is read.

    Raises:
        UnusableTreeError: it is damaged, too large, or holds what no tree may hold.
    """
    members = _zipped if name.lower().endswith(".zip") else _tarred
    try:
        return _built(members(data, bounds), bounds)
    except NotImplementedError as error:  # a method of packing that this Python has not; it is a RuntimeError, too
        raise UnusableTreeError(f"it is packed in a way that is not read: {error}") from error
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
        raise UnusableTreeError(f"it cannot be read as an archive: {error}") from error


def _built(found: Iterable[OwnEntry], bounds: Bounds) -> OwnTree:
    """Return the tree of entries in any order, the folders that they need made."""
    entries: dict[str, OwnEntry] = {}
    size = 0
    for entry in found:
        path = _inside(entry.path, bounds.longest)
        if path is None or not _LEFT_OUT.isdisjoint(path.split("/")) or posixpath.basename(path).startswith("._"):
            continue
        if path in entries and not entry.type == entries[path].type == "dir":
            raise UnusableTreeError(f"{shown(path)} is in it twice")
        size += len(entry.content)
        if entry.type == "symlink":
            _check_link(path, entry.target)
        for above in _parents(path):
            if entries.setdefault(above, OwnEntry(path=above, type="dir")).type != "dir":
                raise UnusableTreeError(f"{shown(above)} is no folder, and {shown(path)} lies in it")
        entries.setdefault(path, msgspec.structs.replace(entry, path=path))
        _check_size(len(entries), size, bounds)
    return OwnTree(entries=tuple(entries[path] for path in sorted(entries)))


def _check_size(paths: int, size: int, bounds: Bounds) -> None:
    if paths > bounds.paths:
        raise UnusableTreeError(f"it holds more than {bounds.paths} paths")
    if size > bounds.bytes:
        raise UnusableTreeError(f"it holds more than {bounds.bytes >> 20} MiB")


def _inside(name: str, longest: int) -> str | None:
    """Return a path in its shortest form; `None` for the root itself.

    Raises:
        UnusableTreeError: it is absolute, leads out, or is no name that a tree may have.
    """
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise UnusableTreeError(f"{shown(name)}: the name is not UTF-8") from None
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise UnusableTreeError(f"{shown(name)} leads out of the tree: names are relative, without .. and backslashes")
    if len(encoded) > longest or any(len(part.encode()) > _LONGEST_NAME for part in parts):
        raise UnusableTreeError(f"{shown(name)}: a path may have {longest} bytes, a name {_LONGEST_NAME}")
    return "/".join(parts) or None


def _check_link(path: str, target: str) -> None:
    within = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    if not target or target.startswith("/") or within.split("/")[0] == ".." or "\0" in target:
        raise UnusableTreeError(f"{shown(path)} is a link that leads out of the tree (to {shown(target)})")
    if not target.isascii() and "\udc80" <= max(target) <= "\udcff":
        raise UnusableTreeError(f"{shown(path)} is a link to a name that is not UTF-8")


def _parents(path: str) -> Iterator[str]:
    at = path.find("/")
    while at >= 0:
        yield path[:at]
        at = path.find("/", at + 1)


def _walked(folder: Path, bounds: Bounds) -> Iterator[OwnEntry]:
    left = bounds.bytes
    try:
        for path, info in listing.walk(str(folder)):
            kind = listing.kind_of(info.st_mode)
            if kind == "symlink":
                yield OwnEntry(path=path, type="symlink", target=os.readlink(folder / path))  # noqa: PTH115 - as it is
            elif kind == "dir":
                yield OwnEntry(path=path, type="dir")
            elif kind == "file":
                left -= info.st_size
                _check_size(0, bounds.bytes - left, bounds)  # before it is read
                content = b"".join(listing.chunks(str(folder / path)))
                yield OwnEntry(path=path, type="file", executable=bool(info.st_mode & stat.S_IXUSR), content=content)
            else:
                raise UnusableTreeError(f"{shown(path)} is neither a file, a folder nor a link")
    except OSError as error:
        raise UnusableTreeError(f"{shown(str(error.filename or folder))}: {error.strerror}") from error


class _Bounded(io.RawIOBase):
    """A stream of which no more than so many bytes are read: what a few packed ones unpack to can be any size."""

    def __init__(self, inner: BinaryIO, most: int) -> None:
        self._inner, self._left = inner, most

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size > self._left or size < 0:
            size = self._left + 1
        data = self._inner.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise UnusableTreeError("it unpacks to more than a tree may hold")
        return data


def _tarred(data: bytes, bounds: Bounds) -> Iterator[OwnEntry]:
    packed: BinaryIO = io.BytesIO(data)
    if data[:2] == b"\x1f\x8b":
        packed = GzipFile(fileobj=packed)  # type: ignore[assignment]
    stream = _Bounded(packed, bounds.bytes + bounds.paths * _OVERHEAD)
    with tarfile.open(fileobj=stream, mode="r|", errors="surrogateescape") as tar:
        for number, member in enumerate(tar):
            _check_size(number, member.size if member.isreg() else 0, bounds)
            name = member.name
            if member.isdir():
                yield OwnEntry(path=name, type="dir")
            elif member.issym():
                yield OwnEntry(path=name, type="symlink", target=member.linkname)
            elif member.islnk():
                raise UnusableTreeError(f"{shown(name)} is a hard link: pack it as a file (tar --hard-dereference)")
            elif not member.isreg():
                raise UnusableTreeError(f"{shown(name)} is neither a file, a folder nor a link")
            else:
                file = tar.extractfile(member)
                content = b"" if file is None else file.read()
                yield OwnEntry(path=name, type="file", executable=bool(member.mode & 0o100), content=content)


def _zipped(data: bytes, bounds: Bounds) -> Iterator[OwnEntry]:
    left = bounds.bytes
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for number, member in enumerate(archive.infolist()):
            _check_size(number, 0, bounds)
            mode = member.external_attr >> 16
            if not member.filename:
                raise UnusableTreeError(f"its entry {number + 1} has no name")
            if member.is_dir():
                yield OwnEntry(path=member.filename, type="dir")
                continue
            if stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFLNK}:
                raise UnusableTreeError(f"{shown(member.filename)} is neither a file, a folder nor a link")
            if member.flag_bits & 1:
                raise UnusableTreeError(f"{shown(member.filename)} is encrypted")
            with archive.open(member) as file:
                content = file.read(left + 1)  # what its header says of its size is not believed
            left -= len(content)
            _check_size(0, bounds.bytes - left, bounds)
            if stat.S_ISLNK(mode):
                target = content.decode("utf-8", "surrogateescape")
                yield OwnEntry(path=member.filename, type="symlink", target=target)
            else:
                executable = bool(mode & stat.S_IXUSR)
                yield OwnEntry(path=member.filename, type="file", executable=executable, content=content)


def shown(name: str) -> str:
    """Return a name as one line may show it."""
    text = name if len(name) <= 120 else f"{name[:120]}…"  # noqa: PLR2004 - a line's width
    return ascii(text) if not text.isprintable() or not text else text
