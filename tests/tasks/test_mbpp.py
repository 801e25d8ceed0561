"""MBPP: prompts as upstream built them, the candidate in a trace, one verdict per assert."""

from __future__ import annotations

import json

import msgspec
import pytest

from agenttrace.errors import UsageError
from agenttrace.records import NO_PROCESS, Outcome, Span
from agenttrace.tasks import Finished, mbpp
from agenttrace.tasks.answers import candidate
from agenttrace.tasks.mbpp import MBPPTasks

ROWS = [
    {
        "text": f"Write a function to add {number}.",
        "code": "import heapq\r\ndef helper(x): \r\n  return x\r\ndef add(x): \r\n  return helper(x) + 1 \r\n",
        "task_id": number,
        "test_setup_code": "",
        "test_list": ["assert add(1) == 2", "assert add(2) == 3", "assert str(add(3)) == '4'"],
        "challenge_test_list": [],
    }
    for number in (10, 11, 12, 510, 511)
]


@pytest.fixture
def tasks():
    data = "\n".join(json.dumps(row) for row in ROWS).encode()
    return MBPPTasks(read=lambda _: data)


def call(code, *, status="ok", name="python_interpreter"):
    return Span(
        span_id="s", type="TOOL", tool_name=name, tool_input=json.dumps({"code": code}), tool_output="", start_ns=0,
        end_ns=1, duration_ms=1.0, telemetry=NO_PROCESS, exit_code=0, parent_span_id="p", call_id="c", status=status,
    )  # fmt: skip


def ended(answer, *spans):
    return Finished(outcome=Outcome(ended="final_answer", final_answer=answer, changes=()), spans=spans)


def finished(answer, *codes):
    return ended(answer, *map(call, codes))


def test_only_the_test_split_is_loaded(tasks):
    assert [task.task_id for task in tasks.tasks()] == [11, 12, 510]
    assert [task.task_id for task in tasks.tasks(offset=1, count=1)] == [12]
    with pytest.raises(UsageError, match="tasks 0 to 2"):
        tasks.tasks(offset=3)


def test_the_prompt_is_text_and_asserts_and_nothing_after_them(tasks):
    assert tasks.tasks()[0].prompt == (
        "Write a function to add 11.\n\nTest cases:\nassert add(1) == 2\nassert add(2) == 3\nassert str(add(3)) == '4'"
    )
    assert tasks.tasks()[0].expect["name"] == "add"


DEF = "def add(x): return x + 1"


@pytest.mark.parametrize("text", ["{", "\udc80", "[" * 100_000, "9" * 5000, "null", '{"code": 1}'])
def test_a_call_whose_input_was_edited_holds_no_code(text):
    edited = msgspec.structs.replace(call(DEF), tool_input=text)
    assert candidate(ended(None, edited), "add") is None
    assert candidate(ended(None, call(DEF), edited), "add") == DEF


@pytest.mark.parametrize(
    ("run", "found"),
    [
        (finished("done", DEF, "print(add(1))"), DEF),
        (finished("done", "def add(x): return 0", DEF), DEF),
        (finished(DEF, "def add(x): return 0"), DEF),
        (finished(f"Here it is:\n```python\n{DEF}\n```\nBye.", "x"), f"{DEF}\n"),
        (finished(f"```\nold = 1\n```\n```py\n{DEF}\n```"), f"{DEF}\n"),
        (finished(None, "add = lambda x: x + 1"), "add = lambda x: x + 1"),
        (finished(None, "from m import f as add"), "from m import f as add"),
        (finished("I would add(x)", "def other(): pass", "def add(:"), None),
        (finished(None, "class A:\n  def add(self): pass"), None),
        (finished(None), None),
    ],
)
def test_the_candidate_is_the_last_code_that_defines_the_name(run, found):
    assert candidate(run, "add") == found


def test_code_that_was_not_executed_or_is_of_another_tool_is_no_candidate():
    run = ended(None, call(DEF, status="not_executed"), call(DEF, name="bash"))
    assert candidate(run, "add") is None


def test_one_verdict_per_assert(tasks, make_bench):
    task, bench = tasks.tasks()[0], make_bench("empty")
    verdicts = tasks.assess(task, finished("def add(x): return 2"), bench).verdicts
    assert [(v.aspect, v.verdict) for v in verdicts] == [
        ("assert_0", "passed"),
        ("assert_1", "failed"),
        ("assert_2", "failed"),
    ]
    missing = tasks.assess(task, finished("no idea"), bench).verdicts
    assert {v.reason for v in missing} == {"no code in the run defines add"}
    assert {v.method for v in missing} == {mbpp.METHOD}


def test_the_real_set(task_files):
    tasks = MBPPTasks().tasks()
    assert [task.task_id for task in tasks] == list(range(11, 511))
    assert sum(len(task.expect["asserts"]) for task in tasks) == 1500
    assert all(task.prompt.endswith(task.expect["asserts"][-1]) for task in tasks)
    assert len({task.prompt for task in tasks}) == 500
    (node,) = [task for task in tasks if task.expect["setup"]]
    assert node.task_id == 367
    assert MBPPTasks().spec(offset=2, count=3).count == 3
