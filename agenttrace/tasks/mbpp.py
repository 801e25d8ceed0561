"""MBPP, the test split (task ids 11 to 510): 500 small Python tasks, one verdict per assert.

Prompt: the task's text, an empty line, `Test cases:`, the asserts one per line, nothing after them.
"""

from __future__ import annotations

import ast
import json
import re
import threading
import warnings
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.fixture.version import fixture_version
from agenttrace.records import DatasetSpec, Verdict
from agenttrace.tasks import Bench, Evidence, Finished, Judgement, Task, asserts, chosen, sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIRST, LAST = 11, 510
METHOD = "python-assert-v1"
_PARSING = threading.Lock()
_FENCE = re.compile(r"```[^\n`]*\n(.*?)```", re.DOTALL)


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    code: str
    task_id: int
    test_setup_code: str
    test_list: list[str]
    challenge_test_list: list[str]


class MBPPTasks:
    """The task set `mbpp`.

    Args:
        read: gives the bytes of the pinned file; another one only in tests.

    Raises:
        SourceError: the file cannot be had, or is not the pinned one.
    """

    policy = "shell"
    agent = "tool_calling"
    fixture = "empty"
    clock: str | None = None

    def __init__(self, read: Callable[[sources.SourceFile], bytes] = sources.read) -> None:
        decode = msgspec.json.Decoder(_Row).decode
        rows = (decode(line) for line in read(sources.MBPP).splitlines())
        self._tasks = tuple(_task(row) for row in rows if FIRST <= row.task_id <= LAST)

    def spec(self, *, offset: int = 0, count: int | None = None) -> DatasetSpec:
        """Return the pinned description of the chosen range."""
        return DatasetSpec(
            name="mbpp",
            split="test",
            source="github:google-research/google-research@f82046ba5aabbbb427dbfd38a254d26bff08b533:mbpp/mbpp.jsonl",
            sha256=sources.MBPP.sha256,
            offset=offset,
            count=len(self.tasks(offset=offset, count=count)),
        )

    def tasks(self, *, offset: int = 0, count: int | None = None) -> tuple[Task, ...]:
        """Return `count` tasks from `offset` on (all that follow when `count` is `None`).

        Raises:
            UsageError: the range is empty or outside the set.
        """
        return chosen("mbpp", self._tasks, offset=offset, count=count)

    def fixture_version(self) -> str:
        """Return the digest of the fixture."""
        return fixture_version(self.fixture)

    def observe(self, task: Task, bench: Bench) -> Evidence:  # noqa: ARG002 - the bench knows the tree
        """Return the paths that differ."""
        return Evidence(changes=bench.changes())

    def assess(self, task: Task, finished: Finished, bench: Bench) -> Judgement:
        """Return one verdict per assert: candidate, then set-up, then asserts, in a new process of the sandbox."""
        code = candidate(finished, task.expect["name"])
        tests = task.expect["asserts"]
        if code is None:
            problem = f"no code in the run defines {task.expect['name']}"
            return Judgement(verdicts=tuple(_verdict(number, problem) for number in range(len(tests))))
        bench.pristine()
        problems = asserts.run(bench, code, task.expect["setup"], tests)
        return Judgement(verdicts=tuple(_verdict(number, problem) for number, problem in enumerate(problems)))


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
    called = {
        node.func.id
        for test in row.test_list
        for node in ast.walk(ast.parse(test))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    return next(name for name in _defined(row.code) if name in called)


def candidate(finished: Finished, name: str) -> str | None:
    """Return the last code of a run that defines `name` at its top level: in the final answer or a Python call."""
    return next((code for code in _codes(finished) if name in _defined(code)), None)


def _codes(finished: Finished) -> Iterator[str]:
    """Yield what may be code, the last first: the final answer, its fenced blocks, then the calls."""
    if finished.answer is not None:
        yield finished.answer
        yield from reversed(_FENCE.findall(finished.answer))
    for span in reversed(finished.spans):
        if span.tool_name == "python_interpreter" and span.status != "not_executed":
            try:
                arguments: Any = json.loads(span.tool_input)
            except (ValueError, RecursionError):  # in a record that was edited
                continue
            if isinstance(arguments, dict) and isinstance(arguments.get("code"), str):
                yield arguments["code"]


def _defined(code: str) -> list[str]:
    """Return the names that code binds at its top level; none when it is not Python."""
    try:
        with _PARSING, warnings.catch_warnings():  # filters are the whole process's, and campaigns have threads
            warnings.simplefilter("ignore")
            body = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return [name for node in body for name in _bound(node)]


def _bound(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    return []


def _verdict(number: int, problem: str | None) -> Verdict:
    state: Any = "failed" if problem else "passed"
    return Verdict(aspect=f"assert_{number}", verdict=state, method=METHOD, reason=problem)
