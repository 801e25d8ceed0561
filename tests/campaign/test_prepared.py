"""What is handed to the collector, and what a verdict needs of it."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime

import msgspec
import pytest

from agenttrace.campaign.plan import make_plan, write_run_spec
from agenttrace.errors import DataError, UsageError
from agenttrace.tasks.swe.patches import BINARY, judge
from agenttrace.tasks.swe.prepare import PreparePlaces, SweOptions, prepare


def test_the_collector_gets_neither_reference_nor_hidden_tests(source):
    for row in source.rows:
        row["test_patch"] = "diff --git a/t b/t\nnew file mode 100644\n--- /dev/null\n+++ b/t\n@@ -0,0 +1 @@\n+secret\n"
    source.write(source.rows)
    made = source.prepare(hidden_tests=True)
    assert [ready.tree.hidden_tests.applied for ready in made.tasks] == [True, True]
    kept = (source.trees / "prepared.json").read_text()
    assert "secret" not in kept
    assert "a + b" not in kept


def test_rows_that_are_no_task_are_told(source):
    source.write([*source.rows, {**source.rows[0], "instance_id": "octo__cat-2", "problem_statement": None}])
    told = []
    assert len(source.prepare(told.append).tasks) == 2
    assert told[0].startswith("1 rows of ")
    assert told[0].endswith(" are left out: problem_statement is missing or empty")


def _planned(source, **fields):
    options = msgspec.structs.replace(source.options(**fields), output=None)
    return make_plan(options, images={}, folder=source.data, now=datetime(2026, 11, 2, tzinfo=UTC), trees=source.trees)


def test_a_repository_that_cannot_be_had_today_makes_no_other_campaign(source):
    """Its tasks are made by a later session; which tasks a range is of does not depend on it, either."""
    broken = source.mirror / "octo" / "cat"
    source.prepare()
    first, second = _planned(source), _planned(source, offset=1)
    write_run_spec(first.spec, first.path)
    for folder in (broken, source.folder / "cache", source.trees):
        shutil.rmtree(folder)
    subprocess.run(["git", "init", "-q", str(broken)], check=True)
    source.trees.mkdir()
    assert [one.instance_id for one in source.prepare().skipped] == ["octo__cat-1"]
    again = _planned(source)
    assert again.resumes
    assert (again.spec, again.path) == (first.spec, first.path)
    assert [task.task_id for task in again.tasks] == ["octo__dog-1"]
    assert _planned(source, offset=1).tasks == second.tasks
    with pytest.raises(DataError, match="no tree could be made for any of the 1 tasks from number 0 on"):
        _planned(source, count=1)
    with pytest.raises(UsageError, match="has tasks 0 to 1: offset 2"):
        _planned(source, offset=2)


@pytest.mark.parametrize("kind", ["folder", "url"])
def test_a_repository_that_the_source_lacks_leaves_its_tasks_out(source, kind):
    told = []
    (source.mirror / "octo" / "cat").rename(source.mirror / "elsewhere")
    places = PreparePlaces(
        trees=source.trees, cache=source.folder / "cache",
        repositories=str(source.mirror) if kind == "folder" else f"file://{source.mirror}/{{repo}}",
    )  # fmt: skip
    options = SweOptions(source=str(source.file))
    made = prepare(options, places, told.append)
    assert [ready.task.instance_id for ready in made.tasks] == ["octo__dog-1"]
    assert [(one.instance_id, one.repo) for one in made.skipped] == [("octo__cat-1", "octo/cat")]
    assert any(text.startswith(("[1/2] octo__cat-1: left out: ", "[2/2] octo__cat-1: left out: ")) for text in told)
    (source.mirror / "octo" / "dog").rename(source.mirror / "else")
    shutil.rmtree(source.folder / "cache")
    with pytest.raises(DataError, match="no tree could be made for any of 2 tasks; the first: "):
        prepare(options, places, told.append)


@pytest.fixture(scope="module")
def bundled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundled")
    (folder / "trees").mkdir()
    made = prepare(SweOptions(repos=1, per_repo=1), PreparePlaces(trees=folder / "trees", cache=folder / "c"), print)
    return made.tasks[0], folder / "trees"


@pytest.mark.parametrize(
    ("note", "verdict"),
    [
        (None, "passed"),
        (BINARY, "passed"),
        ("more changed than could be read", "failed"),
        ("left out: 'x', too large", "failed"),
    ],
)
def test_a_patch_that_is_not_all_of_the_change_does_not_pass(bundled, note, verdict):
    ready, trees = bundled
    found = judge(trees / ready.tree.name, ready.task, ready.task.patch, note, source="bundled")
    assert found.verdict == verdict


@pytest.mark.parametrize("patch", ["x", "diff --git a/x b/x\n", "--- a/nowhere\n+++ b/nowhere\n@@ -1 +1 @@\n-a\n+b\n"])
def test_a_patch_that_does_not_apply_failed(bundled, patch):
    ready, trees = bundled
    found = judge(trees / ready.tree.name, ready.task, patch, None, source="bundled")
    assert found.verdict == "failed"
    assert found.reason.startswith("the patch does not apply: ")
