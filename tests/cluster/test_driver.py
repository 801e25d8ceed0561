"""What hands out numbers: every shard once, those that fail after a pause, nothing held of the others."""

from __future__ import annotations

import io
import itertools
import tracemalloc
from collections import Counter, deque

import pytest
from rich.console import Console

from agenttrace.cluster.attempts import Attempted, AttemptResult
from agenttrace.cluster.driver import FILE, SHARD, TRIES, WINDOW, Driver, Figures, Watcher
from agenttrace.cluster.progress import RunDisplay
from agenttrace.errors import AgentTraceError, ModelServerError, StorageError, UsageError, WorkerLostError

RECORDS = 100


def done(shard, end="committed", made=RECORDS):
    attempted = Attempted(shard=shard, end=end, records=RECORDS, made=made, endpoints={"a": made})
    return AttemptResult(shard=shard, how="attempted", attempted=attempted, node="n1")


def failed(shard, how="failed", why="it broke", node="n1"):
    return AttemptResult(shard=shard, how=how, why=why, node=node)


class Shelf(Watcher):
    """Machines that end an attempt when they are asked, as a test says; handles are numbers, time is a counter."""

    def __init__(self, room=4, ends=done):
        self.rooms, self.ends = room, ends
        self.now, self.handles = 0.0, itertools.count()
        self.running, self.queue = {}, deque()
        self.begun_shards, self.most, self.stopped, self.told = Counter(), 0, [], []

    def room(self):
        return [self.rooms] if isinstance(self.rooms, int) else self.rooms

    def begin(self, shard):
        handle = next(self.handles)
        self.running[handle] = shard
        self.queue.append(handle)
        self.begun_shards[shard] += 1
        self.most = max(self.most, len(self.running))
        return handle

    def ended(self, attempts, *, within_s):
        assert set(attempts) == set(self.running)
        if not self.queue or not self.rooms:
            self.now += within_s
            return
        handle = self.queue.popleft()
        self.now += 0.01
        yield handle, self.ends(self.running.pop(handle))

    def stop(self, attempts):
        self.stopped = [*attempts]

    def later(self, result, pause_s):
        self.told.append((result.shard, pause_s))

    def drive(self, count=20, before=(), left_by=lambda _: 0, patience_s=600, unit=SHARD):
        asked = {"left_by": left_by, "patience_s": patience_s, "unit": unit}
        driver = Driver(self, count=count, done=before, clock=lambda: self.now, **asked)
        try:
            return driver.run(self)
        finally:
            self.figures = driver.figures


def test_every_shard_that_is_not_done_is_made_once_in_order_within_a_window():
    shelf = Shelf(room=3)
    figures = shelf.drive(count=50, before={0, 7, 49})
    assert [*shelf.begun_shards] == [one for one in range(50) if one not in {0, 7, 49}]
    assert set(shelf.begun_shards.values()) == {1}
    assert shelf.most == WINDOW * 3
    assert (figures.done, figures.before, figures.records) == (50, 3, 47 * RECORDS)
    assert figures.attempts == {"committed": 47}
    assert figures.endpoints == {"a": 47 * RECORDS}
    assert figures.nodes == {"n1": 47}


def test_a_run_that_is_done_hands_out_nothing():
    shelf = Shelf()
    assert shelf.drive(count=5, before=range(5)).done == 5
    assert not shelf.begun_shards


def test_shards_that_another_one_made_are_done_too():
    shelf = Shelf(ends=lambda shard: done(shard, "lost_race", 3) if shard % 2 else done(shard, "done_before", 0))
    assert shelf.drive(count=10).done == 10
    assert shelf.figures.records == 15


