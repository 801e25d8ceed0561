"""Seeded traces of the bash-block agent that no model made, for tests and benchmarks: every stop rule, every output.

They keep every rule that `agenttrace validate` checks.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agenttrace.agents.bash_block import MARKERS, TOOL
from agenttrace.campaign.plan import Plan, write_run_spec
from agenttrace.records import (
    BashBlockSpec,
    DatasetSpec,
    LLMStep,
    ModelPin,
    Outcome,
    Output,
    RunSpec,
    Sampler,
    SamplingPlan,
    SandboxSpec,
    ServingSpec,
    Span,
    Telemetry,
    ToolCall,
    Trace,
    Verdict,
    canonical_json,
    derived_id,
    solved,
)
from agenttrace.records.base import Record, digest
from agenttrace.tasks.swe.rows import SweTask
from agenttrace.tasks.swe.task_set import task_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from agenttrace.records import Ended
    from agenttrace.tasks import Task

LANGUAGES = ("python", "go", "rust")
ENDS: tuple[Ended, ...] = ("final_answer", "max_steps", "token_budget", "format_error", "final_answer")
VERBS = ("grep -rn", "sed -n '1,80p'", "cat", "find . -name", "ls -la", "python3", "head -40", "git diff")
_MALFORMED = 3
_ANSWER = "Give one block."
_START_NS = 1_767_225_600 * 10**9
_STEP_NS, _CALL_NS = 8 * 10**6, 2 * 10**6
_OUTPUTS = (("a line of output\n", 0), ("", 0), ("/bin/bash: line 1: python3: command not found\n", 127))
_PATCH = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old\n+new\n"


class Corpus(Record, frozen=True, kw_only=True):
    """What to make: `tasks` tasks in `repos` repositories, `rollouts` of each, at most `turns` turns, by `seed`.

    Only those that stop by turns have `max_turns`.
    """

    tasks: int = 4
    repos: int = 2
    rollouts: int = 3
    turns: int = 6
    seed: int = 0
    max_turns: int = 30


def spec(corpus: Corpus) -> RunSpec:
    """Return the run spec of the corpus; its digests are of nothing."""
    return RunSpec(
        run_id=f"synthetic-{corpus.seed}",
        dataset=DatasetSpec(
            name="synthetic", split="train", source="bundled", sha256="0" * 64, offset=0, count=corpus.tasks,
            rollouts=corpus.rollouts,
            sampling=SamplingPlan(
                seed=corpus.seed, repos=corpus.repos, per_repo=None, languages=(), hidden_tests=False,
                task_ids=tuple(f"octo__repo-{number}" for number in range(corpus.tasks)),
            ),
        ),
        model=ModelPin(
            name="synthetic", size="0B", artifact="none.gguf", source="file", bytes=1, sha256="1" * 64,
            quantization="Q8_0", chat_template_sha256="2" * 64, context_length=32768, threads=1, demo=True,
        ),
        serving=ServingSpec(
            engine="external", engine_version="none", profile="external", args=(), cache_prompt=False, slots=None,
            reproducible=False,
        ),
        sampler=Sampler(name="creative", temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, seed=7, max_tokens=1024),
        agent=BashBlockSpec(
            version=1, system_template="You work in a shell.", instance_template="{problem_statement}",
            observation_template="swe-zero", format_error_template=_ANSWER, max_turns=corpus.max_turns,
            max_format_errors=_MALFORMED, max_output_tokens=1024, max_total_tokens=32768, reserve_tokens=16,
            observation_max_chars=8000, call_limit_ms=30_000,
        ),
        sandbox=SandboxSpec(
            policy="execution_free", fixture="checkout", fixture_version="trees-v1", memory_bytes=2**31, pids=256,
            cpus=1.0,
        ),
        images={"sandbox": "5" * 64, "server": "6" * 64},
        collector_version="0",
    )  # fmt: skip


def plan(corpus: Corpus) -> Plan:
    """Return the plan of the corpus."""
    run = spec(corpus)
    tasks = tuple(_task(number, number % corpus.repos) for number in range(corpus.tasks))
    return Plan(spec=run, spec_sha256=run.digest, path=Path("synthetic.jsonl"), tasks=tasks, resumes=False)


def rollouts(corpus: Corpus, *, ends: Sequence[Ended] = ENDS) -> Iterator[Trace]:
    """Yield the traces, those of a task together, which end in turn as said; the same corpus gives the same ones."""
    generator = random.Random(corpus.seed)  # noqa: S311 - made-up data to be repeated, no secret
    planned = plan(corpus)
    for number, task in enumerate(planned.jobs()):
        yield _trace(planned, task, generator, ends[number % len(ends)], corpus)


def write(path: Path, run: RunSpec, made: Iterable[Trace]) -> None:
    """Write a record file and its run spec beside it."""
    with path.open("wb") as file:
        file.writelines(msgspec.json.encode(trace) + b"\n" for trace in made)
    write_run_spec(run, path)


def commands(generator: random.Random, count: int) -> list[str]:
    """Return that many made-up commands."""
    places = (f"src/module_{generator.randrange(40)}/file_{generator.randrange(900)}.py" for _ in range(count))
    return [f"{generator.choice(VERBS)} {place}" for place in places]


def fingerprint(made: Iterable[Trace]) -> str:
    """Return a digest over traces, to show that two corpora are equal."""
    return digest([msgspec.to_builtins(trace) for trace in made])


def _task(number: int, repo: int) -> Task:
    row = SweTask(
        instance_id=f"octo__repo-{number}", repo=f"octo/repo-{repo}", base_commit="a" * 40, language=None,
        problem_statement=f"Fix \u00e4 octo__repo-{number} \U0001f600", interface=None, test_patch="", patch="",
    )  # fmt: skip
    language = LANGUAGES[repo % len(LANGUAGES)]
    facts = {
        "repo": row.repo, "base_commit": row.base_commit, "language": language, "language_source": "tree",
        "tree_digest": "b" * 64, "hidden_tests": {"asked": False, "applied": False, "reason": None},
    }  # fmt: skip
    return msgspec.structs.replace(task_of(row, language), facts=facts)


def _trace(plan: Plan, task: Task, generator: random.Random, ended: Ended, corpus: Corpus) -> Trace:
    most = min(corpus.turns, corpus.max_turns - _MALFORMED)
    count = corpus.max_turns if ended == "max_steps" else generator.randint(1, most)
    made = _Maker(plan.trace_id(task), generator)
    for command in commands(generator, count):
        made.turn(command)
    submitted = ended == "final_answer"
    if submitted:
        made.turn(f"echo {MARKERS[0]}", output=(f"{MARKERS[0]}\n", 0))
    for _ in range(_MALFORMED if ended == "format_error" else 0):
        made.turn(None)
    passed = submitted and generator.random() < 0.5  # noqa: PLR2004 - a coin
    verdicts = (Verdict(aspect="patch", verdict="passed" if passed else "failed", method="gold-tree-v1"),)
    minute, second = divmod(task.rollout + 10 * int(str(task.task_id).rpartition("-")[2]), 60)
    return Trace(
        trace_id=plan.trace_id(task),
        timestamp_utc=f"2026-01-01T{minute // 60 % 24:02}:{minute % 60:02}:{second:02}.000000+00:00",
        prompt=plan.prompt(task), model=plan.spec.model.name, spans=tuple(made.spans), llm_steps=tuple(made.steps),
        total_duration_ms=1000.0 + 10 * len(made.steps), metadata=plan.metadata(task), environment={"kernel": "none"},
        outcome=Outcome(
            ended=ended, detail=None if submitted else f"the limit of {ended}",
            final_answer="" if submitted else None, verdicts=verdicts, solved=solved(verdicts),
            patch=_PATCH if submitted else "", patch_note=None,
        ),
        prepare_ms=2.5,
    )  # fmt: skip


class _Maker:
    """The steps and spans of one trace in the making."""

    def __init__(self, trace_id: str, generator: random.Random) -> None:
        self._trace_id, self._generator = trace_id, generator
        self.steps: list[LLMStep] = []
        self.spans: list[Span] = []

    def turn(self, command: str | None, *, output: tuple[str, int] | None = None) -> None:
        """Append a turn; without a command the reply is malformed, without an output it is one by chance."""
        text, code = output or self._generator.choice(_OUTPUTS)
        number = len(self.steps) + 1
        call = None
        if command is not None:
            arguments = canonical_json({"command": command}).decode()
            call = ToolCall(call_id=f"call_{number}_1", name=TOOL, arguments=arguments)
        start_ns = _START_NS + number * 10**9
        step = LLMStep(
            step_id=derived_id(self._trace_id, "step", number), step_number=number,
            model_output="no block" if command is None else f"THOUGHT: look\n```bash\n{command}\n```",
            reasoning_content=None, tool_calls=None if call is None else (call,), duration_ms=_STEP_NS / 1e6,
            input_tokens=100 * number, output_tokens=20, start_ns=start_ns, end_ns=start_ns + _STEP_NS,
            finish_reason="stop", counted_tokens=100 * number, blocks=int(command is not None),
            answered=_ANSWER if command is None else None,
        )  # fmt: skip
        self.steps.append(step)
        if call is not None:
            self.spans.append(self._span(step, call, text, code, start_ns + _STEP_NS))

    def _span(self, step: LLMStep, call: ToolCall, text: str, code: int, start_ns: int) -> Span:
        telemetry = Telemetry(
            user_time_s=0.001, system_time_s=0.0, max_rss_bytes=2**20, read_bytes=0, write_bytes=0, method="c-helper"
        )
        return Span(
            span_id=derived_id(self._trace_id, call.call_id), type="TOOL", tool_name=call.name,
            tool_input=call.arguments, tool_output=f"Observation: {text}", start_ns=start_ns,
            end_ns=start_ns + _CALL_NS, duration_ms=_CALL_NS / 1e6, telemetry=telemetry, exit_code=code,
            parent_span_id=step.step_id, call_id=call.call_id, status="ok", stdout=_output("" if code else text),
            stderr=_output(text if code else ""), cut_chars=0,
        )  # fmt: skip


def _output(text: str) -> Output:
    size = len(text.encode())
    return Output(text=text, bytes_total=size, bytes_kept=size)
