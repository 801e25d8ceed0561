"""A run's records as compacted files in the store: each made once by whoever comes first, whole whatever happens."""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agenttrace.cluster import gather as gather_module
from agenttrace.cluster.gather import Gatherer, GatherOrder
from agenttrace.cluster.objects import Store
from agenttrace.errors import DataError, StorageError
from agenttrace.records import digest
from agenttrace.store.compact import Compacted
from agenttrace.store.jsonl import replacing
from agenttrace.store.read import read_run_spec, read_traces

ROOT = Path(__file__).parents[2]
LIST = "r1/gathered/GATHERED.json"
FILES = ["00000000-00000000", "00000001-00000001", "00000002-00000002"]


@pytest.fixture
def gather(agenttrace, url):
    def ask(*more, rows=20):
        return agenttrace("cluster", "gather", "--store", url, "--run-id", "r1", "--rows-per-file", rows, *more)

    return ask


@pytest.fixture
def gatherer(url):
    return lambda rows=20: Gatherer(GatherOrder(store=url, run_id="r1", rows=rows))


def objects(run):
    return {name: run.store.get(name) for name in run.store.names("r1/gathered")}


def remove(run, *names):
    run.store.remove([f"r1/gathered/{name}" for name in names])


def test_a_run_is_gathered_once_in_the_order_of_the_plan_and_listed_with_its_digests(whole, plan, gather, tmp_path):
    ended = gather("--json")
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout)
    found = objects(whole)
    assert sorted(found) == sorted(
        [LIST, *(f"r1/gathered/{name}{end}" for name in FILES for end in (".json", ".jsonl.zst"))]
    )
    listed = json.loads(found[LIST])
    assert said == listed
    assert listed["records"] == 42
    assert [(one["name"], one["shards"], one["records"]) for one in listed["files"]] == [
        (f"{name}.jsonl.zst", [shard, shard], count)
        for shard, (name, count) in enumerate(zip(FILES, (20, 20, 2), strict=True))
    ]
    data = [found[f"r1/gathered/{one['name']}"] for one in listed["files"]]
    assert [(one["bytes"], one["sha256"]) for one in listed["files"]] == [
        (len(one), hashlib.sha256(one).hexdigest()) for one in data
    ]
    assert listed["sha256"] == digest([one["sha256"] for one in listed["files"]])
    assert listed["bytes"] == sum(map(len, data))
    ids = []
    for number, one in enumerate(data):
        path = tmp_path / f"{number}.jsonl.zst"
        path.write_bytes(one)
        ids += [trace.trace_id for trace in read_traces(path)]
    assert sorted(ids) == sorted(plan.trace_id(job) for job in plan.jobs())
    again = gather("--json")
    assert (again.returncode, again.stdout) == (0, ended.stdout)
    assert "[1/3]" not in again.stderr
    assert objects(whole) == found


def test_all_records_come_as_one_file(whole, plan, gather, agenttrace, url, tmp_path):
    file = tmp_path / "all.jsonl.zst"
    ended = gather("-o", file)
    assert ended.returncode == 0, ended.stderr
    size = sum(len(one) for name, one in objects(whole).items() if name.endswith(".zst"))
    assert f"42 records in 3 files of {size} bytes, brought as {file}" in ended.stdout
    assert {path.name for path in tmp_path.glob("*all*")} == {"all.jsonl.zst", "all.run.json"}
    assert read_run_spec(tmp_path / "all.run.json") == plan.spec
    with Compacted(file) as opened:
        opened.check()
        assert opened.records == 42
        for job in plan.jobs():
            assert opened.get(plan.trace_id(job)).metadata == plan.metadata(job)
    ended = agenttrace("cluster", "merge", "--store", url, "--run-id", "r1", "-o", tmp_path / "m.jsonl")
    assert ended.returncode == 0, ended.stderr
    merged = {trace.trace_id: trace for trace in read_traces(tmp_path / "m.jsonl")}
    assert {trace.trace_id: trace for trace in read_traces(file)} == merged
    ended = gather("-o", file)
    assert (ended.returncode, "all.jsonl.zst is there already" in ended.stderr) == (2, True)


def test_that_file_is_read_by_statistics_and_report(analysis_here, whole, gather, agenttrace, tmp_path):
    file = tmp_path / "all.jsonl.zst"
    assert gather("-o", file).returncode == 0
    stats = agenttrace("stats", file, "--json")
    assert stats.returncode == 0, stats.stderr
    assert json.loads(stats.stdout)["statistics"]["rollouts"] == 42
    assert agenttrace("report", file, "-o", tmp_path / "r.html").returncode == 0
    assert (tmp_path / "r.html").stat().st_size > 10_000


