"""Runs of OpenHands, read: event lists (`trajectory.json`), and rows of its evaluations (`output.jsonl`).

Both generations of events: V0 (`action` with `args`, `observation` with `extras`) and that of the agent SDK (`kind`).
Calls of one response of the model are one reply. Sources: All-Hands-AI/OpenHands, `events/serialization/event.py` and
`events/tool.py`; OpenHands/software-agent-sdk, `openhands/sdk/event/llm_convertible/`; OpenHands/benchmarks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agenttrace.errors import DataError
from agenttrace.formats.chat_rows import calls_of, first_text
from agenttrace.formats.dialogue import STRAY, Called, Dialogue, listen_to_all
from agenttrace.formats.foreign import (
    at,
    between,
    dollars,
    exit_status,
    fitting,
    json_text,
    moment_ns,
    text_of,
    tokens,
)
from agenttrace.records import Outcome, Timings, Totals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agenttrace.records import SpanStatus, Trace

NAME = "openhands"
_SILENT = frozenset({"change_agent_state", "recall", "null", "start", "condensation", "condensation_request"})
"""Actions of V0 that are none of the model's."""
_UNHEARD = frozenset({"agent_state_changed", "recall", "null", "condense"})
_STILL_RUNS = -1
"""Exit code of a command that had none when its observation was made: it was still running."""


class _Session:
    """What was read of a run."""

    def __init__(self) -> None:
        self.talk = Dialogue()
        self.model: str | None = None
        self.answer: str | None = None
        self.totals = Totals()
        self._response: str | None = None
        self._reply: dict[str, Any] = {}
        self._calls: list[Called] = []
        self._known: set[str | None] = set()
        self._before: int | None = None
        self._error: str | None = None

    def take(self, event: dict[str, Any]) -> None:
        """Take one event."""
        moment = moment_ns(event.get("timestamp"))
        self.count(event.get("llm_metrics"))
        if "kind" in event:
            self._of_sdk(event, str(event["kind"]), moment)
        elif isinstance(event.get("observation"), str):
            self._observed(event, moment)
        elif isinstance(event.get("action"), str):
            self._acted(event, event["action"], moment)

    def count(self, metrics: Any) -> None:  # noqa: ANN401 - JSON of anyone
        """Take figures of the run so far; the last are those of the whole."""
        used = at(metrics, "accumulated_token_usage")
        found = Totals(
            input_tokens=tokens(at(used, "prompt_tokens")),
            output_tokens=tokens(at(used, "completion_tokens")),
            cached_tokens=tokens(at(used, "cache_read_tokens")),
            cost_usd=dollars(at(metrics, "accumulated_cost")),
        )
        self.totals = self.totals if found == Totals() else found
        self.model = self.model or fitting(at(metrics, "model_name") or at(used, "model"), str) or None

    def _acted(self, event: dict[str, Any], action: str, moment: int | None) -> None:
        """Take an action of V0."""
        given = event["args"] if isinstance(event.get("args"), dict) else {}
        said = text_of(given.get("content") if "content" in given else event.get("message"))
        if action == "system":
            self.flush()
            self.talk.told(said)
        elif event.get("source") == "user" and action == "message":
            self._heard(said, moment)
        elif event.get("source") == "agent" and action not in _SILENT:
            if action == "finish":
                self.answer = text_of(given.get("final_thought") or given.get("thought"))
            response = at(event, "tool_call_metadata", "model_response")
            message = at(response, "choices")
            message = at(message[0], "message") if isinstance(message, list) and message else None
            called = fitting(at(event, "tool_call_metadata", "tool_call_id"), str)
            if called is not None and self.talk.awaits(called):
                pass  # of a reply whose earlier calls have their results already: it came with the first of them
            elif isinstance(message, dict):
                self._begin(fitting(at(response, "id"), str) or f"event {event.get('id')}", moment)
                self._replied(text_of(message.get("content")), calls_of(message), message, at(response, "usage"))
                self.model = self.model or fitting(at(response, "model"), str)
            elif action in {"message", "finish"}:
                self._begin(f"event {event.get('id')}", moment)
                self._replied(said if action == "message" else self.answer or "", [], given, None)
            else:
                own = {name: one for name, one in given.items() if name != "thought"}
                self._begin(f"event {event.get('id')}", moment)
                call = Called(f"event {event.get('id')}", action, json_text(own))
                self._replied(text_of(given.get("thought")), [call], given, None)

    def _observed(self, event: dict[str, Any], moment: int | None) -> None:
        """Take an observation of V0; what no call waits for is what the model was told."""
        if event["observation"] in _UNHEARD:
            if at(event, "extras", "agent_state") == "error":
                self._failed(at(event, "extras", "reason"))
            return
        self.flush()
        text, code = text_of(event.get("content")), at(event, "extras", "metadata", "exit_code")
        code = at(event, "extras", "exit_code") if code is None else code
        named = fitting(at(event, "tool_call_metadata", "tool_call_id"), str) or f"event {event.get('cause')}"
        self._result(text, named, event["observation"], code, moment, late=False)

    def _of_sdk(self, event: dict[str, Any], kind: str, moment: int | None) -> None:
        message = event["llm_message"] if isinstance(event.get("llm_message"), dict) else {}
        called, tool = fitting(event.get("tool_call_id"), str), fitting(event.get("tool_name"), str) or STRAY
        if kind == "SystemPromptEvent":
            self.talk.told(text_of(at(event, "system_prompt", "text")))
        elif kind == "MessageEvent" and message.get("role") == "assistant":
            self._begin(f"message {event.get('id')}", moment)
            self._replied(text_of(message.get("content")), calls_of(message), message, None)
        elif kind == "MessageEvent":
            self._heard(text_of(message.get("content")), moment)
        elif kind == "ActionEvent":
            self._begin(fitting(event.get("llm_response_id"), str) or f"action {event.get('id')}", moment)
            arguments = at(event, "tool_call", "arguments") or at(event, "tool_call", "function", "arguments")
            call = Called(called, tool, json_text(event.get("action") if arguments is None else arguments))
            self._replied(text_of(event.get("thought")), [call], event, None)
            if tool == "finish":
                self.answer = fitting(at(event, "action", "message"), str) or ""
        elif kind in {"ObservationEvent", "AgentErrorEvent", "UserRejectObservation"}:
            self.flush()
            seen = event.get("observation")
            text = text_of(at(seen, "content") if kind == "ObservationEvent" else event.get("error"))
            code = at(seen, "exit_code") if at(seen, "exit_code") is not None else at(seen, "metadata", "exit_code")
            text = text or text_of(event.get("rejection_reason"))
            self._result(text, called, tool, code, moment, late=at(seen, "timeout") is True)
        elif kind == "ConversationErrorEvent":
            self._failed(event.get("detail") or event.get("code"))
        elif isinstance(every := at(event, "value", "usage_to_metrics"), dict):
            self.count(every.get("agent") or next(iter(every.values()), None))

    def _failed(self, why: Any) -> None:  # noqa: ANN401 - JSON of anyone
        """Take an error, which is how the run ended unless the model replies again."""
        self.flush()
        self._error = f"error: {text_of(why)}"

    def _heard(self, text: str, moment: int | None) -> None:
        self.flush()
        self.talk.asked(text)
        self._before = moment

    def _begin(self, response: str, moment: int | None) -> None:
        if response != self._response:
            self.flush()
            self._response, self._reply = response, {"moment": moment}

    def _replied(self, text: str, calls: list[Called], said: dict[str, Any], usage: Any) -> None:  # noqa: ANN401
        """Take a part of the reply that has begun; each event of V0 has all of it, one of the SDK its own call."""
        for call in calls:
            if call.id is None or call.id not in self._known:
                self._calls.append(call)
                self._known |= {call.id}
        cached = tokens(at(usage, "prompt_tokens_details", "cached_tokens"))
        self._reply.setdefault("text", text)
        self._reply.setdefault("reasoning_content", fitting(said.get("reasoning_content"), str))
        self._reply.setdefault("input_tokens", tokens(at(usage, "prompt_tokens")))
        self._reply.setdefault("output_tokens", tokens(at(usage, "completion_tokens")))
        self._reply.setdefault("timings", None if cached is None else Timings(cached_n=cached))

    def flush(self) -> None:
        """End the reply that has begun."""
        if self._response is None:
            return
        moment, text = self._reply.pop("moment"), self._reply.pop("text")
        self.talk.replied(text, self._calls, **self._reply, **between(self._before, moment))
        self._response, self._reply, self._calls, self._known, self._before = None, {}, [], set(), moment
        self._error = None

    def _result(
        self, text: str, called: str | None, tool: str, code: Any, moment: int | None, *, late: bool  # noqa: ANN401
    ) -> None:  # fmt: skip
        if called is not None and not self.talk.awaits(called):
            self.talk.asked(text)
        else:
            status: SpanStatus = "timeout" if late else "ok"
            known = None if code == _STILL_RUNS else exit_status(code)
            self.talk.came_back(text, called, tool, exit_code=known, status=status, end_ns=moment)
        self._before = moment

    def trace(self, keys: list[str], **known: Any) -> Trace:  # noqa: ANN401 - of `Dialogue.trace`
        """Return the record.

        Raises:
            DataError: nothing was said.
        """
        self.flush()
        if self.talk.silent:
            raise DataError("no message in this run of OpenHands")
        if self.totals != Totals():
            known["totals"] = self.totals
        return self.talk.trace(NAME, keys, model=known.pop("model", None) or self.model, **known)

    def outcome(self, detail: str | None = None, **known: Any) -> Outcome:  # noqa: ANN401 - of `Outcome`
        """Return how it ended: by `finish`, or it is not known."""
        detail = detail or self._error
        if self.answer is None:
            return Outcome(ended="unknown", detail=detail, **known)
        return Outcome(ended="final_answer", final_answer=self.answer, detail=detail, **known)


