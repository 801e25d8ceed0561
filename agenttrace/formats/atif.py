"""Agent Trajectory Interchange Format: v1.7 is written, v1.0 to v1.8 are read.

Format: RFC 0001 of Harbor and its models (`harbor.models.trajectories`). Nothing of a record is lost: what has a field
stands there and only there, the rest in `extra.agenttrace` at the same level, and reading puts both together again. Of
a foreign trajectory, everything that a record has no place for is in `environment.imported.patch`: writing it as ATIF
again gives it as it was.
"""

from __future__ import annotations

import json
from collections import deque
from itertools import takewhile, zip_longest
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from agenttrace.errors import DataError
from agenttrace.formats.atif_metrics import Metrics, left_of_tokens, metrics_of, tokens_of
from agenttrace.formats.conversation import (
    iso,
    json_object,
    lasted_ms,
    opening,
    outcome_of,
    tool_schemas,
    turns,
    without_none,
)
from agenttrace.formats.foreign import UNTIMED, amount, at, foreign_span, foreign_step, moment_ns, text_of, tokens
from agenttrace.formats.measured import totals_of
from agenttrace.formats.patch import as_read, imported, with_patch
from agenttrace.records import (
    SCHEMA_VERSION,
    Outcome,
    Timings,
    ToolCall,
    Totals,
    Trace,
    canonical_json,
    derived_id,
    digest,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agenttrace.formats.conversation import Turn
    from agenttrace.records import LLMStep, RunSpec, Span

NAME = "atif"
SCHEMA = "ATIF-v1.7"
_AGENT = "agenttrace"
_FIELDS = frozenset({"model_output", "reasoning_content", "tool_calls", "input_tokens", "output_tokens"})
"""Of a generation, what has a field of its own."""
_NULLABLE = frozenset({"counted_tokens", "answered"})
"""Where `null` is not the same as absent."""


class _Call(msgspec.Struct):
    tool_call_id: str
    function_name: str
    arguments: dict[str, Any] = {}
    extra: dict[str, Any] | None = None


class _Result(msgspec.Struct):
    source_call_id: str | None = None
    content: Any = None
    extra: dict[str, Any] | None = None


class _Observation(msgspec.Struct):
    results: list[_Result]


class _FinalMetrics(msgspec.Struct):
    total_prompt_tokens: Any = None
    total_completion_tokens: Any = None
    total_cached_tokens: Any = None
    total_cost_usd: Any = None


class _Step(msgspec.Struct):
    source: Literal["system", "user", "agent"]
    message: Any = ""
    timestamp: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_Call] | None = None
    observation: _Observation | None = None
    metrics: Metrics | None = None
    llm_call_count: Any = None
    is_copied_context: bool | None = None
    extra: dict[str, Any] | None = None

    @property
    def generates(self) -> bool:
        """Whether a model was asked; since v1.7 a step can say that none was."""
        return self.source == "agent" and self.llm_call_count != 0

    @property
    def results(self) -> list[_Result]:
        """What came back of its calls."""
        return self.observation.results if self.observation else []


class _Agent(msgspec.Struct):
    name: str
    version: str = "unknown"
    model_name: str | None = None


class _Trajectory(msgspec.Struct):
    schema_version: str
    agent: _Agent
    steps: list[_Step]
    session_id: str | None = None
    trajectory_id: str | None = None
    final_metrics: _FinalMetrics | None = None
    extra: dict[str, Any] | None = None


def from_trace(trace: Trace, spec: RunSpec | None = None, source: str = "") -> dict[str, Any]:  # noqa: ARG001
    """Return a record as one trajectory; a trajectory that was read before is written again as it was."""
    steps: list[dict[str, Any]] = [{"source": one.role, "message": one.content} for one in opening(trace, spec)]
    metrics = metrics_of(trace.llm_steps)
    for turn in turns(trace, spec):
        steps.append(_agent_step(turn, metrics[turn.step.step_id]))
        if turn.reminder is not None:
            steps.append({"source": "user", "message": turn.reminder, "extra": {_AGENT: {"reminder": True}}})
    extra: dict[str, Any] = {} if imported(trace, NAME) else {"extra": {_AGENT: _root_extra(trace)}}
    found = {
        "schema_version": SCHEMA,
        "session_id": trace.trace_id,  # a run of the agent; campaigns have many, and readers join what shares it
        "trajectory_id": trace.trace_id,
        "agent": without_none(
            {
                "name": _AGENT,
                "version": str(trace.metadata.get("collector_version") or "unknown"),
                "model_name": trace.model,
                "tool_definitions": tool_schemas(spec),
            }
        ),
        "steps": [{"step_id": number, **step} for number, step in enumerate(steps, start=1)],
        "final_metrics": _totals(trace, len(steps)),
        **extra,
    }
    return as_read(found, trace, NAME)


