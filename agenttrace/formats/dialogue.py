"""A conversation of another format as its messages come, and the record that it makes.

Every reader of messages says what it finds in order: what the user said, what the model replied and called, what came
back. Calls get ids of their own (`call_STEP_INDEX`), so that ids which stand twice in a file, or not at all, join what
belongs together: a result is that of the oldest call with its id which has none yet, or, without an id, of the oldest
such call of the last reply, if it says so of that with its tool and arguments. Everything takes time in proportion to
the messages.
"""

from __future__ import annotations

from collections import deque
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from agenttrace.agents.bash_block import blocks
from agenttrace.formats.conversation import iso, lasted_ms, without_none
from agenttrace.formats.foreign import foreign_span, foreign_step, parsed
from agenttrace.records import SCHEMA_VERSION, Span, ToolCall, Trace, canonical_json, derived_id, digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agenttrace.records import LLMStep, Outcome

STRAY = "observation"
"""Name of the tool of a result whose call is not known and which names none."""
_LAST = 1 << 30
"""Place of a result among those of its step when its call is not known."""
_UNSAID: dict[str, Any] = {"reasoning_content": None, "input_tokens": None, "output_tokens": None}


class Called(NamedTuple):
    """A call as a message has it; without an id, its result is told by its place."""

    id: str | None
    name: str
    arguments: str


class Session(Protocol):
    """What a reader keeps of a session while the entries of its file come."""

    def take(self, entry: dict[str, Any], /) -> None:
        """Take one entry."""

    def flush(self) -> None:
        """End the reply that has begun."""


def listen_to_all(session: Session, values: Iterable[tuple[int, Any]]) -> None:
    """Give a session every entry of its file; what is no object is none."""
    for _, value in values:
        if isinstance(value, dict):
            session.take(value)
    session.flush()


_Place = tuple[int, int, ToolCall]
"""A call, the number of its step, and its own there."""


