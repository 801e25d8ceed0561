"""The data model of a rollout: one attempt of a bash-block agent at one task over a checkout, schema 1.0.0.

A rollout file holds one `Rollout` a record. The conversation is stored once: the system prompt in the run spec, the
task's message in `Rollout.prompt`, then per turn what the model wrote and what it was answered. `None` means "not
measured" or "does not apply"; what comes from clocks and counters is marked `MEASURED`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from agenttrace.records.base import MEASURED, SCHEMA_VERSION, Record, digest
from agenttrace.records.run_spec import ModelPin, Sampler, SandboxSpec, ServingSpec
from agenttrace.records.trace import SpanStatus, Telemetry, Timings, Verdict


class Execution(Record, frozen=True, kw_only=True):
    """The command of a turn as it was carried out.

    Attributes:
        command: what was run, exactly.
        exit_code: exit status of the main process; 128 + signal when a signal ended it; -1 when nothing was executed.
        status: as `Span.status`.
        start_ns: wall clock at the start, nanoseconds since the Unix epoch.
        duration_ms: monotonic time of the call, milliseconds.
        telemetry: what the call cost.
        stdout_bytes: bytes the call wrote to its standard output, all of them.
        stderr_bytes: bytes the call wrote to its standard error.
        lost_bytes: bytes of both streams that the sandbox did not keep.
        cut_chars: characters that the observation's own limit removed from the middle.
        encoding: `utf-8`, or `backslashreplace` when the bytes were not.
    """

    command: str
    exit_code: int
    status: SpanStatus
    start_ns: Annotated[int, MEASURED]
    duration_ms: Annotated[float, MEASURED]
    telemetry: Telemetry
    stdout_bytes: int
    stderr_bytes: int
    lost_bytes: int = 0
    cut_chars: int = 0
    encoding: Literal["utf-8", "backslashreplace"] = "utf-8"


class Turn(Record, frozen=True, kw_only=True):
    """One generation and what followed from it.

    Attributes:
        turn: 1, 2, ...
        content: what the model wrote, unchanged.
        reasoning_content: thinking text that the server reported apart.
        blocks: number of bash blocks in `content`; only exactly one is an action.
        execution: the action; `None` when there was none (`blocks` is not 1).
        observation: the message that answered the turn, the last turn's included; `None` when nothing answered it.
        finish_reason: as the server says.
        input_tokens: tokens of the prompt as the server counted them.
        counted_tokens: tokens of the same prompt as counted before it was sent.
        output_tokens: generated tokens as the server counted them.
        start_ns: wall clock when the request was sent, nanoseconds since the Unix epoch.
        duration_ms: monotonic time of the request, milliseconds.
        timings: the server's own measurement.
    """

    turn: int
    content: str
    blocks: int
    execution: Execution | None
    observation: str | None
    finish_reason: str | None
    input_tokens: int | None
    counted_tokens: int | None
    output_tokens: int | None
    start_ns: Annotated[int, MEASURED]
    duration_ms: Annotated[float, MEASURED]
    reasoning_content: str | None = None
    timings: Timings | None = None


class HiddenTests(Record, frozen=True, kw_only=True):
    """Whether the task's hidden tests lie in the tree.

    Attributes:
        asked: the run spec asks for them.
        applied: they lie in it, all of them; else none of them does.
        reason: why they do not, where they were asked for.
    """

    asked: bool
    applied: bool
    reason: str | None = None


Stop = Literal["submitted", "turns", "tokens", "format", "error"]
"""The rule that ended a rollout; `error` is the infrastructure's and never counts."""


