"""The trees of one machine: fetched from the store when a shard needs one, held while it does, removed for others.

Every process of the machine that makes shards uses the same folder. Who uses a tree holds a lock on its folder, and
what nobody holds and was fetched goes where room is needed, that which was used longest ago first. Trees that were made
on the machine itself stay.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.cluster.objects import MOST_BYTES
from agenttrace.errors import DataError, StorageError, command
from agenttrace.sandbox.runner.restore import PackedFixture
from agenttrace.sandbox.runner.tree import walk
from agenttrace.tasks.swe.packed import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agenttrace.cluster.objects import Store
    from agenttrace.tasks.swe.trees import PristineTree

_FULL = {errno.ENOSPC, errno.EDQUOT}
_LOCK = ".fetching.lock"
_UNFINISHED = ".fetching-"
_SIZE = ".size"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_BLOCK = 512


class NoRoomError(StorageError):
    """A machine has no room for a tree; another one may have."""


def keep_tree(store: Store, run_id: str, tree: PristineTree, folder: Path) -> None:
    """Put a tree into the store, unless it is there.

    Args:
        store: gets it.
        run_id: of the run that needs it.
        tree: what it is.
        folder: where it lies.

    Raises:
        StorageError: the store cannot be used.
    """
    name = _object(run_id, tree)
    if store.size(name) is None:
        store.create(name, pack(folder))


def _object(run_id: str, tree: PristineTree) -> str:
    return f"{run_id}/trees/{tree.digest}.tar.zst"


class NodeTrees:
    """The trees of a run on this machine.

    Args:
        store: has them.
        run_id: of the run.
        folder: of the machine, in which its sandbox workers look for trees.
        most_bytes: that fetched trees take there; `None` is as many as fit.
    """

    def __init__(self, store: Store, run_id: str, folder: Path, *, most_bytes: int | None = None) -> None:
        self._store, self._run_id = store, run_id
        self._folder, self._most = folder, most_bytes

    @contextlib.contextmanager
    def hold(self, tree: PristineTree) -> Iterator[Path]:
        """Yield where a tree lies, which stays there meanwhile.

        Raises:
            NoRoomError: it cannot be had here.
            DataError: the store has none, or another one under its name.
            StorageError: the store cannot be read.
        """
        if not _NAME.fullmatch(tree.name):
            raise DataError(f"{self._store.url}: {tree.name[:80]!r}, among the tasks of {self._run_id}, names no tree")
        path = self._folder / tree.name
        while (held := _locked(path, fcntl.LOCK_SH)) is None:
            self._fetch(tree, path)
        try:
            if (used := self._size_of(path)).exists():
                used.touch()
            yield path
        finally:
            os.close(held)

    def _size_of(self, path: Path) -> Path:
        """Return the file that holds how much room a fetched tree takes, and whose time is that of its last use."""
        return path.with_name(f".{path.name}{_SIZE}")

    def _fetch(self, tree: PristineTree, path: Path) -> None:
        """Fetch a tree, unless another process has; one at a time on a machine, so that room is counted once."""
        with self._errors(tree):
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / _LOCK).open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                for left in self._folder.glob(f"{_UNFINISHED}*"):  # by a process that was killed
                    shutil.rmtree(left)
                if not path.exists():
                    self._make(tree, path)

    def _make(self, tree: PristineTree, path: Path) -> None:
        name = _object(self._run_id, tree)
        try:
            data = self._store.get(name, most=MOST_BYTES)
        except DataError as error:
            raise DataError(f"{error}, and run {command('cluster', 'prepare')}") from error
        if data is None:
            raise DataError(f"{self._store.url}/{name} is not there; {command('cluster', 'prepare')} makes it again")
        while (building := self._unpacked(tree, data)) is None:
            if not self._evict():
                raise NoRoomError(f"no room in {self._folder} for the tree {tree.name}: its disk is full")
        try:
            taken = sum(info.st_blocks * _BLOCK for _, info in walk(str(building)))
            while self._most is not None and self._taken() + taken > self._most:
                if not self._evict():
                    what = f"it takes {taken} bytes, and the trees in use {self._taken()} of {self._most}"
                    raise NoRoomError(f"no room in {self._folder} for the tree {tree.name}: {what} (--trees-max-bytes)")
            self._size_of(path).write_text(str(taken), encoding="ascii")
            building.rename(path)
        finally:
            shutil.rmtree(building, ignore_errors=True)

    def _unpacked(self, tree: PristineTree, data: bytes) -> Path | None:
        """Return a folder with the tree, whose digest was compared; `None` where the disk is full."""
        building = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self._folder))
        try:
            problem = _unpacking(data, building, tree)
        except BaseException as error:
            shutil.rmtree(building, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in _FULL:
                return None
            raise
        if problem:
            shutil.rmtree(building)
            what = f"{self._store.url}/{_object(self._run_id, tree)} is not the tree {tree.name}: {problem}"
            raise DataError(f"{what}; remove it and run {command('cluster', 'prepare')}")
        return building

    def _taken(self) -> int:
        return sum(int(file.read_text(encoding="ascii") or 0) for file in self._folder.glob(f".*{_SIZE}"))

    def _evict(self) -> bool:
        """Remove the fetched tree that was used longest ago and that nobody holds; return whether there was one."""
        for file in sorted(self._folder.glob(f".*{_SIZE}"), key=lambda one: one.stat().st_mtime_ns):
            path = file.with_name(file.name[1:].removesuffix(_SIZE))
            held = _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if held is None and path.exists():
                continue
            if held is not None:
                going = path.rename(path.with_name(_UNFINISHED + path.name))
                os.close(held)
                shutil.rmtree(going)
            file.unlink()
            return True
        return False

    @contextlib.contextmanager
    def _errors(self, tree: PristineTree) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kind = NoRoomError if error.errno in _FULL else StorageError
            raise kind(f"{self._folder} cannot take the tree {tree.name}: {error.strerror}") from error


def _unpacking(data: bytes, folder: Path, tree: PristineTree) -> str:
    """Unpack a tree and return why it is not the one; nothing where it is."""
    try:
        unpack(data, folder)
    except DataError as error:
        return str(error)
    found = PackedFixture(str(folder)).digest
    return "" if found == tree.digest else f"has another digest ({found[:12]}…)"


def _locked(path: Path, how: int) -> int | None:
    """Return a descriptor of a folder with a lock on it; `None` where it is not there, or others hold it."""
    try:
        found = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(found, how)
        if os.fstat(found).st_ino == path.stat().st_ino:  # it was not removed before the lock was there
            return found
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(found)
    return None
