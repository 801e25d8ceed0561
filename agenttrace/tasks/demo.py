"""The bundled demo tasks: small, judged exactly, solved by the bundled model."""

from __future__ import annotations

import hashlib
import stat
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.errors import DataError
from agenttrace.fixture.version import fixture_version
from agenttrace.records import DatasetSpec, Verdict
from agenttrace.tasks import Bench, Evidence, Finished, Judgement, Task, chosen, state

if TYPE_CHECKING:
    from agenttrace.records import StateChange
    from agenttrace.sandbox.reports import TreeEntry

    Facts = TreeEntry | StateChange

DATA = Path(__file__).parent / "demo.toml"
ANSWER_METHOD = "exact-answer-v1"
STATE_METHOD = "tree-manifest-v1"
_SHOWN = 5


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    id: int
    name: str
    kind: str
    prompt: str
    expect: dict[str, Any]
    solvable: bool = True


class DemoTasks:
    """The demo task set.

    Args:
        path: the data file; another one only in tests.

    Raises:
        DataError: the file is not what it must be.
    """

    policy = "shell"
    agent = "tool_calling"
    fixture = "demo"
    clock: str | None = None

    def __init__(self, path: Path = DATA) -> None:
        self._bytes = path.read_bytes()
        try:
            rows = msgspec.convert(tomllib.loads(self._bytes.decode())["task"], list[_Row])
        except (ValueError, KeyError) as error:
            raise DataError(f"{path}: not a demo task file: {error}") from error
        if [row.id for row in rows] != list(range(len(rows))):
            raise DataError(f"{path}: task ids must count up from 0")
        self._tasks = tuple(
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

    def spec(self, *, offset: int = 0, count: int | None = None) -> DatasetSpec:
        """Return the pinned description of the chosen range."""
        return DatasetSpec(
            name="demo",
            split="demo",
            source="bundled:agenttrace/tasks/demo.toml",
            sha256=hashlib.sha256(self._bytes).hexdigest(),
            offset=offset,
            count=len(self.tasks(offset=offset, count=count)),
        )

    def tasks(self, *, offset: int = 0, count: int | None = None) -> tuple[Task, ...]:
        """Return `count` tasks from `offset` on (all that follow when `count` is `None`).

        Raises:
            UsageError: the range is empty or outside the set.
        """
        return chosen("demo", self._tasks, offset=offset, count=count)

    def fixture_version(self) -> str:
        """Return the digest of the fixture."""
        return fixture_version(self.fixture)

    def observe(self, task: Task, bench: Bench) -> Evidence:  # noqa: ARG002 - the bench knows the tree
        """Return the paths that differ."""
        return Evidence(changes=bench.changes())

    def assess(self, task: Task, finished: Finished, bench: Bench) -> Judgement:
        """Return the verdicts of `judge`; without a recorded final state, `state` is not gradable."""
        if finished.changes is None:
            answer = _judge_answer(str(task.expect["answer"]), finished.answer)
            reason = "the final state is not recorded"
            unknown = Verdict(aspect="state", verdict="not_gradable", method=STATE_METHOD, reason=reason)
            return Judgement(verdicts=(answer, unknown))
        before = bench.before()
        after = tuple(state.applied(before, finished.changes).values())
        return Judgement(verdicts=self.judge(task, finished.answer, before, after))

    def judge(
        self, task: Task, answer: str | None, before: tuple[Facts, ...], after: tuple[Facts, ...]
    ) -> tuple[Verdict, ...]:
        """Return the verdicts `answer` (equal after stripping blanks) and `state` (exactly the expected changes)."""
        return (
            _judge_answer(str(task.expect["answer"]), answer),
            _judge_state(task.expect.get("changes", {}), before, after),
        )


def _judge_answer(expected: str, answer: str | None) -> Verdict:
    if answer is None:
        return Verdict(aspect="answer", verdict="failed", method=ANSWER_METHOD, reason="no final answer was given")
    if answer.strip() == expected.strip():
        return Verdict(aspect="answer", verdict="passed", method=ANSWER_METHOD)
    return Verdict(
        aspect="answer", verdict="failed", method=ANSWER_METHOD, reason=f"expected {expected!r}, got {answer.strip()!r}"
    )


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
    if not wrong:
        return Verdict(aspect="state", verdict="passed", method=STATE_METHOD)
    more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return Verdict(
        aspect="state",
        verdict="failed",
        method=STATE_METHOD,
        reason=f"other than expected: {', '.join(wrong[:_SHOWN])}{more}",
    )


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