def test_a_shard_that_fails_waits_longer_each_time_and_the_others_go_on():
    fails = Counter()

    def ends(shard):
        fails[shard] += 1
        return failed(shard, "lost") if shard == 5 and fails[shard] < TRIES else done(shard)

    shelf = Shelf(ends=ends)
    assert shelf.drive().done == 20
    assert shelf.told == [(5, 1.0), (5, 2.0), (5, 4.0), (5, 8.0)]
    assert shelf.begun_shards[5] == TRIES
    assert 15 < shelf.now < 17


def test_a_shard_that_always_fails_is_given_up_and_named():
    shelf = Shelf(ends=lambda shard: failed(shard, why="poison") if shard in {2, 9} else done(shard))
    figures = shelf.drive()
    assert (figures.done, figures.given_up) == (18, {2: "poison", 9: "poison"})
    assert shelf.begun_shards[2] == TRIES
    assert figures.attempts == {"committed": 18, "failed": 2 * TRIES}


def test_a_shard_of_which_each_attempt_leaves_something_new_is_not_given_up():
    parts = Counter()

    def ends(shard):
        parts[shard] += 1
        return done(shard) if parts[shard] > 3 * TRIES else failed(shard, "lost")

    shelf = Shelf(ends=ends)
    assert shelf.drive(count=1, left_by=lambda shard: parts[shard]).done == 1
    assert {pause for _, pause in shelf.told} == {1.0}


def test_tasks_that_are_given_up_in_every_attempt_leave_their_shard_undone():
    shelf = Shelf(ends=lambda shard: done(shard, "incomplete", 0) if shard == 1 else done(shard))
    assert [*shelf.drive(count=3).given_up] == [1]


@pytest.mark.parametrize(
    ("how", "kind"),
    [("no_endpoint", ModelServerError), ("no_store", StorageError), ("no_sandbox", WorkerLostError)],
)
def test_where_every_machine_in_a_row_has_no_endpoint_or_no_store_the_run_ends(how, kind):
    shelf = Shelf(room=3, ends=lambda shard: done(shard) if shard < 4 else failed(shard, how, "gone for 600 s"))
    with pytest.raises(kind, match="gone for 600 s"):
        shelf.drive()
    assert shelf.figures.done == 4
    assert shelf.figures.attempts[how] == 3
    assert set(shelf.stopped) == set(shelf.running)
    assert not shelf.figures.given_up  # nothing is turned into errors


def test_a_machine_without_room_gives_shards_back_for_others_and_no_shard_is_given_up_for_that():
    turns = itertools.count()

    def ends(shard):  # of four at a time one is on the machine whose disk is full
        return failed(shard, "no_room", "no room in /trees") if next(turns) % 4 else done(shard)

    shelf = Shelf(room=4, ends=ends)
    figures = shelf.drive(count=30)
    assert (figures.done, figures.given_up) == (30, {})
    assert max(shelf.begun_shards.values()) > TRIES
    with pytest.raises(StorageError, match="no room in /trees"):
        Shelf(room=4, ends=lambda shard: failed(shard, "no_room", "no room in /trees")).drive()


@pytest.mark.parametrize("how", ["no_endpoint", "no_store", "no_room", "no_sandbox"])
def test_one_machine_that_lacks_something_and_says_so_again_and_again_ends_nothing_while_others_are_at_work(how):
    turns = itertools.count(1)

    def ends(shard):  # the other machine takes as long for a shard as this one for nine of its answers
        return failed(shard, how, node="broken") if next(turns) % 10 else done(shard)

    shelf = Shelf(room=[2, 2], ends=ends)
    figures = shelf.drive(count=30)
    assert (figures.done, figures.given_up) == (30, {})
    assert figures.nodes["broken"] > 4 * 30
    nodes = itertools.cycle(["broken", "n1"])
    with pytest.raises(AgentTraceError, match="it broke"):
        Shelf(room=[2, 2], ends=lambda shard: failed(shard, how, node=next(nodes))).drive()