def test_the_files_of_a_folder_are_read_as_they_lie(analysis_here, run_on, work, agenttrace, tmp_path):
    run = run_on(str(tmp_path / "here"))
    for shard in range(3):
        with work(shard, run=run) as attempt:
            attempt.make()
            attempt.log.commit()
    words = ["--store", tmp_path / "here", "--run-id", "r1", "--rows-per-file", "20"]
    assert agenttrace("cluster", "gather", *words).returncode == 0
    files = sorted((tmp_path / "here" / "r1" / "gathered").glob("*.jsonl.zst"))
    assert len(files) == 3
    assert agenttrace("report", *files, "-o", tmp_path / "r.html").returncode == 0
    for file, count in zip(files, (20, 20, 2), strict=True):
        ended = agenttrace("stats", file, "--json")
        assert ended.returncode == 0, ended.stderr
        assert json.loads(ended.stdout)["statistics"]["rollouts"] == count


def test_a_run_that_is_not_whole_is_not_gathered_and_its_shards_are_named(run, work, gather):
    with work(1) as attempt:
        attempt.make()
        attempt.log.commit()
    ended = gather()
    assert ended.returncode == 4
    assert "2 shards of 3 not done: 0, 2" in ended.stdout
    assert (
        "nothing was gathered: that is for a run that is whole; agenttrace cluster merge writes what there is"
        in ended.stdout
    )
    assert json.loads(gather("--json").stdout) == {"missing": [0, 2]}
    assert objects(run) == {}


def test_a_damaged_part_is_named_and_what_is_whole_is_gathered_and_kept(whole, gather):
    name = next(name for name in sorted(whole.store.names(whole.parts(1))) if name.endswith(".jsonl.zst"))
    kept = whole.store.get(name)
    whole.store.remove([name])
    whole.store.create(name, kept[:-7])
    ended = gather()
    assert ended.returncode == 1
    assert f"{name} has another digest" in ended.stderr
    assert "remove the manifest of shard 1" in ended.stderr
    before = objects(whole)
    assert sorted(before) == [f"r1/gathered/{FILES[0]}.json", f"r1/gathered/{FILES[0]}.jsonl.zst"]
    whole.store.remove([name])
    whole.store.create(name, kept)
    ended = gather()
    assert ended.returncode == 0
    assert "[1/3]" not in ended.stderr
    assert "[3/3]" in ended.stderr
    assert before.items() <= objects(whole).items()


def test_of_attempts_at_once_at_every_file_all_find_the_same(whole, gatherer):
    start = threading.Barrier(4)

    def one(_):
        mine = gatherer()
        start.wait()
        return [mine.make(number).end for number in range(3)], mine.finish()

    with ThreadPoolExecutor(4) as pool:
        ends, lists = zip(*pool.map(one, range(4)), strict=True)
    assert len({str(found) for found in lists}) == 1
    assert {end for each in ends for end in each} <= {"committed", "lost_race", "done_before"}
    assert len(objects(whole)) == 7


def test_what_a_killed_attempt_left_is_used_where_it_is_whole_and_named_where_it_is_not(whole, gather, gatherer):
    assert gather().returncode == 0
    found = objects(whole)
    remove(whole, "GATHERED.json", f"{FILES[1]}.json")
    assert gather().returncode == 0
    assert objects(whole) == found
    remove(whole, "GATHERED.json", f"{FILES[1]}.json", f"{FILES[1]}.jsonl.zst")
    torn = found[f"r1/gathered/{FILES[1]}.jsonl.zst"][:-20]
    whole.store.create(f"r1/gathered/{FILES[1]}.jsonl.zst", torn)
    ended = gather()
    assert ended.returncode == 1
    assert f"{FILES[1]}.jsonl.zst is another file than is made here" in ended.stderr
    remove(whole, f"{FILES[1]}.jsonl.zst")
    assert gather().returncode == 0
    assert objects(whole) == found
    remove(whole, f"{FILES[2]}.json")
    whole.store.create(f"r1/gathered/{FILES[2]}.json", b"{")
    with pytest.raises(DataError, match=rf"{FILES[2]}.json is damaged"):
        gatherer().finish()


def test_a_gathered_file_that_was_damaged_since_is_not_brought(whole, gather, tmp_path):
    assert gather().returncode == 0
    name = f"r1/gathered/{FILES[1]}.jsonl.zst"
    kept = whole.store.get(name)
    remove(whole, f"{FILES[1]}.jsonl.zst")
    file = tmp_path / "all.jsonl.zst"
    ended = gather("-o", file)
    assert (ended.returncode, f"{name} is not there" in ended.stderr) == (1, True)
    whole.store.create(name, kept[:-1] + b"x")
    ended = gather("-o", file)
    assert (ended.returncode, f"{name} has another digest" in ended.stderr) == (1, True)
    assert not list(tmp_path.glob("*all*"))