class Dialogue:
    """What was said so far.

    Attributes:
        system: the first system prompt.
        times: every moment that was given, nanoseconds since the Unix epoch.
    """

    def __init__(self) -> None:
        self.system: str | None = None
        self.times: list[int] = []
        self._prompt: list[str] = []
        self._steps: list[dict[str, Any]] = []
        self._spans: list[tuple[tuple[int, int], ToolCall | None, dict[str, Any]]] = []
        self._waiting: dict[str, deque[_Place]] = {}
        self._open: deque[_Place] = deque()
        self._alike: dict[tuple[str, bytes | None], deque[_Place]] = {}
        self._answered: set[str] = set()

    @property
    def silent(self) -> bool:
        """Whether nobody has said anything."""
        return not (self._prompt or self._steps or self._spans)

    @property
    def begun(self) -> bool:
        """Whether the model has replied."""
        return bool(self._steps)

    @property
    def waits(self) -> bool:
        """Whether a call of the last reply has no result yet."""
        while self._open and self._open[0][2].call_id in self._answered:
            self._open.popleft()
        return bool(self._open)

    def awaits(self, call_id: str) -> bool:
        """Whether a call with an id of the file has no result yet."""
        waiting = self._waiting.get(call_id, deque())
        while waiting and waiting[0][2].call_id in self._answered:
            waiting.popleft()
        return bool(waiting)

    def told(self, text: str) -> None:
        """Take a system prompt; of several, the first is the record's, and later ones are what the model was told."""
        if self.system is None and not self._steps:
            self.system = text
        else:
            self.asked(text)

    def asked(self, text: str) -> None:
        """Take what a user said: before the first reply it is the prompt, later what answered the reply before it."""
        if not self._steps:
            self._prompt.append(text)
            return
        said = self._steps[-1].get("answered")
        self._steps[-1]["answered"] = text if not isinstance(said, str) else f"{said}\n\n{text}"

    def replied(self, text: str, calls: Iterable[Called] = (), **known: Any) -> None:  # noqa: ANN401 - fields
        """Take a reply of the model; `known` are fields of its step."""
        number = len(self._steps) + 1
        own = []
        self._open, self._alike = deque(), {}
        for index, call in enumerate(calls, start=1):
            found = ToolCall(call_id=f"call_{number}_{index}", name=call.name, arguments=call.arguments)
            own.append(found)
            self._open.append((number, index, found))
            if call.id is not None:
                self._waiting.setdefault(call.id, deque()).append(self._open[-1])
        self._note(known)
        self._steps.append({"model_output": text or None, "tool_calls": tuple(own) or None, **_UNSAID, **known})

    def amend(self, **known: Any) -> None:  # noqa: ANN401 - fields
        """Take what is only later said of the last reply, where nothing was yet."""
        if self._steps:
            self._steps[-1] |= {name: one for name, one in known.items() if self._steps[-1].get(name) is None}

    def replied_in_blocks(self, text: str, *, runs_first: bool, **known: Any) -> None:  # noqa: ANN401 - fields
        """Take a reply whose call is a bash block in its text: the only one, or the first of several."""
        found = blocks(text)
        runs = found[:1] if runs_first or len(found) == 1 else ()
        calls = [Called(None, "bash", canonical_json({"command": command}).decode()) for command in runs]
        self.replied(text, calls, blocks=len(found), counted_tokens=None, answered=None, **known)

    def came_back(self, text: str, call_id: str | None = None, name: str = STRAY, **known: Any) -> None:  # noqa: ANN401
        """Take a result; `known` are fields of its span. A call that is not known is one of the last reply's step."""
        self._note(known)
        number, index, call = self._taken(call_id, name, known.get("tool_input")) or (len(self._steps), _LAST, None)
        self._spans.append(((number, index), call, {"tool_output": text, "tool_name": name, **known}))

    def _taken(self, call_id: str | None, name: str, given: str | None) -> _Place | None:
        """Return the call that a result is of, and its step, and take it off the list of those that wait."""
        if call_id is None:
            if name != STRAY and self.waits and not self._alike:
                for place in self._open:
                    for key in {(place[2].name, None), (place[2].name, _spelled(place[2].arguments))}:
                        self._alike.setdefault(key, deque()).append(place)
            alike = [self._alike.get((name, one)) for one in (_spelled(given), None)]
            found = next((one for queue in (*alike, self._open) if queue and (one := self._first(queue))), None)
        else:
            found = self._waiting[call_id].popleft() if self.awaits(call_id) else None
        if found is not None:
            self._answered.add(found[2].call_id)
        return found

    def _first(self, queue: deque[_Place]) -> _Place | None:
        """Take the first call off a list that has no result yet."""
        while queue:
            found = queue.popleft()
            if found[2].call_id not in self._answered:
                return found
        return None

    def _note(self, known: dict[str, Any]) -> None:
        self.times += [known[name] for name in ("start_ns", "end_ns") if known.get(name) is not None]

    def trace(
        self, name: str, keys: Sequence[str], *, outcome: Outcome, model: str | None = None,
        metadata: dict[str, Any] | None = None, kept: dict[str, Any] | None = None, **known: Any,  # noqa: ANN401
    ) -> Trace:  # fmt: skip
        """Return the record.

        Args:
            name: of the format.
            keys: what tells this run from others, beside what was said in it.
            outcome: how it ended.
            model: its name, where it is known.
            metadata: more of the run and its task; `None` is left out.
            kept: what of the file has no field in a record; `None` is left out.
            known: fields of the record that the file has: `trace_id`, `timestamp_utc`, `total_duration_ms`, `totals`.
        """
        prompt = "\n\n".join(self._prompt)
        said = [[step["model_output"], step["reasoning_content"], step["tool_calls"]] for step in self._steps]
        results = sorted(self._spans, key=itemgetter(0))  # as they were called, in whatever order they came back
        back = [span["tool_output"] for _, _, span in results]
        trace_id = known.pop("trace_id", None) or derived_id(name, *keys, digest([prompt, said, back, self.times[:1]]))
        steps = tuple(foreign_step(trace_id, number, **one) for number, one in enumerate(self._steps, start=1))
        spans = tuple(
            _span(trace_id, steps[place[0] - 1] if place[0] else None, number, call, one)
            for number, (place, call, one) in enumerate(results, start=1)
        )
        known.setdefault("timestamp_utc", iso(min(self.times)) if self.times else None)
        known.setdefault("total_duration_ms", lasted_ms(self.times))
        return Trace(
            trace_id=trace_id,
            prompt=prompt,
            model=model or "unknown",
            spans=spans,
            llm_steps=steps,
            metadata=without_none({"schema_version": SCHEMA_VERSION, "source": name, **(metadata or {})}),
            environment={"imported": without_none({"format": name, "system_prompt": self.system, **(kept or {})})},
            outcome=outcome,
            **known,
        )


def _spelled(arguments: str | None) -> bytes | None:
    """Return arguments of a call in one spelling; `None` where there are none."""
    if arguments is None:
        return None
    try:
        return canonical_json(parsed(arguments.encode()))
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return arguments.encode()


def _span(trace_id: str, step: LLMStep | None, number: int, call: ToolCall | None, known: dict[str, Any]) -> Span:
    """Return a result as a span; the `number`-th of the record."""
    own = {} if call is None else {"tool_name": call.name, "tool_input": call.arguments, "call_id": call.call_id}
    given = {"tool_input": "{}", "call_id": None, **known, **own}
    return foreign_span(step, span_id=derived_id(trace_id, given["call_id"] or f"result {number}"), **given)
