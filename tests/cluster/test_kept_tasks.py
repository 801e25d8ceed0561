"""Tasks over checkouts lie in a store with their repositories: a run is planned without them, a shard reads its own."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
import zstandard

from agenttrace.campaign.options import Options
from agenttrace.campaign.plan import make_plan
from agenttrace.campaign.session import Surroundings, describe
from agenttrace.cluster.endpoints import read_addresses
from agenttrace.cluster.objects import Store
from agenttrace.cluster.prepare import prepare_run
from agenttrace.cluster.seat import Seat
from agenttrace.errors import DataError, UsageError
from agenttrace.tasks.swe.prepare import OfRepository, PreparePlaces, SkippedTask, load_prepared, prepare

OPTIONS = Options(
    dataset="swe", rollouts=5, external=True, model="scripted/model-1B", run_id="r1", output="r.jsonl",
)  # fmt: skip
NOW = datetime(2026, 11, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def on_one_machine(tmp_path_factory):
    """Return a folder with the bundled tasks as a machine prepares them by itself."""
    folder = tmp_path_factory.mktemp("one")
    places = PreparePlaces(trees=folder, cache=folder / ".cache", repositories=None)
    prepare(OPTIONS.of_checkouts, places, lambda _: None)
    return folder


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "store"))


@pytest.fixture
def seat(store, tmp_path):
    def opened(**options):
        around = Surroundings(folder=Path(), base_url="", sockets=tmp_path, trees=tmp_path / "trees", workers=1)
        asked = msgspec.structs.replace(OPTIONS, **options)
        return Seat(store, asked, around, read_addresses(["http://127.0.0.1:9/v1"], None), shard_rollouts=3)

    (tmp_path / "trees").mkdir()
    return opened


def kept(store):
    prepare_run(store, "r1", OPTIONS.of_checkouts, repositories=None, workers=1, report=lambda _: None)


def whole(store, folder):
    """Put everything into one object, as runs had it before repositories had objects of their own."""
    store.create("r1/prepared.json.zst", zstandard.compress((folder / "prepared.json").read_bytes()))


def one(folder, tmp_path, **options):
    asked = msgspec.structs.replace(OPTIONS, **options)
    return make_plan(asked, images={}, folder=tmp_path, now=NOW, trees=folder)


def said(plan, jobs):
    return [(plan.trace_id(job), plan.prompt(job), plan.metadata(job), job) for job in jobs]


@pytest.mark.parametrize("how", ["kept", "whole"])
@pytest.mark.parametrize("options", [{}, {"offset": 1, "count": 2}])
def test_shards_are_the_plan_of_one_machine_however_the_tasks_lie(store, seat, on_one_machine, tmp_path, how, options):
    (kept(store) if how == "kept" else whole(store, on_one_machine))
    plan = one(on_one_machine, tmp_path, **options)
    with seat(**options) as made:
        assert made.run.spec == plan.spec
        assert made.run.spec_sha256 == plan.spec_sha256
        parts = [made.part(number) for number in range(made.run.shards.count)]
    assert [record for part in parts for record in said(part, part.jobs())] == said(plan, plan.jobs())


def test_a_shard_reads_the_tasks_of_its_repository_once_and_no_others(store, seat, monkeypatch):
    kept(store)
    asked = []
    monkeypatch.setattr(store, "get", lambda name, get=store.get, **most: asked.append(name) or get(name, **most))
    with seat() as made:
        assert [name for name in asked if "prepared" in name] == ["r1/prepared.json.zst"]
        for number in reversed(range(made.run.shards.count)):
            part = made.part(number)
            assert {task.facts["repo"] for task in made.tasks.listed} == {part.of_shard[0].facts["repo"]}
    read = [name for name in asked if name.startswith("r1/prepared/")]
    assert sorted(read) == sorted(name for name in store.names("r1/prepared") if not name.endswith("drawn.json"))
    assert zstandard.decompress(store.get("r1/prepared.json.zst")).count(b"problem_statement") == 0


def test_a_task_without_a_tree_has_no_jobs_and_leaves_the_numbers_of_others(store, seat, on_one_machine, tmp_path):
    ready = load_prepared(on_one_machine).tasks
    gone = ready[1]
    named = {name: getattr(gone.task, name) for name in ("instance_id", "repo", "base_commit")}
    of_repo = tuple(one for one in ready if one.task.repo == gone.task.repo and one != gone)
    left = OfRepository(tasks=of_repo, skipped=(SkippedTask(**named, reason="gone"),))
    data = zstandard.compress(msgspec.json.encode(left))
    store.create(f"r1/prepared/{gone.task.repo}.json.zst", data)
    kept(store)
    plan = one(on_one_machine, tmp_path)
    with seat() as made:
        assert made.run.spec == plan.spec
        parts = [[*made.part(number).jobs()] for number in range(made.run.shards.count)]
    assert [job for part in parts for job in part] == [
        job for job in plan.jobs() if job.task_id != named["instance_id"]
    ]
    assert [number for number, part in enumerate(parts) if not part] == [2, 3]
    with pytest.raises(DataError, match="no tree could be made for any of the 1 tasks from number 1 on"):
        seat(offset=1, count=1, run_id="r1")


@pytest.mark.parametrize("change", [lambda data: data[:-20], lambda _: b"", lambda _: None])
def test_a_repository_that_is_not_what_the_run_was_planned_with_is_refused_by_its_name(
    store, seat, change, monkeypatch
):
    kept(store)
    with seat() as made:
        task = made.part(0).of_shard[0]
        name = f"r1/prepared/{task.facts['repo']}.json.zst"
        changed = change(store.get(name))
        get = store.get
        monkeypatch.setattr(store, "get", lambda asked, **most: changed if asked == name else get(asked, **most))
        made.part(made.run.shards.count - 1)
        with pytest.raises(
            DataError, match=r"is damaged, or another one than when .*; restore it, or remove r1/prepared"
        ):
            made.part(0)


def replanned(store, change):
    """Put another plan into the place of the run's."""
    name = "r1/prepared.json.zst"
    plan = json.loads(zstandard.decompress(store.get(name)))
    change(plan["repositories"])
    store.remove([name])
    store.create(name, zstandard.compress(json.dumps(plan).encode()))


