"""How fast a campaign goes, and when it will be done: from tokens, since tasks differ a hundredfold in length."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agenttrace.records import LLMStep

_MINUTE_S = 60
_HOUR_S = 3600
_FEW = 2
"""Of so many tasks the spread of their lengths can be told."""


class Pace:
    """Tokens over time, and what they say of the tasks to come.

    Args:
        earlier: tokens generated for tasks of earlier sessions, as far as they were looked at.
    """

    def __init__(self, earlier: Iterable[int] = ()) -> None:
        self._lengths = [*earlier]
        self._tokens = self._finished = 0
        self._decoded, self._decoding_ms = 0, 0.0

    def generated(self, step: LLMStep) -> None:
        """Count one generation."""
        self._tokens += step.output_tokens or 0
        if step.timings is not None and step.timings.predicted_ms:
            self._decoded += step.timings.predicted_n or 0
            self._decoding_ms += step.timings.predicted_ms

    def finished(self, steps: Iterable[LLMStep]) -> None:
        """Count one task with all its generations."""
        length = sum(step.output_tokens or 0 for step in steps)
        self._finished += length
        self._lengths.append(length)

    def rates(self, elapsed_s: float) -> str:
        """Return tokens per second: of the whole session, and of one slot of the server while it generates."""
        whole = f"{self._tokens / elapsed_s:,.0f} tok/s" if self._tokens and elapsed_s > 0 else "- tok/s"
        return f"{whole} ({self._decoded / self._decoding_ms * 1000:,.0f} in decoding)" if self._decoding_ms else whole

    def left(self, tasks: int, elapsed_s: float) -> str:
        """Return the time that so many more tasks take, with one standard deviation where that can be told.

        The tokens to come are the tasks left times the mean length so far, without what unfinished tasks already have;
        the spread of their sum is that of the lengths, for the tasks left and for the mean itself.
        """
        mean = statistics.fmean(self._lengths) if self._lengths else 0.0
        if not mean or not self._tokens or elapsed_s <= 0:
            return "0:00" if not tasks else "-:--"
        begun = max(0, self._tokens - self._finished)
        rate = self._tokens / elapsed_s
        seconds = max(0.0, tasks * mean - begun) / rate
        if len(self._lengths) < _FEW:
            return f"about {clock(seconds)}"
        spread = statistics.stdev(self._lengths) * math.sqrt(tasks + tasks**2 / len(self._lengths)) / rate
        return f"{clock(seconds)} ±{clock(spread)}" if spread >= seconds / 10 and spread >= 1 else clock(seconds)


def clock(seconds: float) -> str:
    """Return minutes and seconds, with hours where there are any: `9:05`, `1:02:03`."""
    whole = int(seconds)
    hours, minutes, rest = whole // _HOUR_S, whole % _HOUR_S // _MINUTE_S, whole % _MINUTE_S
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
