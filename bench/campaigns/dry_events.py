"""A simulated campaign over nodes: shards are handed out, rollouts end, nodes are killed and come back, by events.

What is simulated is what the driver and an attempt at a shard do (`agenttrace.cluster`): a shard is rollouts of one
task; an attempt has so many of them in flight; finished ones wait for a part, of 16 or of 60 s; a killed attempt loses
what waits and what is in flight, and the next attempt goes on from the parts.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from agenttrace.cluster.parts import PART_RECORDS, PART_SECONDS
from agenttrace.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable


class Fleet(Record, frozen=True, kw_only=True):
    """What a campaign is made by.

    Attributes:
        nodes: machines with sandbox workers.
        slots: sandbox workers of a node.
        workers: of these, how many an attempt at a shard takes: so many of its rollouts are in flight.
        mean_s: seconds of a rollout, on average.
        sigma: how far they spread: the standard deviation of their logarithm.
        kill_s: seconds after which a node is killed, on average; infinity is never.
        noticed_s: seconds until its shards are handed out again.
        back_s: seconds until another node is in its place.
    """

    nodes: int
    slots: int
    workers: int
    mean_s: float
    sigma: float
    kill_s: float = math.inf
    noticed_s: float = 30.0
    back_s: float = 720.0


class Course(Record, frozen=True, kw_only=True):
    """How a simulated campaign went.

    Attributes:
        hours: until the last shard was done.
        tail_hours: of these, since the last shard was handed out for the first time.
        busy: share of all slots' time in which a rollout was made that counts.
        kept: rollouts in parts that count.
        lost: rollouts that were finished and not yet in a part when their node was killed.
        cut_off: rollouts that were in flight then.
        kills: of nodes.
        parts: objects with records; each has a cassette beside it.
        again: attempts at shards beyond the first.
    """

    hours: float
    tail_hours: float
    busy: float
    kept: int
    lost: int
    cut_off: int
    kills: int
    parts: int
    again: int


@dataclass
class _Attempt:
    """When the rollouts of an attempt end, in order; what they took; when parts were made, and of how many."""

    ends: list[float]
    flushed: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        since, waiting = 0.0, 0
        for end in self.ends:
            if waiting and end - since >= PART_SECONDS:
                self.flushed.append((since + PART_SECONDS, waiting))
                waiting = 0
            since = since if waiting else end
            waiting += 1
            if waiting == PART_RECORDS:
                self.flushed.append((end, waiting))
                waiting = 0
        if waiting:
            self.flushed.append((self.ends[-1], waiting))

    def kept(self, at: float) -> tuple[int, int]:
        """Return how many rollouts are in parts at a time, and in how many."""
        made = [size for when, size in self.flushed if when <= at]
        return sum(made), len(made)


def simulate(fleet: Fleet, *, tasks: int, rollouts: int, seed: int) -> Course:
    """Return how a campaign goes that makes so many rollouts of each task, a shard for each task; seeded.

    Raises:
        ValueError: no shard has room on a node.
    """
    if fleet.workers > fleet.slots:
        raise ValueError("an attempt takes more workers than a node has")
    return _Campaign(fleet, rollouts, random.Random(seed)).run(tasks)  # noqa: S311 - to be repeated, no secret


class _Campaign:
    def __init__(self, fleet: Fleet, rollouts: int, generator: random.Random) -> None:
        self._fleet, self._rollouts, self._generator = fleet, rollouts, generator
        self._mu = math.log(fleet.mean_s) - fleet.sigma**2 / 2
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = count()
        self._seats = fleet.slots // fleet.workers
        self._running: list[dict[int, _Attempt]] = [{} for _ in range(fleet.nodes)]
        self._lives = [0] * fleet.nodes
        self._free = deque(node for _ in range(self._seats) for node in range(fleet.nodes))
        self._waiting: deque[int] = deque()
        self._new = self._open = 0
        self._handed_out = self._made_s = 0.0
        self._counts = dict.fromkeys(("kept", "lost", "cut_off", "kills", "parts", "again"), 0)

    def run(self, tasks: int) -> Course:
        self._new = self._open = tasks
        for node in range(self._fleet.nodes):
            self._doom(0.0, node)
        self._hand_out(0.0)
        at = 0.0
        while self._open:
            at, _, happen = heapq.heappop(self._events)
            happen(at)
            self._hand_out(at)
        slots = self._fleet.nodes * self._fleet.slots
        return Course(
            hours=at / 3600,
            tail_hours=(at - self._handed_out) / 3600,
            busy=self._counts["kept"] * self._fleet.mean_s / (at * slots),
            **self._counts,
        )

    def _at(self, when: float, happen: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), happen))

    def _hand_out(self, at: float) -> None:
        while self._free and (self._waiting or self._new):
            node = self._free.popleft()
            if self._waiting:
                left = self._waiting.popleft()
                self._counts["again"] += 1
            else:
                left = self._rollouts
                self._new -= 1
                self._handed_out = at
            self._begin(at, node, left)

    def _begin(self, at: float, node: int, left: int) -> None:
        attempt, name = self._attempt(at, left), next(self._order)
        self._running[node][name] = attempt
        life = self._lives[node]

        def ended(_: float) -> None:
            if self._lives[node] == life:
                del self._running[node][name]
                self._keep(*attempt.kept(math.inf))
                self._open -= 1
                self._free.append(node)

        self._at(attempt.ends[-1], ended)

    def _attempt(self, at: float, left: int) -> _Attempt:
        """Return an attempt: each worker takes the next rollout when it has ended one."""
        workers = [at] * min(self._fleet.workers, left)
        ends = []
        for _ in range(left):
            ends.append(workers[0] + self._generator.lognormvariate(self._mu, self._fleet.sigma))
            heapq.heapreplace(workers, ends[-1])
        return _Attempt(sorted(ends))

    def _keep(self, kept: int, parts: int) -> None:
        self._counts["kept"] += kept
        self._counts["parts"] += parts

    def _doom(self, at: float, node: int) -> None:
        if not math.isinf(self._fleet.kill_s):
            self._at(at + self._generator.expovariate(1 / self._fleet.kill_s), lambda when: self._kill(when, node))

    def _kill(self, at: float, node: int) -> None:
        self._counts["kills"] += 1
        self._lives[node] += 1
        for attempt in self._running[node].values():
            kept, parts = attempt.kept(at)
            self._keep(kept, parts)
            ended = sum(end <= at for end in attempt.ends)
            self._counts["lost"] += ended - kept
            self._counts["cut_off"] += min(self._fleet.workers, len(attempt.ends) - ended)
            self._at(at + self._fleet.noticed_s, self._again(len(attempt.ends) - kept))
        self._running[node].clear()
        self._free = deque(one for one in self._free if one != node)
        self._at(at + self._fleet.back_s, lambda when: self._back(when, node))

    def _again(self, left: int) -> Callable[[float], None]:
        def happen(_: float) -> None:
            if left:
                self._waiting.append(left)
            else:
                self._open -= 1  # its manifest is all that it lacked

        return happen

    def _back(self, at: float, node: int) -> None:
        self._free.extend([node] * self._seats)
        self._doom(at, node)
