"""Hands out the numbers of shards until all are done: a window of them at a time, those that failed after a pause.

It holds numbers only: which shards are done is known by their manifests, what a shard is follows from its number. So
whoever runs it, and is killed, runs it again.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from agenttrace.cluster.attempts import DONE, OF_MACHINE
from agenttrace.errors import AgentTraceError, ModelServerError, StorageError, UsageError, WorkerLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterable, Sequence

    from agenttrace.cluster.attempts import AttemptResult

WINDOW = 2
"""Shards handed out for each that can be worked on: the next one waits where a machine becomes free."""
TRIES = 5
"""Attempts at a shard that leave nothing new, after which it is given up."""
FIRST_PAUSE_S = 1.0
"""After the first of them; it doubles with each."""
_LOOK_S = 1.0


class Unit(NamedTuple):
    """What is handed out: its name, what a machine needs for one, and what helps where none has that."""

    name: str
    needs: str
    remedy: str


SHARD = Unit("shard", "sandbox workers", "add one, or lower --workers")
FILE = Unit("file", "a processor", "add one")


class Machines(Protocol):
    """What makes shards somewhere else; see `agenttrace.cluster.on_ray.RayMachines`."""

    def room(self) -> Sequence[int]:
        """Return how many shards each machine that has room can work on at a time, now."""
        ...

    def begin(self, shard: int) -> Hashable:
        """Have a shard made and return what stands for the attempt."""
        ...

    def ended(self, attempts: Collection[Hashable], *, within_s: float) -> Iterable[tuple[Hashable, AttemptResult]]:
        """Return the attempts that have ended, waiting so long at most for the first."""
        ...

    def stop(self, attempts: Collection[Hashable]) -> None:
        """Have what attempts are left end soon, and keep what is finished; nothing is begun or asked after that."""
        ...


class Watcher:
    """Is told how a run goes; this one shows nothing."""

    def begun(self) -> None:
        """Learn that what there is room for is handed out."""

    def result(self, result: AttemptResult) -> None:
        """Learn how an attempt ended."""

    def later(self, result: AttemptResult, pause_s: float) -> None:
        """Learn that a shard is tried again after a pause."""

    def given_up(self, result: AttemptResult) -> None:
        """Learn that a shard is not tried again."""

    def waiting(self, waited_s: float) -> None:
        """Learn that there is no room at all."""


class Figures(msgspec.Struct, kw_only=True):
    """What a driver did.

    Attributes:
        shards: of the run.
        before: that were done when it began.
        done: that are done.
        records: made meanwhile, in shards that came to their end.
        attempts: by how they ended.
        given_up: shards that failed again and again, and why.
        running: shards that are handed out.
        room: shards that can be worked on at a time.
        endpoints: records by endpoint.
        nodes: attempts by machine.
        elapsed_s: of the driver.
    """

    shards: int
    before: int = 0
    done: int = 0
    records: int = 0
    attempts: Counter[str] = msgspec.field(default_factory=Counter)
    given_up: dict[int, str] = msgspec.field(default_factory=dict)
    running: int = 0
    room: int = 0
    endpoints: Counter[str] = msgspec.field(default_factory=Counter)
    nodes: Counter[str] = msgspec.field(default_factory=Counter)
    elapsed_s: float = 0.0

    @property
    def failed(self) -> int:
        """How many attempts left their shard undone."""
        return sum(count for how, count in dict(self.attempts).items() if how not in DONE)

    @property
    def eta_s(self) -> float | None:
        """The time that the shards left take, at the rate of those that were made; `None` before the first one."""
        made, left = self.done - self.before, self.shards - self.done - len(self.given_up)
        return left * self.elapsed_s / made if made else None

    def add(self, result: AttemptResult) -> None:
        """Count an attempt."""
        self.attempts[result.attempted.end if result.attempted else result.how] += 1
        self.done += result.is_done
        if result.node:
            self.nodes[result.node] += 1
        if result.attempted is not None:
            self.records += result.attempted.made
            self.endpoints.update(result.attempted.endpoints)

    def said(self) -> dict[str, Any]:
        """Return them as JSON has them; also from another thread than the driver's."""
        found = msgspec.structs.asdict(self).items()
        said = {name: dict(value) if isinstance(value, dict) else value for name, value in found}
        return {**said, "failed": self.failed, "eta_s": self.eta_s}


