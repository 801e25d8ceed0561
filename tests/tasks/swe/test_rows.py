"""Rows become tasks, or an error that names file and line; a plan depends on nothing but rows and seed."""

import json
import random
import tracemalloc
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttrace.errors import DataError, UsageError
from agenttrace.tasks.swe import rows
from agenttrace.tasks.swe.prepare import SweOptions, draw, drawn
from agenttrace.tasks.swe.rows import SweTask, task_of_row


def row(number=1, repo="octo/cat", **fields):
    return {
        "instance_id": f"{repo.replace('/', '__')}-{number}",
        "repo": repo,
        "base_commit": f"{number:040x}",
        "problem_statement": "It breaks.",
        **fields,
    }


def write(path, items):
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def test_jsonl_and_parquet_give_the_same_tasks(tmp_path):
    items = [
        row(1, language="Python", interface="  ", patch="p", test_patch="t", FAIL_TO_PASS=["x"]),
        row(2, language=None, interface="def f()", patch="", test_patch=None, FAIL_TO_PASS=[]),
    ]
    source, tasks = rows.load(str(write(tmp_path / "a.jsonl", items)))
    pq.write_table(pa.Table.from_pylist(items), tmp_path / "a.parquet")
    other, same = rows.load(str(tmp_path / "a.parquet"))
    assert tasks == same
    assert [task.language for task in tasks] == ["python", None]
    assert [task.interface for task in tasks] == [None, "def f()"]
    assert source.source == "file:a.jsonl"
    assert source.sha256 != other.sha256


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"base_commit": "main"}, "base_commit 'main': expected 40 or 64"),
        ({"base_commit": "--upload-pack=touch x"}, "base_commit"),
        ({"repo": "../../etc"}, "repo"),
        ({"repo": "octo/.."}, "repo"),
        ({"instance_id": "a/../b"}, "instance_id"),
        ({"problem_statement": 3}, "problem_statement is no text"),
    ],
)
def test_a_row_that_is_no_task_is_named_by_file_and_line(tmp_path, change, said):
    file = write(tmp_path / "a.jsonl", [row(1), {**row(2), **change}])
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: ") as error:
        rows.load(str(file))
    assert said in str(error.value)


def test_files_that_are_no_rows_are_refused(tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"a": \n')
    (tmp_path / "list.jsonl").write_text("[]\n")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "none.jsonl").write_text("")
    (tmp_path / "folder").mkdir()
    for name, said in (
        ("bad.jsonl", "line 1: not JSON"), ("list.jsonl", "expected an object"), ("bad.parquet", "not a Parquet file"),
        ("none.jsonl", "no row"), ("folder", r"no \.jsonl"), ("missing.jsonl", "no such file"),
    ):  # fmt: skip
        with pytest.raises((DataError, UsageError), match=said):
            rows.load(str(tmp_path / name))


def test_rows_with_a_gap_are_passed_over_and_counted(tmp_path):
    gaps = [
        row(2, problem_statement=None),
        row(3, problem_statement=" \n"),
        row(4, base_commit=""),
        {**row(5), "repo": None},
    ]
    file = write(tmp_path / "a.jsonl", [row(1), *gaps, row(6)])
    left_out = Counter()
    assert [task.instance_id for task in rows.open_source(str(file))[1](left_out)] == ["octo__cat-1", "octo__cat-6"]
    assert left_out == {"problem_statement": 2, "base_commit": 1, "repo": 1}
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match="no row in it that is a task: 2 without instance_id"):
        rows.load(str(tmp_path / "b.parquet"))


def test_half_a_surrogate_pair_is_written_out(tmp_path):
    fields = dict.fromkeys(("problem_statement", "interface", "language", "patch", "test_patch"), "x \ud83d")
    _, (task,) = rows.load(str(write(tmp_path / "a.jsonl", [row(1, **fields)])))
    assert task.problem_statement == task.interface == task.language == task.patch == task.test_patch == r"x \ud83d"


