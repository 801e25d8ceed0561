"""The most memory that a process had, for tests that start one and ask it."""

from __future__ import annotations

import resource
from pathlib import Path


def peak_mib() -> int:
    """Peak resident memory of this process, in MiB.

    On Linux since its program began: what getrusage says begins with the memory of the process that forked it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text(encoding="ascii").partition("VmHWM:")[2].split()[0]) >> 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20  # macOS says bytes
