"""What no manifest names is said, and removed only where that is asked for; everything that counts stays."""

from __future__ import annotations

import json
import threading

import pytest

from agenttrace.cluster import manifest
from agenttrace.cluster.clean import unnamed
from agenttrace.cluster.manifest import damage
from agenttrace.cluster.objects import Store


@pytest.fixture
def littered(run, work):
    """Return a run with shard 0 made by two attempts, of which one lost, shard 1 begun, and shard 2 done."""
    with work(0, by="a", part_records=7) as one, work(0, by="b", part_records=9) as other:
        one.make()
        other.make()
        other.log.commit()
        assert one.log.commit() == "lost_race"
    with work(1, part_records=4) as begun:
        begun.make(9)
    with work(2) as done:
        done.make()
        done.log.commit()
    run.store.create(f"{run.spoilt(0)}/x.jsonl.zst", b"x")
    run.store.create(f"{run.parts(0)}/half.cassette.zst", b"xyz")  # of an attempt that was killed between its halves
    return run


def test_only_parts_of_done_shards_that_their_manifests_do_not_name_are_found(littered):
    found = list(unnamed(littered, tell=pytest.fail))
    names = {one.name for one in found}
    assert len(names) == len(found) == 2 * 3 + 1  # 20 records in parts of 7, each with its cassette
    assert all(name.startswith(f"{littered.parts(0)}/") for name in names)
    assert {one.name: one.bytes for one in found}[f"{littered.parts(0)}/half.cassette.zst"] == 3
    assert all(littered.store.size(one.name) == one.bytes for one in found)


def test_it_is_said_first_and_removed_where_that_is_asked_for(littered, url, agenttrace, work):
    def ask(*more):
        ended = agenttrace("cluster", "clean", "--store", url, "--run-id", "r1", "--json", *more)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    before = {*littered.store.names("r1")}
    found = ask()
    assert (found["objects"], found["removed"]) == (7, False)
    assert {*littered.store.names("r1")} == before
    assert ask("--yes") == {**found, "removed": True}
    after = {*littered.store.names("r1")}
    assert (len(before - after), after - before) == (7, set())
    assert list(damage(littered)) == []
    assert ask("--yes")["objects"] == 0
    with work(1) as goes_on:  # what was begun is there
        assert goes_on.make() == 11
        assert goes_on.log.commit() == "committed"


def test_a_manifest_that_names_what_is_not_there_as_it_was_made_leaves_its_shard_alone(littered, url, agenttrace):
    name = littered.manifest(0)
    named = json.loads(littered.store.get(name))
    part = named["parts"][0]
    for change in ({"name": "0" * 32}, {"cassette_bytes": part["cassette_bytes"] - 1}):
        littered.store.remove([name])
        littered.store.create(name, json.dumps({**named, "parts": [{**part, **change}, *named["parts"][1:]]}).encode())
        before = {*littered.store.names("r1")}
        ended = agenttrace("cluster", "clean", "--store", url, "--run-id", "r1", "--yes")
        assert (ended.returncode, "so nothing of shard 0 is removed" in ended.stdout) == (1, True)
        assert {*littered.store.names("r1")} == before


def test_objects_of_others_stay_where_a_store_lists_more_than_it_is_asked_for(s3, run_on, work):
    run = run_on("s3://bucket/x")
    with work(2, run=run) as attempt:
        attempt.make()
        attempt.log.commit()
    half = f"{run.parts(2)}/half.cassette.zst"
    run.store.create(half, b"x")
    Store("s3://bucket/x").create("r2/run.json", b"another run's")
    Store("s3://bucket/y").create("r1/run.json", b"another store's")
    s3.lists_all = True
    assert [one.name for one in unnamed(run, tell=pytest.fail)] == [half]
    assert run.done() == {2}


def test_a_manifest_that_is_damaged_leaves_its_shard_alone_and_no_other(littered, url, agenttrace):
    name = littered.manifest(0)
    littered.store.remove([name])
    littered.store.create(name, b"{}")
    before = {*littered.store.names("r1")}
    half = f"{littered.parts(2)}/half.cassette.zst"
    littered.store.create(half, b"x")
    ended = agenttrace("cluster", "clean", "--store", url, "--run-id", "r1", "--yes")
    assert ended.returncode == 1
    assert "1 object of 1 bytes that no manifest names removed" in ended.stdout
    assert f"left alone: {littered.store.url}/{name} is no manifest" in ended.stdout
    assert {*littered.store.names("r1")} == before


def test_shards_are_read_side_by_side_to_see_what_is_damaged(whole, monkeypatch):
    meeting, read = threading.Barrier(3), manifest.read_manifest

    def met(run, shard):
        meeting.wait(timeout=10)
        return read(run, shard)

    monkeypatch.setattr(manifest, "read_manifest", met)
    assert list(damage(whole)) == []
