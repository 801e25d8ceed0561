"""The mount table of this process."""

from __future__ import annotations

import os

_FILE = "/proc/self/mountinfo"
_ESCAPED = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))

DEVICES = frozenset(f"/dev/{name}" for name in ("full", "null", "random", "tty", "urandom", "zero"))
"""Devices that every container has; in a user namespace each is a mount."""


class Mount:
    """One line of the table.

    Attributes:
        place: where it is mounted.
        kind: of its file system.
        options: of this mount.
        writable: whether neither the mount nor its file system is read-only.
    """

    def __init__(self, line: str) -> None:
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        self.place = fields[4]
        for escape, char in _ESCAPED:
            self.place = self.place.replace(escape, char)
        self.options = fields[5].split(",")
        self.kind, _, options = after.split(" ", 2)
        self.writable = "rw" in self.options and "rw" in options.rstrip("\n").split(",")


def table() -> list[Mount]:
    """Every mount that this process sees, in the order they were made; raises `OSError` where there is no /proc."""
    with open(_FILE, encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123 -- pathlib costs memory
        return [Mount(line) for line in file]


def runs_programs(place: str) -> bool:
    """Whether a file that is written there can be run: one is, and removed.

    Raises:
        OSError: nothing can be written there.
    """
    path = f"{place}/.{os.urandom(8).hex()}"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o700)
    try:
        os.write(fd, b"#!/bin/bash\n")
        os.close(fd)
        pid = os.posix_spawn(path, [path], {})
    except PermissionError:
        return False
    finally:
        os.unlink(path)  # noqa: PTH108 -- pathlib costs memory
    os.waitpid(pid, 0)
    return True
