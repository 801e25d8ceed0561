"""What a machine says of an attempt that its own state ended."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest

from agenttrace.campaign.options import Options
from agenttrace.cluster import on_ray, orders
from agenttrace.cluster.attempts import OF_MACHINE, AttemptResult
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