def test_machines_that_lose_their_workers_as_they_go_end_nothing_where_others_come():
    said = itertools.count(1)
    shelf = Shelf(room=4)
    shelf.ends = lambda shard: failed(shard, "no_sandbox", node="going") if next(said) < 3 else done(shard)
    shelf.room = lambda: [] if shelf.begun_shards and shelf.now < 1 else [4]
    assert shelf.drive().done == 20


def test_one_machine_that_reaches_no_endpoint_does_not_end_the_run():
    fails = Counter()

    def ends(shard):
        fails[shard] += 1
        return failed(shard, "no_endpoint") if shard % 4 == 0 and fails[shard] == 1 else done(shard)

    assert Shelf(room=3, ends=ends).drive().done == 20


def test_a_machine_that_may_not_take_part_ends_the_run_at_once():
    shelf = Shelf(ends=lambda shard: failed(shard, "refused", "node b has ray 2.59.0, the driver 2.60.0"))
    with pytest.raises(UsageError, match=r"^node b has ray 2.59.0, the driver 2.60.0 \(node n1\)$"):
        shelf.drive()
    assert len(shelf.stopped) == 2 * 4 - 1


def test_an_interrupt_stops_what_runs():
    def ends(shard):
        if shard == 3:
            raise KeyboardInterrupt
        return done(shard)

    shelf = Shelf(room=2, ends=ends)
    with pytest.raises(KeyboardInterrupt):
        shelf.drive()
    assert shelf.figures.done == 3
    assert len(shelf.stopped) == 4


def test_without_any_room_it_waits_and_then_says_so():
    shelf = Shelf(room=0)
    with pytest.raises(AgentTraceError, match="for 60 s no machine had sandbox workers for a shard"):
        shelf.drive(patience_s=60)
    assert 60 <= shelf.now < 62
    late = Shelf(room=0)
    late.waiting = lambda waited_s: waited_s > 30 and setattr(late, "rooms", 2)
    assert late.drive(patience_s=60).done == 20


def test_what_no_machine_has_is_said_of_files_too():
    with pytest.raises(AgentTraceError, match=r"no machine had a processor for a file: add one$"):
        Shelf(room=0).drive(patience_s=60, unit=FILE)
    for unit, said in ((SHARD, "sandbox workers for a shard"), (FILE, "a processor for a file")):
        out = Console(file=io.StringIO(), width=100)
        RunDisplay(out, Figures(shards=1), unit=unit).waiting(0)
        assert out.file.getvalue() == f"no node has {said}; waiting for one\n"


def test_where_machines_go_the_window_shrinks_and_where_they_come_it_grows():
    shelf = Shelf(room=8)

    def ends(shard):
        shelf.rooms = 1 if shard < 40 else 5
        return done(shard)

    shelf.ends = ends
    assert shelf.drive(count=100).done == 100
    assert shelf.most == WINDOW * 8


def peak(count, **options):
    tracemalloc.start()
    shelf = Shelf(room=16)
    shelf.begin = _light(shelf)
    figures = shelf.drive(count=count, **options)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert figures.done == count
    return used


def _light(shelf):
    """Return what begins an attempt and keeps nothing of those that have ended."""

    def begin(shard):
        handle = next(shelf.handles)
        shelf.running[handle] = shard
        shelf.queue.append(handle)
        return handle

    return begin


@pytest.mark.slow
def test_a_million_shards_take_no_more_memory_than_ten_thousand():
    few, many = peak(10_000), peak(1_000_000)
    assert many - few < 200_000  # a bit for each shard
    assert many < 1_000_000


def test_ten_thousand_shards_some_of_which_fail_are_made():
    fails = Counter()

    def ends(shard):
        fails[shard] += 1
        return failed(shard, "lost") if shard % 100 == 0 and fails[shard] == 1 else done(shard)

    shelf = Shelf(room=64, ends=ends)
    assert shelf.drive(count=10_000).done == 10_000
    assert shelf.figures.attempts == {"committed": 10_000, "lost": 100}
