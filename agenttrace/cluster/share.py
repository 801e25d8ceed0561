"""How many requests of one machine an endpoint has at a time: its share of what the endpoint may have of all machines.

The share is halved where the endpoint says that it has too many, and grows by one with every round that it answers
(additive increase, multiplicative decrease: Chiu and Jain 1989).
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from agenttrace.serving.chat import asked_pause

if TYPE_CHECKING:
    from collections.abc import Callable

    from agenttrace.serving.wire import Answer

_TOO_MANY, _UNAVAILABLE = 429, 503
_PAUSE_S = 1.0
"""Before a request is sent again, where the endpoint does not say how long."""
_SHORTEST_S = 0.2


class EndpointShare:
    """Lets so many requests at a time to one endpoint; safe to use from the threads that run tasks.

    Args:
        most: requests at a time; see `limit`.
        patience_s: so long an endpoint may do nothing but send requests away; then that is its answer.
        clock: monotonic seconds (replaceable in tests).
        sleep: waits (likewise).

    Attributes:
        sent_away: answers so far that said that there were too many requests.
    """

    def __init__(
        self,
        most: int,
        *,
        patience_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.sent_away = 0
        self._most = most
        self._now = float(most)
        self._patience_s, self._clock, self._sleep = patience_s, clock, sleep
        self._running = 0
        self._cuts = 0
        self._only_away_since: float | None = None
        self._changed = threading.Condition()

    def limit(self, most: int) -> None:
        """Let so many at a time at most from now on; what the endpoint itself has said still holds."""
        with self._changed:
            whole, self._most = self._now >= self._most, most
            self._now = float(most) if whole else min(self._now, float(most))
            self._changed.notify_all()

    def ask(self, post: Callable[[], Answer]) -> Answer:
        """Send a request when it is its turn, and again while the endpoint says that it has too many; errors pass."""
        while True:
            cuts = self._begin()
            try:
                answer = post()
            finally:
                self._end()
            pause_s = self._heard(answer, cuts)
            if pause_s is None:
                return answer
            self._sleep(pause_s)

    def _begin(self) -> int:
        """Wait for a turn, and return how often the share had been cut by then."""
        with self._changed:
            self._changed.wait_for(lambda: self._running < max(1, int(self._now)))
            self._running += 1
            return self._cuts

    def _end(self) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def _heard(self, answer: Answer, cuts: int) -> float | None:
        """Return the pause before a request is sent again; `None` where its answer stands."""
        too_many = answer.status == _TOO_MANY or (answer.status == _UNAVAILABLE and "retry-after" in answer.headers)
        with self._changed:
            if not too_many:
                self._only_away_since = None
                self._now = min(self._now + 1 / self._now, float(self._most))
                self._changed.notify_all()
                return None
            self.sent_away += 1
            if cuts == self._cuts:  # requests of one round are sent away together, and that says it once
                self._cuts += 1
                self._now = max(1.0, self._now / 2)
            now = self._clock()
            self._only_away_since = now if self._only_away_since is None else self._only_away_since
            if now - self._only_away_since >= self._patience_s:
                return None
            return max(_SHORTEST_S, asked_pause(answer) if "retry-after" in answer.headers else _PAUSE_S)
