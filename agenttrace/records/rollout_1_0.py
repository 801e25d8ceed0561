"""Rollout files of schema 1.0.0, which had a record and a run spec of their own: read as traces and run specs of today.

A turn becomes a step and its command a call of the tool `bash`; ids, seeds and counts stay as they were recorded. What
such a file did not keep apart (how many of the lost bytes belong to which stream) is divided as the sandbox did it.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from agenttrace.records.base import SCHEMA_VERSION, Record, derived_ids, digest
from agenttrace.records.generation import LLMStep, Timings, ToolCall
from agenttrace.records.run_spec import (
    BashBlockSpec,
    DatasetSpec,
    ModelPin,
    RunSpec,
    Sampler,
    SamplingPlan,
    SandboxSpec,
    ServingSpec,
)
from agenttrace.records.trace import (
    Ended,
    Outcome,
    Output,
    Span,
    SpanStatus,
    Telemetry,
    Trace,
    Verdict,
    solved,
)

Stop = Literal["submitted", "turns", "tokens", "format", "error"]
PREFIX = b'{"rollout_id"'
"""How a line of such a file begins where nobody sorted its keys."""
TOOL = "bash"
"""What a trace calls the tool that ran the commands."""
_VERSION = "1.0.0"
_KEPT_BYTES = 65_536
"""What the sandbox kept of each output stream."""
_LONGEST_MS = 2.0**62 / 1e6
_ENDED: dict[str, Ended] = {
    "submitted": "final_answer",
    "turns": "max_steps",
    "tokens": "token_budget",
    "format": "format_error",
    "error": "internal_error",
}
RENAMED = {"instance_id": "task_id", "model": "model_family", "max_turns": "max_steps"}
"""Keys of `metadata` that have another name in traces."""
_RECORDED = (
    *("schema_version", "collector_version", "run_id", "run_spec_sha256", "dataset_name", "dataset_source"),
    *("dataset_sha256", "instance_id", "rollout_index", "model", "model_artifact", "model_sha256", "model_revision"),
    *("demo", "serving_engine", "serving_engine_version", "serving_profile", "sampler", "temperature", "seed"),
    *("prompt_sha256", "observation_template", "max_turns", "max_total_tokens", "sandbox_policy", "images"),
)
_REFUSALS = ("ContextFullError", "RequestRefusedError", "UnparsableReplyError", "NoReplyError")


class Execution(Record, frozen=True, kw_only=True):
    """The command of a turn as it was carried out."""

    command: str
    exit_code: int
    status: SpanStatus
    start_ns: int
    duration_ms: float
    telemetry: Telemetry
    stdout_bytes: int
    stderr_bytes: int
    lost_bytes: int = 0
    cut_chars: int = 0
    encoding: Literal["utf-8", "backslashreplace"] = "utf-8"


class RolloutTurn(Record, frozen=True, kw_only=True):
    """One generation and what followed from it."""

    turn: int
    content: str
    blocks: int
    execution: Execution | None
    observation: str | None
    finish_reason: str | None
    input_tokens: int | None
    counted_tokens: int | None
    output_tokens: int | None
    start_ns: int
    duration_ms: float
    reasoning_content: str | None = None
    timings: Timings | None = None


class Rollout(Record, frozen=True, kw_only=True):
    """A line of a rollout file."""

    rollout_id: str
    instance_id: str
    rollout_index: int
    repo: str
    base_commit: str
    language: str
    language_source: Literal["dataset", "tree"]
    tree_digest: str
    hidden_tests: dict[str, Any]
    timestamp_utc: str
    model: str
    seed: int
    prompt: str
    turns: tuple[RolloutTurn, ...]
    stop: Stop
    detail: str | None
    submission: str | None
    patch: str | None
    patch_note: str | None
    duration_ms: float
    prepare_ms: float
    metadata: dict[str, Any]
    environment: dict[str, Any]
    verdicts: tuple[Verdict, ...] = ()


class RolloutSource(Record, frozen=True, kw_only=True):
    """The task set of a run spec of rollouts."""

    name: str
    split: str
    source: str
    sha256: str
    hidden_tests: bool


class RolloutSampling(Record, frozen=True, kw_only=True):
    """The sampling plan of a run spec of rollouts."""

    seed: int
    repos: int | None
    per_repo: int | None
    rollouts: int
    instance_ids: tuple[str, ...]


class RolloutSpec(Record, frozen=True, kw_only=True):
    """The run spec beside a rollout file."""

    run_id: str
    dataset: RolloutSource
    sampling: RolloutSampling
    model: ModelPin
    serving: ServingSpec
    sampler: Sampler
    agent: BashBlockSpec
    sandbox: SandboxSpec
    images: dict[str, str]
    collector_version: str
    schema_version: str


class _ReadSpec(RunSpec, frozen=True, kw_only=True):
    """A run spec that was read from another shape: records name the digest that it had there."""

    recorded_digest: str

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of the spec as it was written."""
        return self.recorded_digest


