"""OpenTelemetry spans of agents, from OTLP/JSON or a console exporter: GenAI conventions and OpenInference.

One record a trace. A span of a model is a reply, one of a tool its result; what else there is (agents, chains,
retrievers) only names the run. Where a result has no span, it is taken from the messages of the next request. Sources:
OTLP 1.x (JSON encoding), `ReadableSpan.to_json` of OpenTelemetry's SDK for Python, OpenTelemetry's GenAI conventions
1.27 to 1.41 and 0.1.0, OpenInference's specification, OpenLLMetry's attributes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from agenttrace.errors import DataError
from agenttrace.formats.conversation import iso
from agenttrace.formats.dialogue import STRAY, Dialogue
from agenttrace.formats.foreign import (
    amount,
    at,
    between,
    exit_status,
    fitting,
    json_text,
    moment_ns,
    text_of,
    tokens,
)
from agenttrace.formats.otlp_messages import DETAILS, Event, SpanMessage, as_json, instructions, messages
from agenttrace.records import Outcome, SpanStatus, Telemetry, Timings, Totals, Trace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NAME = "otlp"
MOST_SPANS = 200_000
"""Spans of a file that are held; those of a trace may lie anywhere in it."""
_KINDS = ("openinference.span.kind", "gen_ai.operation.name", "llm.request.type", "traceloop.span.kind")
_MODEL = frozenset({"LLM", "chat", "text_completion", "generate_content", "completion"})
_TOOL = frozenset({"TOOL", "execute_tool", "tool"})
_PROMPT = ("gen_ai.usage.input_tokens", "llm.token_count.prompt", "gen_ai.usage.prompt_tokens")
_USED = ("gen_ai.usage.output_tokens", "llm.token_count.completion", "gen_ai.usage.completion_tokens")
_CACHED = (
    "gen_ai.usage.cache_read.input_tokens",
    "llm.token_count.prompt_details.cache_read",
    "gen_ai.usage.cache_read_input_tokens",
)
_GIVEN = ("gen_ai.tool.call.arguments", "input.value", "tool.parameters", "traceloop.entity.input")
_BACK = ("gen_ai.tool.call.result", "output.value", "traceloop.entity.output")
_CALL = ("gen_ai.tool.call.id", "tool_call.id", "tool.id")
_OWN_ID = "agenttrace.trace_id"
"""Attribute that only the root of a record of our own export has."""
_MOST_NS = 2**63
_FAILED = 2
"""Status code of a span: error."""
_STATUSES: dict[str, SpanStatus] = {"timeout": "timeout", "oom": "oom", "lost": "lost"}


class _Span(NamedTuple):
    number: int
    span_id: str
    trace: str
    start: int | None
    end: int | None
    parent: str
    facts: dict[str, Any]
    events: list[Event]

    @property
    def kind(self) -> str:
        """`model`, `tool` or nothing of both."""
        said = [str(self.facts.get(name)) for name in _KINDS]
        return next((kind for one in said for kind, words in (("model", _MODEL), ("tool", _TOOL)) if one in words), "")

    def first(self, *names: str) -> Any:  # noqa: ANN401 - an attribute of any kind
        """Return the first of some attributes that is there."""
        return next((self.facts[name] for name in names if self.facts.get(name) is not None), None)

    def said(self, side: str) -> list[SpanMessage]:
        """Return the messages of one side of it, `input` or `output`."""
        return messages(self.facts, self.events, side)

    @property
    def times(self) -> dict[str, Any]:
        """When it was and how long; of what our export only laid out in order, neither is known."""
        return {} if self.facts.get("agenttrace.time") == "laid out" else between(self.start, self.end)


def read(values: Iterable[tuple[int, Any]], source: str) -> Iterator[tuple[int, Trace]]:  # noqa: ARG001 - as all formats
    """Yield the traces of a file's export requests, in the order in which they begin in it.

    Raises:
        DataError: it has more spans than can be held, or none of a model or a tool.
    """
    found: dict[str, list[_Span]] = {}
    sent: set[tuple[str, str]] = set()
    held = 0
    for number, value in values:
        try:
            for span in _spans(number, value):
                if span.span_id and (span.trace, span.span_id) in sent:  # an exporter that heard nothing sends again
                    continue
                sent.add((span.trace, span.span_id))
                found.setdefault(span.trace, []).append(span)
                held += 1
                if held > MOST_SPANS:
                    raise DataError(f"more than {MOST_SPANS:,} spans in one file: split it by trace")
        except RecursionError as error:
            raise DataError(f"request {number}: nested too deeply") from error
    traces = 0
    for name, spans in found.items():
        if any(span.kind or _OWN_ID in span.facts for span in spans):
            traces += 1
            yield spans[0].number, _trace(name, spans)
    if not traces:
        raise DataError("no span of a model or a tool by OpenTelemetry's or OpenInference's conventions")


def _spans(number: int, value: Any) -> Iterator[_Span]:  # noqa: ANN401 - JSON of anyone
    """Yield the spans of a request, or the one that a console exporter printed."""
    if at(value, "context") is not None:
        yield _printed(number, value)
    for resource in _listed(value, "resourceSpans"):
        for scope in _listed(resource, "scopeSpans"):
            for span in _listed(scope, "spans"):
                facts = _attributes(at(span, "attributes"))
                told = [(str(at(one, "name")), _attributes(at(one, "attributes"))) for one in _listed(span, "events")]
                if at(span, "status", "code") in {_FAILED, "STATUS_CODE_ERROR"}:
                    facts.setdefault("error.type", text_of(at(span, "status", "message")) or "error")
                start, end = (_nanoseconds(at(span, f"{name}TimeUnixNano")) for name in ("start", "end"))
                name, parent = (str(at(span, key) or "") for key in ("spanId", "parentSpanId"))
                yield _Span(number, name, str(at(span, "traceId")), start, end, parent, facts, _events(facts, told))


def _printed(number: int, value: Any) -> _Span:  # noqa: ANN401 - as above
    """Return a span as the SDK's console exporter prints it: plain attributes, times as text, ids with 0x."""
    given = at(value, "attributes")
    facts = dict(given) if isinstance(given, dict) else {}
    if at(value, "status", "status_code") == "ERROR":
        facts.setdefault("error.type", text_of(at(value, "status", "description")) or "error")
    ids = (at(value, "context", "span_id"), at(value, "context", "trace_id"), at(value, "parent_id"))
    name, trace, parent = (str(one or "").removeprefix("0x") for one in ids)
    start, end = (moment_ns(at(value, key)) for key in ("start_time", "end_time"))
    told = [(str(at(one, "name")), fitting(at(one, "attributes"), dict) or {}) for one in _listed(value, "events")]
    return _Span(number, name, trace, start, end, parent, facts, _events(facts, told))