def _root_extra(trace: Trace) -> dict[str, Any]:
    strays = () if trace.llm_steps else trace.spans
    return without_none(
        {
            "timestamp_utc": trace.timestamp_utc,
            "total_duration_ms": trace.total_duration_ms,
            "metadata": trace.metadata,
            "environment": trace.environment,
            "outcome": outcome_of(trace),
            "span_order": [span.span_id for span in trace.spans],
            "spans": msgspec.to_builtins(strays) or None,
            "prepare_ms": None if trace.prepare_ms is UNSET else trace.prepare_ms,
            **totals_of(trace),
        }
    )


def _agent_step(turn: Turn, metrics: dict[str, Any]) -> dict[str, Any]:
    step = turn.step
    calls = [_call(call.call_id, call.name, call.arguments) for call in step.tool_calls or ()]
    known = {call["tool_call_id"] for call in calls}
    return without_none(
        {
            "timestamp": iso(step.start_ns),
            "source": "agent",
            "message": step.model_output or "",
            "reasoning_content": step.reasoning_content,
            "tool_calls": None if step.tool_calls is None else calls,
            "observation": {"results": [_result(span, known) for span in turn.spans]} if turn.spans else None,
            "metrics": metrics or None,
            "llm_call_count": 1,
            "extra": {_AGENT: _step_extra(step)},
        }
    )


def _step_extra(step: LLMStep) -> dict[str, Any]:
    """Return what has no field; of an answer only that there is one, as it is the step that follows."""
    fields = msgspec.to_builtins(step)
    found = {key: fields[key] for key in fields if key not in _FIELDS and (fields[key] is not None or key in _NULLABLE)}
    if step.model_output is None:
        found["no_output"] = True
    if "answered" in found:
        found["answered"] = found["answered"] is not None
    if "tokens" in found:
        found["tokens"] = left_of_tokens(found["tokens"])
    return found


def _call(call_id: str, name: str, text: str) -> dict[str, Any]:
    """Return a proposed call; the text of its arguments is kept where the object does not give it again."""
    values = json_object(text)
    found: dict[str, Any] = {"tool_call_id": call_id, "function_name": name, "arguments": values or {}}
    if values is None or json.dumps(values) != text:
        found["extra"] = {_AGENT: {"arguments": text}}
    return found


def _result(span: Span, known: set[str]) -> dict[str, Any]:
    fields = msgspec.to_builtins(span)
    rest = {key: fields[key] for key in fields if key not in {"tool_output", "type"}}
    joined = {"source_call_id": span.call_id} if span.call_id in known else {}
    return {**joined, "content": span.tool_output, "extra": {_AGENT: rest}}


def _totals(trace: Trace, steps: int) -> dict[str, Any]:
    """Return the sums over what was counted, or what another format says of the whole; nothing where nothing was."""
    read = [step.input_tokens for step in trace.llm_steps if step.input_tokens is not None]
    written = [step.output_tokens for step in trace.llm_steps if step.output_tokens is not None]
    kept = (None if imported(trace, NAME) else trace.totals) or Totals()
    return without_none(
        {
            "total_prompt_tokens": sum(read) if read else kept.input_tokens,
            "total_completion_tokens": sum(written) if written else kept.output_tokens,
            "total_cached_tokens": kept.cached_tokens,
            "total_cost_usd": kept.cost_usd,
            "total_steps": steps,
        }
    )


