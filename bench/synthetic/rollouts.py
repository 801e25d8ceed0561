"""Seeded rollouts that no model made, for tests and benchmarks: every stop rule, every kind of observation.

They keep every rule that `agenttrace validate` checks.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import msgspec
from agenttrace.records.rollout import (
    BashBlockSpec,
    Execution,
    HiddenTests,
    Rollout,
    RolloutSource,
    RolloutSpec,
    SamplingPlan,
    Turn,
)
from agenttrace.rollouts import derived

from agenttrace.records import ModelPin, Sampler, SandboxSpec, ServingSpec, Telemetry, Verdict
from agenttrace.records.base import Record, digest
from agenttrace.store.read import run_spec_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from agenttrace.records.rollout import Stop

MARKER = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
LANGUAGES = ("python", "go", "rust")
STOPS: tuple[Stop, ...] = ("submitted", "turns", "tokens", "format", "submitted")
_MALFORMED = 3
_START_NS = 1_767_225_600 * 10**9
VERBS = ("grep -rn", "sed -n '1,80p'", "cat", "find . -name", "ls -la", "python3", "head -40", "git diff")
_OUTPUTS = (("a line of output\n", 0), ("", 0), ("/bin/bash: line 1: python3: command not found\n", 127))


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


def spec(corpus: Corpus) -> RolloutSpec:
    """Return the run spec of the corpus; its digests are of nothing."""
    return RolloutSpec(
        run_id=f"synthetic-{corpus.seed}",
        dataset=RolloutSource(name="synthetic", split="train", source="bundled", sha256="0" * 64, hidden_tests=False),
        sampling=SamplingPlan(
            seed=corpus.seed, repos=corpus.repos, per_repo=None, rollouts=corpus.rollouts,
            instance_ids=tuple(f"octo__repo-{number}" for number in range(corpus.tasks)),
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
            kind="bash_block", version=1, system_template="You work in a shell.",
            instance_template="{problem_statement}",
            observation_template="swe-zero", format_error_template="Give one block.", max_turns=corpus.max_turns,
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


def rollouts(corpus: Corpus) -> Iterator[Rollout]:
    """Yield the rollouts, those of a task together; the same corpus gives the same ones anywhere."""
    generator = random.Random(corpus.seed)  # noqa: S311 - made-up data to be repeated, no secret
    run = spec(corpus)
    sha256 = run.digest
    for task, instance_id in enumerate(run.sampling.instance_ids):
        for index in range(corpus.rollouts):
            stop = STOPS[(task * corpus.rollouts + index) % len(STOPS)]
            made = _rollout(run, generator, instance_id, index, task % corpus.repos, stop, corpus.turns)
            metadata = derived.metadata(run, instance_id, index, spec_sha256=sha256)
            yield msgspec.structs.replace(made, seed=metadata["seed"], metadata=metadata)


def write(path: Path, run: RolloutSpec, made: Iterable[Rollout]) -> None:
    """Write a record file and its run spec beside it."""
    with path.open("wb") as file:
        file.writelines(msgspec.json.encode(rollout) + b"\n" for rollout in made)
    run_spec_path(path).write_bytes(msgspec.json.encode(run))


def commands(generator: random.Random, count: int) -> list[str]:
    """Return that many made-up commands."""
    places = (f"src/module_{generator.randrange(40)}/file_{generator.randrange(900)}.py" for _ in range(count))
    return [f"{generator.choice(VERBS)} {place}" for place in places]


def _rollout(
    run: RolloutSpec, generator: random.Random, instance_id: str, index: int, repo: int, stop: Stop, most: int
) -> Rollout:
    count = (
        run.agent.max_turns if stop == "turns" else generator.randint(1, min(most, run.agent.max_turns - _MALFORMED))
    )
    turns = _turns(generator, commands(generator, count), stop)
    passed = stop == "submitted" and generator.random() < 0.5  # noqa: PLR2004 - a coin
    number = index + 10 * int(instance_id.rpartition("-")[2])
    return Rollout(
        rollout_id=derived.rollout_id(run, instance_id, index),
        instance_id=instance_id, rollout_index=index, repo=f"octo/repo-{repo}", base_commit="a" * 40,
        language=LANGUAGES[repo % len(LANGUAGES)], language_source="tree", tree_digest="b" * 64,
        hidden_tests=HiddenTests(asked=False, applied=False),
        timestamp_utc=f"2026-01-01T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}.000000+00:00",
        model=run.model.name, seed=0, prompt=f"Fix \u00e4 {instance_id} \U0001f600", turns=turns, stop=stop,
        detail=None if stop == "submitted" else f"the limit of {stop}",
        submission="" if stop == "submitted" else None,
        patch="diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old\n+new\n" if stop == "submitted" else "",
        patch_note=None, duration_ms=1000.0 + 10 * len(turns), prepare_ms=2.5,
        metadata={}, environment={"kernel": "none"},
        verdicts=(Verdict(aspect="patch", verdict="passed" if passed else "failed", method="gold-tree-v1"),),
    )  # fmt: skip


def _turns(generator: random.Random, lines: list[str], stop: Stop) -> tuple[Turn, ...]:
    found = [_turn(generator, number, line) for number, line in enumerate(lines, start=1)]
    if stop == "submitted":
        found.append(_turn(generator, len(found) + 1, f"echo {MARKER}", output=(MARKER + "\n", 0)))
    elif stop == "format":
        found += [_turn(generator, len(found) + 1 + again, None) for again in range(_MALFORMED)]
    return tuple(found)


def _turn(generator: random.Random, number: int, command: str | None, *, output: tuple[str, int] | None = None) -> Turn:
    text, code = output or generator.choice(_OUTPUTS)
    answer = "Give one block." if command is None else f"Observation: {text}"
    return Turn(
        turn=number,
        content="no block" if command is None else f"THOUGHT: look\n```bash\n{command}\n```",
        blocks=int(command is not None),
        execution=None if command is None else _execution(command, text, code, number),
        observation=answer,
        finish_reason="stop",
        input_tokens=100 * number,
        counted_tokens=100 * number,
        output_tokens=20,
        start_ns=_START_NS + number * 10**9,
        duration_ms=8.0,
    )


def _execution(command: str, text: str, code: int, number: int) -> Execution:
    return Execution(
        command=command, exit_code=code, status="ok", start_ns=_START_NS + number * 10**9, duration_ms=2.0,
        telemetry=Telemetry(
            user_time_s=0.001, system_time_s=0.0, max_rss_bytes=2**20, read_bytes=0, write_bytes=0, method="c-helper"
        ),
        stdout_bytes=len(text.encode()) if code == 0 else 0, stderr_bytes=len(text.encode()) if code else 0,
    )  # fmt: skip


def fingerprint(made: Iterable[Rollout]) -> str:
    """Return a digest over rollouts, to show that two corpora are equal."""
    return digest([msgspec.to_builtins(rollout) for rollout in made])