def _events(facts: dict[str, Any], told: list[Event]) -> list[Event]:
    """Return the events that are messages; what an event says in a span's stead goes into its attributes."""
    for name, details in told:
        for key, value in details.items() if name == DETAILS else ():
            facts.setdefault(key, value)
    return [event for event in told if event[0].startswith("gen_ai.") and event[0] != DETAILS]


def _listed(value: Any, key: str) -> list[Any]:  # noqa: ANN401 - as above
    found = at(value, key)
    return found if isinstance(found, list) else []


def _nanoseconds(value: Any) -> int | None:  # noqa: ANN401 - as above
    found = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20 else value  # noqa: PLR2004 - digits of 2**63
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 < found < _MOST_NS else None


def _attributes(given: Any) -> dict[str, Any]:  # noqa: ANN401 - as above
    pairs = given if isinstance(given, list) else []
    return {str(at(pair, "key")): _value(at(pair, "value")) for pair in pairs}


def _value(value: Any) -> Any:  # noqa: ANN401 - as above
    """Return an attribute as a JSON value."""
    if not isinstance(value, dict) or not value:
        return None
    kind, inner = next(iter(value.items()))
    if kind == "arrayValue":
        return [_value(one) for one in _listed(inner, "values")]
    if kind == "kvlistValue":
        return _attributes(at(inner, "values"))
    if kind == "intValue":
        return fitting(inner, int) if not isinstance(inner, str) else _integer(inner)
    return inner


