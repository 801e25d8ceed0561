"""What a machine says of an attempt that its own state ended."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from agenttrace.campaign.options import Options
from agenttrace.cluster import drive, objects, on_ray, orders
from agenttrace.cluster.attempts import OF_MACHINE, AttemptResult
from agenttrace.cluster.endpoints import Address
from agenttrace.cluster.nodetrees import NoRoomError
from agenttrace.errors import DataError, ModelServerError, StorageError, UsageError, WorkerLostError

pytestmark = pytest.mark.usefixtures("ray_here")


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (UsageError, "refused"),
        (ModelServerError, "no_endpoint"),
        (WorkerLostError, "no_sandbox"),
        (StorageError, "no_store"),
        (NoRoomError, "no_room"),
        (DataError, "failed"),
        (ZeroDivisionError, "failed"),
    ],
)
def test_what_ends_an_attempt_is_told_apart_and_one_that_fails_takes_its_time(monkeypatch, error, how):
    here, slept = on_ray.versions(), []

    def broken(*_, **__):
        raise error("it broke")

    monkeypatch.setattr(on_ray, "about", lambda: {"node": "n1", on_ray.AUTH_MODE: on_ray.TOKEN, **here})
    monkeypatch.setattr(on_ray, "seat_of", broken)
    monkeypatch.setattr(on_ray.time, "sleep", slept.append)
    order = msgspec.json.encode({"type": "make", "store": "s", "options": {}, "addresses": []})
    said = msgspec.json.decode(on_ray.make_there(order, 3, None, here, "a-driver-of-a-test"), type=AttemptResult)
    assert (said.shard, said.how, said.node) == (3, how, "n1")
    assert said.why.endswith("it broke")
    assert bool(slept and slept[0] > 10) == (how in OF_MACHINE | {"failed"})


@pytest.fixture
def on_a_node(monkeypatch):
    """Return what makes a shard as a node does, and what that comes to."""
    here = on_ray.versions()
    monkeypatch.setattr(on_ray, "about", lambda: {"node": "n1", on_ray.AUTH_MODE: on_ray.TOKEN, **here})
    monkeypatch.setattr(on_ray.time, "sleep", lambda _: None)

    def made(order):
        said = on_ray.make_there(msgspec.json.encode(order), 0, None, here, "a-driver-of-a-test")
        return msgspec.json.decode(said, type=AttemptResult)

    return made


def order_of(store, **options):
    chosen = Options(model="scripted", external=True, count=2, run_id="r1", **options)
    at = (Address("a", "http://127.0.0.1:9/v1"),)
    return orders.Order(store=str(store), options=chosen, addresses=at, patience_s=0)


def test_a_machine_that_does_not_share_the_folder_makes_nothing_there_and_gives_the_shard_back(on_a_node, tmp_path):
    with orders.seat_of(order_of(tmp_path / "shared")) as seat:
        mark = objects.mark(seat.run.store)
    with orders.seat_of(order_of(tmp_path / "earlier")):  # a run that was begun on that machine before
        pass
    for own in ("earlier", "empty"):  # under the same name, where it is not mounted
        said = on_a_node(msgspec.structs.replace(order_of(tmp_path / own), mark=mark))
        assert said.how == "no_store"
        assert f"--store {tmp_path}/{own} is another one on this machine than on the driver's" in said.why
    assert not [*(tmp_path / "empty").iterdir()]
    said = on_a_node(msgspec.structs.replace(order_of(tmp_path / "shared"), mark=mark))
    assert said.how == "no_endpoint"


def test_all_of_an_error_of_several_lines_comes_from_a_node(on_a_node, tmp_path):
    with orders.seat_of(order_of(tmp_path)):
        pass
    said = on_a_node(order_of(tmp_path, rollouts=3))
    assert said.how == "refused"
    assert "It differs in (asked for / in the store): dataset.rollouts: 3 / 1 Choose another --run-id." in said.why
    assert "\n" not in said.why


BEGIN_AS_ANOTHER = """
import os, sys, tempfile
from agenttrace.cluster import on_ray
tempfile.tempdir = sys.argv[1]
os.setuid(65534)
on_ray._at_work_for("mine").__enter__()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: there is another user then")
def test_what_works_for_others_on_the_machine_is_left_alone_also_where_it_cannot_be_looked_into():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # those of pytest are root's alone
        Path(folder).chmod(0o777)
        theirs = Path(folder, f"{on_ray._SEATS_OF}theirs", "1-2-x")
        theirs.mkdir(parents=True)
        theirs.chmod(0o700)
        os.utime(theirs.parent, (1, 1))
        words = [sys.executable, "-c", BEGIN_AS_ANOTHER, folder]
        ended = subprocess.run(words, cwd=Path(__file__).parents[2], capture_output=True, text=True)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert theirs.is_dir()
        assert len([*Path(folder).glob("*/*")]) == 2


def test_a_process_that_is_gone_at_once_keeps_its_place_for_a_while_and_one_that_lasted_does_not(monkeypatch):
    class GoneError(Exception):
        pass

    def gone(_):
        raise GoneError("The worker died unexpectedly. And more")

    now = [100.0]
    monkeypatch.setattr(on_ray, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=lambda _: None))
    names = iter("ab")
    ray = SimpleNamespace(
        exceptions=SimpleNamespace(RayError=GoneError, RayTaskError=ZeroDivisionError),
        get=gone,
        remote=lambda **_: lambda _: SimpleNamespace(remote=lambda *_: next(names)),
        wait=lambda found, **_: (found, []),
    )
    machines = on_ray.RayMachines(ray, orders.Order(store="s", options=Options(), addresses=()))
    running = {machines.begin(shard): shard for shard in (3, 4)}
    now[0] += 2
    assert [*machines.ended([*running], within_s=1)] == []
    now[0] += 14
    found = [*machines.ended([*running], within_s=1)]
    assert [(running[one], result.shard, result.how) for one, result in found] == [(3, 3, "lost"), (4, 4, "lost")]
    assert found[0][1].why == "its process is gone (GoneError: The worker died unexpectedly)"
    names = iter("c")
    late = machines.begin(5)
    now[0] += 16
    assert [(one, result.how) for one, result in machines.ended([late], within_s=1)] == [(late, "lost")]


def test_a_node_has_room_for_as_many_shards_as_its_sandbox_workers_suffice_for_and_each_has_its_share():
    given = []
    found = [(True, 5.0), (True, 2.0), (True, 1.0), (True, 0.0), (False, 9.0)]
    nodes = [{"Alive": alive, "Resources": {"CPU": 9.0, orders.RESOURCE: count}} for alive, count in found]
    task = SimpleNamespace(remote=lambda *words: given.append(words))
    ray = SimpleNamespace(nodes=lambda: nodes, remote=lambda **_: lambda _: task)
    order = orders.Order(store="s", options=Options(), addresses=(), workers=2, in_flight=9)
    machines = on_ray.RayMachines(ray, order)
    assert machines.room() == [2, 1]
    machines.begin(7)
    assert given[0][1:3] == (7, 9 // 3)


def test_a_driver_tells_machines_by_what_they_know_its_store(monkeypatch, tmp_path):
    nodes = [{"Alive": True, "Resources": {orders.RESOURCE: 2.0}}]
    ray = SimpleNamespace(nodes=lambda: nodes, remote=lambda **_: lambda _: None)
    monkeypatch.setattr(drive, "connect", lambda _: ray)
    made = drive.Drive(order_of(tmp_path), "auto", workers=None)
    told = msgspec.json.decode(made._driver._machines._order, type=orders.Order)
    assert told.mark == objects.mark(made.run.store) != ""
