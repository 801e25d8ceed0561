"""Synthetic records of any number: for tests with known answers, for benchmarks, to try a report on.

They are made, not measured: `metadata` says `synthetic` and nothing in them is a result. The same campaign gives the
same bytes on every machine. They hold what real files hold: unknown figures (`None`), failed and refused calls, ends
without an answer, text of any script, markup and control characters.
"""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.records import (
    NO_PROCESS,
    NOT_MEASURED,
    SCHEMA_VERSION,
    LLMStep,
    Outcome,
    Output,
    Record,
    Span,
    Telemetry,
    Timings,
    ToolCall,
    Trace,
    Verdict,
    canonical_json,
    derived_id,
)
from bench.synthetic.tool_calls import Call, call

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_START = datetime(2026, 1, 5, 9, tzinfo=UTC)
_EPOCH_NS = int(_START.timestamp()) * 10**9
_SAMPLED_FROM_NS = 100_000_000
_THOUGHT = (
    "I look at the files first, then count what the task asks for. ",
    "The output shows the lines; now the total. ",
    "Das Ergebnis stimmt nicht mit der Aufgabe überein. ",
    "<script>alert('not markup')</script> & other text that a page must escape. ",
    "先看目录再统计。 \x1b[31mescape\x1b[0m ",
    "One more check before the answer. ",
)


class Campaign(Record, frozen=True, kw_only=True):
    """What one synthetic campaign is made of.

    Attributes:
        model: its name.
        dataset: `nl2bash` (bash calls) or `mbpp` (Python calls); any other name has both.
        tasks: number of tasks; a task has the same difficulty for every model of one seed.
        skill: 0 solves hardly anything, 1 nearly everything.
        tokens_per_s: generation speed.
        seed: of everything.
        run_id: name of the campaign; derived from the rest unless given.
        rollout: index of the attempt at each task.
    """

    model: str = "synthetic-small"
    dataset: str = "nl2bash"
    tasks: int = 100
    skill: float = 0.5
    tokens_per_s: float = 60.0
    seed: int = 20260928
    run_id: str | None = None
    rollout: int = 0


def released_size(seed: int = 20260928) -> tuple[Campaign, ...]:
    """Four campaigns of 1,400 traces in all, in the shape of the AgentTrace release: two models, 500 and 200 tasks."""
    models = (("synthetic-small", 0.45, 60.0), ("synthetic-large", 0.65, 30.0))
    return tuple(
        Campaign(model=model, dataset=dataset, tasks=tasks, skill=skill, tokens_per_s=speed, seed=seed)
        for model, skill, speed in models
        for dataset, tasks in (("mbpp", 500), ("nl2bash", 200))
    )


def traces(campaign: Campaign) -> Iterator[Trace]:
    """Yield the campaign's traces in task order."""
    for task_id in range(campaign.tasks):
        yield _Maker(campaign, task_id).trace()


def write(path: Path, rows: Iterable[Trace]) -> int:
    """Write rows as JSON Lines; returns their number."""
    encode = msgspec.json.Encoder().encode
    count = 0
    with path.open("wb") as file:
        for row in rows:
            file.write(encode(row) + b"\n")
            count += 1
    return count


