"""The few C library calls that Python has no name for."""

from __future__ import annotations

import ctypes
import os
import sys

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_IPC_RMID = 0


def _prctl(option: int) -> None:
    if sys.platform == "linux" and _LIBC.prctl(option, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def become_subreaper() -> None:
    """From now on orphaned descendants become children of this process (Linux; elsewhere nothing happens)."""
    _prctl(_PR_SET_CHILD_SUBREAPER)


def forbid_new_privileges() -> None:
    """No later exec can gain privileges (Linux; elsewhere nothing happens)."""
    _prctl(_PR_SET_NO_NEW_PRIVS)


def remove_ipc(kind: str, number: int) -> None:
    """Remove System V object `number` of `kind` `shm`, `sem` or `msg`; the caller checks that it is gone."""
    if kind == "sem":
        _LIBC.semctl(number, 0, _IPC_RMID)
    else:
        getattr(_LIBC, f"{kind}ctl")(number, _IPC_RMID, None)
