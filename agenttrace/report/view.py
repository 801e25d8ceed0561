"""The view model: what the page shows of one trace, whatever format its record has.

A reader of another format makes a `TraceView`; everything else (index, packing, page) follows from it. Times are
milliseconds since the start of the run on one axis, sizes are bytes, and `None` is "not measured", as in the records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from agenttrace.formats.entries import machine
from agenttrace.formats.prices import sold
from agenttrace.records import Record, Timings
from agenttrace.report.cost import CallCost, call_cost
from agenttrace.show import attempt_name, joined

if TYPE_CHECKING:
    from agenttrace.formats.prices import Prices
    from agenttrace.records import LLMStep, Outcome, Output, Span, ToolCall, Trace, Verdict
    from agenttrace.show import ProposedCall

SNIPPET_CHARS = 160
_NS_PER_MS = 1e6
_REPOSITORY = ("repo", "base_commit", "language", "tree_digest", "hidden_tests")
_Value = TypeVar("_Value")


class CallView(Record, frozen=True, kw_only=True):
    """One proposed tool call and what came of it; without a span it has neither output nor status.

    Attributes:
        input: the arguments, JSON text where the format has that.
        output: what went back to the model.
        cut: (bytes kept, bytes written) of the streams that were cut, by name.
    """

    tool: str
    input: str
    output: str | None = None
    status: str | None = None
    exit: int | None = None
    start: float | None = None
    end: float | None = None
    ms: float | None = None
    cost: CallCost | None = None
    cut: dict[str, tuple[int, int]] = msgspec.field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether it ran and did not end well."""
        return self.status not in {None, "not_executed"} and (bool(self.exit) or self.status != "ok")


class StepView(Record, frozen=True, kw_only=True):
    """One generation of the model with the calls it proposed.

    Attributes:
        counted: prompt tokens as counted before the request was sent.
        queue_ms: of `ms`, what the request waited for the server to begin, where the server says it.
        prompt_ms: what was spent on reading the prompt after that (prefill).
        decode_ms: what was spent on generating after that.
        told: what answered a reply without a call.
    """

    n: int
    thinks: str | None
    says: str | None
    calls: list[CallView]
    start: float | None = None
    end: float | None = None
    ms: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    counted: int | None = None
    finish: str | None = None
    queue_ms: float | None = None
    prompt_ms: float | None = None
    decode_ms: float | None = None
    told: str | None = None


class TraceView(Record, frozen=True, kw_only=True):
    """One trace as the page shows it.

    Attributes:
        format: what the record was written in, for the reader of the page.
        name: of the task; where that is its id, which of its rollouts this is.
        attempt: which rollout of its task in its run, from 0.
        prepare_ms: for how long the task's tree was waited for.
        axis: `shared` when generations and calls have times on one axis, `tools` when only calls have.
        stray: calls that no step proposed.
        patch: the change that the run made, as a diff; `patch_note` says why there is none, or what it leaves out.
        facts: the record's metadata, environment, scores, totals and, of a checkout, where it is from.
    """

    id: str
    format: str
    time: str
    prompt: str
    model: str
    dataset: str
    task: str
    name: str
    attempt: int | None = None
    run: str
    ms: float | None
    prepare_ms: float | None = None
    axis: Literal["shared", "tools"]
    steps: list[StepView]
    stray: list[CallView]
    ended: str | None = None
    detail: str | None = None
    answer: str | None = None
    patch: str | None = None
    patch_note: str | None = None
    solved: bool | None = None
    verdicts: tuple[Verdict, ...]
    facts: dict[str, Any]

    @property
    def calls(self) -> list[CallView]:
        """Every call, in order."""
        return [*(call for step in self.steps for call in step.calls), *self.stray]


