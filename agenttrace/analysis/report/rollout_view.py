"""The view of a rollout: a turn is a step, its command a call of the tool `bash`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agenttrace.analysis.report.view import CallView, StepView, TraceView, VerdictView, cost_view, text_of

if TYPE_CHECKING:
    from agenttrace.records.rollout import Execution, Rollout, Turn

_NS_PER_MS = 1e6


def rollout_view(rollout: Rollout) -> TraceView:
    """Return the view of a rollout of schema 1.0.0; what it submitted stands where a trace has its answer."""
    origin = min((turn.start_ns for turn in rollout.turns), default=0)
    judged = [verdict.verdict for verdict in rollout.verdicts]
    return TraceView(
        id=rollout.rollout_id,
        format=f"rollout, schema {rollout.metadata.get('schema_version', '1.0.0')}",
        time=rollout.timestamp_utc,
        prompt=rollout.prompt,
        model=rollout.model,
        dataset=text_of(rollout.metadata.get("dataset_name")),
        task=rollout.instance_id,
        name=f"rollout {rollout.rollout_index}",
        run=text_of(rollout.metadata.get("run_id")),
        ms=rollout.duration_ms,
        axis="shared",
        steps=[_step(turn, origin) for turn in rollout.turns],
        stray=[],
        ended=rollout.stop,
        detail=rollout.detail,
        answer=None if rollout.submission in {"", rollout.patch} else rollout.submission,
        patch=rollout.patch,
        patch_note=rollout.patch_note,
        solved=False if "failed" in judged else True if judged and set(judged) == {"passed"} else None,
        verdicts=[
            VerdictView(aspect=v.aspect, verdict=v.verdict, method=v.method, reason=v.reason) for v in rollout.verdicts
        ],
        facts={
            "metadata": rollout.metadata,
            "environment": rollout.environment,
            "repository": {
                "repo": rollout.repo,
                "base_commit": rollout.base_commit,
                "language": rollout.language,
                "tree_digest": rollout.tree_digest,
                "hidden_tests": rollout.hidden_tests,
            },
        },
    )


def _step(turn: Turn, origin: int) -> StepView:
    start = (turn.start_ns - origin) / _NS_PER_MS
    return StepView(
        n=turn.turn,
        thinks=turn.reasoning_content,
        says=turn.content,
        calls=[] if turn.execution is None else [_call(turn.execution, turn.observation or "", origin)],
        start=start,
        end=start + turn.duration_ms,
        ms=turn.duration_ms,
        tokens_in=turn.input_tokens,
        tokens_out=turn.output_tokens,
        finish=turn.finish_reason,
        prompt_ms=turn.timings.prompt_ms if turn.timings else None,
        told=turn.observation if turn.execution is None else None,
    )


def _call(execution: Execution, observation: str, origin: int) -> CallView:
    start = (execution.start_ns - origin) / _NS_PER_MS
    total = execution.stdout_bytes + execution.stderr_bytes
    return CallView(
        tool="bash",
        input=msgspec.json.encode({"command": execution.command}).decode(),
        output=observation,
        status=execution.status,
        exit=execution.exit_code,
        start=start,
        end=start + execution.duration_ms,
        ms=execution.duration_ms,
        cost=cost_view(execution.telemetry),
        cut={"output": (total - execution.lost_bytes, total)} if execution.lost_bytes else {},
    )
