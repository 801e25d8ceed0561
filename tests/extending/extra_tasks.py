"""A task set over an existing fixture: this module and a line in `TASK_SETS`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agenttrace.records import DatasetSpec, Verdict, digest
from agenttrace.tasks import Finished, Judgement, Task, TaskSet

if TYPE_CHECKING:
    from agenttrace.tasks.bench import Bench

QUESTIONS = {"2 + 3": 5, "4 * 7": 28, "9 - 9": 0}


class Sums(TaskSet):
    fixture = "demo"
    listed = tuple(
        Task(task_id=number, name=f"sum-{number}", prompt=f"What is {sum_}?", kind="sum", expect={"value": value})
        for number, (sum_, value) in enumerate(QUESTIONS.items())
    )
    whole = DatasetSpec(
        name="sums",
        split="all",
        source="bundled:extra_tasks.py",
        sha256=digest(QUESTIONS),
        offset=0,
        count=len(listed),
    )

    def assess(self, task: Task, finished: Finished, bench: Bench) -> Judgement:
        right = (finished.outcome.final_answer or "").strip() == str(task.expect["value"])
        reason = None if right else f"expected {task.expect['value']}"
        verdict = Verdict(aspect="answer", verdict="passed" if right else "failed", method="sums-v1", reason=reason)
        return Judgement(verdicts=(verdict,))
