"""Runs asserts on a candidate in the sandbox: in a new CPython process, with a time limit, candidate before set-up."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agenttrace.tasks import Bench

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


def run(
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