def trace_view(trace: Trace, prices: Prices | None = None) -> TraceView:
    """Return the view of a record, whatever agent made it; its cost by `prices` where its file does not say."""
    meta, outcome = trace.metadata, trace.outcome
    starts = [*(step.start_ns for step in trace.llm_steps), *(span.start_ns for span in trace.spans)]
    origin = min((start for start in starts if start is not None), default=0)
    steps, stray = joined(trace)
    cpus = machine(trace).sandbox_cpus
    return TraceView(
        id=trace.trace_id,
        format=_format(trace),
        time=trace.timestamp_utc or "",
        prompt=trace.prompt,
        model=trace.model,
        dataset=_text(meta.get("dataset_name")),
        task=_text(meta.get("task_id")),
        name=attempt_name(meta),
        attempt=_number(meta.get("rollout_index")),
        run=_text(meta.get("run_id")),
        ms=trace.total_duration_ms,
        prepare_ms=_known(trace.prepare_ms),
        axis="tools" if any(step.start_ns is None for step in trace.llm_steps) else "shared",
        steps=[_step(step, calls, origin, cpus) for step, calls in steps],
        stray=[_call(None, span, origin, cpus) for span in stray],
        ended=outcome.ended,
        detail=outcome.detail,
        answer=_answer(outcome),
        patch=_known(outcome.patch),
        patch_note=_known(outcome.patch_note),
        solved=outcome.solved,
        verdicts=outcome.verdicts,
        facts={
            "repository": {name: meta[name] for name in _REPOSITORY if name in meta} if "repo" in meta else {},
            "metadata": meta,
            "environment": trace.environment,
            "scores": outcome.scores,
            "totals": _totals(trace, prices or sold()),
        },
    )


def _totals(trace: Trace, prices: Prices) -> dict[str, Any]:
    """Return the figures of the whole run, with what it cost by a table of prices where its file does not say."""
    found = msgspec.to_builtins(trace.totals) if trace.totals else {}
    bill = prices.bill(trace, _text(trace.metadata.get("serving_engine")) or None)
    return found if bill.usd is None else {**found, "cost_usd": bill.usd, "cost_source": bill.source}


def _format(trace: Trace) -> str:
    """Return what a record was written in: for one that was read from another format, that format."""
    kept = trace.environment.get("imported")
    named = kept.get("format") if isinstance(kept, dict) else None
    return named if isinstance(named, str) else f"schema {trace.metadata.get('schema_version', '1.0.0')}"


def _text(value: object) -> str:
    """Return a metadata value as text; what is absent is empty."""
    return "" if value is None else str(value)


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _known(value: _Value | msgspec.UnsetType | None) -> _Value | None:
    """Return a value; `None` also where its field does not apply."""
    return None if value is msgspec.UNSET else value


def _answer(outcome: Outcome) -> str | None:
    """Return the answer; what an agent submitted beside a patch is nothing new when it is that patch, or nothing."""
    beside_patch = outcome.patch is not msgspec.UNSET
    return None if beside_patch and outcome.final_answer in {"", outcome.patch} else outcome.final_answer


def _step(step: LLMStep, calls: list[ProposedCall], origin: int, cpus: float | None) -> StepView:
    server = step.timings or Timings()
    return StepView(
        n=step.step_number,
        thinks=step.reasoning_content,
        says=step.model_output,
        calls=[_call(call, span, origin, cpus) for call, span in calls],
        start=_since(step.start_ns, origin),
        end=_since(step.end_ns, origin),
        ms=step.duration_ms,
        tokens_in=step.input_tokens,
        tokens_out=step.output_tokens,
        counted=_known(step.counted_tokens),
        finish=step.finish_reason,
        queue_ms=_known(server.queue_ms),
        prompt_ms=_known(server.first_token_ms) if server.prompt_ms is None else server.prompt_ms,
        decode_ms=server.predicted_ms,
        told=_known(step.answered),
    )


def _since(moment_ns: int | None, origin: int) -> float | None:
    """Milliseconds since the origin; `None` where a record read from another format has no time."""
    return None if moment_ns is None else (moment_ns - origin) / _NS_PER_MS


def _call(call: ToolCall | None, span: Span | None, origin: int, cpus: float | None) -> CallView:
    if span is None:
        return CallView(tool=call.name if call else "", input=call.arguments if call else "")
    # Other formats do not say how long a call took, nor all its exit status; the fields of a record must have a number.
    unsaid = span.start_ns is None and span.telemetry.method == "not-measured"
    return CallView(
        tool=span.tool_name,
        input=span.tool_input,
        output=span.tool_output,
        status=span.status,
        exit=None if unsaid and span.exit_code == -1 else span.exit_code,
        start=_since(span.start_ns, origin),
        end=_since(span.end_ns, origin),
        ms=None if unsaid else span.duration_ms,
        cost=call_cost(span.telemetry, cpus),
        cut=dict(_cut("stdout", span.stdout) + _cut("stderr", span.stderr)),
    )


def _cut(name: str, output: Output | None) -> list[tuple[str, tuple[int, int]]]:
    cut = output is not None and output.bytes_kept < output.bytes_total
    return [(name, (output.bytes_kept, output.bytes_total))] if output is not None and cut else []
