"""The errors of the kit: one root, messages that say what was expected and what to do."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

EXIT_INTERRUPTED = 130
"""Exit status of what Ctrl-C or SIGTERM ended: 128 and the number of SIGINT, as shells have it."""

DOOR = "AGENTTRACE_DOOR"
"""`nox` where a nox session runs the verb; containers of the kit are given it, too."""


class AgentTraceError(Exception):
    """Root of every error that a user can cause or mend; the command line prints its message and no traceback.

    Attributes:
        exit_code: process exit status that the command line ends with (1 unless a subclass says otherwise).
    """

    exit_code = 1


class UsageError(AgentTraceError):
    """A setting, file or argument is not what the kit can work with (exit status 2)."""

    exit_code = 2


class DataError(AgentTraceError):
    """A file's content is not what it must be: the message names the file and the line or field."""


class ModelServerError(AgentTraceError):
    """The model server is gone, or is not the one the run spec names (exit status 3)."""

    exit_code = 3


class WorkerLostError(AgentTraceError):
    """A sandbox worker died, hung past its watchdog or spoke out of protocol (exit status 4)."""

    exit_code = 4


class StorageError(AgentTraceError):
    """A record could not be made durable (disk full, no permission); nothing half-written stays (status 5)."""

    exit_code = 5


def unusable(error: OSError) -> AgentTraceError:
    """Return the error of a path that the system refuses (too long a name, a folder that may not be entered) as ours.

    A full disk is told of without a path, too: what writes to an open file knows none.

    Raises:
        OSError: the error itself, when it is about no path: a fault of the kit, which a traceback helps to find.
    """
    if error.filename is None and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StorageError(f"{error.strerror}; what was written is kept, free some and run it again")
    if error.filename is None:
        raise error
    kind = StorageError if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EROFS} else UsageError
    return kind(f"cannot use {str(error.filename)[:300]}: {error.strerror}")


_BEGUN = 4
"""Characters of a word that is the beginning of one known word, and so means it."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question with the known word that is most like `word`, to end a message with, or nothing."""
    import difflib  # noqa: PLC0415 - only who mistyped waits for it

    plain = {one.casefold(): one for one in known}
    like = difflib.get_close_matches(word.casefold(), plain, n=1, cutoff=0.7)
    like = like or [one for one in plain if word and one.rpartition("/")[2] == word.casefold()]
    begun = [one for one in plain if len(word) >= _BEGUN and one.startswith(word.casefold())]
    like = like or (begun if len(begun) == 1 else [])
    return f" (did you mean {plain[like[0]]}?)" if like else ""


def with_extra(name: str) -> str:
    """Return how the kit is installed with an extra, for a message to say: no package index has it."""
    return f"in the checkout, pip install '.[{name}]'"


def command(verb: str, *words: str) -> str:
    """Return how a verb is called here, through nox or as the installed command, for a message to say."""
    through_nox = os.environ.get(DOOR) == "nox"
    called = f"scripts/nox -s {verb}" if through_nox else f"agenttrace {verb}"
    return " ".join((called, *(("--",) if through_nox and words else ()), *words))
