"""A cgroup of its own for each call, where this container may make one: cgroup v2, mounted writable.

An addition to what the helper measures, never needed: the kernel then counts the memory of the whole tree, page cache
included, and can kill all of it at once. Docker mounts the tree writable since version 28, when asked to by
`--security-opt writable-cgroups=true`.
"""

from __future__ import annotations

import contextlib
import os
import time

from . import counters, processes
from .errors import FatalError


def prepare(root: str) -> str:
    """`root` when calls can have cgroups below it, else an empty string.

    A cgroup that passes controllers on to others may not hold processes itself, so what runs there, this process and
    the container's init, moves down into `runner`. The root of a whole hierarchy is left alone: that is a machine's.
    """
    if not os.path.exists(f"{root}/cgroup.type") or not os.access(root, os.W_OK):  # noqa: PTH110 -- pathlib costs memory
        return ""
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(f"{root}/runner")  # noqa: PTH102
        for pid in _read(f"{root}/cgroup.procs").split():
            with contextlib.suppress(ProcessLookupError):
                _write(f"{root}/runner/cgroup.procs", pid)
        if "memory" in _read(f"{root}/cgroup.controllers").split():
            _write(f"{root}/cgroup.subtree_control", "+memory")
        finish(make(root))
    except (OSError, FatalError):
        return ""
    return root


def make(root: str) -> str:
    """Path of a new, empty cgroup."""
    path = f"{root}/call"
    try:
        os.mkdir(path)  # noqa: PTH102
    except FileExistsError:  # of a runner that died
        finish(path)
        os.mkdir(path)  # noqa: PTH102
    return path


def enter(path: str) -> None:
    """Move this process into the cgroup."""
    _write(f"{path}/cgroup.procs", "0")


def finish(path: str) -> int | None:
    """Remove a cgroup and whatever may still run in it; its peak memory in bytes, `None` where that is not counted.

    Raises:
        FatalError: something in it could not be killed.
    """
    peak = counters.number(f"{path}/memory.peak")
    deadline = time.monotonic() + processes.PATIENCE_S
    while True:
        try:
            os.rmdir(path)  # noqa: PTH106
        except OSError as error:
            if time.monotonic() > deadline:
                raise FatalError("helper_lost", f"{path} cannot be removed: {error}") from error
        else:
            return peak
        with contextlib.suppress(OSError):
            _write(f"{path}/cgroup.kill", "1")
        time.sleep(0.0005)


def _read(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 65536).decode("ascii", "replace")
    finally:
        os.close(fd)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode("ascii"))
    finally:
        os.close(fd)
