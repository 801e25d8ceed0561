"""What several runs of a reference say of its task, and how it is shown."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from agenttrace.records import Output, StateChange
from agenttrace.tasks import Task
from agenttrace.tasks.gold import GradingPolicy, Observed
from bench.task_sets import references
from bench.task_sets.references import PythonRun, ShellRun
from bench.task_sets.task_tables import python_tables, shell_tables

TASK = Task(task_id=3, name="fs_2.3", prompt="p", kind="shell", expect={"gold": "ls"})
NEW = StateChange(path="n", type="dir", mode="0755")


def out(text):
    return Output(text=text, bytes_total=len(text), bytes_kept=len(text))


def run(text="a\n", status=0, changes=(), ended="ok", error=""):
    found = Observed(exit_status=status, status=ended, stdout=out(text), stderr=out(error), changes=tuple(changes))
    return ShellRun(found=found, ms=5.0)


def check(*runs, flags="", **more):
    return references.shell_check(TASK, GradingPolicy(origin="2.3", effect="R", flags=flags, **more), runs)


def test_a_reference_that_agrees_with_itself_is_as_it_should_be():
    found = check(run(), run(), run(), run())
    assert found.as_it_should_be
    assert found.passed
    assert (found.group, found.differs_pinned, found.differs_real, found.broken) == ("no environment flag", (), (), ())


def test_what_differs_is_named_even_where_it_is_not_graded():
    found = check(run(), run("b\n"), run(), run(changes=[NEW]), flags="T", skip={"stdout": "why"})
    assert (found.differs_pinned, found.differs_real) == (("stdout",), ("state",))
    assert found.as_it_should_be
    assert not found.passed
    assert found.group == "time (T)"


@pytest.mark.parametrize(
    "found",
    [
        check(run(), run("b\n"), run(), run()),
        check(run(), run("b\n"), run(), run(), flags="T"),
        check(run(ended="timeout"), run(ended="timeout"), run(), run(), flags="P"),
        check(run(), run(), run(), run(), skip={"stdout": "why"}),
    ],
    ids=["differs", "fails", "hangs", "not gradable without a flag"],
)
def test_what_is_not_as_it_should_be(found):
    assert not found.as_it_should_be


def test_a_broken_reference_says_how():
    found = check(*[run(status=127, error="bash: x: command not found\n")] * 4, flags="B")
    assert found.broken == ("exit status 127", "command not found")
    assert found.as_it_should_be


def test_clocks_are_the_pinned_one_twice_the_real_one_and_another_day():
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert references.clocks("P", now) == ("P", "P", None, "2026-02-11T08:11:05Z")
    assert references.clocks(None, now) == (None, "2026-02-11T08:11:05Z")


def test_mbpp_references_pass_and_pass_does_not():
    good, none, bad = ((None, None), ("x", "x"), (None, "x"))
    runs = [PythonRun(problems=problems, ms=1.0) for problems in (good, none, bad)]
    assert references.python_check(TASK, (runs[0], runs[0], runs[1])).as_it_should_be
    assert references.python_check(TASK, (runs[0], runs[0], runs[2])).passed_without == (0,)
    assert references.python_check(TASK, (runs[0], runs[2], runs[1])).differs == (1,)
    assert not references.python_check(TASK, (runs[2], runs[2], runs[1])).as_it_should_be


def test_the_tables_show_every_task_with_something_to_say():
    console = Console(width=100, record=True, file=io.StringIO())
    failing = check(run(), run("b\n"), run(), run(), flags="TB")
    for table in shell_tables([failing, check(run(), run(), run(), run())]):
        console.print(table)
    python = references.python_check(TASK, tuple(PythonRun(problems=("no",), ms=1.0) for _ in range(3)))
    for table in python_tables([python]):
        console.print(table)
    text = console.export_text()
    assert "line 1 differs from the reference's" in text
    assert "flag B" in text
    assert "assert_0: no" in text