@pytest.mark.parametrize(
    ("rows", "left", "said"), [(20, (0,), 14), (20, (2,), 14), (28, (0,), 28), (28, (1,), 14), (28, (0, 1), 28)]
)
def test_a_run_that_was_gathered_otherwise_also_in_part_is_refused_before_anything_is_made(
    whole, gather, gatherer, rows, left, said
):
    for number in left:
        gatherer(rows).make(number)
    before = objects(whole)
    ended = gather(rows=1000)
    assert ended.returncode == 2
    assert f"go on with --rows-per-file {said}, which makes them" in ended.stderr
    assert objects(whole) == before
    assert gather(rows=said).returncode == 0
    assert before.items() <= objects(whole).items()
    assert gather(rows=0).returncode == 2


def test_files_have_as_many_records_as_the_module_says_where_nobody_does(whole, agenttrace, url, monkeypatch):
    monkeypatch.setattr(gather_module, "ROWS", 28)
    ended = agenttrace("cluster", "gather", "--store", url, "--run-id", "r1", "--json")
    assert [one["shards"] for one in json.loads(ended.stdout)["files"]] == [[0, 1], [2, 2]]


def test_a_list_of_other_files_is_named(whole, gather):
    whole.store.create(LIST, b"{}")
    ended = gather()
    assert ended.returncode == 1
    assert f"{LIST} lists other files than are there; remove it" in ended.stderr


@pytest.mark.parametrize(
    "change", [{"name": "00000000-00000000.jsonl.zst"}, {"name": "../../elsewhere"}, {"shards": [0, 1]}]
)
def test_a_description_of_another_file_is_not_believed(whole, gather, change):
    assert gather().returncode == 0
    name = f"r1/gathered/{FILES[1]}.json"
    said = {**json.loads(whole.store.get(name)), **change}
    remove(whole, "GATHERED.json", f"{FILES[1]}.json")
    whole.store.create(name, json.dumps(said).encode())
    ended = gather()
    assert ended.returncode == 1
    assert f"{name} describes another file; remove it" in ended.stderr
    assert LIST not in objects(whole)


@pytest.mark.parametrize("records", [0, 19, -5, 21])
def test_a_description_of_fewer_or_more_records_than_there_are_is_not_believed(whole, gather, records):
    assert gather().returncode == 0
    name = f"r1/gathered/{FILES[1]}.json"
    said = {**json.loads(whole.store.get(name)), "records": records}
    remove(whole, "GATHERED.json", f"{FILES[1]}.json")
    whole.store.create(name, json.dumps(said).encode())
    ended = gather()
    assert (ended.returncode, f"{name} describes {records} records of 20; remove it" in ended.stderr) == (1, True)
    assert LIST not in objects(whole)


def test_a_description_that_is_gone_is_named_as_such(whole, gather, gatherer):
    assert gather().returncode == 0
    remove(whole, f"{FILES[1]}.json")
    with pytest.raises(DataError, match=rf"{FILES[1]}\.json is not there any more; run .* again"):
        gatherer().finish()


def test_a_file_that_has_other_records_than_it_is_described_with_is_not_brought(whole, gather, tmp_path):
    assert gather().returncode == 0
    one, two = (f"r1/gathered/{name}" for name in FILES[1:])
    other = json.loads(whole.store.get(f"{two}.json"))
    said = {**json.loads(whole.store.get(f"{one}.json")), "bytes": other["bytes"], "sha256": other["sha256"]}
    remove(whole, "GATHERED.json", f"{FILES[1]}.json", f"{FILES[1]}.jsonl.zst")
    whole.store.create(f"{one}.json", json.dumps(said).encode())
    whole.store.create(f"{one}.jsonl.zst", whole.store.get(f"{two}.jsonl.zst"))
    ended = gather("-o", tmp_path / "all.jsonl.zst")
    assert ended.returncode == 1
    assert f"{FILES[1]}.jsonl.zst has 2 records, and is described with 20" in ended.stderr
    assert not list(tmp_path.glob("*all*"))


