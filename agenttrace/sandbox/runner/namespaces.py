"""System calls of a process that makes itself a place of its own: namespaces, mounts, capabilities, a filter of calls.

Only the entry step needs them (see `enclose`); a runner that serves calls has given up the right to most. Numbers are
those of linux/mount.h, linux/sched.h, linux/prctl.h, linux/capability.h and linux/seccomp.h.
"""

from __future__ import annotations

import ctypes
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

NEW_MOUNTS, NEW_NAMES, NEW_IPC, NEW_NETWORK = 0x00020000, 0x04000000, 0x08000000, 0x40000000
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, MOVE, RECURSIVE, PRIVATE = 1, 2, 4, 8, 32, 4096, 8192, 16384, 1 << 18

_DETACH = 2
_PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_CAP_AMBIENT = 22, 24, 47
_AMBIENT_CLEAR_ALL = 4
_FILTER_MODE = 2
_CAPABILITY_VERSION = 0x20080522

_LIBC = ctypes.CDLL(None, use_errno=True)


def _do(what: str, result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave the namespaces of these kinds for new ones; raises `OSError`, as everything here does."""
    _do("new namespaces", _LIBC.unshare(flags))


def mount(source: str | None, place: str, kind: str | None, flags: int, options: str = "") -> None:
    """Add a mount, or change one (mount in section 2 of the manual)."""
    source_, kind_ = (None if text is None else os.fsencode(text) for text in (source, kind))
    _do(
        f"mount on {place}",
        _LIBC.mount(source_, os.fsencode(place), kind_, ctypes.c_ulong(flags), options.encode() or None),
    )


def unmount(place: str) -> None:
    """Take a mount and all below it away, whoever uses it."""
    _do(f"unmount {place}", _LIBC.umount2(os.fsencode(place), _DETACH))


def keep_capabilities(kept: int) -> None:
    """Give up every capability but these, in every set, for this process and all that it ever starts.

    Args:
        kept: the bits of those that stay; they are permitted and effective, none is inheritable or ambient.
    """
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:  # noqa: PTH123 -- pathlib costs memory
        last = int(file.read())
    for number in range(last + 1):
        if not kept >> number & 1:
            _do(f"giving up capability {number}", _LIBC.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0))
    _do("clearing ambient capabilities", _LIBC.prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL, 0, 0, 0))
    header = struct.pack("=II", _CAPABILITY_VERSION, 0)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    _do("giving up capabilities", _LIBC.capset(header, struct.pack("=6I", low, low, 0, high, high, 0)))


# --- the filter of system calls --------------------------------------------------------------------------------------

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_X32 = 0x40000000
_NEW_NAMESPACES = 0x7E020000
"""Flags of clone(2) that make a namespace."""
_VSOCK = 40
_REFUSED = {
    "add_key": (248, 217), "bpf": (321, 280), "delete_module": (176, 106), "fanotify_init": (300, 262),
    "finit_module": (313, 273), "fsconfig": (431, 431), "fsmount": (432, 432), "fsopen": (430, 430),
    "fspick": (433, 433), "init_module": (175, 105), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425), "kexec_file_load": (320, 294), "kexec_load": (246, 104), "keyctl": (250, 219),
    "lookup_dcookie": (212, 18), "mount": (165, 40), "mount_setattr": (442, 442), "move_mount": (429, 429),
    "open_by_handle_at": (304, 265), "open_tree": (428, 428), "open_tree_attr": (467, 467),
    "perf_event_open": (298, 241), "pivot_root": (155, 41), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "request_key": (249, 218), "setdomainname": (171, 162), "sethostname": (170, 161), "setns": (308, 268),
    "syslog": (103, 116), "umount2": (166, 39), "unshare": (272, 97), "userfaultfd": (323, 282),
}  # fmt: skip
"""Calls by their numbers (x86-64, ARM64): those that an engine's own filter lets through only because of the rights of
the entry step, and those that another engine's lets through and Docker's does not."""
_CLONE, _CLONE3, _SOCKET = (56, 220), (435, 435), (41, 198)
_EPERM, _ENOSYS = 1, 38
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def _unless(test: int, value: int, rest: Iterable[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Instructions that run `rest` where a test of what was loaded holds, and are passed over where it does not."""
    inner = list(rest)
    return [(test, 0, len(inner), value), *inner]


def filter_of_calls(machine: str) -> bytes:
    """A program for the kernel's filter (classic BPF) that refuses what no tool needs; 8 bytes an instruction.

    Programs of another architecture (32 bits, x32) are refused every call: their numbers mean other calls.

    Raises:
        ValueError: the numbers of this machine's calls are not known here.
    """
    if machine not in _ARCHITECTURES:
        raise ValueError(f"the numbers of system calls of {machine} are not known; it must be x86_64 or aarch64")
    name, column = _ARCHITECTURES[machine]
    no, unknown, yes = (_RETURN, 0, 0, _ERROR | _EPERM), (_RETURN, 0, 0, _ERROR | _ENOSYS), (_RETURN, 0, 0, _ALLOW)
    argument = (_LOAD, 0, 0, _FIRST_ARGUMENT_AT)
    program = [(_LOAD, 0, 0, _ARCHITECTURE_AT), (_EQUAL, 1, 0, name), no, (_LOAD, 0, 0, _NUMBER_AT)]
    if machine == "x86_64":
        program += _unless(_AT_LEAST, _X32, [no])
    for numbers in _REFUSED.values():
        program += _unless(_EQUAL, numbers[column], [no])
    program += _unless(_EQUAL, _CLONE3[column], [unknown])  # its flags are in memory; libraries then use clone
    program += _unless(_EQUAL, _CLONE[column], [argument, *_unless(_ANY_BIT, _NEW_NAMESPACES, [no]), yes])
    program += _unless(_EQUAL, _SOCKET[column], [argument, *_unless(_EQUAL, _VSOCK, [no]), yes])
    return b"".join(struct.pack("=HBBI", *one) for one in (*program, yes))


def refuse_calls(machine: str) -> None:
    """Put that filter before every system call of this process and of all that it ever starts.

    The process must have given up new privileges.

    Raises:
        ValueError: see `filter_of_calls`.
    """
    code = filter_of_calls(machine)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(buffer))
    _do("the filter of system calls", _LIBC.prctl(_PR_SET_SECCOMP, _FILTER_MODE, ctypes.byref(program), 0, 0))
