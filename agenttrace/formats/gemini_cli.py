"""Sessions of the Gemini CLI, read: `~/.gemini/tmp/*/chats/session-*`, one JSON text, or since 2026 JSON Lines.

A reply holds its calls with their results. Of JSON Lines, a message comes again when it grows, `$rewindTo` takes back
what stands from a message on, `$set` changes what is said of the session. Source: `packages/core/src/services/
chatRecordingTypes.ts` and `chatRecordingService.ts` of google-gemini/gemini-cli.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agenttrace.errors import DataError
from agenttrace.formats.dialogue import Called, Dialogue
from agenttrace.formats.foreign import at, between, fitting, json_text, moment_ns, text_of, tokens
from agenttrace.records import Outcome, Timings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agenttrace.records import Trace

NAME = "gemini-cli"
_EXIT = re.compile(r"^Exit Code: (\d{1,9})$", re.MULTILINE)
_TAIL = 400
"""Characters at the end of a shell command's result in which that stands."""


class _Log:
    """What a session is when all of its lines are taken."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}
        self._order: list[str] = []
        self._places: dict[str, int] = {}
        self._messages: dict[str, dict[str, Any]] = {}

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages in order."""
        return [self._messages[name] for name in self._order]

    def take(self, line: dict[str, Any]) -> None:
        """Take one line."""
        if "$rewindTo" in line:
            self._rewind(line["$rewindTo"])
        elif isinstance(line.get("$set"), dict):
            self._told(line["$set"])
        elif "type" in line:
            self._keep(line)
        else:
            self._told(line)

    def _told(self, line: dict[str, Any]) -> None:
        self.told |= {key: one for key, one in line.items() if key != "messages"}
        if isinstance(line.get("messages"), list):
            self._rewind(None)
            for one in line["messages"]:
                if isinstance(one, dict):
                    self._keep(one)

    def _keep(self, message: dict[str, Any]) -> None:
        name = fitting(message.get("id"), str) or f"message {len(self._order)}"
        if name not in self._places:
            self._places[name] = len(self._order)
            self._order.append(name)
        self._messages[name] = message

    def _rewind(self, name: Any) -> None:  # noqa: ANN401 - JSON of anyone
        place = self._places.get(name, 0) if isinstance(name, str) else 0
        for gone in self._order[place:]:
            del self._places[gone], self._messages[gone]
        del self._order[place:]


def read(values: Iterable[tuple[int, Any]], source: str) -> Iterator[tuple[int, Trace]]:
    """Yield the session of a file, or of each JSON text that is one.

    Raises:
        DataError: no message stands in it.
    """
    log, others = _Log(), False
    for number, value in values:
        if isinstance(value, dict) and isinstance(value.get("messages"), list):
            whole = _Log()
            whole.take({key: one for key, one in value.items() if key != "type"})
            yield number, _trace(whole, source)
            others = True
        elif isinstance(value, dict):
            log.take(value)
    if log.told or log.messages or not others:
        yield 1, _trace(log, source)


def _trace(log: _Log, source: str) -> Trace:
    talk, before, model, error = Dialogue(), None, None, None
    for message in log.messages:
        kind, moment = message.get("type"), moment_ns(message.get("timestamp"))
        if kind == "gemini":
            before = _say(talk, message, before, moment)
            model, error = model or fitting(message.get("model"), str), None
        elif kind == "user":
            talk.asked(_text(message.get("content")))
            before = moment
        elif kind == "error":
            error = f"error: {_text(message.get('content'))}"
    if not any(message.get("type") in ("user", "gemini") for message in log.messages):
        raise DataError("a session of the Gemini CLI without a message")
    name = fitting(log.told.get("sessionId"), str) or source
    outcome = Outcome(ended="unknown", detail=error)
    return talk.trace(NAME, [name], outcome=outcome, model=model, metadata={"session_id": name})


def _say(talk: Dialogue, message: dict[str, Any], before: int | None, moment: int | None) -> int | None:
    """Take a reply and the results of its calls; returns the moment of the last of them."""
    listed = message["toolCalls"] if isinstance(message.get("toolCalls"), list) else []
    calls = [one for one in listed if isinstance(one, dict)]
    thoughts = message["thoughts"] if isinstance(message.get("thoughts"), list) else []
    used = message.get("tokens")
    cached, written, thought = (tokens(at(used, name)) for name in ("cached", "output", "thoughts"))
    talk.replied(
        _text(message.get("content")),
        [_called(one) for one in calls],
        reasoning_content="\n\n".join(filter(None, map(_thought, thoughts))) or None,
        input_tokens=tokens(at(used, "input")),
        output_tokens=None if written is None else written + (thought or 0),
        timings=None if cached is None else Timings(cached_n=cached),
        **between(before, moment),
    )
    for one in calls:
        text = _result(one)
        if text is not None:
            moment = moment_ns(one.get("timestamp")) or moment
            talk.came_back(text, fitting(one.get("id"), str), _name(one), exit_code=_code(one, text), end_ns=moment)
    return moment


def _called(call: dict[str, Any]) -> Called:
    return Called(fitting(call.get("id"), str), _name(call), json_text(call.get("args")))


def _name(call: dict[str, Any]) -> str:
    return fitting(call.get("name"), str) or "unknown"


def _thought(value: Any) -> str:  # noqa: ANN401 - JSON of anyone
    return "\n".join(text for key in ("subject", "description") if (text := fitting(at(value, key), str)))


def _text(content: Any) -> str:  # noqa: ANN401 - a text, a part, or a list of these
    parts = content if isinstance(content, list) else [] if content is None else [content]
    return "\n".join(one if isinstance(one, str) else text_of([one]) for one in parts)


def _result(call: dict[str, Any]) -> str | None:
    """Return what went back to the model of a call; `None` where nothing did."""
    given = call.get("result")
    if given is None:
        return call["resultDisplay"] if isinstance(call.get("resultDisplay"), str) else None
    found = []
    for one in given if isinstance(given, list) else [given]:
        response = at(one, "functionResponse", "response")
        said = at(response, "output") if at(response, "output") is not None else at(response, "error")
        found.append(_text(one) if response is None else json_text(response) if said is None else text_of(said))
    return "\n".join(found)


def _code(call: dict[str, Any], text: str) -> int | None:
    """Return the exit status of a shell command, as the text says it."""
    found = _EXIT.search(text[-_TAIL:]) if _name(call) == "run_shell_command" else None
    return None if found is None else int(found[1])
