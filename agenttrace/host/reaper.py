"""Removes a campaign's containers when the process that should have done it was killed.

Started beside every campaign as a process of its own session. It reads its standard input: a byte means that the
campaign cleaned up behind itself; end of file without one means that it died.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from agenttrace.host import compose, engine

if TYPE_CHECKING:
    from typing import Self

_ALL_WELL = b"."


class Reaper:
    """The watching process, as a context: on leaving, the clean-up is taken to be done.

    Args:
        project: compose project to remove.
        lock: descriptor of the campaign lock, held until the reaper is through.
    """

    def __init__(self, project: str, lock: int) -> None:
        self._process: subprocess.Popen[bytes] = engine.start(
            [sys.executable, "-P", "-m", "agenttrace.host.reaper", project],
            env={**os.environ, "PYTHONPATH": str(compose.ROOT)},
            stdin=subprocess.PIPE,
            output=subprocess.DEVNULL,
            errors=subprocess.DEVNULL,
            pass_fds=(lock,),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(_ALL_WELL)


def main() -> None:
    """Wait for the byte or the end of file; on the latter remove the project."""
    project = sys.argv[1]
    if sys.stdin.buffer.read(1) == _ALL_WELL:
        return
    sdk = compose.client()
    compose.sweep_for_good(sdk, project)


if __name__ == "__main__":
    main()
