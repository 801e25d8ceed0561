"""What is handed to the collector, and what a verdict needs of it."""

from __future__ import annotations

import pytest

from agenttrace.tasks.swe.patches import BINARY
from agenttrace.tasks.swe.prepare import PreparePlaces, SweOptions, prepare
from agenttrace.tasks.swe.verdict import judge


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
