"""The generations that run just now: how far they are and how fast they go, from llama-server's `/slots`.

A reply can take minutes, and until it is whole there is nothing else to show.
"""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from agenttrace.serving.wire import Wire

EVERY_S = 2.0
_GET_S = 5.0
_GOOD = 200
_MOST_TOKENS = 10_000_000


class Generating(NamedTuple):
    """All generations that run.

    Attributes:
        requests: how many.
        tokens: generated so far, of all of them.
        per_s: tokens a second since the last look, of all of them; `None` where that cannot be told.
    """

    requests: int
    tokens: int
    per_s: float | None

    def __str__(self) -> str:
        """Return it for people."""
        rate = "" if self.per_s is None else f" at {self.per_s:,.0f} tok/s"
        several = f"{self.requests} replies, " if self.requests > 1 else ""
        return f"generating {several}{self.tokens:,} tokens so far{rate}"


def read_slots(text: bytes) -> dict[tuple[int, int], int]:
    """Return the tokens of each busy slot, by its number and that of its request; of any other page, nothing."""
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    found = {}
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and row.get("is_processing") is True and (done := _decoded(row)) is not None:
            found[_number(row.get("id")), _number(row.get("id_task"))] = done
    return found


def _decoded(row: dict[str, Any]) -> int | None:
    """Return a slot's tokens; builds differ in where they stand."""
    token = row.get("next_token")
    inner = token[0] if isinstance(token, list) and token else token
    done = inner.get("n_decoded") if isinstance(inner, dict) else row.get("n_decoded")
    return done if isinstance(done, int) and 0 <= done < _MOST_TOKENS else None


def _number(value: object) -> int:
    return value if isinstance(value, int) else -1


class Live:
    """Follows a server's slots in a thread of its own; use it as a context. A server without them is asked once.

    Args:
        base_url: up to and including `/v1`.
        show: is told what runs, and `None` when nothing does; must not raise.
        key: sent as the bearer token.
        every_s: pause between two looks.
    """

    def __init__(
        self,
        base_url: str,
        show: Callable[[Generating | None], None],
        *,
        key: str | None = None,
        every_s: float = EVERY_S,
    ) -> None:
        self._url = f"{base_url.removesuffix('/v1')}/slots"
        self._show = show
        self._key = key
        self._every_s = every_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._before: dict[tuple[int, int], int] = {}
        self._at = 0.0

    def _follow(self) -> None:
        from agenttrace.serving.wire import Wire  # noqa: PLC0415 - heavy

        with Wire(self._key) as wire:
            while not self._end.wait(self._every_s) and self._look(wire):
                pass

    def _look(self, wire: Wire) -> bool:
        """Look once and return whether to look again."""
        from agenttrace.serving.wire import WireError  # noqa: PLC0415 - heavy

        try:
            answer = wire.get(self._url, within_s=_GET_S)
        except WireError:
            return True  # busy, or gone for a while
        if answer.status != _GOOD:
            return False
        now, slots = time.monotonic(), read_slots(answer.body)
        came = sum(done - self._before[key] for key, done in slots.items() if key in self._before)
        known = bool(self._before.keys() & slots.keys())
        rate = came / (now - self._at) if known and now > self._at and came >= 0 else None
        self._before, self._at = slots, now
        self._show(Generating(len(slots), sum(slots.values()), rate) if slots else None)
        return True

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(_GET_S + 1)
