"""Parts and manifests: what counts, what resumes, who wins, and what is said of damage."""

from __future__ import annotations

import time

import msgspec
import pytest

from agenttrace.cluster.manifest import CASSETTE, RECORDS, cassette, damage, every_record, read_manifest, records
from agenttrace.cluster.objects import Store
from agenttrace.cluster.runs import begin_run, open_run
from agenttrace.errors import DataError, StorageError, UsageError
from agenttrace.records import Trace, digest
from agenttrace.serving.cassette import Cassette


def names(run, ending):
    return sorted(name for name in run.store.names(run.spec.run_id) if name.endswith(ending))


def change(run, name, data):
    """Put other bytes under a name, behind the back of the store's client."""
    obstore = pytest.importorskip("obstore")
    obstore.put(run.store._store, name, data, mode="overwrite")


def test_a_shard_is_parts_of_sixteen_records_and_one_manifest(run, plan, work, tmp_path):
    with work(0) as attempt:
        assert attempt.make() == 20
        assert attempt.log.commit() == "committed"
    manifest = read_manifest(run, 0)
    assert [part.records for part in manifest.parts] == [16, 4]
    assert manifest.lines == (*((0, line) for line in range(16)), *((1, line) for line in range(4)))
    assert run.done() == {0}
    found = records(run, manifest)
    assert [one.trace_id for one in found] == [plan.trace_id(job) for job in attempt.plan.jobs()]
    assert msgspec.json.decode(found[3].line, type=Trace).trace_id == found[3].trace_id


def test_a_part_has_the_replies_of_its_records_as_a_cassette_of_its_own(run, plan, work, tmp_path, made_up):
    with work(1, facts={"sandbox": ["bash 5"]}) as attempt:
        attempt.make()
        attempt.log.commit()
    manifest = read_manifest(run, 1)
    jobs = {plan.trace_id(job): job for job in attempt.plan.jobs()}
    found = 0
    for part in manifest.parts:
        path = tmp_path / "part.cassette.zst"
        path.write_bytes(cassette(run, manifest, part))
        tape = Cassette(path)
        assert (tape.run_spec_sha256, tape.facts, tape.damage) == (run.spec_sha256, {"sandbox": ["bash 5"]}, [])
        for trace_id in tape.trace_ids:
            assert tape.turns(trace_id) == made_up.turns(plan, jobs[trace_id])
            found += 1
    assert found == 20


def test_records_of_all_shards_are_in_the_order_of_the_plan(run, plan, work):
    for shard in (2, 0, 1):
        with work(shard) as attempt:
            attempt.make()
            assert attempt.log.commit() == "committed"
    assert [one.trace_id for one in every_record(run)] == [plan.trace_id(job) for job in plan.jobs()]


def test_what_no_manifest_names_does_not_count_and_is_taken_up_by_the_next_attempt(run, work):
    with work(0) as attempt:
        attempt.make(17)
        assert attempt.log.commit() == "incomplete"
    assert (run.done(), list(every_record(run))) == (set(), [])
    with work(0) as attempt:
        assert attempt.make() == 3
        assert attempt.log.commit() == "committed"
    assert len(names(run, RECORDS)) == 3
    assert len(list(every_record(run))) == 20


def test_of_attempts_at_once_one_wins_and_the_others_are_told(run, plan, work):
    attempts = [work(0, by=name) for name in "abc"]
    for attempt in attempts:
        attempt.make(10)
    for attempt in attempts:  # what another made meanwhile is not looked for again
        attempt.make()
    ends = [attempt.log.commit() for attempt in attempts]
    for attempt in attempts:
        attempt.__exit__(None, None, None)
    assert ends == ["committed", "lost_race", "lost_race"]
    found = [msgspec.json.decode(one.line, type=Trace) for one in every_record(run)]
    assert [one.trace_id for one in found] == [plan.trace_id(job) for job in attempts[0].plan.jobs()]
    assert {one.environment["by"] for one in found} == {"a"}


