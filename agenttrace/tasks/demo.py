"""The bundled demo tasks: small, judged exactly, solved by the bundled model.

A verdict bears version 2 of its method only where version 1 would have given another one: what was recorded before is
judged the same again.
"""

from __future__ import annotations

import hashlib
import re
import stat
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.errors import DataError
from agenttrace.records import DatasetSpec
from agenttrace.tasks import Finished, Judgement, Task, TaskSet
from agenttrace.tasks.bench import UNRECORDED, applied, judged, named

if TYPE_CHECKING:
    from agenttrace.records import StateChange, Verdict
    from agenttrace.sandbox.reports import TreeEntry
    from agenttrace.tasks.bench import Bench

    Facts = TreeEntry | StateChange

DATA = Path(__file__).parent / "demo.toml"
ANSWER_METHOD = "exact-answer-v1"
MARKED_METHOD = "exact-answer-v2"
"""Marks of Markdown around the whole answer do not count."""
STATE_METHOD = "tree-manifest-v1"
UNRECORDED_METHOD = "tree-manifest-v2"
"""A final state that differs too much to be recorded failed; it was not gradable."""
_MARKED = re.compile(r"(```+|~~~+)[^\n`]*\n(.+)\n\s*\1|(`+|\*\*|__|[*_])(.+)\3", re.DOTALL)


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    id: int
    name: str
    kind: str
    prompt: str
    expect: dict[str, Any]
    solvable: bool = True


class DemoTasks(TaskSet):
    """The demo task set.

    Args:
        path: the data file; another one only in tests.

    Raises:
        DataError: the file is not what it must be.
    """

    fixture = "demo"

    def __init__(self, path: Path = DATA) -> None:
        data = path.read_bytes()
        try:
            rows = msgspec.convert(tomllib.loads(data.decode())["task"], list[_Row])
        except (ValueError, KeyError) as error:
            raise DataError(f"{path}: not a demo task file: {error}") from error
        if [row.id for row in rows] != list(range(len(rows))):
            raise DataError(f"{path}: task ids must count up from 0")
        self.listed = tuple(
            Task(
                task_id=row.id,
                name=row.name,
                prompt=row.prompt,
                kind=row.kind,
                expect=row.expect,
                solvable=row.solvable,
            )
            for row in rows
        )
        self.whole = DatasetSpec(
            name="demo",
            split="demo",
            source="bundled:agenttrace/tasks/demo.toml",
            sha256=hashlib.sha256(data).hexdigest(),
            offset=0,
            count=len(self.listed),
        )

    def assess(self, task: Task, finished: Finished, bench: Bench) -> Judgement:
        """Return the verdicts of `judge`; a final state that differs too much to be recorded failed."""
        if finished.outcome.changes is None:
            answer = judge_answer(str(task.expect["answer"]), finished.outcome.final_answer)
            state = judged("state", UNRECORDED_METHOD, UNRECORDED)
            return Judgement(verdicts=(answer, state))
        before = bench.before()
        after = tuple(applied(before, finished.outcome.changes).values())
        return Judgement(verdicts=self.judge(task, finished.outcome.final_answer, before, after))

    def judge(
        self, task: Task, answer: str | None, before: tuple[Facts, ...], after: tuple[Facts, ...]
    ) -> tuple[Verdict, ...]:
        """Return the verdicts `answer` (equal after stripping blanks) and `state` (exactly the expected changes)."""
        return (
            judge_answer(str(task.expect["answer"]), answer),
            _judge_state(task.expect.get("changes", {}), before, after),
        )


def judge_answer(expected: str, answer: str | None, *, aspect: str = "answer") -> Verdict:
    """Return the verdict on an answer that must be a text, but for blanks and marks of Markdown around the whole."""
    if answer is None:
        return judged(aspect, ANSWER_METHOD, "no final answer was given")
    given, wanted = answer.strip(), expected.strip()
    marked = _MARKED.fullmatch(given)
    if given != wanted and marked is not None and (marked[2] or marked[4]).strip() == wanted:
        return judged(aspect, MARKED_METHOD, None)
    return judged(aspect, ANSWER_METHOD, None if given == wanted else f"expected {expected!r}, got {given!r}")


def _judge_state(changes: dict[str, dict[str, str]], before: tuple[Facts, ...], after: tuple[Facts, ...]) -> Verdict:
    expected = {entry.path: _facts(entry) for entry in before}
    for path, change in changes.items():
        if change["type"] == "absent":
            expected.pop(path, None)
        else:
            expected[path] = _changed(change)
    found = {entry.path: _facts(entry) for entry in after}
    wrong = [
        path
        for path in sorted({*expected, *found})
        if path not in expected
        or path not in found
        or any(found[path].get(key) != value for key, value in expected[path].items())
    ]
    return judged("state", STATE_METHOD, f"other than expected: {named(wrong)}" if wrong else None)


def _facts(entry: Facts) -> dict[str, str | None]:
    """Return what is compared: type, mode (links have none), content, target; never times or owners."""
    mode = None if entry.type == "symlink" else entry.mode
    return {"type": entry.type, "mode": mode, "sha256": entry.sha256, "target": entry.target}


def _changed(change: dict[str, str]) -> dict[str, str | None]:
    facts: dict[str, str | None] = {"type": change["type"]}
    if "content" in change:
        facts["sha256"] = hashlib.sha256(change["content"].encode()).hexdigest()
    if "target" in change:
        facts["target"] = change["target"]
    if "mode" in change:
        facts["mode"] = f"{stat.S_IMODE(int(change['mode'], 8)):04o}"
    return facts
