"""A task set over an existing fixture: this module and a line in `TASK_SETS`."""

from __future__ import annotations

from agenttrace.fixture.version import fixture_version
from agenttrace.records import DatasetSpec, Verdict, digest
from agenttrace.tasks import Bench, Evidence, Finished, Judgement, Task, chosen

QUESTIONS = {"2 + 3": 5, "4 * 7": 28, "9 - 9": 0}


class Sums:
    policy = "shell"
    agent = "tool_calling"
    fixture = "demo"
    clock: str | None = None

    def fixture_version(self) -> str:
        return fixture_version(self.fixture)

    def spec(self, *, offset: int = 0, count: int | None = None) -> DatasetSpec:
        return DatasetSpec(
            name="sums",
            split="all",
            source="bundled:extra_tasks.py",
            sha256=digest(QUESTIONS),
            offset=offset,
            count=len(self.tasks(offset=offset, count=count)),
        )

    def tasks(self, *, offset: int = 0, count: int | None = None) -> tuple[Task, ...]:
        every = tuple(
            Task(task_id=number, name=f"sum-{number}", prompt=f"What is {sum_}?", kind="sum", expect={"value": value})
            for number, (sum_, value) in enumerate(QUESTIONS.items())
        )
        return chosen("sums", every, offset=offset, count=count)

    def observe(self, task: Task, bench: Bench) -> Evidence:
        return Evidence(changes=bench.changes())

    def assess(self, task: Task, finished: Finished, bench: Bench) -> Judgement:
        right = (finished.answer or "").strip() == str(task.expect["value"])
        reason = None if right else f"expected {task.expect['value']}"
        verdict = Verdict(aspect="answer", verdict="passed" if right else "failed", method="sums-v1", reason=reason)
        return Judgement(verdicts=(verdict,))
