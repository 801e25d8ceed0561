"""The tool policies as data: what may run, where, and within which limits (`policies.toml`)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from agenttrace.errors import UsageError

FILE = Path(__file__).with_name("policies.toml")


class MemoryFileSystem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Size of a writable tmpfs: bytes of content, and inodes; each of these takes about 1 KiB of kernel memory."""

    bytes: int
    inodes: int


class PolicyLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one worker's container may use.

    Attributes:
        memory_bytes: memory and swap together, all tmpfs included.
        pids: processes and threads at a time.
        cpus: processors.
        open_files: descriptors of one process.
        file_bytes: largest single file.
        tmpfs: every writable memory file system, by where it is mounted; full, all of them fit into `memory_bytes`.
        sysctls: settings of its kernel namespaces.
    """

    memory_bytes: int
    pids: int
    cpus: float
    open_files: int
    file_bytes: int
    tmpfs: dict[str, MemoryFileSystem]
    sysctls: dict[str, str]


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One policy.

    Attributes:
        target: stage of the Dockerfile that carries it.
        service: service of docker-compose.yml that runs it.
        kinds: calls that its workers serve.
        shell: how the shell is started, as `argv[0]`: it stands at the head of the shell's own messages.
        path: `PATH` of a call.
        commands: names that a call can run besides the shell and its builtins; `any` is what the image holds.
        hostname: of the container.
        capabilities: of the runner, without `CAP_`; a call has none.
        limits: limits of the container.
    """

    target: str
    service: str
    kinds: tuple[Literal["bash", "python"], ...]
    shell: str
    path: tuple[str, ...]
    commands: tuple[str, ...] | Literal["any"]
    hostname: str
    capabilities: tuple[str, ...]
    limits: PolicyLimits


def policies(file: Path = FILE) -> dict[str, Policy]:
    """Every policy by its name.

    Raises:
        UsageError: the file does not hold what it must; the message names the field.
    """
    try:
        return msgspec.toml.decode(file.read_bytes(), type=dict[str, Policy])
    except msgspec.MsgspecError as error:
        raise UsageError(f"{file} is not a table of policies: {error}") from error
