"""The judge of the demo tasks: exact answers, exactly the expected changes."""

from __future__ import annotations

import hashlib

import pytest

from agenttrace.errors import DataError, UsageError
from agenttrace.records import Outcome, solved
from agenttrace.sandbox.reports import TreeEntry
from agenttrace.tasks import Finished, Task, task_set
from agenttrace.tasks.bench import UNRECORDED
from agenttrace.tasks.demo import DemoTasks


def file(path, content="x\n", mode="0644"):
    digest = hashlib.sha256(content.encode()).hexdigest()
    return TreeEntry(path=path, type="file", mode=mode, size=len(content), sha256=digest, target=None, mtime_ns=1)


def folder(path):
    return TreeEntry(path=path, type="dir", mode="0755", size=None, sha256=None, target=None, mtime_ns=1)


def link(path, target):
    return TreeEntry(path=path, type="symlink", mode="0777", size=None, sha256=None, target=target, mtime_ns=1)


BEFORE = (folder("d"), file("d/a"), file("b"), link("l", "b"))


def judge(answer, after, changes=None, expected="42"):
    task = Task(task_id=0, name="t", prompt="p", kind="shell", expect={"answer": expected, "changes": changes or {}})
    return task_set("demo").judge(task, answer, BEFORE, after)


def verdicts(*arguments, **keywords):
    return {verdict.aspect: verdict.verdict for verdict in judge(*arguments, **keywords)}


def test_the_right_answer_on_an_untouched_tree_passes():
    found = judge(" 42\n", BEFORE)
    assert [verdict.verdict for verdict in found] == ["passed", "passed"]
    assert solved(found) is True


@pytest.mark.parametrize("answer", ["43", "", "42.", None])
def test_another_answer_fails_with_the_reason(answer):
    found = judge(answer, BEFORE)
    assert found[0].verdict == "failed"
    assert found[0].reason
    assert solved(found) is False


@pytest.mark.parametrize(
    "after",
    [
        BEFORE[:2],
        (*BEFORE, file("new")),
        (*BEFORE, folder("empty")),
        (folder("d"), file("d/a", "y\n"), *BEFORE[2:]),
        (folder("d"), file("d/a", mode="0755"), *BEFORE[2:]),
        (*BEFORE[:3], link("l", "d")),
        (*BEFORE[:3], file("l")),
    ],
    ids=["deleted", "added", "empty folder", "content", "mode", "link target", "link replaced"],
)
def test_an_unexpected_change_fails_the_state_and_names_the_path(after):
    found = judge("42", after)
    assert found[1].verdict == "failed"
    assert found[1].reason.startswith("other than expected: ")


@pytest.mark.parametrize(
    "answer",
    ["`42`", "``42``", "**42**", "__42__", "*42*", "```\n42\n```", "```text\n42\n```\n", "~~~\n 42\n  ~~~", "` 42 `"],
)
def test_marks_around_the_whole_answer_do_not_count(answer):
    found, _ = judge(answer, BEFORE)
    assert (found.verdict, found.method) == ("passed", "exact-answer-v2")


@pytest.mark.parametrize(
    "answer", ["`42", "42`", "```\n42", "`4`2`", "** 4 2 **", "```\n42\n```\n42", "`42` `42`", "``", "`" * 9]
)
def test_marks_elsewhere_do(answer):
    found, _ = judge(answer, BEFORE)
    assert (found.verdict, found.method) == ("failed", "exact-answer-v1")


def test_a_state_too_different_to_be_recorded_failed():
    task = task_set("demo").tasks()[0]
    finished = Finished(outcome=Outcome(ended="final_answer", final_answer=task.expect["answer"]), spans=())
    answer, state = task_set("demo").assess(task, finished, bench=None).verdicts
    assert (answer.verdict, answer.method) == ("passed", "exact-answer-v1")
    assert (state.verdict, state.method, state.reason) == ("failed", "tree-manifest-v2", UNRECORDED)


def test_expected_changes_pass_and_missing_ones_fail():
    changes = {
        "b": {"type": "absent"},
        "n.txt": {"type": "file", "content": "hi\n"},
        "e": {"type": "dir"},
        "l": {"type": "symlink", "target": "d"},
        "run.sh": {"type": "file", "content": "#!\n", "mode": "755"},
    }
    after = (
        folder("d"),
        file("d/a"),
        file("n.txt", "hi\n"),
        folder("e"),
        link("l", "d"),
        file("run.sh", "#!\n", "0755"),
    )
    assert verdicts("42", after, changes)["state"] == "passed"
    assert verdicts("42", BEFORE, changes)["state"] == "failed"
    assert verdicts("42", (*after[:-1], file("run.sh", "#!\n", "0644")), changes)["state"] == "failed"


def test_ranges_outside_the_set_are_refused():
    with pytest.raises(UsageError, match="tasks 0 to"):
        DemoTasks().tasks(offset=-1)


def test_a_broken_data_file_is_named(tmp_path):
    path = tmp_path / "demo.toml"
    path.write_text("[[task]]\nid = 1\n")
    with pytest.raises(DataError, match=r"demo\.toml: not a demo task file"):
        DemoTasks(path)


def test_the_set_has_what_a_first_run_should_show():
    tasks = DemoTasks().tasks()
    assert len(tasks) >= 24
    assert {task.kind for task in tasks} == {"shell", "python"}
    assert any(task.expect.get("changes") for task in tasks)
    assert any(not task.solvable for task in tasks)
