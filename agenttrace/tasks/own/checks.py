"""Judges a finished run by the checks of its task, one verdict each; whatever is expected stays outside of the sandbox.

What a run left is known by digest, from its record. Where a check needs the tree itself (a command, the content of a
file), the bench's tree is compared with that first. When a check before it has changed something, the tree is put back
from a copy; when there is none, as for a record that is judged again, the recorded calls are made again in a pristine
tree. What comes of it must be the recorded tree.
"""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from agenttrace.tasks import gold
from agenttrace.tasks.bench import KEEP_BYTES, UNRECORDED, applied, judged, named
from agenttrace.tasks.demo import judge_answer
from agenttrace.tasks.own import matching
from agenttrace.tasks.own.format import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agenttrace.records import Output, Span, StateChange, Verdict
    from agenttrace.sandbox.reports import CallReport
    from agenttrace.tasks import Finished, Task
    from agenttrace.tasks.bench import Bench

    Check = dict[str, Any]

ANSWER_METHOD = "answer-pattern-v1"
STDOUT_METHOD = "command-stdout-v1"
FILE_METHOD = "file-state-v1"
EXIT_METHOD = "script-exit-status-v1"
NOT_AGAIN = "the tree that the run left cannot be made again from its calls"
_LONGEST_CALL_MS = 3_600_000
_SHORTEST_CALL_MS = 30_000
_CODE: dict[str, tuple[Literal["bash", "python"], str]] = {
    "bash": ("bash", "command"),
    "python_interpreter": ("python", "code"),
}
"""Tool → what ran it, and the argument that is the code."""
_HOME = "export HOME=/nonexistent PYTHONNOUSERSITE=1; "
"""Before every command of a check: the home of the tools is the task's folder, and programs read settings there."""
_SWEEP = (
    'for f in /tmp /var/tmp /dev/shm; do find $f -mindepth 1 -maxdepth 1 -user "$(id -u)" %s -exec rm -rf {} +; done'
)
"""What a run left beside its tree is no part of what is judged."""
_LEFT = "/tmp/.left-$(id -u)"  # noqa: S108 - of the sandbox, where nobody else is
_OPEN = """{
    stat --printf '%a %n\\0' "$PWD"
    chmod u+rwx "$PWD"
    find "$PWD" -type d ! -perm -u=rwx -printf '%m %p\\0' -exec chmod u+rwx {} \\;
    find "$PWD" ! -type d ! -type l ! -perm -u=r -printf '%m %p\\0' -exec chmod u+r {} +
}"""
"""Open what its owner cannot read, a folder before what is in it, and print mode and path of each."""
_SHUT = f"""\
mapfile -d '' -t shut < {_LEFT}.modes
for ((at = ${{#shut[@]}} - 1; at >= 0; at--)); do chmod "${{shut[at]%% *}}" -- "${{shut[at]#* }}"; done"""
"""Give everything that was opened its mode again, a folder after what is in it."""
_KEEP = f"""{_SWEEP % ""}
{_OPEN} > {_LEFT}.modes
tar -cf {_LEFT}.tar . || rm -f {_LEFT}.tar
{_SHUT}"""
_PUT_BACK = f"""{_OPEN} > /dev/null
find . -mindepth 1 -delete
tar -xpf {_LEFT}.tar
{_SHUT}"""
_SHOWN = 200


def judge(task: Task, finished: Finished, bench: Bench) -> tuple[Verdict, ...]:
    """Return the verdicts of every check, in the order of the checks."""
    checks: list[Check] = task.expect["check"]
    left = LeftTree(finished, bench)
    found: dict[int, tuple[Verdict, ...]] = {}
    for number in sorted(range(len(checks)), key=lambda number: checks[number]["kind"] == "gold"):
        check = checks[number]  # the gold command's last: it runs in a tree of its own
        if check["kind"] == "gold":
            found[number] = _gold(check, task, finished, bench)
        else:
            found[number] = (_JUDGES[check["kind"]](check, finished, left),)
    return tuple(verdict for number in range(len(checks)) for verdict in found[number])


