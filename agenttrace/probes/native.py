"""The smallest programs there are: machine code that a probe drops into the work tree and tries to run."""

from __future__ import annotations

import struct

from agenttrace.errors import UsageError

MESSAGE = b"ELF RAN\n"
_BASE = 0x400000
_EHDR, _PHDR = 64, 56
_PROGRAM, _SHARED = 2, 3
_NOTHING = 16
# write(1, message, 8) and exit(0); the message follows the code
_CODE = {
    "amd64": (
        62,
        bytes.fromhex("b801000000 bf01000000 488d3510000000 ba08000000 0f05 b83c000000 31ff 0f05"),
    ),
    "arm64": (
        183,
        struct.pack(
            "<8I", 0xD2800808, 0xD2800020, 0x100000C1, 0xD2800102, 0xD4000001, 0xD2800BA8, 0xD2800000, 0xD4000001
        ),
    ),
}  # fmt: skip


def elf(arch: str, *, library: bool = False) -> bytes:
    """A static program that prints `ELF RAN`.

    Args:
        arch: Debian's name of the processor architecture, `amd64` or `arm64`.
        library: call it a shared object, which a loader maps before it finds out that it is none.

    Raises:
        UsageError: there is no code for this architecture.
    """
    if arch not in _CODE:
        raise UsageError(f"the probes have no machine code for {arch}; they know {', '.join(_CODE)}")
    machine, code = _CODE[arch]
    segments = 2 if library else 1
    start = _EHDR + _PHDR * segments
    size = start + len(code) + len(MESSAGE)
    kind, base = (_SHARED, 0) if library else (_PROGRAM, _BASE)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        *(b"\x7fELF\x02\x01\x01", kind, machine, 1, base + start, _EHDR, 0, 0, _EHDR, _PHDR, segments, 0, 0, 0),
    )
    parts = header + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    if library:  # a dynamic section with nothing in it
        parts += struct.pack("<IIQQQQQQ", 2, 4, size, size, size, _NOTHING, _NOTHING, 8)
    return parts + code + MESSAGE + bytes(_NOTHING)