def test_bytes_that_are_no_text_are_named(tmp_path):
    names = [name for name in row() if name != "problem_statement"]
    raw = pa.Array.from_buffers(pa.string(), 1, pa.array([b"ab\xff"], type=pa.binary()).buffers())
    table = pa.table({**{name: [row()[name]] for name in names}, "problem_statement": raw})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: not a Parquet file that can be read: .*0xff"):
        rows.load(str(tmp_path / "a.parquet"))


def test_rows_are_read_one_at_a_time(tmp_path):
    file = write(tmp_path / "a.jsonl", [row(number) for number in range(1, 4)])
    _, tasks = rows.open_source(str(file))
    first = next(tasks(Counter()))
    with file.open("a") as more:
        more.write("[]\n")
    assert first.instance_id == "octo__cat-1"
    with pytest.raises(DataError, match="line 4"):
        list(tasks(Counter()))


@pytest.mark.parametrize("name", ["owner/rows", "owner/rows@main", "owner/a--b"])
def test_a_hub_that_cannot_be_reached_is_one_message(monkeypatch, name):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UsageError, match=f"{name.partition('@')[0]} cannot be had from the Hub: .*HF_TOKEN"):
        rows.load(name)


def test_an_id_that_occurs_twice_is_refused(tmp_path):
    with pytest.raises(DataError, match="octo__cat-1 occurs twice"):
        rows.load(str(write(tmp_path / "a.jsonl", [row(1), row(1)])))


def tasks_of(*counts):
    return [task_of_row(row(n + 1, repo=f"o/r{i}"), "here") for i, count in enumerate(counts) for n in range(count)]


@given(st.randoms(use_true_random=False), st.integers(0, 2**32))
def test_the_plan_depends_on_rows_and_seed_not_on_their_order(generator: random.Random, seed):
    tasks = tasks_of(5, 3, 7, 1)
    plan = draw(tasks, SweOptions(seed=seed, repos=2, per_repo=3))
    generator.shuffle(tasks)
    assert draw(tasks, SweOptions(seed=seed, repos=2, per_repo=3)) == plan
    assert len(plan.task_ids) == len(set(plan.task_ids)) == 6
    assert len({name.rpartition("-")[0] for name in plan.task_ids}) == 2


def test_a_pinned_draw():
    plan = draw(tasks_of(4, 4, 4, 4), SweOptions(seed=7, repos=2, per_repo=2))
    assert plan.task_ids == ("o__r0-3", "o__r0-4", "o__r2-1", "o__r2-4")


def test_more_than_there_is_is_refused():
    with pytest.raises(UsageError, match="3 repositories asked for; the task set has 1 with 4 tasks"):
        draw(tasks_of(5, 3), SweOptions(seed=1, repos=3, per_repo=4))
    with pytest.raises(UsageError, match="has 0 whose rows name one of the languages go, rust"):
        draw(tasks_of(5), SweOptions(seed=1, languages=("Rust", "go")))
    with pytest.raises(UsageError, match="--per-repo 0"):
        draw(tasks_of(1), SweOptions(per_repo=0))


def test_languages_narrow_the_draw():
    tasks = [task_of_row(row(1, language="go"), "x"), task_of_row(row(2, language="rust"), "x")]
    assert draw(tasks, SweOptions(seed=1, languages=("Go",))).task_ids == ("octo__cat-1",)
    assert all(isinstance(task, SweTask) for task in tasks)


def test_rows_that_are_drawn_are_read_again_one_repository_at_a_time(tmp_path):
    items = [row(number, repo=f"octo/{number % 10}", patch=f"{number}" * 100_000) for number in range(100, 200)]
    random.Random(1).shuffle(items)
    write(tmp_path / "a.jsonl", items)
    names = []
    options = SweOptions(source=str(tmp_path / "a.jsonl"), per_repo=8)
    tracemalloc.start()
    with drawn(options, names.append, folder=tmp_path) as (data, repos):
        for rows_of in repos:
            found = rows_of()
            assert len({task.repo for task in found}) == 1
            assert all(task.patch == task.instance_id[-3:] * 100_000 for task in found)
            names += [task.instance_id for task in found]
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tuple(names), len(repos), data.count) == (data.sampling.task_ids, 10, 80)
    assert most < 10_000_000  # all have 24 MB
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
