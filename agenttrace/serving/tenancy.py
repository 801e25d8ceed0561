"""Whose conversation the server's slot holds, for profiles in which a conversation reuses its own beginning.

What is computed on top of a reused beginning differs in the last bits from what is computed at once, so a text is a
function of its conversation only if the slot holds exactly what the conversation's own earlier requests left there:
one conversation at a time, from its first request to its end, and everything sent again after a request that went
wrong or a server that was started anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import threading

    from agenttrace.serving.model import Messages, Reply


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A request of a conversation and what came of it.

    Attributes:
        messages: as sent.
        max_tokens: as sent.
        gist: what the reply says; `None` of one that could not be parsed.
        cached: tokens of the prompt that the server had, where it says so.
    """

    messages: Messages
    max_tokens: int | None
    gist: bytes | None = None
    cached: int | None = None


LOST = "the server had nothing of this conversation any more, so all of it was sent again"
"""Noted as a failed try; it may be lost once more while it is sent."""


def cached(reply: Reply) -> int | None:
    """Return how many tokens of the prompt the server had."""
    return None if reply.timings is None else reply.timings.cached_n


def gist(reply: Reply) -> bytes:
    """Return what a reply says: its text, thinking, calls and end, without any figure."""
    return msgspec.json.encode((reply.content, reply.reasoning, reply.tool_calls, reply.finish_reason))


class Tenancy:
    """One conversation's hold on the slot.

    Args:
        slot: shared by the conversations of one server; taken with the first request, left at the end.

    Attributes:
        said: its requests so far.
        doubtful: the slot may not hold what they left: all must be sent again before the next one.
        reuses: the server is not known to compute every prompt of this model from its beginning.
    """

    def __init__(self, slot: threading.Lock) -> None:
        self._slot = slot
        self._held = False
        self.said: list[Said] = []
        self.doubtful = False
        self.reuses = True

    def begin(self) -> None:
        """Wait until the slot is free, and take it."""
        if not self._held:
            self._slot.acquire()
            self._held = True

    def end(self) -> None:
        """Leave the slot to the next conversation."""
        if self._held:
            self._held = False
            self._slot.release()