def as_run_spec(spec: RolloutSpec) -> RunSpec:
    """Return the run spec of a rollout file in today's shape; its `digest` is the one that the records name."""
    plan = spec.sampling
    return _ReadSpec(
        **{name: getattr(spec, name) for name in RolloutSpec.__struct_fields__ if name not in {"dataset", "sampling"}},
        dataset=DatasetSpec(
            name=spec.dataset.name,
            split=spec.dataset.split,
            source=spec.dataset.source,
            sha256=spec.dataset.sha256,
            offset=0,
            count=len(plan.instance_ids),
            rollouts=plan.rollouts,
            sampling=SamplingPlan(
                seed=plan.seed,
                repos=plan.repos,
                per_repo=plan.per_repo,
                languages=(),
                hidden_tests=spec.dataset.hidden_tests,
                task_ids=plan.instance_ids,
            ),
        ),
        recorded_digest=digest(spec),
    )


def as_trace(rollout: Rollout) -> Trace:
    """Return a line of a rollout file as a trace; `trace_id` is its `rollout_id`."""
    steps, spans = list[LLMStep](), list[Span]()
    for turn, step_id, call_id, span_id in zip(rollout.turns, *part_ids(rollout), strict=True):
        call = None if turn.execution is None else _call(call_id, turn.execution)
        steps.append(_step(step_id, turn, call))
        if call and turn.execution:
            spans.append(_span(span_id, step_id, call, turn, turn.execution))
    trace: Trace = with_parts(rollout, tuple(steps), tuple(spans))
    return trace


def part_ids(rollout: Rollout) -> tuple[list[str], list[str], list[str]]:
    """Return the ids of the steps that the turns become, of the calls that their commands are, and of their spans."""
    steps = derived_ids(rollout.rollout_id, [f"step\n{turn.turn}" for turn in rollout.turns])
    calls = [f"call_{turn.turn}_1" for turn in rollout.turns]
    return steps, calls, derived_ids(rollout.rollout_id, calls)


def with_parts(rollout: Rollout, steps: tuple[Any, ...], spans: tuple[Any, ...]) -> Any:  # noqa: ANN401 - as said
    """Return a rollout as a trace with what was made of its turns: a `Trace` where these are steps and spans."""
    return Trace(
        trace_id=rollout.rollout_id,
        timestamp_utc=rollout.timestamp_utc,
        prompt=rollout.prompt,
        model=rollout.model,
        spans=spans,
        llm_steps=steps,
        total_duration_ms=rollout.duration_ms,
        metadata=_metadata(rollout),
        environment=rollout.environment,
        outcome=Outcome(
            ended=_ended(rollout),
            detail=rollout.detail,
            final_answer=rollout.submission,
            verdicts=rollout.verdicts,
            solved=solved(rollout.verdicts),
            patch=rollout.patch,
            patch_note=rollout.patch_note,
        ),
        prepare_ms=rollout.prepare_ms,
    )


def is_read(trace: Trace) -> bool:
    """Return whether a trace was read from a rollout file: such a one alone has fields that its schema has not."""
    return trace.metadata.get("schema_version") == _VERSION and trace.prepare_ms is not UNSET


def as_imported(trace: Trace) -> Trace:
    """Return a trace that was read from a rollout file as a record of today; ids and metadata stay that file's."""
    return msgspec.structs.replace(
        trace,
        metadata={**trace.metadata, "schema_version": SCHEMA_VERSION},
        environment={**trace.environment, "imported": {"format": f"rollouts-{_VERSION}"}},
    )


def _ended(rollout: Rollout) -> Ended:
    if rollout.stop == "error":
        detail = rollout.detail or ""
        if any(name in detail for name in _REFUSALS):
            return "model_error"
        return "sandbox_error" if "worker" in detail else "internal_error"
    return _ENDED[rollout.stop]