class _Maker:
    """One trace in the making: a clock that only this trace moves, and its random source."""

    def __init__(self, campaign: Campaign, task_id: int) -> None:
        self._campaign, self._task_id = campaign, task_id
        self._run_id = campaign.run_id or f"synthetic-{campaign.model}-{campaign.dataset}-{campaign.seed}"
        self._random = random.Random(  # noqa: S311 - reproducible, not secret
            f"{campaign.seed}/{campaign.model}/{campaign.dataset}/{task_id}/{campaign.rollout}"
        )
        self._difficulty = random.Random(f"{campaign.seed}/{campaign.dataset}/{task_id}").random()  # noqa: S311
        self._id = derived_id(self._run_id, campaign.dataset, task_id, campaign.rollout)
        self._now_ns = self._started_ns = _EPOCH_NS + task_id * 60 * 10**9
        self._steps: list[LLMStep] = []
        self._spans: list[Span] = []
        self._tokens = 320

    def trace(self) -> Trace:
        draw, odds = self._random, self._campaign.skill - self._difficulty
        solved = draw.random() < 1 / (1 + math.exp(-6 * odds))
        work = min(9, int(draw.expovariate(1 / (0.25 + 1.3 * self._difficulty + 0.5 * (not solved)))) + 1)
        answered = solved or draw.random() < 0.85  # noqa: PLR2004
        for _ in range(work):
            self._work()
        if answered:
            self._answer()
        outcome = self._outcome(solved=solved, answered=answered)
        moment = _START + timedelta(microseconds=(self._started_ns - _EPOCH_NS) // 1000)
        return Trace(
            trace_id=self._id,
            timestamp_utc=moment.isoformat(timespec="microseconds"),
            prompt=f"Task {self._task_id}: count what <b>matters</b> & say it.\n\nThe files are in /testdata/.",
            model=self._campaign.model,
            spans=tuple(self._spans),
            llm_steps=tuple(self._steps),
            total_duration_ms=(self._now_ns - self._started_ns) / 1e6 + 0.25,
            metadata=self._metadata(),
            environment=_ENVIRONMENT,
            outcome=outcome,
        )

    def _work(self) -> None:
        if self._random.random() < 0.04:  # noqa: PLR2004 - a reply that holds no call
            self._step(())
            return
        count = 2 if self._random.random() < 0.03 else 1  # noqa: PLR2004
        made = [call(self._random, self._campaign.dataset) for _ in range(count)]
        step = self._step(tuple((one.tool, one.arguments) for one in made))
        for one, proposed in zip(made, step.tool_calls or (), strict=True):
            self._spans.append(self._run(one, proposed, step))

    def _answer(self) -> None:
        text = str(self._random.randrange(1000))
        step = self._step((("final_answer", canonical_json({"answer": text}).decode()),))
        (proposed,) = step.tool_calls or ()
        self._spans.append(self._span(proposed, step, text, NO_PROCESS, duration_ns=0, status="not_executed"))

    def _step(self, calls: tuple[tuple[str, str], ...]) -> LLMStep:
        number, draw = len(self._steps) + 1, self._random
        output = int(draw.lognormvariate(5.2, 0.6)) + 8
        unparsable = not calls and draw.random() < 0.3  # noqa: PLR2004
        prompt_ms, predicted_ms = self._tokens * 0.8, 1000 * output / self._campaign.tokens_per_s
        duration_ns = int((prompt_ms + predicted_ms + 4 + draw.random() * 6) * 1e6)
        start_ns = self._now_ns
        self._now_ns += duration_ns
        step = LLMStep(
            step_id=derived_id(self._id, "step", number),
            step_number=number,
            model_output=None if calls or unparsable else "Action:",
            reasoning_content=None if unparsable else self._thought(output),
            tool_calls=tuple(
                ToolCall(call_id=f"call_{number}_{index}", name=name, arguments=arguments)
                for index, (name, arguments) in enumerate(calls, start=1)
            )
            or None,
            duration_ms=duration_ns / 1e6,
            input_tokens=None if unparsable else self._tokens,
            output_tokens=None if unparsable else output,
            start_ns=start_ns,
            end_ns=self._now_ns,
            finish_reason="unparsable" if unparsable else "tool_calls" if calls else "stop",
            timings=None
            if unparsable
            else Timings(prompt_n=self._tokens, prompt_ms=prompt_ms, predicted_n=output, predicted_ms=predicted_ms),
        )
        self._steps.append(step)
        self._tokens += 90
        return step

    def _thought(self, tokens: int) -> str:
        return "".join(self._random.choice(_THOUGHT) for _ in range(max(1, tokens // 40)))

    def _run(self, made: Call, proposed: ToolCall, step: LLMStep) -> Span:
        if made.status == "not_executed":
            return self._span(proposed, step, made.stdout, NO_PROCESS, duration_ns=0, status=made.status, exit_code=-1)
        user_ns = made.cpu_ns * 6 // 10
        telemetry = Telemetry(
            user_time_s=user_ns / 1e9,
            system_time_s=(made.cpu_ns - user_ns) / 1e9,
            max_rss_bytes=made.rss_bytes,
            read_bytes=made.read_bytes,
            write_bytes=made.write_bytes,
            method="c-helper",
            wall_ns=made.wall_ns,
            cleanup_ns=30_000,
            cpu_user_ns=user_ns,
            cpu_system_ns=made.cpu_ns - user_ns,
            cpu_unattributed_ns=0,
            peak_rss_floor_bytes=192_512,
            cancelled_write_bytes=0,
            read_chars=len(made.stdout) * 4,
            write_chars=len(made.stdout),
            leftover_count=0,
            minor_faults=160 + made.rss_bytes // 4096,
            major_faults=0,
            voluntary_switches=2,
            involuntary_switches=made.cpu_ns // 4_000_000,
            cfs_periods=1 + made.wall_ns // 100_000_000,
            processes_started=1,
            network_bytes=0,
            **_waits(made),
            **_memory(made),
        )
        lost = made.status == "lost"
        return self._span(
            proposed, step, f"exit_code: {made.exit_code}\nstdout:\n{made.stdout}",
            NOT_MEASURED if lost else telemetry, duration_ns=made.wall_ns, status=made.status,
            exit_code=made.exit_code, stdout=None if lost else made.stdout,
        )  # fmt: skip

    def _span(
        self,
        proposed: ToolCall,
        step: LLMStep,
        text: str,
        telemetry: Telemetry,
        *,
        duration_ns: int,
        status: Any,  # noqa: ANN401 - a SpanStatus
        exit_code: int = 0,
        stdout: str | None = None,
    ) -> Span:
        start_ns = self._now_ns
        self._now_ns += duration_ns + (1_200_000 if duration_ns else 0)
        size = len(stdout.encode()) if stdout is not None else 0
        return Span(
            span_id=derived_id(self._id, proposed.call_id),
            type="TOOL",
            tool_name=proposed.name,
            tool_input=proposed.arguments,
            tool_output=text,
            start_ns=start_ns,
            end_ns=self._now_ns,
            duration_ms=duration_ns / 1e6,
            telemetry=telemetry,
            exit_code=exit_code,
            parent_span_id=step.step_id,
            call_id=proposed.call_id,
            status=status,
            stdout=None if stdout is None else Output(text=stdout, bytes_total=size, bytes_kept=size),
            stderr=None if stdout is None else Output(text="", bytes_total=0, bytes_kept=0),
        )

    def _outcome(self, *, solved: bool, answered: bool) -> Outcome:
        gradable = self._random.random() > 0.03  # noqa: PLR2004
        aspect = Verdict(
            aspect="answer",
            verdict=("passed" if solved else "failed") if gradable else "not_gradable",
            method="synthetic-v1",
            reason=None if gradable else "the reference is not deterministic",
        )
        state = Verdict(aspect="state", verdict="passed", method="synthetic-v1")
        return Outcome(
            ended="final_answer" if answered else "max_steps",
            final_answer=self._spans[-1].tool_output if answered else None,
            verdicts=(aspect, state),
            solved=solved if gradable else None,
            changes=(),
        )

    def _metadata(self) -> dict[str, Any]:
        campaign = self._campaign
        return {
            "schema_version": SCHEMA_VERSION,
            "collector_version": "synthetic",
            "run_id": self._run_id,
            "dataset_name": campaign.dataset,
            "dataset_split": "synthetic",
            "dataset_offset": 0,
            "source": campaign.dataset,
            "task_id": self._task_id,
            "task_name": f"task-{self._task_id}",
            "task_kind": "shell" if campaign.dataset == "nl2bash" else "python",
            "rollout_index": campaign.rollout,
            "model_family": campaign.model,
            "quantization": "none",
            "demo": False,
            "synthetic": True,
            "serving_engine": "none",
            "max_steps": 10,
            "seed": campaign.seed,
        }


def _waits(made: Call) -> dict[str, Any]:
    """Of 20 calls that ran to their end one is throttled for half of its idle time, one waits for a processor then."""
    idle_ns = max(0, made.wall_ns - made.cpu_ns)
    kind = made.cpu_ns % 20 if made.status == "ok" else None
    throttled_ns = idle_ns // 2 if kind == 0 else 0
    waited_ns = throttled_ns or (idle_ns * 9 // 10 if kind == 1 else idle_ns // 10)
    throttled = {"cfs_throttled_periods": int(throttled_ns > 0), "cfs_throttled_ns": throttled_ns}
    return {**throttled, "runqueue_wait_ns": waited_ns}


def _memory(made: Call) -> dict[str, Any]:
    """Return the memory of calls that are long enough to be sampled; the mean is half to nine tenths of the peak."""
    if made.wall_ns < _SAMPLED_FROM_NS:
        return {}
    mean = made.rss_bytes * (50 + made.cpu_ns % 41) // 100
    return {
        "tree_rss_peak_bytes": made.rss_bytes,
        "tree_rss_samples": made.wall_ns // 20_000_000,
        "tree_rss_mean_bytes": mean,
        "tree_rss_byte_seconds": mean * made.wall_ns // 10**9,
        "processes_peak": 1,
    }


_ENVIRONMENT: dict[str, Any] = {
    "platform": "synthetic",
    "hardware": {"os": "none", "cpu": "none", "cpu_count_logical": 1, "memory_total_bytes": 1 << 34},
}
