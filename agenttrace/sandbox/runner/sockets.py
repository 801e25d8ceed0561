"""The worker's unix socket in a folder shared with the collectors."""

from __future__ import annotations

import contextlib
import os
import socket
import stat

PREFIX = "worker-"
SUFFIX = ".sock"
_own: list[str] = []


def listen(folder: str, gid: int) -> socket.socket:
    """A listening socket `worker-RANDOM.sock` in `folder`, open to group `gid` only.

    The folder becomes root:`gid` 0750 (when this process is root). The socket gets its final name only once it
    listens, so a refused connection always means a dead worker; such leftovers are removed.
    """
    os.makedirs(folder, exist_ok=True)  # noqa: PTH103 -- pathlib costs memory
    if os.geteuid() == 0:
        info = os.stat(folder)  # noqa: PTH116
        if (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) != (0, gid, 0o750):
            os.chown(folder, 0, gid)
            os.chmod(folder, 0o750)  # noqa: PTH101, S103 -- the group is the collectors
    _remove_dead(folder)
    name = os.urandom(8).hex()
    path, early = f"{folder}/{PREFIX}{name}{SUFFIX}", f"{folder}/.{name}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(early)
    if os.geteuid() == 0:
        os.chown(early, 0, gid)
    os.chmod(early, 0o660)  # noqa: PTH101
    listener.listen(8)
    os.rename(early, path)  # noqa: PTH104
    _own.append(path)
    return listener


def tell_own(path: str) -> None:
    """Write the path of this worker's socket to a file, for the container's health check."""
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(_own[-1])


def remove_own() -> None:
    """Remove this worker's socket, if it has one."""
    while _own:
        with contextlib.suppress(OSError):
            os.unlink(_own.pop())  # noqa: PTH108


def _remove_dead(folder: str) -> None:
    """Remove the sockets of workers that were killed."""
    for name in os.listdir(folder):  # noqa: PTH208
        if not (name.startswith(PREFIX) and name.endswith(SUFFIX)):
            continue
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect(f"{folder}/{name}")
            except ConnectionRefusedError:
                with contextlib.suppress(OSError):
                    os.unlink(f"{folder}/{name}")  # noqa: PTH108
            except OSError:
                continue