class LeftTree:
    """The tree that a run left, in the bench whenever it is asked for."""

    def __init__(self, finished: Finished, bench: Bench) -> None:
        self._finished, self._bench = finished, bench
        self._problem: str | None = None
        self._kept = False

    def facts(self) -> dict[str, StateChange] | None:
        """Return what is known of every path; `None` where the final state is not recorded."""
        changes = self._finished.outcome.changes
        return None if changes is None else applied(self._bench.before(), changes)

    def call(self, command: str, limit_s: float) -> CallReport | str:
        """Return what a command does in that tree, or why the tree is not to be had."""
        if (problem := self._made()) is not None:
            return problem
        self._prepare(_SWEEP % f'! -path "{_LEFT}.*"')
        return self._bench.call("bash", _HOME + command, limit_ms=round(limit_s * 1000))

    def _prepare(self, command: str) -> None:
        self._bench.call("bash", command, limit_ms=_SHORTEST_CALL_MS)

    def _made(self) -> str | None:
        """Make the tree where it is not there; return why that could not be."""
        wanted = self._finished.outcome.changes
        if wanted is None or self._problem is not None:
            return self._problem or UNRECORDED
        self._bench.before()
        if self._bench.changes() == wanted:
            if not self._kept:
                self._prepare(_KEEP)
                self._kept = True
            return None
        if self._kept:
            self._prepare(_PUT_BACK)
            if self._bench.changes() == wanted:
                return None
        self._bench.pristine()
        for kind, code, limit_ms in _calls(self._finished.spans):
            self._bench.call(kind, code, limit_ms=limit_ms)
        now = self._bench.changes()
        if now != wanted:
            is_, was = ({one.path: one for one in changes or ()} for changes in (now, wanted))
            other = [path for path in sorted({*is_, *was}) if is_.get(path) != was.get(path)]
            self._problem = f"{NOT_AGAIN}: another {named(other)}"
        return self._problem


def _calls(spans: tuple[Span, ...]) -> Iterator[tuple[Literal["bash", "python"], str, int]]:
    """Yield what a run had carried out: what ran it, the code, and a limit in milliseconds."""
    for span in spans:
        if span.tool_name not in _CODE or span.status in {"not_executed", "lost"}:
            continue
        kind, argument = _CODE[span.tool_name]
        try:
            code = json.loads(span.tool_input).get(argument)
        except (ValueError, RecursionError, AttributeError):  # in a record that was edited
            continue
        took = math.ceil(span.duration_ms or 0)
        limit = took if span.status == "timeout" else max(took * 2, _SHORTEST_CALL_MS)
        if isinstance(code, str):
            yield kind, code, min(max(limit, 1), _LONGEST_CALL_MS)


def _answer(check: Check, finished: Finished, _: LeftTree) -> Verdict:
    given = finished.outcome.final_answer
    if "equals" in check:
        return judge_answer(check["equals"], given, aspect=check["name"])
    problem = "no final answer was given" if given is None else matching.problem(check["matches"], given, "the answer")
    return judged(check["name"], ANSWER_METHOD, problem)


def _stdout(check: Check, _: Finished, left: LeftTree) -> Verdict:
    report = left.call(check["command"], check.get("limit_s", LIMIT_S))
    if isinstance(report, str):
        return _unknown(check, STDOUT_METHOD, report)
    return judged(
        check["name"], STDOUT_METHOD, _ended(report, check) or _text_problem(check, report.stdout, "its output")
    )


def _ended(report: CallReport, check: Check) -> str | None:
    """Return why a command of a check has no end of its own."""
    if report.status == "timeout":
        return f"it took longer than {check.get('limit_s', LIMIT_S):g} s"
    return "it ran out of memory" if report.status == "oom" else None