def test_who_comes_second_with_another_zstd_leaves_the_file_of_the_first(whole, gatherer, monkeypatch):
    """The first has made the file, and describes it before the second one looks again, or after."""
    mine, other = gatherer(), gatherer()
    create, packed = other.run.store.create, other._packed

    def late(name, data):
        made = create(name, data)
        mine.make(1)
        return made

    monkeypatch.setattr(other, "_packed", lambda number: (packed(number)[0], b"packed otherwise"))
    assert mine.make(1).end == "committed"
    before = objects(whole)
    said = before[f"r1/gathered/{FILES[1]}.json"]
    remove(whole, f"{FILES[1]}.json")
    with pytest.raises(DataError, match=r"may just be making it; run .* again when none is"):
        other.make(1)
    monkeypatch.setattr(other.run.store, "create", late)
    assert (other.make(1).end, whole.store.get(f"r1/gathered/{FILES[1]}.json")) == ("lost_race", said)
    assert objects(whole) == before


def test_where_no_task_of_its_shards_has_a_tree_there_is_no_file(whole, gather, gatherer, monkeypatch):
    real = gather_module.records
    monkeypatch.setattr(gather_module, "records", lambda run, of: [] if of.shard == 1 else real(run, of))
    monkeypatch.setattr(gather_module, "UNSET", None)  # as if tasks were drawn
    assert gather().returncode == 0
    assert [one.shards for one in gatherer().finish().files] == [(0, 0), (2, 2)]
    assert f"r1/gathered/{FILES[1]}.jsonl.zst" not in objects(whole)
    assert gather().returncode == 0


def test_a_full_store_ends_it_with_5_and_it_goes_on_where_there_is_room(s3, run_on, work, agenttrace, monkeypatch):
    monkeypatch.setattr(gather_module, "Store", functools.partial(Store, patience_s=1.0))
    run = run_on("s3://bucket/full")
    for shard in range(3):
        with work(shard, run=run) as attempt:
            attempt.make()
            attempt.log.commit()
    words = ["cluster", "gather", "--store", "s3://bucket/full", "--run-id", "r1", "--rows-per-file", "20"]
    s3.refuse_put = 507
    ended = agenttrace(*words)
    assert ended.returncode == 5
    assert "the store is full" in ended.stderr
    assert objects(run) == {}
    s3.refuse_put = 0
    assert agenttrace(*words).returncode == 0
    assert len(objects(run)) == 7


@pytest.mark.slow
def test_killed_at_any_instant_again_and_again_it_is_what_it_is_without(run_on, work, agenttrace, tmp_path):
    stores = [tmp_path / "killed", tmp_path / "calm"]
    for store in stores:
        run = run_on(str(store))
        for shard in range(3):
            with work(shard, run=run) as attempt:
                attempt.make()
                attempt.log.commit()
    dice = random.Random(3)
    words = ["cluster", "gather", "--run-id", "r1", "--rows-per-file", "20", "--store"]
    argv = [sys.executable, "-P", "-m", "agenttrace", *words, str(stores[0])]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "AGENTTRACE_TERMINAL": ""}
    for number in (0, 1, 2):  # after so many files are said to be there
        process = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while number and process.poll() is None and f"[{number}/3]" not in process.stderr.readline():
            pass
        time.sleep(dice.uniform(0, 0.1))
        process.kill()
        process.communicate()
    ended = subprocess.run(argv, env=env, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "[1/3]" not in ended.stderr
    assert agenttrace(*words, stores[1]).returncode == 0
    first, second = ({path.name: path.read_bytes() for path in (store / "r1/gathered").iterdir()} for store in stores)
    assert {name: data for name, data in first.items() if "#" not in name} == second  # the rest are of killed uploads


@pytest.mark.parametrize("kib", [8, 0])
def test_without_room_for_the_lines_of_a_file_it_says_what_makes_some(whole, url, tmp_path, small_disk, kib):
    full = small_disk(kib) if kib else tmp_path / "gone"
    made = Gatherer(GatherOrder(store=url, run_id="r1", rows=20), scratch=full)
    with pytest.raises(StorageError, match=r"(?s)cannot write .*TMPDIR.*--rows-per-file.*--num-cpus") as error:
        made.make(0)
    assert ("No space left" if kib else "No such file") in str(error.value)
    assert objects(whole) == {}


def test_without_room_for_a_compacted_file_it_says_the_same(whole, gatherer, monkeypatch):
    def full(_, target):
        with replacing(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(gather_module, "compact", full)
    with pytest.raises(StorageError, match=r"records\.jsonl\.zst: No space left .*TMPDIR"):
        gatherer().make(0)


def test_where_no_temporary_folder_can_be_used_it_is_no_traceback(whole, gatherer, monkeypatch):
    def none():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/nowhere']")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(StorageError, match=r"the temporary folder: No usable temporary directory found.*TMPDIR"):
        gatherer().make(0)