def _integer(text: str) -> int | None:
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None  # noqa: PLR2004


def _trace(name: str, spans: list[_Span]) -> Trace:
    ordered = sorted(spans, key=lambda span: (span.start or 0, span.number))
    with_span = {str(span.first(*_CALL)) for span in ordered if span.kind == "tool"}
    talk, model = Dialogue(), None
    talk.times += [moment for span in spans for moment in (span.start, span.end) if moment is not None]
    again = _told_twice(ordered)
    for span in ordered:
        if span.kind == "model" and span.span_id not in again:
            _hear(talk, span, with_span)
            _say(talk, span)
            model = model or fitting(span.first("gen_ai.response.model", "gen_ai.request.model", "llm.model_name"), str)
        elif span.kind == "tool":
            _return(talk, span)
    roots = [span for span in ordered if not span.parent] or ordered
    task = roots[0].first("agenttrace.task_id")
    session = next((one for span in ordered if (one := span.first("gen_ai.conversation.id", "session.id"))), None)
    failed = roots[0].first("error.type")
    ours = roots[0].first(_OWN_ID) is not None
    if ours and talk.silent:  # it ended before its first reply
        talk.asked(text_of(roots[0].first("input.value")))
    return talk.trace(
        NAME,
        [name],
        trace_id=_uuid(name),
        outcome=_outcome(roots[0]) or Outcome(ended="unknown", detail=None if failed is None else str(failed)),
        model=model or (fitting(roots[0].first("gen_ai.request.model"), str) if ours else None),
        metadata={
            **(fitting(as_json(roots[0].first("metadata")), dict[str, Any]) or {} if ours else {}),
            "session_id": None if session is None else str(session),
            "agent": fitting(roots[0].first("gen_ai.agent.name", "agent.name"), str),
            "task_id": task if isinstance(task, (int, str)) and not isinstance(task, bool) else None,
        },
        **(_own_run(roots[0]) if ours else {}),
    )


def _told_twice(spans: list[_Span]) -> set[str]:
    """Return the ids of spans of a model that tell of a request as another one does, around or within them.

    Where a framework and the client below it are both instrumented, one request has a span in the other's. The outer
    one counts, unless it says neither what came back nor its tokens.
    """
    known = {span.span_id: span for span in spans if span.span_id}
    again = set()
    for span in spans:
        if span.kind != "model":
            continue
        outer, above, seen = None, known.get(span.parent), {span.span_id}
        while above is not None and above.span_id not in seen and above.kind != "tool":
            seen.add(above.span_id)
            outer = above if above.kind == "model" else outer
            above = known.get(above.parent)
        if outer is not None:
            said = outer.first(*_USED, "output.value") is not None or outer.said("output")
            again.add((span if said else outer).span_id)
    return again


def _own_run(root: _Span) -> dict[str, Any]:
    """Return what our own export says of the times and figures of a whole run, fields of a record."""
    return {
        "timestamp_utc": iso(root.start),
        "total_duration_ms": amount(root.first("agenttrace.total_duration_ms")),
        "totals": fitting(_below(root, "agenttrace.totals.") or None, Totals | None),
    }


def _outcome(root: _Span) -> Outcome | None:
    """Return the outcome that our own export says of a run, but for its verdicts, which are events."""
    said = _below(root, "agenttrace.outcome.")
    fields = {name: said.get(name) for name in ("ended", "detail", "solved")}
    scores = fitting(_below(root, "agenttrace.outcome.scores."), dict[str, float]) or {}
    found: Outcome | None = fitting({**fields, "scores": scores, "final_answer": root.first("output.value")}, Outcome)
    return found


def _uuid(name: str) -> str | None:
    try:
        return str(UUID(hex=name)) if len(name) == 32 else None  # noqa: PLR2004 - hexadecimal digits
    except ValueError:
        return None


