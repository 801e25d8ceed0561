"""Trees come from the store to a machine, are held while they are used, and go where others need their room."""

from __future__ import annotations

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from agenttrace.cluster.nodetrees import NodeTrees, NoRoomError, keep_tree
from agenttrace.cluster.objects import Store
from agenttrace.cluster.prepare import KeptTasks, bring, prepare_run
from agenttrace.errors import DataError, UsageError
from agenttrace.sandbox.runner.restore import PackedFixture
from agenttrace.tasks import task_set
from agenttrace.tasks.own.loading import load
from agenttrace.tasks.swe import trees
from agenttrace.tasks.swe.prepare import SweOptions
from agenttrace.tasks.swe.task_set import SweTasks
from agenttrace.tasks.swe.trees import HiddenTests, PristineTree

KIB = 1024


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "store"))


@pytest.fixture
def kept(store, tmp_path):
    """Return what puts a tree of so many KiB into the store."""

    def keep(name, kib=100):
        root = tmp_path / "made" / name
        (root / ".git").mkdir(parents=True)
        (root / "file").write_bytes(os.urandom(kib * KIB))
        trees.settle(root)
        tree = PristineTree(
            name=name, digest=PackedFixture(str(root)).digest, language="c", files=1, bytes=kib * KIB,
            hidden_tests=HiddenTests(asked=False, applied=False),
        )  # fmt: skip
        keep_tree(store, "r1", tree, root)
        return tree

    return keep


@pytest.fixture
def node(store, tmp_path):
    return lambda **options: NodeTrees(store, "r1", tmp_path / "node", **options)


def there(tmp_path):
    return {path.name for path in (tmp_path / "node").iterdir() if path.is_dir()}


def test_a_tree_is_fetched_once_and_is_the_one_that_was_made(kept, node, tmp_path, store, monkeypatch):
    tree, asked = kept("one"), []
    monkeypatch.setattr(store, "get", lambda name, get=store.get, **most: asked.append(name) or get(name, **most))
    both = threading.Barrier(4)

    def use():
        both.wait()
        with node().hold(tree) as path:
            return PackedFixture(str(path)).digest

    with ThreadPoolExecutor(4) as pool:
        assert {*pool.map(lambda _: use(), range(4))} == {tree.digest}
    assert asked == [f"r1/trees/{tree.digest}.tar.zst"]
    assert there(tmp_path) == {"one"}


def test_what_was_used_longest_ago_goes_and_what_is_held_stays(kept, node, tmp_path):
    one, two, three, four = (kept(name) for name in ("one", "two", "three", "four"))
    some = node(most_bytes=250 * KIB)
    with some.hold(one):
        with some.hold(two):
            pass
        with some.hold(three):
            assert there(tmp_path) == {"one", "three"}
            with pytest.raises(NoRoomError, match=r"no room in .* for the tree four: .*--trees-max-bytes"):
                some.hold(four).__enter__()
            assert there(tmp_path) == {"one", "three"}
    with some.hold(one):  # used later than three
        pass
    with some.hold(four):
        assert there(tmp_path) == {"one", "four"}


def test_trees_that_were_made_on_the_machine_and_others_of_a_user_stay(kept, node, tmp_path):
    one, two = kept("one"), kept("two")
    shutil.copytree(tmp_path / "made" / "one", tmp_path / "node" / "one", symlinks=True)
    with node(most_bytes=150 * KIB).hold(one), node(most_bytes=150 * KIB).hold(two):
        assert there(tmp_path) == {"one", "two"}
    three = kept("three")
    with node(most_bytes=150 * KIB).hold(three):
        assert there(tmp_path) == {"one", "three"}


def test_what_a_killed_process_left_goes_with_the_next_tree(kept, node, tmp_path):
    left = tmp_path / "node" / ".fetching-x"
    left.mkdir(parents=True)
    (left / "file").write_bytes(b"half")
    with node().hold(kept("one")):
        assert there(tmp_path) == {"one"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda _, other: other, "has another digest"),
        (lambda data, _: data[:-40], "not an archive"),
        (lambda *_: b"", "not an archive|another digest"),
        (lambda *_: None, "is not there; .*cluster.* prepare makes it again"),
    ],
)
def test_what_is_not_the_tree_is_refused_and_leaves_nothing(kept, node, store, tmp_path, change, said, monkeypatch):
    tree, other = kept("one"), kept("two")
    name = f"r1/trees/{tree.digest}.tar.zst"
    data = change(store.get(name), store.get(f"r1/trees/{other.digest}.tar.zst"))
    monkeypatch.setattr(store, "get", lambda _, **__: data)
    with pytest.raises(DataError, match=said) as raised:
        node().hold(tree).__enter__()
    assert name in str(raised.value)
    assert there(tmp_path) == set()


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "..", ".", "", "a/b", ".fetching-x", "a\0"])
def test_a_tree_whose_name_is_none_goes_nowhere(kept, node, tmp_path, name):
    tree = msgspec.structs.replace(kept("one"), name=name)
    before = {*tmp_path.rglob("*")}
    with pytest.raises(DataError, match="among the tasks of r1, names no tree"):
        node().hold(tree).__enter__()
    assert {*tmp_path.rglob("*")} == before


def test_an_archive_larger_than_any_tree_is_not_read(kept, node, store, tmp_path, monkeypatch):
    tree = kept("one")
    monkeypatch.setattr("agenttrace.cluster.nodetrees.MOST_BYTES", 1000)
    with pytest.raises(DataError, match=rf"{tree.digest}\.tar\.zst has more than 1000 bytes .* remove it, and run"):
        node().hold(tree).__enter__()
    assert there(tmp_path) == set()


