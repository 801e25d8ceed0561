"""What a machine says of an attempt that its own state ended."""

from __future__ import annotations

import msgspec
import pytest

pytest.importorskip("ray", reason="needs Ray: it is in requirements/tests.txt")

from agenttrace.cluster import on_ray
from agenttrace.cluster.attempts import OF_MACHINE, AttemptResult
from agenttrace.cluster.nodetrees import NoRoomError
from agenttrace.errors import DataError, ModelServerError, StorageError, UsageError, WorkerLostError


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
