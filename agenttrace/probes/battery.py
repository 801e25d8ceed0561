"""The probes as data (`probes.toml`): what is tried, in which policy, and what would show that it worked."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Literal

import msgspec

from agenttrace.errors import UsageError
from agenttrace.sandbox.policies import policies

FILE = Path(__file__).with_name("probes.toml")
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


class Probe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One attack.

    Attributes:
        name: unique; the part before the first `-` is its group.
        policies: where it is tried.
        why: what would be lost if it worked.
        command: the call. `{{name}}` stands for a text of `[texts]`.
        breach: pattern in the output of the last call that shows success: it must not be found.
        refused: pattern that shows that the attack was tried and refused: it must be found, or nothing was proved.
        kind: kind of the call.
        then: a second call, whose output is then the one that counts.
        planted: pattern in the output of the first of two calls: it did what the second looks for.
        reset: whether the work tree is reset between the two, as between two tasks.
        ends: how the first call may end.
        limit_ms: time limit of each call.
        canaries: whether files outside the work tree are checked afterwards.
        not_applicable: why it is not tried in the other policies.
    """

    name: str
    policies: tuple[str, ...]
    why: str
    command: str
    breach: str
    refused: str
    kind: Literal["bash", "python"] = "bash"
    then: str | None = None
    planted: str | None = None
    reset: bool = True
    ends: tuple[Literal["ok", "timeout", "oom"], ...] = ("ok",)
    limit_ms: int = 10_000
    canaries: bool = False
    not_applicable: dict[str, str] = {}

    @property
    def group(self) -> str:
        """What it attacks."""
        return self.name.partition("-")[0]


class Battery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All probes and the texts that several of them share."""

    texts: dict[str, str]
    probe: tuple[Probe, ...]


def battery(arch: str = "amd64", file: Path = FILE) -> tuple[Probe, ...]:
    """Every probe, in the order of the file, with its texts filled in.

    Args:
        arch: Debian's name of the architecture that the sandbox runs on.
        file: the data.

    Raises:
        UsageError: the data is not what it must be; the message names the probe or the field.
    """
    try:
        data = msgspec.toml.decode(file.read_bytes(), type=Battery)
    except msgspec.MsgspecError as error:
        raise UsageError(f"{file} is not a battery of probes: {error}") from error
    commands = policies()["execution_free"].commands
    allowed = "|".join(re.escape(name) for name in commands if name != "[")
    texts = {
        **data.texts,
        "elf": _printed(elf(arch)),
        "library": _printed(elf(arch, library=True)),
        "allowed": allowed,
    }
    probes = tuple(_filled(probe, texts) for probe in data.probe)
    _check(probes)
    return probes


def _printed(data: bytes) -> str:
    """The shell's own way to write any bytes."""
    return "printf '{}'".format("".join(f"\\{byte:03o}" for byte in data))


def _filled(probe: Probe, texts: dict[str, str]) -> Probe:
    def fill(text: str) -> str:
        unknown = set(re.findall(r"\{\{(\w+)\}\}", text)) - texts.keys()
        if unknown:
            raise UsageError(f"probe {probe.name} names no text of the battery: {', '.join(sorted(unknown))}")
        return re.sub(r"\{\{(\w+)\}\}", lambda found: texts[found[1]], text)

    then = None if probe.then is None else fill(probe.then)
    return msgspec.structs.replace(probe, command=fill(probe.command), then=then)


def _check(probes: tuple[Probe, ...]) -> None:
    """What the types cannot say: names are unique, patterns are patterns, every policy is covered or explained."""
    known = policies().keys()
    names = [probe.name for probe in probes]
    for probe in probes:
        if names.count(probe.name) > 1:
            raise UsageError(f"two probes are called {probe.name}")
        if {*probe.policies, *probe.not_applicable} != known or {*probe.policies} & {*probe.not_applicable}:
            raise UsageError(f"probe {probe.name} must name each of {', '.join(known)} once")
        if (probe.then is None) != (probe.planted is None):
            raise UsageError(f"probe {probe.name} needs both of `then` and `planted`, or neither")
        for pattern in (probe.breach, probe.refused, probe.planted):
            if pattern is None:
                continue
            try:
                re.compile(pattern, re.MULTILINE)
            except re.error as error:
                raise UsageError(f"probe {probe.name}: {pattern!r} is no pattern: {error}") from error
            if not pattern:
                raise UsageError(f"probe {probe.name} has an empty pattern")


def elf(arch: str, *, library: bool = False) -> bytes:
    """One of the smallest programs there are, which a probe drops into the work tree: it prints `ELF RAN`.

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
