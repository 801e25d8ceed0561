"""Folders of this machine, as the engine's machine has them: shared or not, and with modes or without."""

from __future__ import annotations

import os
import platform
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.errors import AgentTraceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agenttrace.host.compose import Services
    from agenttrace.host.engine import EngineInfo
    from agenttrace.host.guard import Engine

_NOT_STARTED = 125
"""Status of `docker run` where it was the engine that refused."""
_OF_WINDOWS = {"9p", "drvfs", "v9fs"}
"""File systems as which WSL mounts the drives of Windows."""
_NOT_SHARED = (
    "the engine runs in a machine of its own and sees only folders that this one shares with it. Use a folder in your "
    "home (colima shares no other), or share it: Docker Desktop: Settings, Resources, File sharing; "
    "`colima start --mount FOLDER:w`"
)


def in_a_machine_of_its_own(info: EngineInfo) -> bool:
    """Return whether the engine has another kernel than this process, as those of Docker Desktop and colima."""
    return info.kernel != platform.release()


def checked_end(status: int, written: Sequence[Path], info: EngineInfo) -> int:
    """Return the status of a container that wrote into folders of the user's, where what it wrote is here.

    Raises:
        UsageError: the engine's machine does not share a folder with this one.
        AgentTraceError: the engine started nothing.
    """
    gone = [path for path in written if not path.exists()] if status == 0 else []
    if gone or (status == _NOT_STARTED and in_a_machine_of_its_own(info)):
        what = f"{gone[0]} was written, and not here" if gone else "the engine did not find a folder (see above)"
        raise UsageError(f"{what}: {_NOT_SHARED}")
    if status == _NOT_STARTED:
        raise AgentTraceError("the Docker engine could not start the container; its reason stands above")
    return status


def check_shared(services: Services, at: Engine, folder: Path) -> None:
    """Refuse a folder for records that the collector sees as another one, before hours of work go there.

    Args:
        services: filled with that folder.
        at: the engine; one on this very machine is not asked.
        folder: where this side sees it.

    Raises:
        UsageError: the engine's machine does not share it with this one.
    """
    if not in_a_machine_of_its_own(at.info):
        return
    code = "import os, sys; sys.exit(not os.path.exists(os.path.join('/data', sys.argv[1])))"
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".agenttrace-") as marker:
        process = services.python(f"{at.project}-shared", "collector", code, os.path.basename(marker.name))  # noqa: PTH119
        process.communicate()
    if process.returncode:
        raise UsageError(f"records in {folder} would not come to lie here: {_NOT_SHARED}")


def without_modes(folder: Path, version: str | None = None, mounts: str | None = None) -> bool:
    """Return whether a folder lies on a drive of Windows under WSL, where files have no modes of their own.

    Args:
        folder: absolute.
        version: content of `/proc/version`.
        mounts: content of `/proc/mounts`.
    """
    version, mounts = (
        _text(name) if given is None else given for name, given in (("version", version), ("mounts", mounts))
    )
    if "microsoft" not in version.lower():
        return False
    kinds = {fields[1]: fields[2] for line in mounts.splitlines() if len(fields := line.split()) > 2}  # noqa: PLR2004
    holder = next((str(at) for at in (folder, *folder.parents) if str(at) in kinds), "/")
    return kinds.get(holder) in _OF_WINDOWS


def _text(name: str) -> str:
    try:
        return Path("/proc", name).read_text(encoding="utf-8", errors="replace")
    except OSError:  # no Linux
        return ""