def test_a_record_and_its_replies_are_of_one_attempt_also_where_several_made_it(run, plan, work, tmp_path):
    zombie = work(2, by="zombie")
    zombie.make()
    with work(2, by="second") as second:
        second.make()
    zombie.__exit__(None, None, None)  # its part comes after those of the second one
    with work(2, by="third") as third:
        assert third.make() == 0
        assert third.log.commit() == "committed"
    manifest = read_manifest(run, 2)
    for one in records(run, manifest):
        by = msgspec.json.decode(one.line, type=Trace).environment["by"]
        path = tmp_path / "part.cassette.zst"
        path.write_bytes(cassette(run, manifest, one.part))
        assert Cassette(path).turns(one.trace_id)[0].result["content"].endswith(f" {by}")


def test_a_commit_whose_answer_was_lost_is_no_lost_race(s3, plan, work, run_on):
    run = run_on("s3://bucket/x")
    with work(2, run=run) as attempt:
        attempt.make()
        attempt.log.flush()
        s3.cut_answers = 1
        assert attempt.log.commit() == "committed"


def test_records_that_wait_become_a_part_after_a_while(run, work):
    with work(0, part_seconds=0.2) as attempt:
        attempt.make(3)
        until = time.monotonic() + 20
        while not names(run, RECORDS) and time.monotonic() < until:
            time.sleep(0.05)
        assert len(names(run, RECORDS)) == 1
        attempt.make(1)


def test_an_error_of_the_campaign_leaves_what_was_finished(run, work):
    def broken():
        with work(0) as attempt:
            attempt.make(3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    with work(0) as attempt:
        assert attempt.make() == 17


def test_attempts_that_failed_lie_apart_and_never_count(run, plan, work, made_up):
    with work(2) as attempt:
        job = next(iter(attempt.plan.jobs()))
        attempt.log.spoilt.append(plan.trace_id(job), made_up.trace(plan, job, ended="model_error"))
        assert (len(attempt.log.spoilt.ids), len(attempt.log.ids)) == (1, 0)
        attempt.make()
        attempt.log.commit()
    assert [name.split("/")[1] for name in names(run, RECORDS)] == ["parts", "spoilt"]
    assert len(list(every_record(run))) == 2


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:40] + b"xx" + data[42:], lambda _: b""])
@pytest.mark.parametrize("ending", [RECORDS, CASSETTE])
def test_a_torn_part_of_an_earlier_attempt_is_named_and_its_records_are_made_again(run, work, damage, ending):
    with work(0) as attempt:
        attempt.make(18)
    torn = names(run, ending)[0]
    change(run, torn, damage(run.store.get(torn)))
    with work(0) as attempt:
        (told,) = attempt.log.unusable
        assert torn.removesuffix(ending) in told
        assert told.endswith("its records are made again")
        assert attempt.make() in {4, 18}  # its 2 or 16 and the 2 that were never made
        assert attempt.log.commit() == "committed"
    assert len(list(every_record(run))) == 20


@pytest.mark.parametrize("ending", [RECORDS, CASSETTE])
def test_a_damaged_part_that_a_manifest_names_is_told_with_what_to_do(run, work, ending):
    with work(2) as attempt:
        attempt.make()
        attempt.log.commit()
    (name,) = names(run, ending)
    data = run.store.get(name)
    change(run, name, data[:-1])
    manifest = read_manifest(run, 2)

    def read():
        for one in records(run, manifest):
            cassette(run, manifest, one.part)

    with pytest.raises(DataError) as told:
        read()
    assert str(told.value).startswith(f"{run.store.url}/{name} has another digest")
    assert "remove the manifest of shard 2 (r1/done/00000/00000002.json) and run the shard again" in str(told.value)
    pytest.importorskip("obstore").delete(run.store._store, name)
    with pytest.raises(DataError, match="is not there; restore it"):
        read()


@pytest.mark.parametrize("ending", [RECORDS, CASSETTE])
def test_a_part_that_has_grown_is_not_read(run, work, ending):
    with work(2) as attempt:
        attempt.make()
        attempt.log.commit()
    (name,) = names(run, ending)
    size = run.store.size(name)
    change(run, name, run.store.get(name) + b"x")
    (told,) = damage(run)
    assert f"{name} has more than the {size} bytes that it was made with; restore it, or remove" in told


def test_a_part_larger_than_any_of_an_earlier_attempt_is_named_and_its_records_are_made_again(run, work, monkeypatch):
    with work(0) as attempt:
        attempt.make(3)
    monkeypatch.setattr("agenttrace.cluster.parts.MOST_BYTES", 100)
    with work(0) as attempt:
        (told,) = attempt.log.unusable
        assert "has more than 100 bytes and was not read; restore or remove it; its records are made again" in told
        assert attempt.make() == 20


