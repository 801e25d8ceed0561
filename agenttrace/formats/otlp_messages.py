"""Messages of a request as spans of agents carry them: in attributes or in events, of each convention that is in use.

Sources: OpenTelemetry's GenAI conventions 0.1.0 (`gen_ai.input.messages`, an attribute of the span or of its event
`gen_ai.client.inference.operation.details`), 1.28 to 1.36 (an event a message) and 1.27 (one for all, `gen_ai.prompt`),
OpenInference's specification, OpenLLMetry's `gen_ai.prompt.N` (opentelemetry-semantic-conventions-ai 0.4), the events
of Strands Agents 1.62.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from agenttrace.formats.dialogue import Called
from agenttrace.formats.foreign import at, fitting, json_text, parsed, text_of

DETAILS = frozenset({"gen_ai.client.inference.operation.details", "gen_ai.content.prompt", "gen_ai.content.completion"})
"""Events whose attributes say what a span's would."""
_DEEPEST = 12
"""Parts of the name of an attribute that is a path."""
_SIDES = {
    "input": ("llm.input_messages.", "gen_ai.prompt."),
    "output": ("llm.output_messages.", "gen_ai.completion."),
}
_WHOLE = {"input": "gen_ai.prompt", "output": "gen_ai.completion"}
"""Attributes that hold all messages of a side, or a text."""
_EVENTS = {f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")}
_CHOICE = "gen_ai.choice"
_THINKS = ("reasoning", "thinking")
"""Kinds of parts that are reasoning."""
_BLOCKS = frozenset({"text", "toolUse", "toolResult", "reasoningContent", "image", "document", "video", "cachePoint"})
"""Kinds of content blocks of Amazon Bedrock's Converse, as which Strands Agents writes its messages."""

Event = tuple[str, dict[str, Any]]
"""Name and attributes of an event of a span."""


class SpanMessage(NamedTuple):
    """A message of any convention."""

    role: str
    text: str
    thought: str | None = None
    calls: list[Called] = []  # noqa: RUF012 - never changed
    results: list[tuple[str | None, str]] = []  # noqa: RUF012 - id of the call and text, likewise
    finish: str | None = None


def messages(facts: dict[str, Any], events: list[Event], side: str) -> list[SpanMessage]:
    """Return the messages of one side of a request, `input` or `output`, of whichever convention the span has."""
    given = as_json(facts.get(f"gen_ai.{side}.messages"))
    if isinstance(given, list):
        return [_of_parts(one) for one in map(as_json, given) if isinstance(one, dict)]
    for start in _SIDES[side]:
        if tree := _tree(facts, start):
            return [_of_openinference(one["message"]) if at(one, "message") else _of_openllmetry(one) for one in tree]
    if (whole := as_json(facts.get(_WHOLE[side]))) is not None:
        listed = at(whole, "messages") or whole
        said = [one if isinstance(one, dict) else {"content": one} for one in _as_list(listed)]
        return [_of_chat({"role": {"output": "assistant"}.get(side), **one}) for one in said]
    wanted = [event for event in events if (event[0] == _CHOICE) == (side == "output")]
    return [_of_event(*event) for event in wanted if event[0] in _EVENTS or event[0] == _CHOICE]


def as_json(value: Any) -> Any:  # noqa: ANN401 - an attribute of any kind
    """Return what JSON text holds; other values, and other text, as they are."""
    if not isinstance(value, str) or value[:1] not in {"[", "{"}:
        return value
    try:
        return parsed(value.encode("utf-8", "replace"))
    except (msgspec.DecodeError, ValueError, RecursionError):
        return value


def instructions(value: Any) -> str:  # noqa: ANN401 - as above
    """Return system instructions, a text or a list of parts, as text."""
    parts = _as_list(value)
    return "\n".join(text_of(at(part, "content") if isinstance(part, dict) else part) for part in parts)


def _as_list(value: Any) -> list[Any]:  # noqa: ANN401 - as above
    return value if isinstance(value, list) else [value]


def _tree(facts: dict[str, Any], start: str) -> list[Any]:
    """Return the values whose names are paths below `start`, by the numbers that their paths begin with."""
    tree: dict[str, Any] = {}
    for name, value in facts.items():
        path = name.removeprefix(start).split(".") if name.startswith(start) else []
        if 0 < len(path) <= _DEEPEST and path[0].isdigit():
            _put(tree, path, value)
    return _in_order(tree)


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:  # noqa: ANN401 - as above
    for part in path[:-1]:
        inner = tree.setdefault(part, {})
        if not isinstance(inner, dict):
            return
        tree = inner
    tree.setdefault(path[-1], value)


def _place(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0  # noqa: PLR2004


def _in_order(tree: Any) -> list[Any]:  # noqa: ANN401 - as above
    return [one for _, one in sorted(tree.items(), key=lambda item: _place(item[0]))] if isinstance(tree, dict) else []


def _called(given: Any, function: Any) -> Called:  # noqa: ANN401 - as above
    """Return a call, its id from one object, its name and arguments from another."""
    name = fitting(at(function, "name"), str) or "unknown"
    return Called(fitting(at(given, "id"), str), name, json_text(at(function, "arguments")))


def _content(value: Any) -> str:  # noqa: ANN401 - as above
    """Return content as text: JSON of parts is read, other text that looks like JSON is text."""
    parts = as_json(value)
    return text_of(parts if isinstance(parts, list) and all(at(part, "type") for part in parts) else value)


def _of_openinference(found: Any) -> SpanMessage:  # noqa: ANN401 - as above
    role = str(at(found, "role") or "user")
    parts = [at(one, "message_content") for one in _in_order(at(found, "contents"))]
    thoughts = [text_of(at(part, "text")) for part in parts if at(part, "type") in _THINKS]
    text = text_of(at(found, "content")) or text_of([part for part in parts if at(part, "type") not in _THINKS])
    if role == "tool":
        return SpanMessage(role, "", results=[(fitting(at(found, "tool_call_id"), str), text)])
    given = [at(one, "tool_call") for one in _in_order(at(found, "tool_calls"))]
    calls = [_called(one, at(one, "function")) for one in given]
    if not calls and isinstance(name := at(found, "function_call_name"), str):
        calls = [Called(None, name, json_text(at(found, "function_call_arguments_json")))]
    return SpanMessage(role, text, "\n".join(thoughts) or None, calls)


def _of_openllmetry(found: Any) -> SpanMessage:  # noqa: ANN401 - as above
    role = str(at(found, "role") or "user")
    text = _content(at(found, "content")) or text_of(at(found, "refusal"))
    if role == "tool":
        return SpanMessage(role, "", results=[(fitting(at(found, "tool_call_id"), str), text)])
    calls = [_called(one, one) for one in _in_order(at(found, "tool_calls"))]
    return SpanMessage(role, text, calls=calls, finish=fitting(at(found, "finish_reason"), str))


def _of_parts(message: dict[str, Any]) -> SpanMessage:
    calls, results, texts, thoughts = [], [], [], []
    parts = message.get("parts")
    for part in parts if isinstance(parts, list) else []:
        kind = at(part, "type")
        if kind == "tool_call":
            calls.append(_called(part, part))
        elif kind == "tool_call_response":
            back = part.get("response", part.get("result"))
            results.append((fitting(part.get("id"), str), text_of(back)))
        elif kind in _THINKS:
            thoughts.append(text_of(part.get("content")))
        elif at(part, "modality") is not None or at(part, "content") is None:  # a picture, or none of these
            texts.append(text_of([{**part, "type": part.get("modality", kind)} if isinstance(part, dict) else part]))
        else:
            texts.append(text_of(part["content"]))
    texts += [text_of(message["content"])] if message.get("content") is not None and not texts else []
    role, finish = str(message.get("role") or "user"), fitting(message.get("finish_reason"), str)
    return SpanMessage(role, "\n".join(texts), "\n".join(thoughts) or None, calls, results, finish)


def _of_chat(message: dict[str, Any]) -> SpanMessage:
    """Return a message of OpenAI's form; the id of a result may stand as in the events of the conventions."""
    role, text = fitting(message.get("role"), str) or "user", _content(message.get("content"))
    if role == "tool":
        return SpanMessage(role, "", results=[(fitting(message.get("tool_call_id", message.get("id")), str), text)])
    given = as_json(message.get("tool_calls"))
    calls = [_called(one, at(one, "function") or one) for one in given] if isinstance(given, list) else []
    return SpanMessage(role, text, calls=calls, finish=fitting(message.get("finish_reason"), str))


def _of_event(name: str, facts: dict[str, Any]) -> SpanMessage:
    """Return the message of an event: its body in its attributes, or as JSON in one of them."""
    whole = as_json(facts.get("gen_ai.event.content"))
    body = whole if isinstance(whole, dict) else facts
    role = _EVENTS.get(name, "assistant")
    message = as_json(body.get("message")) if name == _CHOICE else body
    if not isinstance(message, dict):
        message = {"content": message}
    content = as_json(message.get("content"))
    finish = fitting(body.get("finish_reason"), str)
    if isinstance(content, list) and content and all(isinstance(one, dict) and _BLOCKS & set(one) for one in content):
        return _of_blocks(role, content, finish)
    return _of_chat({**message, "role": role, "finish_reason": finish})


def _of_blocks(role: str, blocks: list[dict[str, Any]], finish: str | None) -> SpanMessage:
    calls, results, texts, thoughts = [], [], [], []
    for block in blocks:
        used, back = block.get("toolUse"), block.get("toolResult")
        if used is not None:
            name, key = (fitting(at(used, field), str) for field in ("name", "toolUseId"))
            calls.append(Called(key, name or "unknown", json_text(at(used, "input"))))
        elif back is not None:
            results.append((fitting(at(back, "toolUseId"), str), text_of(at(back, "content"))))
        elif "reasoningContent" in block:
            thoughts.append(text_of(at(block, "reasoningContent", "reasoningText", "text")))
        else:
            texts.append(text_of([block]) if "text" in block else f"[{next(iter(block))}]")
    return SpanMessage(role, "\n".join(texts), "\n".join(thoughts) or None, calls, results, finish)
