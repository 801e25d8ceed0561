"""A place where many new files and folders are made, to be moved to where they belong: on ext4 that saves seconds.

Without a journal ext4 gives out no inode that was freed in the last minutes, and finds another by looking at each of
them: 2,000 files made where 2,000 were deleted take more than a second. A file is made near its folder, so what belongs
into a folder that stays is made in a new one first. A new folder begins in a part of the disk of its own where its
parent has the flag `TOPDIR`.
"""

from __future__ import annotations

import contextlib
import os
from itertools import count

from . import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator

MANY = 16
"""Fewer are made faster where they belong."""


@contextlib.contextmanager
def place(root: str, taken: Container[str]) -> Iterator[Apart | None]:
    """Yield a place in `root` under a name that is not taken, and remove it; `None` where nothing is gained by one.

    Raises:
        OSError: it cannot be made, or something was left in it.
    """
    name = next(name for name in map(str, count()) if name not in taken)  # a short one: it must not make root grow
    folder = f"{root}/{name}"
    os.mkdir(folder, 0o700)  # noqa: PTH102 -- pathlib costs memory
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        works = libc.spread(fd)
    finally:
        os.close(fd)
    if works:
        apart = Apart(folder)
        yield apart
        apart.remove()
    os.rmdir(folder)  # noqa: PTH106
    if not works:
        yield None


class Apart:
    """Names for what is made apart. Random ones: ext4 chooses the part of the disk by a folder's name."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._files = ""

    def for_folder(self) -> str:
        """Path of a folder that is to be made."""
        return f"{self._folder}/{os.urandom(8).hex()}"

    def for_file(self) -> str:
        """Path of a file or a link that is to be made, and moved away before the next one is."""
        if not self._files:
            self._files = self.for_folder()
            os.mkdir(self._files, 0o700)  # noqa: PTH102
        return f"{self._files}/0"

    def remove(self) -> None:
        """Remove the folder of the files."""
        if self._files:
            os.rmdir(self._files)  # noqa: PTH106
