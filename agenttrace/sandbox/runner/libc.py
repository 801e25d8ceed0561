"""The few C library calls that Python has no name for."""

from __future__ import annotations

import ctypes
import os
import sys

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_IPC_RMID = 0
# linux/fs.h, on 64 bits. The flags (FS_*_FL) and extended flags (FS_XFLAG_*) are those that an owner may set without a
# capability on ext4, XFS or btrfs; the rest say what the file system made of the inode, or need a capability.
_GET_FLAGS, _SET_FLAGS, _GET_XFLAGS, _SET_XFLAGS = 0x80086601, 0x40086602, 0x801C581F, 0x401C5820
_OWNERS_FLAGS = 0x62C384CF
_OWNERS_XFLAGS = 0x1FFE1
_TOPDIR_FLAG = 0x20000


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


class _ExtendedFlags(ctypes.Structure):
    """`struct fsxattr`."""

    _fields_ = (
        ("xflags", ctypes.c_uint32),
        ("extent_size", ctypes.c_uint32),
        ("extents", ctypes.c_uint32),
        ("project", ctypes.c_uint32),
        ("copy_extent_size", ctypes.c_uint32),
        ("padding", ctypes.c_char * 8),
    )


def _ioctl(fd: int, request: int, value: ctypes.c_int | _ExtendedFlags) -> bool:
    return bool(_LIBC.ioctl(fd, ctypes.c_ulong(request), ctypes.byref(value)) == 0)


def clear_flags(fd: int) -> None:
    """Take from an open file or folder the attribute flags that its owner can set (`chattr`, `xfs_io`); Linux only.

    Raises:
        OSError: they are there and stay.
    """
    if sys.platform != "linux":
        return
    flags, extended = ctypes.c_int(0), _ExtendedFlags()
    if _ioctl(fd, _GET_FLAGS, flags) and flags.value & _OWNERS_FLAGS:
        _set(fd, _SET_FLAGS, ctypes.c_int(flags.value & ~_OWNERS_FLAGS))
    if _ioctl(fd, _GET_XFLAGS, extended) and (
        extended.xflags & _OWNERS_XFLAGS or extended.extent_size or extended.copy_extent_size
    ):
        extended.xflags &= ~_OWNERS_XFLAGS
        extended.extent_size = extended.copy_extent_size = 0
        _set(fd, _SET_XFLAGS, extended)


def spread(fd: int) -> bool:
    """Have each folder that is made in an open one begin in another place of the disk (ext4's `chattr +T`).

    Returns:
        Whether the file system does that.
    """
    flags = ctypes.c_int(0)
    if sys.platform != "linux" or not _ioctl(fd, _GET_FLAGS, flags):
        return False
    return _ioctl(fd, _SET_FLAGS, ctypes.c_int(flags.value | _TOPDIR_FLAG))


def _set(fd: int, request: int, value: ctypes.c_int | _ExtendedFlags) -> None:
    if not _ioctl(fd, request, value):
        number = ctypes.get_errno()
        raise OSError(number, f"attribute flags stay: {os.strerror(number)}")
