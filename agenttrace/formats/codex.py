"""Sessions of the Codex CLI, read: a rollout file of `~/.codex/sessions`, one item a line.

What the model gave until something came back, or a user spoke, is one reply. Exit codes and times of commands stand in
the text that went back to the model. Sources: `codex-rs/protocol` of openai/codex (`RolloutItem`, `ResponseItem`),
teich 0.3.6 (`converter.py`), the notes of ryoppippi/ccusage on token counts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.errors import DataError
from agenttrace.formats.dialogue import Called, Dialogue, listen_to_all
from agenttrace.formats.foreign import (
    amount,
    at,
    between,
    exit_status,
    fitting,
    json_text,
    moment_ns,
    parsed,
    text_of,
    tokens,
)
from agenttrace.records import Outcome, Timings, Trace, canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NAME = "codex"
_EXIT = re.compile(r"(?:Exit code: |Process exited with code )(-?\d{1,9})\b")
_TOOK = re.compile(r"Wall time: (\d{1,9}(?:\.\d{1,9})?) seconds")
_HEAD = 400
"""Characters of a result in which these stand."""
_RESULTS = frozenset({"function_call_output", "custom_tool_call_output", "local_shell_call_output"})
_CALLS = frozenset({"function_call", "custom_tool_call", "local_shell_call", "web_search_call", "tool_search_call"})


class _Session:
    """What was read of a session."""

    def __init__(self) -> None:
        self.talk = Dialogue()
        self.meta: dict[str, Any] = {}
        self.model: str | None = None
        self.ended: str | None = None
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._calls: list[Called] = []
        self._usage: dict[str, Any] = {}
        self._before: int | None = None
        self._moment: int | None = None

    def take(self, value: dict[str, Any]) -> None:
        """Take one line; older files have items without an envelope."""
        kind, moment = value.get("type"), moment_ns(value.get("timestamp"))
        item = value["payload"] if isinstance(value.get("payload"), dict) else value
        if kind == "session_meta" or (kind is None and "id" in value):
            self.meta = self.meta or item
            self._system(item)
        elif kind == "turn_context":
            self.model = self.model or fitting(item.get("model"), str)
        elif kind == "event_msg":
            self._event(item)
        elif kind == "compacted":
            if text := text_of(item.get("message")):  # since 2026 what is kept stands elsewhere in it
                self._heard(text, moment)
        else:
            self._item(item, moment)

    def _system(self, item: dict[str, Any]) -> None:
        given = (at(item, "base_instructions", "text"), item.get("instructions"))
        text = next((one for one in given if isinstance(one, str)), None)
        if text is not None and self.talk.system is None and not self.talk.begun:
            self.talk.told(text)

    def _event(self, item: dict[str, Any]) -> None:
        kind = str(item.get("type"))
        if kind == "token_count" and isinstance(usage := at(item, "info", "last_token_usage"), dict):
            cached = tokens(usage.get("cached_input_tokens"))
            self._usage = {
                "input_tokens": tokens(usage.get("input_tokens")),
                "output_tokens": tokens(usage.get("output_tokens")),
                "timings": None if cached is None else Timings(cached_n=cached),
            }
            if not self._begun:
                self.talk.amend(**self._usage)
                self._usage = {}
        elif kind in {"error", "turn_aborted"}:
            self.flush()
            self.ended = f"{kind}: {text_of(item.get('message') or item.get('reason'))}"

    def _item(self, item: dict[str, Any], moment: int | None) -> None:
        kind, role = str(item.get("type")), item.get("role")
        if kind in _RESULTS:
            self.flush()
            self._result(item.get("output"), fitting(item.get("call_id"), str), moment)
            self._before = moment
        elif kind in _CALLS:
            self._calls.append(_call(item))
            self._moment = moment
        elif kind == "reasoning":
            self._thoughts.append(_thought(item))
            self._moment = moment
        elif kind == "message" and role == "assistant":
            self._texts.append(text_of(item.get("content")))
            self._moment = moment
        elif kind == "message":
            self._heard(text_of(item.get("content")), moment)

    def _heard(self, text: str, moment: int | None) -> None:
        self.flush()
        self.talk.asked(text)
        self._before = moment

    def _result(self, output: Any, called: str | None, moment: int | None) -> None:  # noqa: ANN401 - JSON of anyone
        given = _parsed(output) if isinstance(output, str) else output
        text = text_of(at(given, "output") or at(given, "content")) if isinstance(given, dict) else text_of(output)
        code = exit_status(at(given, "metadata", "exit_code"))
        took = amount(at(given, "metadata", "duration_seconds"))
        if code is None and (found := _EXIT.search(text[:_HEAD])):
            code = int(found[1])
        if took is None and (found := _TOOK.search(text[:_HEAD])):
            took = float(found[1])
        duration_ms = None if took is None else 1000 * took
        self.talk.came_back(text, called, end_ns=moment, exit_code=code, duration_ms=duration_ms)

    @property
    def _begun(self) -> bool:
        return bool(self._texts or self._thoughts or self._calls)

    def flush(self) -> None:
        """End the reply that has begun."""
        if not self._begun:
            return
        times = between(self._before, self._moment)
        thoughts = "\n".join(filter(None, self._thoughts)) or None
        self.talk.replied("\n".join(self._texts), self._calls, reasoning_content=thoughts, **self._usage, **times)
        self._texts, self._thoughts, self._calls, self._usage, self.ended = [], [], [], {}, None


def read(values: Iterable[tuple[int, Any]], source: str) -> Iterator[tuple[int, Trace]]:
    """Yield the session of a file.

    Raises:
        DataError: no message stands in it.
    """
    session = _Session()
    listen_to_all(session, values)
    talk = session.talk
    if talk.silent:
        raise DataError("a session of Codex without a message")
    name = fitting(session.meta.get("id"), str) or source
    yield (
        1,
        talk.trace(
            NAME,
            [name],
            outcome=Outcome(ended="unknown", detail=session.ended),
            model=session.model,
            metadata={"session_id": name, "agent_version": fitting(session.meta.get("cli_version"), str)},
        ),
    )


def _call(item: dict[str, Any]) -> Called:
    kind = str(item.get("type"))
    if kind == "local_shell_call":
        words = at(item, "action", "command")
        name, arguments = "local_shell", canonical_json({"command": words}).decode()
    elif kind == "custom_tool_call":  # its input is text in a form of the tool's own
        name, arguments = fitting(item.get("name"), str) or kind, canonical_json({"input": item.get("input")}).decode()
    else:
        name = fitting(item.get("name"), str) or kind.removesuffix("_call")
        arguments = json_text(item["arguments"] if "arguments" in item else item.get("action"))
    return Called(fitting(item.get("call_id"), str), name, arguments)


def _thought(item: dict[str, Any]) -> str:
    """Return what of the reasoning is not encrypted: its text, else its summary."""
    return text_of(item["content"]) if item.get("content") else text_of(item.get("summary"))


def _parsed(text: str) -> Any:  # noqa: ANN401 - JSON, or nothing
    try:
        return parsed(text.encode()) if text.startswith("{") else None
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
