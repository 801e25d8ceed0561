"""How a command on the user's machine ends: with an exit status, and one message for whatever went wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.errors import AgentTraceError, UsageError, unusable
from agenttrace.host import engine

if TYPE_CHECKING:
    from collections.abc import Callable

EXIT_INTERRUPTED = 130


def status(work: Callable[[], int], *, json: object = None, kept: str | None = None) -> int:
    """Return the exit status of `work`; a user's mistake or Ctrl-C is one message, never a traceback.

    Args:
        work: the command; its result is the status where all went well.
        json: the value of its option `--json`; a path must be one that can be written when `work` ends.
        kept: what an interrupt leaves and what to do next.
    """
    try:
        _check_json(json)
        return work()
    except AgentTraceError as error:
        engine.say(str(error))
        return error.exit_code
    except OSError as error:
        engine.say(str(told := engine.refusal(error) or unusable(error)))
        return told.exit_code
    except KeyboardInterrupt:
        engine.say("interrupted" if kept is None else f"interrupted; {kept}")
        return EXIT_INTERRUPTED


def _check_json(path: object) -> None:
    """Refuse a place where the findings of a long run could not be written at its end."""
    if isinstance(path, Path) and (path.is_dir() or not os.access(path.parent, os.W_OK)):
        raise UsageError(
            f"--json {path}: "
            + ("a folder; name a file" if path.is_dir() else "its folder is not there, or not writable")
        )
