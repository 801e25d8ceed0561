"""Decodes one line of a rollout file into the row that the tables are made of."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - msgspec resolves the annotations

import msgspec

from agenttrace.analysis.rows import (
    Environment,
    Metadata,
    Nothing,
    Outcome,
    Output,
    Row,
    Span,
    Step,
    Telemetry,
    Timings,
    Verdict,
)
from agenttrace.errors import DataError
from agenttrace.formats.figures import Count, Duration, Int  # noqa: TC001 - msgspec resolves them


class _Lean(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base: immutable and not tracked by the garbage collector."""


class Execution(_Lean, frozen=True, kw_only=True, gc=False):
    """See `agenttrace.records.rollout.Execution`."""

    command: str
    exit_code: Int
    status: str
    start_ns: Int
    duration_ms: Duration
    telemetry: Telemetry
    stdout_bytes: Int
    stderr_bytes: Int
    lost_bytes: Int = 0


class Turn(_Lean, frozen=True, kw_only=True, gc=False):
    """See `agenttrace.records.rollout.Turn`; the texts are not read."""

    turn: Int
    start_ns: Int
    duration_ms: Duration
    execution: Execution | None = None
    finish_reason: str | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    timings: Timings | None = None


class Rollout(_Lean, frozen=True, kw_only=True, gc=False):
    """See `agenttrace.records.rollout.Rollout`."""

    rollout_id: str
    instance_id: str
    rollout_index: Int
    timestamp_utc: datetime
    model: str
    seed: Int
    prompt: str
    turns: tuple[Turn, ...]
    stop: str
    duration_ms: Duration
    metadata: dict[str, msgspec.Raw]
    submission: str | None = None
    environment: Environment | None = None
    verdicts: tuple[Verdict, ...] = ()


_decode = msgspec.json.Decoder(Rollout).decode


def decode_rollout(line: bytes) -> Row:
    """Return the row of a line: a turn is a step, its command a span of the tool `bash`.

    Raises:
        DataError: it is no rollout of this version; the message says what is wrong with which field.
    """
    try:
        found = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        cut = "" if line.endswith(b"\n") else "; the line is cut off"
        raise DataError(f"not a rollout: {error}{cut}") from None
    graded = {verdict.verdict for verdict in found.verdicts}
    solved = False if "failed" in graded else True if graded == {"passed"} else None
    return Row(
        trace_id=found.rollout_id,
        timestamp_utc=found.timestamp_utc,
        prompt=found.prompt,
        model=found.model,
        spans=tuple(_span(found, turn, turn.execution) for turn in found.turns if turn.execution is not None),
        llm_steps=tuple(_step(found, turn) for turn in found.turns),
        total_duration_ms=found.duration_ms,
        metadata=_metadata(found),
        environment=found.environment or Environment(),
        outcome=Outcome(ended=found.stop, final_answer=found.submission, verdicts=found.verdicts, solved=solved),
    )


def _metadata(found: Rollout) -> Metadata:
    def text(name: str) -> str | None:
        value = msgspec.json.decode(found.metadata.get(name) or b"null")
        return value if isinstance(value, str) else None

    demo = msgspec.json.decode(found.metadata.get("demo") or b"null")
    return Metadata(
        schema_version=text("schema_version") or "1.0.0",
        run_id=text("run_id"),
        dataset_name=text("dataset_name"),
        task_id=found.instance_id,
        rollout_index=found.rollout_index,
        quantization=text("quantization"),
        demo=demo if isinstance(demo, bool) else None,
        serving_profile=text("serving_profile"),
        seed=found.seed,
    )


def _step(found: Rollout, turn: Turn) -> Step:
    return Step(
        step_id=f"{found.rollout_id}/{turn.turn}",
        step_number=turn.turn,
        tool_calls=None if turn.execution is None else (Nothing(),),
        duration_ms=turn.duration_ms,
        input_tokens=turn.input_tokens,
        output_tokens=turn.output_tokens,
        start_ns=turn.start_ns,
        end_ns=turn.start_ns + round(turn.duration_ms * 1e6),
        finish_reason=turn.finish_reason,
        timings=turn.timings,
    )


def _span(found: Rollout, turn: Turn, execution: Execution) -> Span:
    step = f"{found.rollout_id}/{turn.turn}"
    kept = execution.stdout_bytes + execution.stderr_bytes - execution.lost_bytes
    return Span(
        span_id=f"{step}/bash",
        tool_name="bash",
        tool_input=msgspec.json.encode({"command": execution.command}).decode(),
        start_ns=execution.start_ns,
        end_ns=execution.start_ns + round(execution.duration_ms * 1e6),
        duration_ms=execution.duration_ms,
        telemetry=execution.telemetry,
        exit_code=execution.exit_code,
        parent_span_id=step,
        status=execution.status,
        stdout=Output(bytes_total=execution.stdout_bytes, bytes_kept=min(kept, execution.stdout_bytes)),
        stderr=Output(bytes_total=execution.stderr_bytes, bytes_kept=execution.stderr_bytes),
    )