def test_a_shard_whose_manifest_was_removed_is_made_whole_again(run, plan, work):
    with work(0) as attempt:
        attempt.make()
        attempt.log.commit()
    damaged = names(run, CASSETTE)[0]
    change(run, damaged, b"gone")
    pytest.importorskip("obstore").delete(run.store._store, run.manifest(0))
    with work(0) as attempt:
        assert attempt.make() in {4, 16}
        assert attempt.log.commit() == "committed"
    manifest = read_manifest(run, 0)
    assert [one.trace_id for one in records(run, manifest)] == [plan.trace_id(job) for job in attempt.plan.jobs()]
    assert damaged.rpartition("/")[2].removesuffix(CASSETTE) not in {part.name for part in manifest.parts}


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 100_000, b"\xff", b'{"shard": 2'])
def test_a_damaged_manifest_is_told(run, work, data):
    with work(2) as attempt:
        attempt.make()
        attempt.log.commit()
    change(run, run.manifest(2), data)
    with pytest.raises(DataError, match=r"r1/done/00000/00000002\.json is no manifest"):
        list(every_record(run))


@pytest.mark.parametrize(
    "fields",
    [
        {"lines": ((0, 5),)}, {"lines": ((3, 0),)}, {"lines": ((0, -2), (0, -1))}, {"lines": ((-1, 0), (-1, 1))},
        {"lines": ((0, 1), (0, 0))}, {"ids_sha256": "0"}, {"lines": ((0, 0),), "ids_sha256": ""},
        {"lines": (), "parts": (), "ids_sha256": digest([])},
    ],
)  # fmt: skip
def test_a_manifest_that_was_edited_is_told(run, work, fields):
    with work(2) as attempt:
        attempt.make()
        attempt.log.commit()
    edited = msgspec.structs.replace(read_manifest(run, 2), **fields)
    change(run, run.manifest(2), msgspec.json.encode(edited))
    with pytest.raises(DataError, match=r"names (lines that are no records|other records than those|\d records? of 2)"):
        list(every_record(run))


@pytest.mark.parametrize("odd", ["../../x", "/x", "a/b", "", "A" * 32, "0" * 31, "0" * 300])
def test_a_manifest_or_an_object_with_an_odd_name_makes_no_file_of_it(run, work, odd, tmp_path):
    with work(2) as attempt:
        attempt.make()
        attempt.log.commit()
    manifest = read_manifest(run, 2)
    (part,) = manifest.parts
    edited = msgspec.structs.replace(manifest, parts=(msgspec.structs.replace(part, name=odd),))
    change(run, run.manifest(2), msgspec.json.encode(edited))
    with pytest.raises(DataError, match="which is no part; restore it, or remove the manifest of shard 2"):
        read_manifest(run, 2)


def test_an_object_among_the_parts_that_is_none_is_named_and_left_alone(run, work):
    with work(0) as attempt:
        attempt.make(3)
    name = names(run, RECORDS)[0]
    for ending in (RECORDS, CASSETTE):
        data = run.store.get(name.removesuffix(RECORDS) + ending)
        run.store.create(f"{run.parts(0)}/x{ending}", data)
    with work(0) as attempt:
        (told,) = attempt.log.unusable
        assert told.endswith(f"{run.parts(0)}/x.jsonl.zst is none of the kit's; its records are made again")
        assert attempt.make() == 17


def test_the_manifest_of_another_run_is_told(run, work):
    with work(2) as attempt:
        attempt.make()
        attempt.log.commit()
    other = msgspec.structs.replace(read_manifest(run, 2), run_spec_sha256="0" * 64)
    change(run, run.manifest(2), msgspec.json.encode(other))
    with pytest.raises(DataError, match="is of another format, shard or run spec"):
        read_manifest(run, 2)


def test_a_store_that_fills_up_keeps_what_was_made_and_the_rest_is_made_later(s3, run_on, work):
    run = run_on("s3://bucket/x", patience_s=1)

    def filled():
        with work(0, run=run) as attempt:
            attempt.make(16)
            s3.refuse_put = 507
            attempt.make()

    with pytest.raises(StorageError, match="the store is full"):
        filled()
    s3.refuse_put = 0
    with work(0, run=run) as attempt:
        assert attempt.make() == 4
        assert attempt.log.commit() == "committed"