class Rollout(Record, frozen=True, kw_only=True):
    """One attempt at one task.

    Attributes:
        rollout_id: UUIDv5 of (run id, dataset, instance id, rollout index).
        instance_id: the task set's own name of the task.
        rollout_index: 0, 1, ... within the task.
        repo: `OWNER/NAME`.
        base_commit: the commit whose files the tree holds.
        language: programming language of the task, lower case.
        language_source: `dataset`, or `tree` when it was detected from the files.
        tree_digest: digest of the pristine tree, equal for every rollout of the task.
        hidden_tests: whether the tests were laid in.
        timestamp_utc: start, ISO 8601 with microseconds and offset.
        model: name of the model.
        seed: sent with every request of this rollout.
        prompt: the task's message (the second of the conversation).
        turns: in order.
        stop: the rule that ended it.
        detail: one sentence on it, where there is more to say.
        submission: what the submitting command printed after the marker.
        patch: `git diff` of the final tree against the pristine one, made by the harness; `None` when it could not be
            made (`patch_note` says why).
        patch_note: why there is no patch, or what it leaves out.
        duration_ms: monotonic time of the rollout, tree preparation and judging excluded.
        prepare_ms: monotonic time until the tree was ready.
        metadata: a pure function of (run spec, task, rollout index).
        environment: what was observed of the host, the engine and the server.
        verdicts: one per judged aspect, where the task can be judged.
    """

    rollout_id: str
    instance_id: str
    rollout_index: int
    repo: str
    base_commit: str
    language: str
    language_source: Literal["dataset", "tree"]
    tree_digest: str
    hidden_tests: HiddenTests
    timestamp_utc: Annotated[str, MEASURED]
    model: str
    seed: int
    prompt: str
    turns: tuple[Turn, ...]
    stop: Stop
    detail: str | None
    submission: str | None
    patch: str | None
    patch_note: str | None
    duration_ms: Annotated[float, MEASURED]
    prepare_ms: Annotated[float, MEASURED]
    metadata: dict[str, Any]
    environment: Annotated[dict[str, Any], MEASURED]
    verdicts: tuple[Verdict, ...] = ()


class BashBlockSpec(Record, frozen=True, kw_only=True):
    """The bash-block agent: templates in full, limits and rules.

    Attributes:
        kind: `bash_block`.
        version: raised whenever the loop or a message it sends changes.
        system_template: the first message.
        instance_template: the second message.
        observation_template: name of the observation's format: `swe-zero` or `mini-swe-agent`.
        format_error_template: answers a reply that has not exactly one block.
        max_turns: generations per rollout.
        max_format_errors: such replies in a row that end the rollout.
        max_output_tokens: per turn.
        max_total_tokens: of the whole conversation, the next reply included.
        reserve_tokens: kept free of `max_total_tokens`.
        observation_max_chars: longer output is cut in the middle.
        call_limit_ms: time limit of one command.
    """

    kind: Literal["bash_block"]
    version: int
    system_template: str
    instance_template: str
    observation_template: Literal["swe-zero", "mini-swe-agent"]
    format_error_template: str
    max_turns: int
    max_format_errors: int
    max_output_tokens: int
    max_total_tokens: int
    reserve_tokens: int
    observation_max_chars: int
    call_limit_ms: int


class SamplingPlan(Record, frozen=True, kw_only=True):
    """Which tasks, how often: drawn once with a seeded generator and stored before the first rollout.

    Attributes:
        seed: of the draw.
        repos: repositories asked for; `None` is all.
        per_repo: tasks per repository asked for; `None` is all.
        rollouts: per task.
        instance_ids: what was drawn, in order.
    """

    seed: int
    repos: int | None
    per_repo: int | None
    rollouts: int
    instance_ids: tuple[str, ...]


class RolloutSource(Record, frozen=True, kw_only=True):
    """The task set.

    Attributes:
        name: of the set.
        split: of it.
        source: where its rows come from: `hub:REPO@REVISION`, `file:NAME` or `bundled`.
        sha256: digest over the files of rows.
        hidden_tests: whether the hidden tests are laid into the trees.
    """

    name: str
    split: str
    source: str
    sha256: str
    hidden_tests: bool


class RolloutSpec(Record, frozen=True, kw_only=True):
    """Everything that shapes the rollouts of one run; the counterpart of `RunSpec`.

    Attributes:
        run_id: name of the run; rollout ids derive from it.
        dataset: the task set.
        sampling: which of its tasks, how often.
        model: the weights.
        serving: the model server.
        sampler: the sampling settings; every rollout has a seed of its own, derived from theirs.
        agent: prompts, templates, limits.
        sandbox: where commands run.
        images: environment digest per image (`server`, `sandbox`, `rollouts`).
        collector_version: version of this package.
        schema_version: version of the record schema.
    """

    run_id: str
    dataset: RolloutSource
    sampling: SamplingPlan
    model: ModelPin
    serving: ServingSpec
    sampler: Sampler
    agent: BashBlockSpec
    sandbox: SandboxSpec
    images: dict[str, str]
    collector_version: str
    schema_version: str = SCHEMA_VERSION

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of the whole spec."""
        return digest(self)
