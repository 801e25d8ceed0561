"""Runs asserts on a candidate that may do anything: what it is asked to compute, and never what is expected of it.

The sandbox gets the left side of each assert and sends back the value as JSON; the right side never leaves the judge,
which holds the two against each other. So code can redefine what it likes, forge what it sends and read all of its
process: it wins no more than by returning that value. What it sends is text here, never an object.
"""

from __future__ import annotations

import ast
import json
import secrets
from typing import TYPE_CHECKING, Any

from agenttrace.errors import DataError
from agenttrace.records import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agenttrace.tasks.bench import Bench

LIMIT_MS = 10_000
_REASON_CHARS = 200
_CONTAINERS = (list, tuple, set, dict)
_SCALARS = (bool, int, float, str, type(None))

# Results go to a copy of standard output under a random word, and what the candidate prints goes nowhere: an accident
# is no result. A number of another kind is sent as the equal `float` or `int`, else as it is no literal.
_PROGRAM = """
import collections, collections.abc, json, numbers, os, sys, types
out = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
work = json.loads({work!r})
module = types.ModuleType("candidate")
sys.modules["candidate"] = module
def literal(value):
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, collections.abc.Mapping):
        return {{"dict": [[literal(key), literal(one)] for key, one in value.items()]}}
    if isinstance(value, collections.UserString):
        return str(value)
    for name, kind in (("list", (list, collections.UserList)), ("tuple", tuple), ("set", collections.abc.Set)):
        if isinstance(value, kind):
            return {{name: [literal(one) for one in value]}}
    if isinstance(value, numbers.Number):
        plain = value.real if isinstance(value, complex) else value
        for kind in (float, int):
            if kind(plain) == value:
                return kind(plain)
    raise TypeError("the result is of type " + type(value).__name__ + ", which no expected value is")
def step(number, code, mode):
    problem = value = None
    try:
        value = eval(compile(code, "<" + number + ">", mode, dont_inherit=True), module.__dict__)
        value = json.dumps(literal(value)) if mode == "eval" else None
        if value is not None and len(value) > {most}:
            raise ValueError("the result is too long to be compared: " + str(len(value)) + " characters")
    except BaseException as error:
        value, problem = None, type(error).__name__ + (": " + str(error) if str(error) else "")
        problem = problem.encode("utf-8", "backslashreplace").decode()
    out.write(json.dumps([work["word"], number, problem, value]) + "\\n")
    out.flush()
    return problem
if step("candidate", work["candidate"], "exec") is None and step("setup", work["setup"], "exec") is None:
    for number, asked in work["asked"]:
        step(str(number), asked, "eval")
os._exit(0)
"""
_MOST_CHARS = 100_000


class Assertion(Record, frozen=True, kw_only=True):
    """One assert: what is computed, what it must equal, and the names that are called on the way."""

    asked: str
    expected: Any
    calls: tuple[str, ...]


def assertion(test: str) -> Assertion:
    """Return the parts of `assert ASKED == EXPECTED`, where the right side is a literal.

    Raises:
        DataError: it has another form.
    """
    try:
        (statement,) = ast.parse(test).body
        if isinstance(statement, ast.Assert) and isinstance(statement.test, ast.Compare):
            (operator,), (right,) = statement.test.ops, statement.test.comparators
            if isinstance(operator, ast.Eq):
                left = statement.test.left
                names = [node.func.id for node in ast.walk(left)
                         if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]  # fmt: skip
                return Assertion(asked=ast.unparse(left), expected=ast.literal_eval(right), calls=tuple(names))
    except (SyntaxError, ValueError):
        pass
    raise DataError(f"{test[:_REASON_CHARS]!r} is not `assert CALL == LITERAL`: such a test cannot be judged")


def run_asserts(
    bench: Bench, candidate: str, setup: str, tests: Sequence[str], *, limit_ms: int = LIMIT_MS
) -> list[str | None]:
    """Return what is wrong per assert; `None` where it holds.

    What they ask for is computed one after the other in one process. Where that process ends or is stopped before the
    last one, the rest runs in a new one, so that one endless loop does not decide the others.

    Raises:
        DataError: a test is no assert that can be judged.
    """
    asserts = [assertion(test) for test in tests]
    problems: list[str | None] = []
    while len(problems) < len(asserts):
        asked = [(number, one.asked) for number, one in enumerate(asserts)][len(problems) :]
        found, end = _process(bench, {"candidate": candidate, "setup": setup, "asked": asked}, limit_ms)
        for step in ("candidate", "setup"):
            if found.get(step, (end, None))[0] is not None:  # nothing was reached that is asked for, nor can be
                return [f"{step}: {found.get(step, (end, None))[0]}"[:_REASON_CHARS]] * len(asserts)
        for number in range(len(problems), len(asserts)):
            if str(number) not in found:
                problems.append(end)
                break
            problem, value = found[str(number)]
            if problem is None and not _equal(value, asserts[number].expected):
                problem = "AssertionError"
            problems.append(None if problem is None else problem[:_REASON_CHARS])
    return problems


def _process(bench: Bench, work: dict[str, Any], limit_ms: int) -> tuple[dict[str, tuple[str | None, Any]], str]:
    """Return problem and value per step that was finished, and how the process ended."""
    word = secrets.token_hex(16)
    program = _PROGRAM.format(work=json.dumps({"word": word, **work}), most=_MOST_CHARS)
    report = bench.call("python", program, limit_ms=limit_ms)
    found: dict[str, tuple[str | None, Any]] = {}
    for line in (report.stdout.text or "").splitlines():
        try:
            match json.loads(line):
                case [said, str(step), None, None] if said == word:
                    found[step] = None, None
                case [said, str(step), None, str(value)] if said == word:
                    found[step] = None, json.loads(value)
                case [said, str(step), str(problem), None] if said == word:
                    found[step] = problem, None
        except (ValueError, RecursionError):  # not ours: the candidate can write here, too
            continue
    ends = {"timeout": f"not done after {limit_ms / 1000:g} s", "oom": "stopped: out of memory"}
    return found, ends.get(report.status, f"the process ended (exit status {report.exit_code})")


def _equal(found: object, expected: object) -> bool:
    """Return whether a value that was sent equals the expected one; takes no longer than that one is large."""
    if not isinstance(expected, _CONTAINERS):
        return isinstance(found, _SCALARS) and found == expected
    items = found.get(type(expected).__name__) if isinstance(found, dict) else None
    if not isinstance(items, list) or len(items) != len(expected):
        return False
    if isinstance(expected, dict):
        return all(any(_is_pair(item, pair) for item in items) for pair in expected.items())
    if isinstance(expected, set):
        return all(any(_equal(item, one) for item in items) for one in expected)
    return all(map(_equal, items, expected))


def _is_pair(found: object, pair: tuple[object, object]) -> bool:
    return isinstance(found, list) and len(found) == len(pair) and all(map(_equal, found, pair))
