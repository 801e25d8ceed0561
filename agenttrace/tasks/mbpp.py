"""MBPP, the test split (task ids 11 to 510): 500 small Python tasks, one verdict per assert.

Prompt: the task's text, an empty line, `Test cases:`, the asserts one per line, nothing after them. Asserts run on a
candidate in the sandbox: in a new CPython process, with a time limit, candidate before set-up.
"""

from __future__ import annotations

import ast
import json
import re
import secrets
import threading
import warnings
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.records import DatasetSpec, Verdict
from agenttrace.tasks import Finished, Judgement, Task, TaskSet, sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agenttrace.tasks.bench import Bench

FIRST, LAST = 11, 510
METHOD = "python-assert-v1"
_PARSING = threading.Lock()
_FENCE = re.compile(r"```[^\n`]*\n(.*?)```", re.DOTALL)
LIMIT_MS = 10_000
_REASON_CHARS = 200
_RESULT = msgspec.json.Decoder(tuple[str, str, str | None])

# The results go to a copy of standard output under a random word; what the candidate prints goes nowhere. That guards
# against accidents. A candidate that means to cheat runs in the same process and can: a verdict is no defence there.
_PROGRAM = """
import json, os, sys, types
out = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
work = json.loads({work!r})
module = types.ModuleType("candidate")
sys.modules["candidate"] = module
def step(number, code):
    try:
        exec(compile(code, "<" + number + ">", "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:
        problem = type(error).__name__ + (": " + str(error) if str(error) else "")
        problem = problem.encode("utf-8", "backslashreplace").decode()
    else:
        problem = None
    out.write(json.dumps([work["word"], number, problem]) + "\\n")
    out.flush()
    return problem
if step("candidate", work["candidate"]) is None and step("setup", work["setup"]) is None:
    for number, test in work["tests"]:
        step(str(number), test)
os._exit(0)
"""


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
            problem = f"no code in the run defines {task.expect['name']}"
            return Judgement(verdicts=tuple(_verdict(number, problem) for number in range(len(tests))))
        bench.pristine()
        problems = run_asserts(bench, code, task.expect["setup"], tests)
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
    if finished.outcome.final_answer is not None:
        yield finished.outcome.final_answer
        yield from reversed(_FENCE.findall(finished.outcome.final_answer))
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


def run_asserts(
    bench: Bench, candidate: str, setup: str, tests: Sequence[str], *, limit_ms: int = LIMIT_MS
) -> list[str | None]:
    """Return what is wrong per assert; `None` where it holds.

    The asserts run one after the other in one process. Where that process ends or is stopped before the last one, the
    rest runs in a new one, so that one endless loop does not decide the others.
    """
    problems: list[str | None] = []
    while len(problems) < len(tests):
        found, end = _process(bench, candidate, setup, list(enumerate(tests))[len(problems) :], limit_ms)
        for step in ("candidate", "setup"):
            if step not in found or found[step] is not None:  # no assert was reached, and none can be
                return [f"{step}: {found.get(step) or end}"[:_REASON_CHARS]] * len(tests)
        for number in range(len(problems), len(tests)):
            if str(number) not in found:
                problems.append(end)
                break
            problem = found[str(number)]
            problems.append(None if problem is None else problem[:_REASON_CHARS])
    return problems


def _process(
    bench: Bench, candidate: str, setup: str, tests: list[tuple[int, str]], limit_ms: int
) -> tuple[dict[str, str | None], str]:
    """Return the problem per step that was finished, and how the process ended."""
    word = secrets.token_hex(16)
    work = json.dumps({"word": word, "candidate": candidate, "setup": setup, "tests": tests})
    report = bench.call("python", _PROGRAM.format(work=work), limit_ms=limit_ms)
    found: dict[str, str | None] = {}
    for line in (report.stdout.text or "").splitlines():
        try:
            said, step, problem = _RESULT.decode(line)
        except (msgspec.DecodeError, UnicodeError, RecursionError):  # not ours: the candidate can write here, too
            continue
        if said == word:
            found[step] = problem
    ends = {"timeout": f"not done after {limit_ms / 1000:g} s", "oom": "stopped: out of memory"}
    return found, ends.get(report.status, f"the process ended (exit status {report.exit_code})")
