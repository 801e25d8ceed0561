"""What else outlives a call besides the work tree: processes, temporary folders, shared memory."""

from __future__ import annotations

import contextlib
import os

from . import libc, processes, removal
from .errors import FatalError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .settings import Settings


def everything(settings: Settings, tick: Callable[[], None]) -> None:
    """Kill what runs as the tool's user, empty the folders named by `--wipe`, remove its System V objects.

    POSIX message queues and shared memory are files: `/dev/mqueue` and `/dev/shm` belong among the folders to wipe.

    Raises:
        FatalError: something could not be removed.
    """
    try:
        if settings.isolation == "uid":
            users(settings.tool_uid)
            _system_v(settings)
        for folder in settings.wipe:
            with contextlib.suppress(FileNotFoundError):
                removal.empty(folder, tick)
    except OSError as error:
        raise FatalError("reset_failed", f"state of earlier calls could not be wiped: {error}") from error


def users(uid: int) -> None:
    """Kill every process of user `uid`; raises `FatalError` when one survives."""
    survivors = processes.end_user(uid)
    if survivors:
        raise FatalError("reset_failed", f"{survivors} processes of user {uid} could not be killed")


def system_v_objects(uid: int) -> list[tuple[str, int]]:
    """(kind, id) of every System V object that user `uid` owns or created."""
    found = []
    for kind, column in (("shm", "shmid"), ("sem", "semid"), ("msg", "msqid")):
        try:
            with open(f"/proc/sysvipc/{kind}", encoding="ascii") as file:  # noqa: PTH123 -- pathlib costs memory
                header, *rows = file.read().splitlines()
        except OSError:
            continue
        names = header.split()
        for row in rows:
            fields = dict(zip(names, row.split(), strict=False))
            if str(uid) in {fields.get("uid"), fields.get("cuid")}:
                found.append((kind, int(fields[column])))
    return found


def _system_v(settings: Settings) -> None:
    """Remove the objects as the tool's user: root without CAP_IPC_OWNER would be refused."""
    objects = system_v_objects(settings.tool_uid)
    if not objects:
        return
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(settings.tool_gid, settings.tool_gid, settings.tool_gid)
            os.setresuid(settings.tool_uid, settings.tool_uid, settings.tool_uid)
            for kind, number in objects:
                libc.remove_ipc(kind, number)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    left = system_v_objects(settings.tool_uid)
    if left:
        raise FatalError("reset_failed", f"{len(left)} System V objects of user {settings.tool_uid} remain")