def _hear(talk: Dialogue, span: _Span, with_span: set[str]) -> None:
    """Take what a request has after the last reply in it: all of it at the first, then what is new."""
    system = as_json(span.first("gen_ai.system_instructions"))
    if system is not None and not talk.begun and talk.system is None:
        talk.told(instructions(system))
    given = span.said("input")
    if not given and not talk.begun and (text := span.first("input.value")) is not None:
        talk.asked(text_of(text))
    last = max((place for place, one in enumerate(given) if one.role == "assistant"), default=-1) if talk.begun else -1
    for one in given[last + 1 :]:
        for called, text in one.results:
            if str(called) not in with_span and (talk.waits if called is None else talk.awaits(called)):
                talk.came_back(text, called)
        if one.role in {"system", "developer"}:
            if not talk.begun and talk.system is None:
                talk.told(one.text)
        elif one.role == "assistant":
            talk.replied(one.text, one.calls, reasoning_content=one.thought)  # from before what was recorded
        elif one.text:
            talk.asked(one.text)


def _say(talk: Dialogue, span: _Span) -> None:
    replies = span.said("output") or [SpanMessage("assistant", text_of(span.first("output.value")))]
    reasons = span.first("gen_ai.response.finish_reasons", "llm.finish_reason") or replies[0].finish
    cached = tokens(span.first(*_CACHED))
    timings = fitting(_below(span, "agenttrace.timings."), Timings) if span.first("agenttrace.step_id") else None
    if timings in {None, Timings()}:
        timings = None if cached is None else Timings(cached_n=cached)
    took = amount(span.first("agenttrace.duration_ms"))
    talk.replied(
        "\n".join(one.text for one in replies if one.text),
        [call for one in replies for call in one.calls],
        reasoning_content="\n".join(one.thought for one in replies if one.thought) or None,
        input_tokens=tokens(span.first(*_PROMPT)),
        output_tokens=tokens(span.first(*_USED)),
        finish_reason=fitting(reasons[0] if isinstance(reasons, list) and reasons else reasons, str),
        timings=timings,
        **{**span.times, **({} if took is None else {"duration_ms": took})},
    )


def _return(talk: Dialogue, span: _Span) -> None:
    called = fitting(span.first(*_CALL), str)
    name = fitting(span.first("gen_ai.tool.name", "tool.name", "traceloop.entity.name"), str) or STRAY
    given, back = (span.first(*names) or _told(span, side) for names, side in ((_GIVEN, "input"), (_BACK, "output")))
    talk.came_back(
        text_of(back),
        called,
        name,
        tool_input=json_text(given),
        **{
            "exit_code": exit_status(span.first("process.exit.code")),
            "status": _STATUSES.get(str(span.first("error.type")), "ok"),
            **span.times,
            **_ours(span),
        },
    )


def _told(span: _Span, side: str) -> str | None:
    """Return what a span of a tool says of its arguments or its result in messages alone."""
    texts = [text for one in span.said(side) for text in (*(back for _, back in one.results), one.text) if text]
    return "\n".join(texts) or None


def _below(span: _Span, name: str) -> dict[str, Any]:
    """Return the attributes of a span whose names begin so, by the rest of their names."""
    return {key[len(name) :]: value for key, value in span.facts.items() if key.startswith(name)}


def _ours(span: _Span) -> dict[str, Any]:
    """Return what our own export says of a call, fields of a span; nothing of a span of anybody else."""
    status = fitting(span.first("agenttrace.status"), SpanStatus)
    if status is None:
        return {}
    known = {"status": status, "signal": fitting(span.first("agenttrace.signal"), int | None)}
    took, cost = amount(span.first("agenttrace.duration_ms")), _below(span, "agenttrace.telemetry.")
    if "tree_rss_series" in cost:
        cost["tree_rss_series"] = as_json(cost["tree_rss_series"])
    needed = dict.fromkeys(("user_time_s", "system_time_s", "max_rss_bytes", "read_bytes", "write_bytes"))
    telemetry = fitting({**needed, **cost}, Telemetry)
    known |= {} if took is None else {"duration_ms": took}
    known |= {} if telemetry is None else {"telemetry": telemetry}
    return known
