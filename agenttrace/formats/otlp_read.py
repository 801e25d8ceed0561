"""OpenTelemetry spans of agents, from OTLP/JSON or a console exporter: GenAI conventions and OpenInference.

One record a trace. A span of a model is a reply, one of a tool its result; what else there is (agents, chains,
retrievers) only names the run. What spans of tools do not say is taken from the messages of the next request. Sources:
OpenTelemetry's GenAI conventions 1.27 to 1.41 and 0.1.0, OpenInference's specification, OpenLLMetry's attributes.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import UUID

from msgspec import UNSET

from agenttrace.errors import DataError
from agenttrace.formats.conversation import iso
from agenttrace.formats.dialogue import Dialogue
from agenttrace.formats.foreign import (
    amount,
    exit_status,
    fitting,
    json_text,
    text_of,
    tokens,
)
from agenttrace.formats.otlp_messages import SpanMessage, as_json, instructions
from agenttrace.formats.otlp_spans import BACK, OWN_ID, USED, AgentSpan, in_order, nesting, spans_of
from agenttrace.records import Outcome, SpanStatus, Telemetry, Timings, Totals, Trace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NAME = "otlp"
MOST_SPANS = 200_000
"""Spans of a file that are held; those of a trace may lie anywhere in it."""
_PROMPT = ("gen_ai.usage.input_tokens", "llm.token_count.prompt", "gen_ai.usage.prompt_tokens")
_CACHED = (
    "gen_ai.usage.cache_read.input_tokens",
    "llm.token_count.prompt_details.cache_read",
    "gen_ai.usage.cache_read_input_tokens",
)
_REASONED = (
    "gen_ai.usage.reasoning.output_tokens",
    "llm.token_count.completion_details.reasoning",
    "gen_ai.usage.reasoning_tokens",
)
_COST = ("llm.cost.total", "gen_ai.usage.cost", "operation.cost")
"""What a request cost, US dollars: of OpenInference, OpenLIT and Logfire."""
_MODEL = (
    "gen_ai.response.model",
    "llm.response.model_name",
    "gen_ai.request.model",
    "llm.model_name",
    "llm.request.model_name",
)
_GIVEN = ("gen_ai.tool.call.arguments", "input.value", "tool.parameters", "traceloop.entity.input")
_CALL = ("gen_ai.tool.call.id", "tool_call.id", "tool.id")
_STATUSES: dict[str, SpanStatus] = {"timeout": "timeout", "oom": "oom", "lost": "lost"}


def read(values: Iterable[tuple[int, Any]], source: str) -> Iterator[tuple[int, Trace]]:  # noqa: ARG001 - as all formats
    """Yield the traces of a file's export requests, in the order in which they begin in it.

    Raises:
        DataError: it has more spans than can be held, or none of a model or a tool.
    """
    found: dict[str, list[AgentSpan]] = {}
    sent: set[tuple[str, str]] = set()
    held = 0
    for number, value in values:
        try:
            for span in spans_of(number, value):
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
        if any(OWN_ID in span.facts or span.kind in {"model", "tool"} or _replies(span) for span in spans):
            traces += 1
            yield spans[0].number, _trace(name, spans)
    if not traces:
        raise DataError("no span of a model or a tool by OpenTelemetry's or OpenInference's conventions")


def _replies(span: AgentSpan) -> bool:
    """Return whether a span is of an agent that says what it was asked or replied."""
    return span.kind == "agent" and (span.tells or bool(span.said("input")))


class _Heard:
    """What a trace has said so far, and what of it waits for more.

    Attributes:
        talk: the conversation.
        to_come: of ids of calls, how many spans with a result of one are still to come.
        ids: ids of calls that have a span of a tool.
        held: spans of a tool without a result, by the id of their call: the next request may say it.
        costs: of each reply, what it cost.
        failed: requests that got no reply.
    """

    def __init__(self, spans: list[AgentSpan]) -> None:
        tools = [span for span in spans if span.kind == "tool"]
        self.talk = Dialogue()
        self.held: dict[str, AgentSpan] = {}
        self.ids = {str(span.first(*_CALL)) for span in tools}
        self.to_come = Counter(str(span.first(*_CALL)) for span in tools if _result(span) is not None)
        self.costs: list[float | None] = []
        self.failed: list[AgentSpan] = []

    def take(self, span: AgentSpan, *, within: bool) -> None:
        """Take a span of a model or a tool; `within` says that it lies in one of a tool."""
        called = fitting(span.first(*_CALL), str)
        if called is not None and _result(span) is not None:
            self.to_come[called] -= 1
        if span.kind == "model" and _failed(span):
            self.failed.append(span)
        elif span.kind == "model":
            _hear(self, span)
            _say(self.talk, span)
            self.costs.append(amount(span.first(*_COST)))
        elif span.kind == "tool" and called is not None and self._waits(span, called):
            self.held[called] = span
        elif span.kind == "tool":
            # What a tool called by itself, no reply proposed.
            _return(self.talk, span, span.span_id if called is None and within else called)

    def _waits(self, span: AgentSpan, called: str) -> bool:
        """Whether the next request says what a call gave, or which reply proposed it."""
        known = _result(span) is None and self.talk.awaits(called)
        return called not in self.held and (known or not self.talk.begun)

    @property
    def unanswered(self) -> list[AgentSpan]:
        """The last request, where none got a reply."""
        return [] if self.talk.begun else self.failed[-1:]

    def end(self) -> None:
        """Take what still waits."""
        for called, span in self.held.items():
            _return(self.talk, span, called)
        for span in self.unanswered:
            _hear(self, span)


def _trace(name: str, spans: list[AgentSpan]) -> Trace:
    ordered = in_order(spans)
    above, again = nesting(ordered)
    heard = _Heard(ordered)
    talk = heard.talk
    talk.times += [moment for span in spans for moment in (span.start, span.end) if moment is not None]
    for number, span in enumerate(ordered):
        if number not in again:
            up = above[number]
            heard.take(span, within=up is not None and ordered[up].kind == "tool")
    heard.end()
    replied = [span for number, span in enumerate(ordered) if span.kind == "model" and number not in again]
    roots = [span for span in ordered if not span.parent] or ordered
    task = roots[0].first("agenttrace.task_id")
    failed = next((one for span in (roots[0], *heard.unanswered) if (one := span.first("error.type"))), None)
    ours = roots[0].first(OWN_ID) is not None
    if talk.silent:  # it ended before its first reply
        talk.asked(text_of(roots[0].first("input.value")))
    paid = [one for one in heard.costs if one is not None]
    cost = {"totals": Totals(cost_usd=sum(paid))} if paid and len(paid) == len(heard.costs) else {}
    return talk.trace(
        NAME,
        [name],
        trace_id=_uuid(name),
        outcome=_outcome(roots[0]) or Outcome(ended="unknown", detail=None if failed is None else str(failed)),
        model=_first_text([*replied, *(roots[:1] if ours else [])], *_MODEL),
        metadata={
            **(fitting(as_json(roots[0].first("metadata")), dict[str, Any]) or {} if ours else {}),
            "session_id": _first_text(ordered, "gen_ai.conversation.id", "session.id"),
            "agent": _first_text(ordered, "gen_ai.agent.name", "agent.name"),
            "task_id": task if isinstance(task, (int, str)) and not isinstance(task, bool) else None,
        },
        kept={"failed_requests": len(heard.failed) or None},
        **(_own_run(roots[0]) if ours else cost),
    )


def _first_text(spans: list[AgentSpan], *names: str) -> str | None:
    """Return the first of some attributes that the first span with one has, as text."""
    return next((str(one) for span in spans if (one := span.first(*names)) not in (None, "")), None)


def _failed(span: AgentSpan) -> bool:
    """Return whether a request got no reply; a span of our own export is of a reply."""
    return span.first("error.type") is not None and not span.tells and span.first("agenttrace.step_id") is None


def _own_run(root: AgentSpan) -> dict[str, Any]:
    """Return what our own export says of the times and figures of a whole run, fields of a record."""
    return {
        "timestamp_utc": iso(root.start),
        "total_duration_ms": amount(root.first("agenttrace.total_duration_ms")),
        "totals": fitting(_below(root, "agenttrace.totals.") or None, Totals | None),
    }


def _outcome(root: AgentSpan) -> Outcome | None:
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


def _hear(heard: _Heard, span: AgentSpan) -> None:
    """Take what a request has after the last reply in it.

    At the first, all of it is the prompt, but for what comes from a reply on whose calls have spans in this trace.
    """
    talk = heard.talk
    system = as_json(span.first("gen_ai.system_instructions"))
    if system is not None and not talk.begun and talk.system is None:
        talk.told(instructions(system))
    given = span.said("input")
    if not given and not talk.begun and (text := span.first("input.value")) is not None:
        talk.asked(text_of(text))
    replies = [place for place, one in enumerate(given) if one.role == "assistant"]
    if talk.begun:
        new = replies[-1] + 1 if replies else 0
    else:
        own = (place for place in replies if any(call.id in heard.ids for call in given[place].calls))
        new = next(own, len(given))
        for one in given[:new]:
            _ask(talk, one)
    for one in given[new:]:
        _go_on(heard, one)


def _go_on(heard: _Heard, said: SpanMessage) -> None:
    """Take a message that came after the first reply."""
    talk = heard.talk
    if said.role == "assistant":  # its own span is missing
        talk.replied(said.text, said.calls, reasoning_content=said.thought)
        return
    for called, text in said.results:
        if called in heard.held:
            _return(talk, heard.held.pop(called), called, text)
        elif heard.to_come[str(called)] <= 0 and (talk.waits if called is None else talk.awaits(called)):
            talk.came_back(text, called)
    if said.role not in {"system", "developer"} and said.text:
        talk.asked(said.text)


def _ask(talk: Dialogue, said: SpanMessage) -> None:
    """Take a message of the first request; replies and calls in it are of another trace, or examples."""
    if said.role in {"system", "developer"} and talk.system is None:
        talk.told(said.text)
        return
    calls = [f"{call.name} {call.arguments}" for call in said.calls]
    texts = [one for one in (said.text, *calls, *(text for _, text in said.results)) if one]
    if texts:
        talk.asked("\n".join(texts))


def _say(talk: Dialogue, span: AgentSpan) -> None:
    replies = span.said("output") or [SpanMessage("assistant", text_of(span.first("output.value")))]
    reasons = span.first("gen_ai.response.finish_reasons", "llm.finish_reason") or replies[0].finish
    cached = tokens(span.first(*_CACHED))
    timings = fitting(_below(span, "agenttrace.timings."), Timings) if span.first("agenttrace.step_id") else None
    if timings in {None, Timings()}:
        reasoned = tokens(span.first(*_REASONED))
        known = {cached, reasoned} != {None}
        timings = Timings(cached_n=cached, reasoning_n=UNSET if reasoned is None else reasoned) if known else None
    took = amount(span.first("agenttrace.duration_ms"))
    talk.replied(
        "\n".join(one.text for one in replies if one.text),
        [call for one in replies for call in one.calls],
        reasoning_content="\n".join(one.thought for one in replies if one.thought) or None,
        input_tokens=tokens(span.first(*_PROMPT)),
        output_tokens=tokens(span.first(*USED)),
        finish_reason=fitting(reasons[0] if isinstance(reasons, list) and reasons else reasons, str),
        timings=timings,
        **{**span.times, **({} if took is None else {"duration_ms": took})},
    )


def _return(talk: Dialogue, span: AgentSpan, called: str | None, text: str | None = None) -> None:
    """Take the result of a call; `text` is it where the span does not say it, else why it failed."""
    found = _result(span)
    back = text if found is None else found
    given = span.first(*_GIVEN) or _told(span, "input")
    talk.came_back(
        text_of(span.first("exception.message") if back is None else back),
        called,
        span.tool,
        tool_input=json_text(given),
        **{
            "exit_code": exit_status(span.first("process.exit.code")),
            "status": _STATUSES.get(str(span.first("error.type")), "ok"),
            **span.times,
            **_ours(span),
        },
    )


def _result(span: AgentSpan) -> Any:  # noqa: ANN401 - an attribute of any kind
    """Return what a span of a tool says that came back."""
    back = span.first(*BACK)
    return _told(span, "output") if back is None else back


def _told(span: AgentSpan, side: str) -> str | None:
    """Return what a span of a tool says of its arguments or its result in messages alone."""
    texts = [text for one in span.said(side) for text in (*(back for _, back in one.results), one.text) if text]
    return "\n".join(texts) or None


def _below(span: AgentSpan, name: str) -> dict[str, Any]:
    """Return the attributes of a span whose names begin so, by the rest of their names."""
    return {key[len(name) :]: value for key, value in span.facts.items() if key.startswith(name)}


def _ours(span: AgentSpan) -> dict[str, Any]:
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
