"""Remove anything a tool can have made: any depth, any name, any mode, any number, and never through a link.

Memory is bounded: a folder is read and emptied in batches. `tick` is called after each of them.
"""

from __future__ import annotations

import errno
import os
import stat
from itertools import count, islice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_DEPTH = 40
BATCH = 1024
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_token = os.urandom(12).hex()
_numbers = count()


def empty(folder: str, tick: Callable[[], None]) -> int:
    """Remove everything in `folder`, which itself stays; returns how many entries there were directly in it.

    Raises:
        OSError: something could not be removed.
    """
    fd, removed = os.open(folder, _FOLDER), 0
    try:
        while found := _pass(fd, None, 0, tick):
            removed += found
    finally:
        os.close(fd)
    return removed


def remove(folder: str, names: Iterable[str], tick: Callable[[], None]) -> None:
    """Remove entries of `folder` and everything below them; raises `OSError` as `empty` does."""
    fd = os.open(folder, _FOLDER)
    try:
        for name in names:
            _remove(fd, name, None, 0, tick)
    finally:
        os.close(fd)
    tick()


def _pass(folder_fd: int, top_fd: int | None, depth: int, tick: Callable[[], None]) -> int:
    """Go through a folder and remove what is there; returns how much that was.

    A file system may pass over entries when others are removed meanwhile: the folder is empty when none was found.
    """
    found = 0
    with os.scandir(folder_fd) as entries:
        while batch := [entry.name for entry in islice(entries, BATCH)]:
            for name in batch:
                _remove(folder_fd, name, top_fd, depth, tick)
            found += len(batch)
            tick()
    return found


def _remove(parent_fd: int, name: str, top_fd: int | None, depth: int, tick: Callable[[], None]) -> None:
    """Remove one entry.

    A tool can nest folders deeper than a path, the descriptors or the stack reach: a subtree deeper than `MAX_DEPTH`
    is moved up into the topmost folder that is being removed (`top_fd`, `None` for that one itself).
    """
    try:
        os.unlink(name, dir_fd=parent_fd)
    except (IsADirectoryError, PermissionError):  # the latter elsewhere than on Linux
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_mode):
            raise
    else:
        return
    if top_fd is not None and depth >= MAX_DEPTH:
        os.rename(name, f".removal-{_token}-{next(_numbers)}", src_dir_fd=parent_fd, dst_dir_fd=top_fd)
        return
    if os.geteuid() != 0:
        os.chmod(name, 0o700, dir_fd=parent_fd)
    folder_fd = os.open(name, _FOLDER, dir_fd=parent_fd)
    try:
        while True:
            found = _pass(folder_fd, folder_fd if top_fd is None else top_fd, depth + 1, tick)
            try:
                os.rmdir(name, dir_fd=parent_fd)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY or not found:
                    raise
            else:
                break
    finally:
        os.close(folder_fd)