def test_where_the_disk_is_full_others_make_room_and_else_the_machine_says_so(kept, store, small_disk):
    one, two, three = (kept(name, kib=400) for name in ("one", "two", "three"))
    folder = small_disk(1000)
    some = NodeTrees(store, "r1", folder)
    with some.hold(one):
        with some.hold(two):
            pass
        with some.hold(three), pytest.raises(NoRoomError, match="for the tree two: its disk is full") as raised:
            some.hold(two).__enter__()
        assert raised.value.exit_code == 5
        assert {path.name for path in folder.iterdir() if path.is_dir()} == {"one", "three"}
    with some.hold(two):
        pass


BUNDLED = SweOptions(per_repo=1)


def prepared(store, run_id="r1", options=BUNDLED, told=None, **how):
    how = {"repositories": None, "workers": 2, **how}
    return prepare_run(store, run_id, options, report=(told if told is not None else []).append, **how)


def test_trees_are_prepared_once_by_however_many_machines_and_a_node_finds_all(store, tmp_path, monkeypatch):
    told = []
    with ThreadPoolExecutor(2) as machines:
        one, other = machines.map(lambda _: prepared(store, told=told, workers=1), range(2))
    assert one == other
    assert (len(one.repositories), one.skipped) == (4, ())
    again = []
    assert prepared(store, told=again) == one
    assert again == []  # nothing was made
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    folder = bring(store, "r1", "swe", trees=tmp_path / "node", scratch=scratch)
    kept = KeptTasks(store, "r1", folder, SweTasks(folder))
    some = NodeTrees(store, "r1", tmp_path / "node")
    trees = {tree.name: tree for place in range(4) for tree in map(kept.of(place).pristine, kept.of(place).listed)}
    for tree in trees.values():
        with some.hold(tree) as path:
            assert PackedFixture(str(path)).digest == tree.digest
    assert len(trees) == 4
    assert there(tmp_path) == {*trees}


def test_other_tasks_under_the_same_run_id_are_refused_and_another_runs_are_its_own(store):
    prepared(store)
    with pytest.raises(UsageError, match="has other tasks for it; choose another --run-id"):
        prepared(store, options=msgspec.structs.replace(BUNDLED, per_repo=None))
    assert len(prepared(store, "r2", msgspec.structs.replace(BUNDLED, repos=1)).repositories) == 1


def test_what_a_killed_machine_had_not_finished_is_made_by_the_next(store, monkeypatch):
    from agenttrace.cluster import prepare

    real, count = prepare.of_repository, []

    def killed(*arguments, **options):
        if len(count) == 2:
            raise KeyboardInterrupt
        count.append(1)
        return real(*arguments, **options)

    monkeypatch.setattr(prepare, "of_repository", killed)
    with pytest.raises(KeyboardInterrupt):
        prepared(store, workers=1)
    assert store.get("r1/prepared.json.zst") is None
    monkeypatch.setattr(prepare, "of_repository", real)
    told = []
    assert len(prepared(store, told=told).repositories) == 4
    assert len(told) == 2


def test_where_a_tree_cannot_be_stored_that_is_an_error_and_no_task_without_a_tree(store, monkeypatch):
    from agenttrace.cluster import prepare
    from agenttrace.errors import StorageError

    def refuse(*_):
        raise StorageError("the store is full")

    monkeypatch.setattr(prepare, "keep_tree", refuse)
    with pytest.raises(StorageError, match="the store is full"):
        prepared(store)


def test_a_task_set_of_a_users_own_is_laid_out_from_the_store(store, tmp_path, agenttrace):
    assert agenttrace("tasks", "new", tmp_path / "mine").returncode == 0
    found = load(tmp_path / "mine")
    name = f"own:{found.sha256}"
    assert bring(store, "r1", name, trees=tmp_path / "node", scratch=tmp_path) == tmp_path / "node"
    with pytest.raises(UsageError, match="is not here"):
        task_set(name, trees=tmp_path / "node")
    store.create("r1/tasks.tar", found.packed())
    for _ in range(2):
        bring(store, "r1", name, trees=tmp_path / "node", scratch=tmp_path)
    laid_out = task_set(name, trees=tmp_path / "node")
    assert len(laid_out.listed) == len(found.tasks)
    (tmp_path / "own").mkdir()
    store.create("r2/tasks.tar", found.packed()[:700])
    with pytest.raises(DataError, match=r"r2/tasks\.tar is damaged: the packed task set"):
        bring(store, "r2", name, trees=tmp_path / "own", scratch=tmp_path)
    store.create("r3/tasks.tar", found.packed())
    with pytest.raises(DataError, match=r"r3/tasks\.tar is another task set than own:0{64}$"):
        bring(store, "r3", f"own:{'0' * 64}", trees=tmp_path / "own", scratch=tmp_path)
    fixtures = {task.fixture for task in laid_out.listed if task.fixture is not None}
    assert fixtures
    assert fixtures <= there(tmp_path)


def test_what_is_damaged_in_the_store_is_named(store, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert bring(store, "r1", "swe", trees=tmp_path / "node", scratch=scratch) == tmp_path / "node"  # made by hand
    store.create("r1/prepared.json.zst", b"x" * 100)
    with pytest.raises(DataError, match=r"r1/prepared.json.zst is damaged"):
        bring(store, "r1", "swe", trees=tmp_path / "node", scratch=scratch)
    for name in ("logturn", "ringbuf", "tally", "textkit"):
        store.create(f"r2/prepared/miniature/{name}.json.zst", b"")
    with pytest.raises(DataError, match=r"is damaged .*remove it and run .* prepare again"):
        prepared(store, "r2")