class Driver:
    """Drives one run.

    Args:
        machines: make shards.
        count: shards of the run.
        done: those that have a manifest.
        left_by: how many parts an attempt at a shard has to go on from; what leaves more than before is no failure.
        patience_s: so long there may be no room at all.
        unit: what a shard is here.
        clock: monotonic seconds (replaceable in tests).

    Attributes:
        figures: so far.
    """

    def __init__(
        self,
        machines: Machines,
        *,
        count: int,
        done: Collection[int],
        left_by: Callable[[int], int],
        patience_s: float,
        unit: Unit = SHARD,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._machines = machines
        self._done = bytearray(-(-count // 8))
        for shard in done:
            self._done[shard >> 3] |= 1 << (shard & 7)
        self._left_by = left_by
        self._watcher = Watcher()
        self._patience_s, self._unit = patience_s, unit
        self._clock = clock
        self._next = 0
        self._later: list[tuple[float, int]] = []
        self._tries: dict[int, tuple[int, int]] = {}
        self._unfit: Counter[str] = Counter()
        self.figures = Figures(shards=count, before=len(done), done=len(done))

    def run(self, watcher: Watcher | None = None) -> Figures:
        """Hand out shards until each is done or given up, and return what was done.

        Args:
            watcher: is told how it goes.

        Raises:
            ModelServerError: every machine in a row says that all endpoints are gone.
            StorageError: every machine in a row says that the store refuses, or that it has no room.
            WorkerLostError: every machine in a row says that its sandbox workers are gone.
            UsageError: a machine may not take part, or the run is another one.
            AgentTraceError: no machine has room for a shard.
        """
        self._watcher = watcher or self._watcher
        started = self._clock()
        roomless_since: float | None = None
        running: dict[Hashable, int] = {}
        try:
            while True:
                rooms = self._machines.room()
                room = sum(rooms)
                self._fill(running, room)
                if self.figures.done + len(self.figures.given_up) >= self.figures.shards:
                    return self.figures
                roomless_since = None if room else roomless_since or self._clock()
                if roomless_since is not None:
                    self._await_room(self._clock() - roomless_since)
                self.figures.running, self.figures.room = len(running), room
                self._watcher.begun()
                self._take(running, rooms)
                self.figures.elapsed_s = self._clock() - started
        finally:
            self.figures.elapsed_s, self.figures.running = self._clock() - started, len(running)
            self._machines.stop([*running])

    def _await_room(self, waited_s: float) -> None:
        if waited_s >= self._patience_s:
            name, needs, remedy = self._unit
            raise AgentTraceError(f"for {waited_s:.0f} s no machine had {needs} for a {name}: {remedy}")
        self._watcher.waiting(waited_s)

    def _fill(self, running: dict[Hashable, int], room: int) -> None:
        """Hand out what a window has room for: shards whose pause is over, then the next ones."""
        while len(running) < WINDOW * room and (shard := self._take_number()) is not None:
            running[self._machines.begin(shard)] = shard

    def _take_number(self) -> int | None:
        if self._later and self._later[0][0] <= self._clock():
            return heapq.heappop(self._later)[1]
        while self._next < self.figures.shards:
            shard, self._next = self._next, self._next + 1
            if not self._done[shard >> 3] & 1 << (shard & 7):
                return shard
        return None

    def _take(self, running: dict[Hashable, int], rooms: Sequence[int]) -> None:
        """Take what has ended; wait for it, but not beyond the end of a pause."""
        pause_s = self._later[0][0] - self._clock() if self._later else _LOOK_S
        within_s = min(_LOOK_S, pause_s) if pause_s > 0 else _LOOK_S  # what is due already has no room
        for handle, result in self._machines.ended([*running], within_s=within_s):
            del running[handle]
            self.figures.add(result)
            self._watcher.result(result)
            self._judge(result, rooms)

    def _judge(self, result: AttemptResult, rooms: Sequence[int]) -> None:
        """Let a shard that is not done wait, or give it up; end where nothing goes on any more."""
        if result.how in OF_MACHINE:
            self._unfit[result.node] += 1
        else:
            self._unfit.clear()
        if result.is_done:
            self._tries.pop(result.shard, None)
            return
        if result.how == "refused":
            raise UsageError(_told(result))
        if rooms and self._unfit and self._unfit.total() >= sum(rooms) and len(self._unfit) >= len(rooms):
            kinds = {"no_endpoint": ModelServerError, "no_sandbox": WorkerLostError}
            raise kinds.get(result.how, StorageError)(_told(result))
        tries, left = self._tries.get(result.shard, (0, 0))
        now_left = self._left_by(result.shard)
        # A machine without room, or the like, takes many shards, since it gives them back at once.
        tries = max(1, tries) if result.how in OF_MACHINE else 1 if now_left > left else tries + 1
        self._tries[result.shard] = tries, now_left
        if tries >= TRIES:
            del self._tries[result.shard]
            self.figures.given_up[result.shard] = result.why
            self._watcher.given_up(result)
            return
        pause_s = FIRST_PAUSE_S * 2 ** (tries - 1)
        heapq.heappush(self._later, (self._clock() + pause_s, result.shard))
        self._watcher.later(result, pause_s)


def _told(result: AttemptResult) -> str:
    """Return why an attempt came to nothing, and where."""
    return result.why if not result.node or result.node in result.why else f"{result.why} (node {result.node})"