def to_trace(value: Any, source: str = "") -> Trace:  # noqa: ANN401, ARG001 - whatever stood in the file
    """Return a trajectory as a record.

    Of foreign ones: the prompt is the user's text before the first agent step; steps that are copied context are in
    the patch alone; a call's result joins it by `source_call_id`, and where ids stand twice, calls get others; what a
    call cost, how long it took and its exit status are not known; `outcome.ended` is `unknown`.

    Raises:
        DataError: it is no trajectory; the message names the field.
    """
    if not str(said := at(value, "schema_version")).startswith("ATIF-v1."):
        raise DataError(f"a trajectory of {str(said)[:20]}; ATIF v1.0 to v1.8 are read")
    try:
        found = msgspec.convert(value, _Trajectory)
        root = _extra(found.extra)
        return _own(found, root) if "outcome" in root else _foreign(found, value)
    except (msgspec.ValidationError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"not a trajectory of {SCHEMA}: {error}") from error


def _extra(extra: dict[str, Any] | None) -> dict[str, Any]:
    found = (extra or {}).get(_AGENT)
    return found if isinstance(found, dict) else {}


def _own(found: _Trajectory, root: dict[str, Any]) -> Trace:
    """Put a record together again from the fields and our extras."""
    results = [one for step in found.steps for one in step.results]
    spans = [{**_extra(one.extra), "type": "TOOL", "tool_output": text_of(one.content)} for one in results]
    spans += root.get("spans", ())
    places = {span_id: place for place, span_id in enumerate(root["span_order"])}
    fields = {
        **dict.fromkeys(("timestamp_utc", "total_duration_ms")),
        **root,
        "trace_id": found.trajectory_id or "",
        "prompt": _prompt(found.steps),
        "model": found.agent.model_name or "",
        "spans": sorted(spans, key=lambda span: places.get(span.get("span_id"), len(places))),
        "llm_steps": list(_own_steps(found.steps)),
    }
    return msgspec.convert(fields, Trace)


def _own_steps(steps: list[_Step]) -> Iterator[dict[str, Any]]:
    for step, following in zip_longest(steps, steps[1:]):
        if step.source == "agent":
            rest = {**UNTIMED, **_extra(step.extra)}
            if "answered" in rest:
                rest["answered"] = text_of(following.message) if rest["answered"] and following is not None else None
            silent = rest.pop("no_output", False) and not step.message
            if "tokens" in rest:
                rest["tokens"] = tokens_of(step.metrics or Metrics(), rest["tokens"])
            yield {**rest, "model_output": None if silent else text_of(step.message), **_said(step)}


def _said(step: _Step) -> dict[str, Any]:
    """Return the fields of a generation that have the same place in every trajectory."""
    metrics = step.metrics or Metrics()
    return {
        "reasoning_content": step.reasoning_content,
        "tool_calls": None if step.tool_calls is None else tuple(map(_own_call, step.tool_calls)),
        "input_tokens": metrics.prompt_tokens,
        "output_tokens": metrics.completion_tokens,
    }


def _own_call(call: _Call) -> ToolCall:
    text = _extra(call.extra).get("arguments")
    arguments = text if isinstance(text, str) else json.dumps(call.arguments)
    return ToolCall(call_id=call.tool_call_id, name=call.function_name, arguments=arguments)


def _foreign(found: _Trajectory, value: dict[str, Any]) -> Trace:
    # Not of the file's whole content: the same trajectory must keep its id when someone adds a note to it.
    trace_id = found.trajectory_id or derived_id(NAME, found.session_id or "", digest(list(map(_texts, found.steps))))
    here = [step for step in found.steps if not step.is_copied_context]
    agent_steps = [step for step in here if step.source == "agent"]
    ids = [call.tool_call_id for step in agent_steps for call in step.tool_calls or ()]
    if len(set(ids)) < len(ids):
        for number, step in enumerate(agent_steps, start=1):
            _tell_apart(step, number)
    asked = [step for step in agent_steps if step.generates]
    steps = tuple(
        foreign_step(trace_id, number, model_output=text_of(step.message) or None, **_counted(step))
        for number, step in enumerate(asked, start=1)
    )
    of_step = {id(step): ours for ours, step in zip(steps, asked, strict=True)}
    places = enumerate(agent_steps, start=1)
    spans = tuple(
        span for place, step in places for span in _foreign_spans(trace_id, place, of_step.get(id(step)), step)
    )
    system = [text_of(step.message) for step in found.steps if step.source == "system"]
    times = [moment for step in here if (moment := moment_ns(step.timestamp)) is not None]
    trace = Trace(
        trace_id=trace_id,
        timestamp_utc=iso(min(times)) if times else None,
        prompt=_prompt(found.steps),
        model=found.agent.model_name or "unknown",
        spans=spans,
        llm_steps=steps,
        total_duration_ms=lasted_ms(times),
        metadata={"schema_version": SCHEMA_VERSION, "source": found.schema_version, "agent": found.agent.name},
        environment={"imported": {"format": NAME, **({"system_prompt": system[0]} if system else {})}},
        outcome=Outcome(ended="unknown"),
        totals=_foreign_totals(found),
    )
    return with_patch(trace, from_trace(trace), value)


