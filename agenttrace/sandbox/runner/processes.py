"""Find and kill what a call left behind, by user id, without forking."""

from __future__ import annotations

import contextlib
import os
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_STARTED_AS = os.getuid()
PATIENCE_S = 4.0  # less than the client waits past limit and grace
_LAST_UID = 2**32 - 2


class KillRefusedError(RuntimeError):
    """Killing everything of a user was asked for where it would have hit others."""


def _status(pid: str) -> dict[str, str]:
    try:
        with open(f"/proc/{pid}/status", "rb") as file:  # noqa: PTH123 -- pathlib costs memory
            text = file.read().decode("utf-8", "backslashreplace")
    except OSError:
        return {}
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def _living() -> Iterator[tuple[int, dict[str, str]]]:
    """Every process that is not a zombie, with its status fields; empty where there is no /proc."""
    try:
        names = os.listdir("/proc")  # noqa: PTH208 -- pathlib costs memory
    except OSError:
        return
    for name in names:
        if name.isdecimal():
            status = _status(name)
            if status and status.get("State", "Z")[0] not in "ZX":
                yield int(name), status


def of_user(uid: int) -> list[tuple[int, str]]:
    """Living processes whose real or effective user is `uid`, as (pid, name)."""
    wanted = str(uid)
    return [
        (pid, status.get("Name", "?")) for pid, status in _living() if wanted in status.get("Uid", "").split("\t")[:2]
    ]


def descendants(root: int) -> list[tuple[int, str]]:
    """Living descendants of process `root`, as (pid, name)."""
    names, children = {}, {}  # type: dict[int, str], dict[int, list[int]]
    for pid, status in _living():
        names[pid] = status.get("Name", "?")
        children.setdefault(int(status.get("PPid", "0")), []).append(pid)
    found, queue = [], list(children.get(root, ()))
    while queue:
        pid = queue.pop()
        found.append((pid, names[pid]))
        queue.extend(children.get(pid, ()))
    return found


def _checked(uid: int) -> None:
    if uid in {0, _STARTED_AS} or os.geteuid() != uid or os.getuid() in {0, _STARTED_AS}:
        raise KillRefusedError(
            f"refusing kill(-1): it must run as the tool's user {uid}, neither root nor the starting user"
            f" {_STARTED_AS}; running as {os.getuid()}/{os.geteuid()}"
        )


def kill_user(uid: int) -> bool:
    """Kill every process of user `uid` in one pass of the kernel; needs root.

    Returns:
        Whether there may have been one: `False` is the kernel's word that there was nothing to kill, not even a zombie.

    Forking a killer fails when the pid limit is exhausted, so this process itself becomes the tool's user for a moment
    (the saved id stays root). `kill(-1)` cannot be outrun by a fork bomb and cannot hit root's processes. Only the
    effective user becomes the tool's, which gives the permission; the real one becomes a user that nobody runs as, so
    that neither the tool nor another process in here can kill this one meanwhile.

    Raises:
        KillRefusedError: the switch did not lead to `uid`, or `uid` is root or the user this process started as.
    """
    if uid in {0, _STARTED_AS}:
        raise KillRefusedError(f"refusing to kill everything of user {uid}")
    try:
        os.setresuid(_LAST_UID - os.getpid(), uid, 0)
    except OSError:  # a user namespace in which that user does not exist
        os.setresuid(uid, uid, 0)
    try:
        _checked(uid)
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.setresuid(0, 0, 0)
    return True


def kill_tree(root: int, group: int) -> None:
    """Kill process group `group` and every descendant of `root`: what can be done without another user."""
    with contextlib.suppress(OSError):
        os.killpg(group, signal.SIGKILL)
    for pid, _ in descendants(root):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def reap() -> tuple[dict[int, tuple[int, int]], bool]:
    """Collect every child that has ended, without waiting.

    Returns:
        Wait status and monotonic time (ns) of each by its process id, and whether children are left.
    """
    ended: dict[int, tuple[int, int]] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended, False
        if pid == 0:
            return ended, True
        ended[pid] = status, time.monotonic_ns()


def end_children(kill: Callable[[], None]) -> tuple[dict[int, tuple[int, int]], bool]:
    """Kill and reap until this process has no child left, for at most 4 s.

    Enough for a subreaper: whatever its descendants left behind is its own child by then: no walk of /proc is needed.

    Returns:
        What `reap` collected on the way and whether children are left (they are not, is the promise).
    """
    deadline = time.monotonic() + PATIENCE_S
    collected: dict[int, tuple[int, int]] = {}
    while True:
        kill()
        ended, children_left = reap()
        collected |= ended
        if not children_left or time.monotonic() > deadline:
            return collected, children_left
        time.sleep(0.0005)


def end_user(uid: int) -> int:
    """Kill every process of user `uid`, whoever its parent is, for at most 4 s; returns how many survived."""
    deadline = time.monotonic() + PATIENCE_S
    while kill_user(uid) and (survivors := len(of_user(uid))):
        if time.monotonic() > deadline:
            return survivors
        reap()
        time.sleep(0.0005)
    return 0