def read(values: Iterable[tuple[int, Any]], source: str) -> Iterator[tuple[int, Trace]]:
    """Yield the run of a file.

    Raises:
        DataError: no message stands in it.
    """
    session = _Session()
    listen_to_all(session, values)
    yield 1, session.trace([source], outcome=session.outcome())


def to_trace(value: Any, source: str = "") -> Trace:  # noqa: ANN401, ARG001 - whatever stood in the row; as all formats
    """Return a row of an evaluation as a record.

    Raises:
        DataError: it has no history with a message.
    """
    session = _Session()
    for one in value["history"] if isinstance(value.get("history"), list) else ():
        for event in one if isinstance(one, list) else [one]:  # older rows have pairs of action and observation
            if isinstance(event, dict):
                session.take(event)
    session.flush()
    session.count(value.get("metrics"))
    task, error = first_text(value, ("instance_id",)), first_text(value, ("error",))
    patch = fitting(at(value, "test_result", "git_patch") or value.get("git_patch"), str)
    model = at(value, "metadata", "llm_config", "model") or at(value, "metadata", "llm", "model")
    known = {} if patch is None else {"patch": patch}
    return session.trace(
        [task or ""],
        outcome=session.outcome(error, **known),
        model=fitting(model, str),
        metadata={"task_id": task, "task_name": task},
    )