def _text_problem(check: Check, stream: Output, what: str) -> str | None:
    if stream.bytes_kept < stream.bytes_total:
        return f"{what} has {stream.bytes_total} bytes, more than the {KEEP_BYTES} that are compared"
    if stream.encoding != "utf-8" or stream.text is None:
        return f"{what} is not UTF-8"
    if "matches" in check:
        return matching.problem(check["matches"], stream.text, what)
    given, wanted = stream.text.rstrip("\n"), check["equals"].rstrip("\n")
    return None if given == wanted else f"expected {wanted[:_SHOWN]!r}, got {given[:_SHOWN]!r}"


def _exit_status(check: Check, _: Finished, left: LeftTree) -> Verdict:
    report = left.call(check["script"], check.get("limit_s", LIMIT_S))
    if isinstance(report, str):
        return _unknown(check, EXIT_METHOD, report)
    wanted = check.get("equals", 0)
    other = None if report.exit_code == wanted else f"exit status {report.exit_code}, expected {wanted}"
    return judged(check["name"], EXIT_METHOD, _ended(report, check) or other)


def _unknown(check: Check, method: str, problem: str) -> Verdict:
    """Return the verdict where the tree is not to be had; one too different to be recorded is the run's doing."""
    verdict = judged(check["name"], method, problem)
    return verdict if problem == UNRECORDED else msgspec.structs.replace(verdict, verdict="not_gradable")


def _file(check: Check, _: Finished, left: LeftTree) -> Verdict:
    facts, path = left.facts(), check["path"]
    if facts is None:
        return judged(check["name"], FILE_METHOD, UNRECORDED)
    fact = facts.get(path)
    problem = _fact_problem(check, fact)
    if problem or fact is None or "matches" not in check:
        return judged(check["name"], FILE_METHOD, problem)
    report = left.call(f"cat < {shlex.quote(path)}", LIMIT_S)
    if isinstance(report, str):
        return _unknown(check, FILE_METHOD, report)
    problem = _text_problem(check, report.stdout, path)
    if problem is None and hashlib.sha256((report.stdout.text or "").encode()).hexdigest() != fact.sha256:
        problem = f"{path} cannot be read"
    return judged(check["name"], FILE_METHOD, problem)


def _fact_problem(check: Check, fact: StateChange | None) -> str | None:
    """Return what of a path is not as it must be, as far as its type, mode and digest say."""
    path = check["path"]
    found: dict[str, object] = {} if fact is None else {"mode": fact.mode, "sha256": fact.sha256}
    if "absent" in check or fact is None:
        return None if (fact is None) == ("absent" in check) else f"{path} is {'not ' if fact is None else ''}there"
    if {"equals", "matches", "sha256"} & {*check} and fact.type != "file":
        return f"{path} is no file ({fact.type})"
    for name, called in (("mode", "mode"), ("sha256", "SHA-256")):
        if name in check and found[name] != check[name]:
            return f"{path} has {called} {found[name]}, expected {check[name]}"
    if "equals" in check and fact.sha256 != hashlib.sha256(check["equals"].encode()).hexdigest():
        return f"{path} has another content ({fact.size} bytes, expected are {len(check['equals'].encode())})"
    return None


def _gold(check: Check, task: Task, finished: Finished, bench: Bench) -> tuple[Verdict, ...]:
    """Return the verdicts on what a run did beside what the gold command does, one for each thing compared."""
    policy = gold.GradingPolicy(
        origin=str(task.task_id),
        effect="W",
        stdout="sorted" if check.get("sorted") else "exact",
        content_ignored=tuple(check.get("ignore_content", ())),
    )
    compared = check.get("compare", ["state"])
    reference = gold.run_gold(bench, task.expect["gold"])
    found = {one.aspect: one for one in gold.verdicts(policy, gold.last_call(finished), reference)}
    return tuple(
        msgspec.structs.replace(found[one], aspect=check["name"] if len(compared) == 1 else f"{check['name']}_{one}")
        for one in compared
    )


_JUDGES = {"answer": _answer, "stdout": _stdout, "file": _file, "exit_status": _exit_status}
