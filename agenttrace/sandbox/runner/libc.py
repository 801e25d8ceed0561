"""The few C library calls that Python has no name for."""

from __future__ import annotations

import ctypes
import os
import sys

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_IPC_RMID = 0
# linux/fs.h, on 64 bits: FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, and every FS_*_FL that an owner may set without capability.
_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602
_OWNERS_FLAGS = 0x20000000 | 0x800000 | 0x20000 | 0x10000 | 0x8000 | 0x400 | 0x80 | 0x40 | 0x8 | 0x4 | 0x2 | 0x1


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


def clear_flags(fd: int) -> None:
    """Take from an open file or folder the attribute flags that its owner can set (`chattr`); Linux only.

    Raises:
        OSError: they are there and stay.
    """
    flags = ctypes.c_int(0)
    if sys.platform != "linux" or _LIBC.ioctl(fd, ctypes.c_ulong(_GET_FLAGS), ctypes.byref(flags)) != 0:
        return  # a system or a file system without flags
    if flags.value & _OWNERS_FLAGS:
        plain = ctypes.c_int(flags.value & ~_OWNERS_FLAGS)
        if _LIBC.ioctl(fd, ctypes.c_ulong(_SET_FLAGS), ctypes.byref(plain)) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"attribute flags {flags.value:#x} stay: {os.strerror(number)}")