def _counted(step: _Step) -> dict[str, Any]:
    """Return what a generation of others says, as far as its counts are some."""
    metrics = step.metrics or Metrics()
    cached = tokens(metrics.cached_tokens)
    counts = {"input_tokens": tokens(metrics.prompt_tokens), "output_tokens": tokens(metrics.completion_tokens)}
    timings = None if cached is None else Timings(cached_n=cached)
    return {**_said(step), **counts, "timings": timings, "tokens": tokens_of(metrics)}


def _foreign_totals(found: _Trajectory) -> Totals | UnsetType:
    """Return what is said of the whole run, the cost also where only its steps have one, each of them."""
    said = found.final_metrics or _FinalMetrics()
    each = [amount(step.metrics.cost_usd) for step in found.steps if step.metrics]
    known = [cost for cost in each if cost is not None]
    cost = amount(said.total_cost_usd)
    totals = Totals(
        input_tokens=tokens(said.total_prompt_tokens),
        output_tokens=tokens(said.total_completion_tokens),
        cached_tokens=tokens(said.total_cached_tokens),
        cost_usd=sum(known) if cost is None and known and len(known) == len(each) else cost,
    )
    return UNSET if totals == Totals() else totals


def _texts(step: _Step) -> list[Any]:
    """Return what a step says: what tells two attempts at a task apart."""
    results = [(result.source_call_id, text_of(result.content)) for result in step.results]
    calls = list(map(_own_call, step.tool_calls or ()))
    return [step.source, step.timestamp, text_of(step.message), step.reasoning_content, calls, results]


def _tell_apart(step: _Step, number: int) -> None:
    """Give the calls of a step ids of their own: of results with one id, the k-th is that of the k-th call with it."""
    named: dict[str, deque[str]] = {}
    for index, call in enumerate(step.tool_calls or (), start=1):
        own = f"call_{number}_{index}"
        named.setdefault(call.tool_call_id, deque()).append(own)
        call.tool_call_id = own
    for result in step.results:
        if waiting := named.get(result.source_call_id or ""):
            result.source_call_id = waiting.popleft() if len(waiting) > 1 else waiting[0]


def _foreign_spans(trace_id: str, place: int, ours: LLMStep | None, step: _Step) -> Iterator[Span]:
    """Yield the results of a step; one that names no call is that of the only call, where there is one."""
    calls = {call.tool_call_id: call for call in step.tool_calls or ()}
    alone = next(iter(calls.values())) if len(calls) == len(step.results) == 1 else None
    for index, result in enumerate(step.results, start=1):
        call = calls.get(result.source_call_id or "") or (alone if result.source_call_id is None else None)
        yield foreign_span(
            ours,
            span_id=derived_id(ours.step_id if ours else f"{trace_id} {place}", "result", index),
            tool_name=call.function_name if call else "observation",
            tool_input=canonical_json(call.arguments).decode() if call else "{}",
            tool_output=text_of(result.content),
            call_id=call.tool_call_id if ours and call else None,
        )


def _prompt(steps: list[_Step]) -> str:
    """Return what the user said before the first agent step."""
    before = takewhile(lambda step: step.source != "agent", steps)
    return "\n\n".join(text_of(step.message) for step in before if step.source == "user")
