"""The model server's own load, followed once a second: a small file beside the records, and a summary per task.

Sources: the Prometheus text format 0.0.4; llama.cpp `tools/server` (`--metrics`), vLLM `docs/design/metrics.md`, SGLang
`docs/references/production_metrics.md`.
"""

from __future__ import annotations

import csv
import math
import re
import threading
import time
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from agenttrace.serving.wire import Wire

SERVER_LOAD = ".server.csv"
EVERY_S = 1.0
_GET_S = 2.0
_MOST_BYTES = 2 << 20
"""Of a page of metrics; those of servers have a tenth of that."""
_HALVED_AFTER = 10_000
"""Samples of a session after which they become half as frequent, again and again: the file grows ever more slowly."""
_HELD = 7200
"""Samples that are held for the summary of a task."""
_LABELS = r'\{(?:[^"{}\n]|"(?:[^"\\\n]|\\.)*+")*+\}'
_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[Nn]a[Nn]|[-+]?Inf"
_LINE = re.compile(rf"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:{_LABELS})?[ \t]+({_NUMBER})(?:[ \t\r]|$)", re.MULTILINE)
_NAMES = {
    "running": ("llamacpp:requests_processing", "vllm:num_requests_running", "sglang:num_running_reqs"),
    "waiting": ("llamacpp:requests_deferred", "vllm:num_requests_waiting", "sglang:num_queue_reqs"),
    "kv_used": (
        "llamacpp:kv_cache_usage_ratio", "vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage",
    ),
}  # fmt: skip
"""Column → the gauges that it is, one of each server."""
_MOST = 1e12
_FIRST_S = 0.05
_OLD = 2.5
"""Pauses after which a sample is of another time."""
_GOOD = 200


class Sample(NamedTuple):
    """One look: requests that are worked on, requests that wait, the share of the cache that is taken."""

    running: float | None
    waiting: float | None
    kv_used: float | None


_NOTHING = Sample(None, None, None)


def read_metrics(text: str) -> Sample:
    """Return what a page of metrics says; gauges of several engines of one server are added, shares averaged.

    Where one of the engines says no figure, there is none of all of them.
    """
    found: dict[str, list[float]] = {}
    for name, value in _LINE.findall(text):
        found.setdefault(name, []).append(float(value))
    known = {
        name: values
        for name, values in found.items()
        if all(math.isfinite(value) and 0 <= value < _MOST for value in values)
    }
    running, waiting, kv = (next((known[name] for name in names if name in known), None) for names in _NAMES.values())
    return Sample(
        running=None if running is None else sum(running),
        waiting=None if waiting is None else sum(waiting),
        kv_used=None if kv is None else sum(kv) / len(kv),
    )


class ServerLoad:
    """Follows a server's `/metrics` in a thread of its own; use it as a context. Nothing of it ends a campaign.

    Args:
        base_url: up to and including `/v1`.
        path: the file that is appended to; it is made with the first sample.
        key: sent as the bearer token.
        every_s: pause between two looks.

    Attributes:
        taken: samples so far.
        missing: why there are none, or no more; else `None`.
    """

    def __init__(self, base_url: str, path: Path, *, key: str | None = None, every_s: float = EVERY_S) -> None:
        self._url = f"{base_url.removesuffix('/v1')}/metrics"
        self._path = path
        self._key = key
        self._every_s = every_s
        self._held: deque[tuple[float, Sample]] = deque(maxlen=_HELD)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self.taken = 0
        self.missing: str | None = "no sample yet"

    def since(self, taken: int) -> dict[str, Any]:
        """Return the mean and the largest of each figure since so many samples, at least the latest one.

        A task that is shorter than the pause between two looks has the one before it ended, unless that is long ago: a
        server that does not answer has no load that is known.
        """
        held, new = list(self._held), self.taken - taken
        rows = [row for _, row in held[-max(1, new) :]]
        if not rows or (new <= 0 and time.monotonic() - held[-1][0] > _OLD * self._pause_s + _GET_S):
            return {"samples": 0, "unknown": self.missing or "no new sample"}
        figures: dict[str, Any] = {"samples": min(new, len(rows))}
        for name, column in zip(Sample._fields, zip(*rows, strict=True), strict=True):
            known = [value for value in column if value is not None]
            figures[name] = {"mean": round(sum(known) / len(known), 4), "max": max(known)} if known else None
        return figures

    def _follow(self) -> None:
        from agenttrace.serving.wire import Wire  # noqa: PLC0415 - heavy

        self._started, self._session = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
        pause_s = min(_FIRST_S, self._every_s)
        with Wire(self._key) as wire:
            while not self._end.wait(pause_s) and self._look(wire):
                pause_s = self._pause_s

    @property
    def _pause_s(self) -> float:
        return math.ldexp(self._every_s, self.taken // _HALVED_AFTER)

    def _look(self, wire: Wire) -> bool:
        """Take a sample where there is one, and return whether to look again."""
        from agenttrace.serving.wire import WireError  # noqa: PLC0415 - heavy

        try:
            answer = wire.get(self._url, within_s=_GET_S)
            fine = answer.status == _GOOD and len(answer.body) <= _MOST_BYTES
            sample = read_metrics(answer.body.decode("utf-8", "replace")) if fine else _NOTHING
            if sample != _NOTHING:
                self._append(sample)
            else:
                size = f", {len(answer.body)} bytes" if len(answer.body) > _MOST_BYTES else ""
                self.missing = f"the server's /metrics has no gauge that is known (HTTP {answer.status}{size})"
        except WireError as error:
            self.missing = f"the server's /metrics did not answer ({error})"
            return True  # busy, or gone for a while
        except OSError as error:
            self.missing = f"the file could not be written ({error.strerror})"
            return False
        return self.taken > 0

    def _append(self, sample: Sample) -> None:
        new = not self._path.exists()
        with self._path.open("a", encoding="ascii", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            if new:
                rows.writerow(("session_utc", "seconds", *Sample._fields))
            rows.writerow(
                (
                    self._session,
                    f"{time.monotonic() - self._started:.3f}",
                    *("" if value is None else f"{value:g}" for value in sample),
                )
            )
        self._held.append((time.monotonic(), sample))
        self.taken += 1
        self.missing = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(_GET_S + 1)
