"""Spans of OpenTelemetry as OTLP/JSON and a console exporter write them, and how they lie in one another.

Sources: OTLP 1.x (JSON encoding), `ReadableSpan.to_json` of OpenTelemetry's SDK for Python.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from agenttrace.formats.dialogue import STRAY
from agenttrace.formats.foreign import at, between, fitting, moment_ns, text_of
from agenttrace.formats.otlp_messages import DETAILS, Event, SpanMessage, messages

if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS = ("openinference.span.kind", "gen_ai.operation.name", "llm.request.type", "traceloop.span.kind")
_WORDS = {
    "model": frozenset({"LLM", "chat", "text_completion", "generate_content", "completion"}),
    "tool": frozenset({"TOOL", "execute_tool", "tool"}),
}
_AGENT = frozenset({"AGENT", "invoke_agent", "agent"})
USED = ("gen_ai.usage.output_tokens", "llm.token_count.completion", "gen_ai.usage.completion_tokens")
BACK = ("gen_ai.tool.call.result", "output.value", "traceloop.entity.output")
OWN_ID = "agenttrace.trace_id"
"""Attribute that only the root of a record of our own export has."""
_MOST_NS = 2**63
_FAILED = 2
"""Status code of a span: error."""


class AgentSpan(NamedTuple):
    """A span of any convention.

    Attributes:
        number: of the line or request that it stands in.
        span_id: its id; may be empty.
        trace: id of its trace.
        start: when it began, nanoseconds since the Unix epoch.
        end: when it ended, likewise.
        parent: id of the span that it lies in; may be empty.
        facts: its attributes.
        events: its events that are messages.
    """

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
        """`model`, `tool`, `agent` or nothing of these."""
        said = [str(self.facts.get(name)) for name in _KINDS]
        found = next((kind for one in said for kind, words in _WORDS.items() if one in words), "")
        return found or ("agent" if _AGENT.intersection(said) else "")

    def first(self, *names: str) -> Any:  # noqa: ANN401 - an attribute of any kind
        """Return the first of some attributes that is there."""
        return next((self.facts[name] for name in names if self.facts.get(name) is not None), None)

    def said(self, side: str) -> list[SpanMessage]:
        """Return the messages of one side of it, `input` or `output`."""
        return messages(self.facts, self.events, side)

    @property
    def tells(self) -> bool:
        """Whether it says what came back, or how much of it."""
        return self.first(*USED, *BACK) is not None or bool(self.said("output"))

    @property
    def tool(self) -> str:
        """The name of the tool that it is a call of."""
        return fitting(self.first("gen_ai.tool.name", "tool.name", "traceloop.entity.name"), str) or STRAY

    @property
    def of(self) -> tuple[str, str]:
        """Its kind, and of a call the name of the tool: spans of the same, one within the other, may tell of one."""
        return self.kind, self.tool if self.kind == "tool" else ""

    @property
    def times(self) -> dict[str, Any]:
        """When it was and how long; of what our export only laid out in order, neither is known."""
        return {} if self.facts.get("agenttrace.time") == "laid out" else between(self.start, self.end)


class Nesting(NamedTuple):
    """How the spans of a trace lie in one another, by their places in a list.

    Attributes:
        above: of each, the innermost of a model or a tool that it lies in.
        again: those that tell once more of a request or a call that another one counts for.
    """

    above: list[int | None]
    again: set[int]


def in_order(spans: list[AgentSpan]) -> list[AgentSpan]:
    """Return spans as they began; one that does not say when keeps its place behind the one before it.

    Where none is of a model, agents reply: of what they asked, nothing was recorded.
    """
    if not any(span.kind == "model" or OWN_ID in span.facts for span in spans):
        spans = [one._replace(facts={**one.facts, _KINDS[0]: "LLM"}) if one.kind == "agent" else one for one in spans]
    placed, last = [], 0
    for span in spans:
        last = span.start or last
        placed.append((last, span))
    return [span for _, span in sorted(placed, key=lambda one: one[0])]


def nesting(spans: list[AgentSpan]) -> Nesting:
    """Return how spans lie in one another.

    Where a framework and the client below it are both instrumented, one request, or one call of a tool, has a span in
    the other's: the outer one counts, unless it does not say what came back. A span around several requests, one after
    the other, is none of a request.
    """
    above = _above(spans)
    inner: dict[int, list[int]] = defaultdict(list)
    tops = []
    for number, (span, up) in enumerate(zip(spans, above, strict=True)):
        if up is not None and spans[up].of == span.of:
            inner[up].append(number)
        elif span.kind:
            tops.append(number)
    again: set[int] = set()
    while tops:
        outer = tops.pop()
        within = inner.get(outer, [])
        if within and (_are_several([spans[one] for one in within]) or not spans[outer].tells):
            again.add(outer)
            tops += within
        else:
            below = list(within)
            while below:
                again.add(below[-1])
                below += inner.get(below.pop(), [])
    return Nesting(above, again)


def _above(spans: list[AgentSpan]) -> list[int | None]:
    place = {span.span_id: number for number, span in enumerate(spans) if span.span_id}
    kinds = [span.kind in {"model", "tool"} for span in spans]
    found: dict[int, int | None] = {}
    for number in range(len(spans)):
        path, up = {number: True}, place.get(spans[number].parent)
        while up is not None and not kinds[up] and up not in found and up not in path:
            path[up] = True
            up = place.get(spans[up].parent)
        end = None if up is None or up in path else up if kinds[up] else found.get(up)
        found.update(dict.fromkeys(path, end))
    return [found[number] for number in range(len(spans))]


def _are_several(spans: list[AgentSpan]) -> bool:
    """Return whether spans of a model are of requests one after the other; two instrumentations of one overlap."""
    known = sorted((one.start, one.end) for one in spans if one.start and one.end and one.kind == "model" and one.tells)
    return any(before[1] <= after[0] for before, after in pairwise(known))


def spans_of(number: int, value: Any) -> Iterator[AgentSpan]:  # noqa: ANN401 - JSON of anyone
    """Yield the spans of a request, or the one that a console exporter printed."""
    if at(value, "context") is not None:
        yield _printed(number, value)
    for resource in _listed(value, "resourceSpans"):
        for scope in _listed(resource, "scopeSpans"):
            for span in _listed(scope, "spans"):
                facts = _attributes(at(span, "attributes"))
                told = [(str(at(one, "name")), _attributes(at(one, "attributes"))) for one in _listed(span, "events")]
                if at(span, "status", "code") in (_FAILED, "STATUS_CODE_ERROR"):
                    facts.setdefault("error.type", text_of(at(span, "status", "message")) or "error")
                start, end = (_nanoseconds(at(span, f"{name}TimeUnixNano")) for name in ("start", "end"))
                name, parent = (str(at(span, key) or "") for key in ("spanId", "parentSpanId"))
                yield AgentSpan(number, name, str(at(span, "traceId")), start, end, parent, facts, _events(facts, told))


def _printed(number: int, value: Any) -> AgentSpan:  # noqa: ANN401 - as above
    """Return a span as the SDK's console exporter prints it: plain attributes, times as text, ids with 0x."""
    given = at(value, "attributes")
    facts = dict(given) if isinstance(given, dict) else {}
    if at(value, "status", "status_code") == "ERROR":
        facts.setdefault("error.type", text_of(at(value, "status", "description")) or "error")
    ids = (at(value, "context", "span_id"), at(value, "context", "trace_id"), at(value, "parent_id"))
    name, trace, parent = (str(one or "").removeprefix("0x") for one in ids)
    start, end = (moment_ns(at(value, key)) for key in ("start_time", "end_time"))
    told = [(str(at(one, "name")), fitting(at(one, "attributes"), dict) or {}) for one in _listed(value, "events")]
    return AgentSpan(number, name, trace, start, end, parent, facts, _events(facts, told))


def _events(facts: dict[str, Any], told: list[Event]) -> list[Event]:
    """Return the events that are messages; what an event says in a span's stead goes into its attributes."""
    for name, details in told:
        for key, value in details.items() if name in DETAILS else ():
            facts.setdefault(key, value)
    for name, details in told:
        if name == "exception" and details.get("exception.message") is not None:
            facts.setdefault("exception.message", details["exception.message"])
    return [event for event in told if event[0].startswith("gen_ai.") and event[0] not in DETAILS]


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
