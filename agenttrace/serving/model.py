"""What an agent asks of a model: protocols, replies, and the errors that shape a record."""

from __future__ import annotations

from typing import Any, Protocol

from msgspec import UNSET, UnsetType

from agenttrace.records import Record, Timings, Tokens

Messages = list[dict[str, Any]]
RETRY_DELAYS_S = (0.5, 1.0, 2.0, 4.0)
"""Pauses between the tries of one request that the server did not answer."""


_PASSING = frozenset({408, 409, 425, 429})
_SERVER_ERROR = 500
_NOT_IMPLEMENTED = 501


def passing(status: int) -> bool:
    """Return whether a request that was answered so may well be answered otherwise when it is sent again."""
    return status in _PASSING or (status >= _SERVER_ERROR and status != _NOT_IMPLEMENTED)


class ProposedCall(Record, frozen=True, kw_only=True):
    """A tool call as it came from the server; `arguments` is text and need not be JSON."""

    name: str
    arguments: str


class Reply(Record, frozen=True, kw_only=True):
    """One reply of the model with what the server says of it; times are nanoseconds, wall clock and monotonic.

    `failed_tries` says what came instead of a reply before this one did, a line for each try; `tokens` has the whole of
    the prompt.
    """

    content: str | None
    reasoning: str | None
    tool_calls: tuple[ProposedCall, ...]
    finish_reason: str | None
    input_tokens: int | None
    output_tokens: int | None
    timings: Timings | None
    start_ns: int
    end_ns: int
    elapsed_ns: int
    failed_tries: tuple[str, ...] | UnsetType = UNSET
    tokens: Tokens | UnsetType = UNSET


class ContextFullError(Exception):
    """The prompt no longer fits into the server's context."""


class RequestRefusedError(Exception):
    """The server refuses this one request (HTTP 4xx); other requests may be fine."""


class UnparsableReplyError(Exception):
    """The model generated what the server itself could not parse, or what is no message that can be read."""


class NoReplyError(Exception):
    """A request got no reply, although it was tried again: the server's fault, or that of the way to it."""


class Model(Protocol):
    """Something that continues one conversation."""

    def count(self, messages: Messages) -> int:
        """Return the tokens of the prompt that these messages give; never fewer than the server will count.

        Raises:
            RequestRefusedError, NoReplyError: they could not be counted.
        """
        ...

    def complete(self, messages: Messages, *, max_tokens: int | None = None) -> Reply:
        """Return the next reply, of at most `max_tokens` (default: the sampler's).

        Raises:
            ContextFullError, UnparsableReplyError, RequestRefusedError, NoReplyError: they end the task, or a step.
            ModelServerError: no task can go on.
        """
        ...

    def over(self) -> None:
        """Learn that the conversation has ended; nothing more is asked."""
        ...


class Models(Protocol):
    """Where a campaign's conversations get their model from: a server, or a recording of one."""

    def for_trace(self, trace_id: str, *, seed: int) -> Model:
        """Return the model for the conversation of one trace; called from the thread that runs it, once per attempt."""
        ...
