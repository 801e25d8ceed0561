"""How a command ends: with an exit status, and one message for whatever went wrong."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from agenttrace.errors import AgentTraceError, unusable
from agenttrace.show import escape_what_no_terminal_here_shows, printable

if TYPE_CHECKING:
    from collections.abc import Callable

EXIT_INTERRUPTED = 130


def end_with(work: Callable[[], int], *, kept: str | None = None) -> NoReturn:
    """Exit with the status of `work`; a user's mistake or Ctrl-C is one message, never a traceback.

    Args:
        work: the command; its result is the status where all went well.
        kept: what an interrupt leaves and what to do next.
    """
    escape_what_no_terminal_here_shows()
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        status = work()
        sys.stdout.flush()
    except AgentTraceError as error:
        status = _tell(error)
    except KeyboardInterrupt:
        _say("interrupted" if kept is None else f"interrupted; {kept}")
        status = EXIT_INTERRUPTED
    except BrokenPipeError:  # `agenttrace show FILE | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except OSError as error:
        engine = sys.modules.get("agenttrace.host.engine")  # where it was used, it knows what the engine's errors mean
        status = _tell((engine and engine.refusal(error)) or unusable(error))
    sys.exit(status)


def _tell(error: AgentTraceError) -> int:
    _say(_shown(str(error)))
    return error.exit_code


def _say(text: str) -> None:
    print(f"agenttrace: {printable(text)}", file=sys.stderr)  # noqa: T201 - this is the command line


def _shown(message: str) -> str:
    """Return a message with the host's name of the records folder instead of the container's."""
    return message.replace("/data/", f"{os.environ.get('AGENTTRACE_SHOWN_FOLDER', '/data').rstrip('/')}/")


def _as_interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
