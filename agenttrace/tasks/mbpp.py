"""MBPP, the test split (task ids 11 to 510): 500 small Python tasks, one verdict per assert.

Prompt: the task's text, an empty line, `Test cases:`, the asserts one per line, nothing after them. What the asserts
call runs in the sandbox: in a new CPython process, with a time limit, candidate before set-up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agenttrace.records import DatasetSpec
from agenttrace.tasks import Finished, Judgement, Task, TaskSet, sources
from agenttrace.tasks.answers import binding, candidate
from agenttrace.tasks.asserts import assertion, run_asserts
from agenttrace.tasks.bench import judged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agenttrace.records import Verdict
    from agenttrace.tasks.bench import Bench

FIRST, LAST = 11, 510
METHOD = "python-assert-v2"


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    code: str
    task_id: int
    test_setup_code: str
    test_list: list[str]
    challenge_test_list: list[str]


class MBPPTasks(TaskSet):
    """The task set `mbpp`.

    Args:
        read: gives the bytes of the pinned file; another one only in tests.

    Raises:
        SourceError: the file cannot be had, or is not the pinned one.
    """

    fixture = "empty"
    files = (sources.MBPP,)

    def __init__(self, read: Callable[[sources.SourceFile], bytes] = sources.read) -> None:
        decode = msgspec.json.Decoder(_Row).decode
        rows = (decode(line) for line in read(sources.MBPP).splitlines())
        self.listed = tuple(_task(row) for row in rows if FIRST <= row.task_id <= LAST)
        self.whole = DatasetSpec(
            name="mbpp",
            split="test",
            source="github:google-research/google-research@f82046ba5aabbbb427dbfd38a254d26bff08b533:mbpp/mbpp.jsonl",
            sha256=sources.MBPP.sha256,
            offset=0,
            count=len(self.listed),
        )

    def assess(self, task: Task, finished: Finished, bench: Bench) -> Judgement:
        """Return one verdict per assert: candidate, then set-up, then asserts, in a new process of the sandbox."""
        code = candidate(finished, task.expect["name"])
        tests = task.expect["asserts"]
        if code is None:
            return Judgement(verdicts=verdicts([f"no code in the run defines {task.expect['name']}"] * len(tests)))
        bench.pristine()
        return Judgement(verdicts=verdicts(run_asserts(bench, code, task.expect["setup"], tests)))


def _task(row: _Row) -> Task:
    return Task(
        task_id=row.task_id,
        name=f"mbpp_{row.task_id}",
        prompt="\n".join([row.text, "", "Test cases:", *row.test_list]),
        kind="python",
        expect={
            "asserts": row.test_list,
            "setup": row.test_setup_code,
            "name": _asserted(row),
            "reference": row.code,
        },
    )


def _asserted(row: _Row) -> str:
    """Return the name that the asserts call and the reference defines at its top level."""
    called = (name for test in row.test_list for name in assertion(test).calls)
    return next(name for name in called if binding(row.code, name) is not None)


def verdicts(problems: Sequence[str | None]) -> tuple[Verdict, ...]:
    """Return the verdicts on a task's asserts, from what is wrong with each."""
    return tuple(judged(f"assert_{number}", METHOD, problem) for number, problem in enumerate(problems))