def _metadata(rollout: Rollout) -> dict[str, Any]:
    """Return the recorded metadata, with the names of today and what stood beside it."""
    return {
        **{RENAMED.get(name, name): value for name, value in rollout.metadata.items()},
        "task_id": rollout.instance_id,
        "task_name": rollout.instance_id,
        "task_kind": "swe",
        "rollout_index": rollout.rollout_index,
        "seed": rollout.seed,
        "repo": rollout.repo,
        "base_commit": rollout.base_commit,
        "language": rollout.language,
        "language_source": rollout.language_source,
        "tree_digest": rollout.tree_digest,
        "hidden_tests": rollout.hidden_tests,
    }


def arguments(command: str) -> str:
    """Return the arguments of the call that a command is: canonical JSON."""
    return f'{{"command":{_encode(command).decode()}}}'


def _call(call_id: str, execution: Execution) -> ToolCall:
    return ToolCall(call_id=call_id, name=TOOL, arguments=arguments(execution.command))


def _step(step_id: str, turn: RolloutTurn, call: ToolCall | None) -> LLMStep:
    return LLMStep(
        step_id=step_id,
        step_number=turn.turn,
        model_output=turn.content or None,
        reasoning_content=turn.reasoning_content,
        tool_calls=(call,) if call else None,
        duration_ms=turn.duration_ms,
        input_tokens=turn.input_tokens,
        output_tokens=turn.output_tokens,
        start_ns=turn.start_ns,
        end_ns=end_ns(turn.start_ns, turn.duration_ms),
        finish_reason=turn.finish_reason,
        timings=turn.timings,
        counted_tokens=turn.counted_tokens,
        blocks=turn.blocks,
        answered=None if call else turn.observation,
    )


def end_ns(start_ns: int, duration_ms: float) -> int:
    """Return the end of what began then and took so long."""
    if -_LONGEST_MS < duration_ms < _LONGEST_MS:
        return start_ns + round(duration_ms * 1e6)
    return start_ns + int(math.copysign(_LONGEST_MS, duration_ms)) * 10**6  # whatever a hostile file says


def kept_bytes(execution: Execution) -> tuple[int, int]:
    """Return how many bytes of standard output and of standard error were kept."""
    stdout, stderr = execution.stdout_bytes, execution.stderr_bytes
    if execution.lost_bytes:
        kept = stdout + stderr - execution.lost_bytes
        stdout = max(min(stdout, _KEPT_BYTES, kept), kept - stderr)
        stderr = kept - stdout
    return stdout, stderr


def _span(span_id: str, step_id: str, call: ToolCall, turn: RolloutTurn, execution: Execution) -> Span:
    kept_stdout, kept_stderr = kept_bytes(execution)
    executed = execution.status != "lost"
    return Span(
        span_id=span_id,
        type="TOOL",
        tool_name=call.name,
        tool_input=call.arguments,
        tool_output=turn.observation or "",
        start_ns=execution.start_ns,
        end_ns=end_ns(execution.start_ns, execution.duration_ms),
        duration_ms=execution.duration_ms,
        telemetry=execution.telemetry,
        exit_code=execution.exit_code,
        parent_span_id=step_id,
        call_id=call.call_id,
        status=execution.status,
        stdout=_output(execution, execution.stdout_bytes, kept_stdout) if executed else None,
        stderr=_output(execution, execution.stderr_bytes, kept_stderr) if executed else None,
        cut_chars=execution.cut_chars,
    )


def _output(execution: Execution, total: int, kept: int) -> Output:
    return Output(text=None, bytes_total=total, bytes_kept=kept, encoding=execution.encoding)


def recorded(spec: RunSpec, metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the `metadata` that a rollout of schema 1.0.0 recorded, from that of the same run as a trace."""
    known = {**metadata, "dataset_source": spec.dataset.source, "model_revision": spec.model.revision}
    return {name: known[RENAMED.get(name, name)] for name in _RECORDED}


_encode = msgspec.json.Encoder().encode
_rollout = msgspec.json.Decoder(Rollout).decode
_spec = msgspec.json.Decoder(RolloutSpec).decode


def is_line(line: bytes) -> bool:
    """Return whether a line is one of a rollout file, whatever the order of its keys: no trace has that key alone."""
    return line.startswith(PREFIX) or (b'"rollout_id"' in line and b'"trace_id"' not in line)


def decode(line: bytes) -> Trace:
    """Return the trace of a line of a rollout file; raises what `msgspec.json.decode` raises."""
    return as_trace(_rollout(line))


def is_spec(data: bytes) -> bool:
    """Return whether a run spec is one of rollouts of schema 1.0.0."""
    return b'"instance_ids"' in data


def decode_spec(data: bytes) -> RunSpec:
    """Return the run spec that lies beside a rollout file; raises what `msgspec.json.decode` raises."""
    return as_run_spec(_spec(data))