def test_repositories_with_other_numbers_of_tasks_than_were_drawn_are_refused(store, seat):
    kept(store)
    replanned(store, lambda repositories: repositories.pop())
    with pytest.raises(DataError, match=r"zst is of 8 tasks, its repositories have 2 \+ 2 \+ 2; remove it and"):
        seat()


def test_a_plan_whose_repositories_are_none_is_told(store, seat):
    kept(store)
    replanned(store, lambda repositories: repositories[0].update(drawn="x"))
    with pytest.raises(DataError, match=r"prepared\.json\.zst is damaged \(.*\$\.repositories\[0\]\.drawn"):
        seat()


def test_repositories_with_as_many_tasks_in_all_but_fewer_than_none_are_refused(store, seat):
    kept(store)

    def shift(repositories):
        repositories[0]["drawn"] += 5
        repositories[1]["drawn"] -= 5

    replanned(store, shift)
    with pytest.raises(DataError, match=r"is of 8 tasks, its repositories have 7 \+ -3 \+ 2 \+ 2; remove it"):
        seat()


def test_a_repository_that_does_not_fit_its_place_is_no_shard_without_tasks(store, seat):
    kept(store)

    def swap(repositories):
        one, other = repositories[0], repositories[1]
        for name in ("name", "sha256"):
            one[name], other[name] = other[name], one[name]

    replanned(store, swap)
    with seat() as made, pytest.raises(DataError, match=r"r1/prepared/.*\.json\.zst lacks .*, one of the tasks drawn"):
        made.part(0)


def test_a_plan_by_ids_alone_is_none_of_a_campaign_on_one_machine(store, tmp_path):
    kept(store)
    plan = zstandard.decompress(store.get("r1/prepared.json.zst"))
    (tmp_path / "prepared.json").write_bytes(plan)
    asked = msgspec.json.encode((OPTIONS,)).decode()
    with pytest.raises(DataError, match=r"has the ids of the tasks, and no task: .*; prepare the trees here"):
        describe(asked, folder=tmp_path, trees=tmp_path)


def test_what_servers_and_stores_say_drives_no_terminal(store, seat, monkeypatch, capsys):
    def refused(*_, **__):
        raise UsageError("the server has the model '\x1b]0;x\x07\u202e', the run spec names another")

    kept(store)
    monkeypatch.setattr("agenttrace.cluster.seat.get_server", refused)
    with seat() as made, pytest.raises(UsageError, match="the server has the model"):
        made._endpoints.pick("task")
    said = capsys.readouterr().err
    assert r"is refused: the server has the model '\x1b]0;x\x07\u202e'" in said
    assert not {*"\x1b\x07\u202e"} & {*said}