def test_a_part_that_could_not_be_made_is_made_by_the_next_try(s3, run_on, work):
    run = run_on("s3://bucket/x", patience_s=1)
    with work(2, run=run) as attempt:
        attempt.make()
        s3.refuse_put = 403
        with pytest.raises(StorageError, match="refuses it"):
            attempt.log.commit()
        s3.refuse_put = 0
        assert attempt.log.commit() == "committed"


def test_a_store_that_refuses_later_than_the_last_record_stops_the_attempt_at_the_next(s3, run_on, work):
    run = run_on("s3://bucket/x", patience_s=1)
    attempt = work(0, run=run, part_seconds=0.1)
    attempt.make(1)
    s3.refuse_put = 403

    def go_on():
        for _ in range(100):
            attempt.make(1)
            time.sleep(0.1)

    with pytest.raises(StorageError, match="refuses it"):
        go_on()
    s3.refuse_put = 0
    attempt.__exit__(None, None, None)


def test_a_run_is_the_same_for_all_who_begin_it(run, store, plan):
    again = begin_run(store, plan.spec, shard_rollouts=20)
    assert (again.spec, again.shards) == (run.spec, run.shards)
    assert open_run(store, "r1").spec_sha256 == plan.spec_sha256


def test_another_run_spec_under_the_same_id_is_refused_with_the_differences(run, store, plan):
    sampler = msgspec.structs.replace(plan.spec.sampler, seed=99)
    other = msgspec.structs.replace(plan.spec, sampler=sampler, collector_version="0.0.1")
    with pytest.raises(UsageError) as told:
        begin_run(store, other, shard_rollouts=50)
    lines = str(told.value).splitlines()
    assert lines[0].startswith(f"run id r1: {store.url}/r1 is a run with another run spec; nothing was made.")
    assert any(line.startswith("  sampler.seed") for line in lines)
    assert any(line.startswith("  collector_version") for line in lines)  # of the kit, on another node
    assert "  rollouts of a shard: 50 / 20" in lines
    assert lines[-1] == "Choose another --run-id."


def test_a_run_that_is_not_there_is_told(store):
    with pytest.raises(UsageError, match="has no such run"):
        open_run(store, "r2")


@pytest.mark.parametrize("data", [b"", b"[]", b'{"a":"\xff"}', b'{"a":' * 100_000])
def test_what_is_no_word_of_a_first_server_is_told(run, data):
    run.store.create("r1/server.json", data)
    with pytest.raises(DataError, match=r"r1/server\.json: not what a model server says"):
        run.first_server({})


@pytest.mark.parametrize("data", [b"", b"{}", b'{"format": "x"}'])
def test_a_damaged_run_file_is_told(store, plan, data):
    store.create("r1/run.json", data)
    with pytest.raises(DataError, match=r"r1/run\.json: not the file of a run"):
        begin_run(store, plan.spec, shard_rollouts=20)


@pytest.mark.parametrize("change_to", [b'"count":0', b'"count":-6', b'"count":60000000000'])
def test_a_run_file_of_no_run_or_of_any_size_is_told(run, store, change_to):
    change(run, "r1/run.json", store.get("r1/run.json").replace(b'"count":6', change_to))
    with pytest.raises(DataError, match=r"r1/run\.json: -?\d+ tasks(,| with) 7 rollouts"):
        open_run(store, "r1")


def test_a_run_of_another_format_is_told(run, store):
    change(run, "r1/run.json", store.get("r1/run.json").replace(b"agenttrace-cluster-1", b"agenttrace-cluster-9"))
    with pytest.raises(DataError, match="of another format"):
        open_run(store, "r1")


def test_what_others_put_among_the_manifests_is_no_shard(run):
    for name in ("readme.txt", "00000/00000099.json", "00000/x.json", "00000/1.json", "00001/00000001.json"):
        run.store.create(f"r1/done/{name}", b"")
    assert run.done() == set()


def test_a_store_that_refuses_to_be_listed_is_told(s3, run_on):
    run = run_on("s3://bucket/x", patience_s=1)
    s3.refuse = 403
    with pytest.raises(StorageError, match="cannot list r1/done/00000: the store refuses it"):
        run.done()
    assert isinstance(run.store, Store)
