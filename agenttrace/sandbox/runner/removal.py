"""Remove anything a tool can have made: any depth, any name, any mode, and never through a link."""

from __future__ import annotations

import os
import stat

MAX_DEPTH = 40
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def empty(folder: str) -> int:
    """Remove everything in `folder`, which itself stays; returns how many top-level entries there were.

    Raises:
        OSError: something could not be removed.
    """
    root_fd = os.open(folder, _FOLDER)
    try:
        names = os.listdir(root_fd)  # noqa: PTH208 -- pathlib has no dir_fd
        _remove_all(root_fd, names)
    finally:
        os.close(root_fd)
    return len(names)


def remove(root: str, path: str) -> None:
    """Remove `path` (relative to `root`) and everything below it."""
    root_fd = os.open(root, _FOLDER)
    try:
        parent, _, name = path.rpartition("/")
        parent_fd = os.open(parent or ".", _FOLDER, dir_fd=root_fd)
        try:
            moved = _remove_at(parent_fd, name, root_fd, 0)
        finally:
            os.close(parent_fd)
        _remove_all(root_fd, moved)
    finally:
        os.close(root_fd)


def _remove_all(root_fd: int, names: list[str]) -> None:
    queue = list(names)
    while queue:
        queue.extend(_remove_at(root_fd, queue.pop(), root_fd, 0))


def _remove_at(parent_fd: int, name: str, root_fd: int, depth: int) -> list[str]:
    """Remove one entry; returns the names, directly below the root, of subtrees that still have to be removed.

    A tool can nest folders deeper than a path, the descriptors or the stack reach: a subtree deeper than `MAX_DEPTH`
    is moved up to the root and removed from there.
    """
    info = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
    if not stat.S_ISDIR(info.st_mode):
        os.unlink(name, dir_fd=parent_fd)
        return []
    if depth >= MAX_DEPTH:
        moved = f".removal-{os.urandom(12).hex()}"
        os.rename(name, moved, src_dir_fd=parent_fd, dst_dir_fd=root_fd)
        return [moved]
    if os.geteuid() != 0:
        os.chmod(name, 0o700, dir_fd=parent_fd)
    folder_fd = os.open(name, _FOLDER, dir_fd=parent_fd)
    moved_up = []
    try:
        for child in os.listdir(folder_fd):  # noqa: PTH208 -- pathlib has no dir_fd
            moved_up += _remove_at(folder_fd, child, root_fd, depth + 1)
    finally:
        os.close(folder_fd)
    os.rmdir(name, dir_fd=parent_fd)
    return moved_up
