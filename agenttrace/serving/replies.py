"""What a chat-completions server answers, in whichever of its dialects, as a `Reply`: a function of the bytes.

Fields and forms are those of llama.cpp, vLLM, SGLang, Ollama, LM Studio, TGI, OpenRouter, LiteLLM and OpenAI.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from agenttrace.serving.endpoint import scrubbed
from agenttrace.serving.figures import count, reply_tokens, timings
from agenttrace.serving.model import ProposedCall, Reply, UnparsableReplyError

if TYPE_CHECKING:
    from collections.abc import Iterator

_BAD_GATEWAY = 502
_BAD_REQUEST = 400
_LONGEST_MESSAGE = 2000
_LONGEST_DIGITS = 20
_EVENT = re.compile(r"\s*(data|event|id|retry)?:")
_LINE_END = re.compile(r"\r\n|\n|\r")
"""Of a stream of events; what else ends a line elsewhere may stand within its JSON."""
_THINKING = ("reasoning_content", "reasoning", "reasoning_text", "thinking")
_CUT_SHORT = ("length", "content_filter")
"""Ends at which nothing may be left of a message."""


class AnswerError(Exception):
    """An answer that is no reply.

    Attributes:
        status: of HTTP, or what the answer's body says it would be.
        said: the server's words, on one line, which any JSON writer can encode.
        is_error: they are about an error; else they may be the model's, and mean nothing.
    """

    def __init__(self, status: int, said: str, *, is_error: bool = True) -> None:
        super().__init__(status, said)
        self.status = status
        self.said = _text(" ".join(said[:_LONGEST_MESSAGE].split())) or ""
        self.is_error = is_error


def _no_reply(said: str) -> AnswerError:
    return AnswerError(_BAD_GATEWAY, said, is_error=False)


def refusal(status: int, body: bytes) -> AnswerError:
    """Return what an answer of a status other than 200 says."""
    try:
        found = _decoded(body)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        return AnswerError(status, _words(found.get("error") or found))
    return AnswerError(status, body.decode("utf-8", "replace") or "(nothing more)")


def read_reply(body: bytes, *, key: str | None = None, start_ns: int, end_ns: int, elapsed_ns: int) -> Reply:
    """Return the reply that the body of an answer of status 200 holds, the endpoint's key taken out of its texts.

    Raises:
        AnswerError: it is none: an error that its sender did not give the status of one, or another thing altogether.
        UnparsableReplyError: it is nested more deeply than can be read.
    """
    try:
        answer = _answer(body)
        choice = _choice(answer)
        message = choice["message"]
        content, thoughts = _parts(message.get("content"))
        usage = _object(answer.get("usage"))
        return Reply(
            content=_text(content or message.get("refusal") or content, key),
            reasoning=_text(_reasoning(message, thoughts), key),
            tool_calls=tuple(_calls(message, key)),
            finish_reason=_text(choice.get("finish_reason"), key),
            input_tokens=count(usage.get("prompt_tokens")),
            output_tokens=count(usage.get("completion_tokens")),
            timings=timings(answer, choice),
            tokens=reply_tokens(answer, choice) or UNSET,
            start_ns=start_ns,
            end_ns=end_ns,
            elapsed_ns=elapsed_ns,
        )
    except RecursionError:
        raise UnparsableReplyError("the reply is nested too deeply to be read") from None


def _decoded(body: bytes) -> Any:  # noqa: ANN401 - JSON
    """Return a JSON value; a whole number that no computer counts with stays the text that it is."""
    text = body.decode("utf-8-sig", "replace")
    return json.loads(text, strict=False, parse_int=lambda one: one if len(one) > _LONGEST_DIGITS else int(one))


def _answer(body: bytes) -> dict[str, Any]:
    """Return the JSON object of an answer, put together where it came as a stream of events."""
    text = body.decode("utf-8-sig", "replace")
    if _EVENT.match(text):
        return _of_events(text)
    try:
        found = _decoded(body)
    except ValueError as error:
        what = "nothing" if not text.strip() else text
        raise _no_reply(f"not the chat-completions format ({error}): {what}") from None
    if not isinstance(found, dict):
        raise _no_reply(f"not the chat-completions format: {text}")
    return found


def _choice(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the first choice of an answer, its message an object."""
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    error = answer.get("error") or choice.get("error")
    if error:
        raise AnswerError(_status(error) or _status(answer) or _BAD_GATEWAY, _words(error))
    if isinstance(choice.get("message"), dict):
        return choice
    if choice.get("message") is None and choice.get("finish_reason") in _CUT_SHORT:
        return choice | {"message": {}}
    status = _status(answer)
    if status is not None and not choice:
        raise AnswerError(status, _words(answer))
    raise _no_reply(f"not the chat-completions format: {json.dumps(answer)}")


def _status(said: Any) -> int | None:  # noqa: ANN401 - JSON
    """Return the status of HTTP that an error names, if it does."""
    if not isinstance(said, dict):
        return None
    for name in ("code", "status", "status_code", "http_status"):
        value = said.get(name)
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value[:_LONGEST_DIGITS])
        if isinstance(value, int) and _BAD_REQUEST <= value < 600:  # noqa: PLR2004 - the statuses of errors
            return value
    kind = f"{said.get('type')} {said.get('code')}".lower()
    if "rate_limit" in kind or "ratelimit" in kind:
        return 429
    return _BAD_REQUEST if "invalid_request" in kind or "badrequest" in kind else None


def _words(error: Any) -> str:  # noqa: ANN401 - JSON
    """Return an error's message, and what else it says after that."""
    if isinstance(error, str):
        return error
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        rest = {name: value for name, value in error.items() if name != "message" and value not in (None, "")}
        return f"{error['message']} {json.dumps(rest) if rest else ''}".rstrip()
    return json.dumps(error)


def _of_events(text: str) -> dict[str, Any]:
    """Return the answer whose pieces a stream of events holds (`stream` was not asked for, and came all the same)."""
    answer: dict[str, Any] = {}
    message: dict[str, Any] = {}
    calls: dict[int, dict[str, Any]] = {}
    said: dict[str, Any] = {}
    finish_reason = None
    for piece in _pieces(text):
        answer |= {name: value for name, value in piece.items() if value is not None and value != {}}
        choices = piece.get("choices")
        choice = _object(choices[0]) if isinstance(choices, list) and choices else {}
        finish_reason = choice.get("finish_reason") or finish_reason
        if choice.get("error"):
            answer["error"] = choice["error"]
        _add_facts(said, choice)
        _add_delta(message, calls, _object(choice.get("delta") or choice.get("message")))
    if finish_reason is None and "[DONE]" not in text and not answer.get("error"):
        raise _no_reply(f"a stream of events that breaks off: {text[-_LONGEST_MESSAGE:]}")
    if calls:
        message["tool_calls"] = list(calls.values())
    whole = {**said, "message": message, "finish_reason": finish_reason}
    return answer | {"choices": [whole] if message else []}


def _add_delta(message: dict[str, Any], calls: dict[int, dict[str, Any]], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            _add_calls(calls, value)
        elif name != "role" and isinstance(value, (str, list)) and type(message.get(name)) is type(value):
            message[name] += value
        elif value is not None:
            message[name] = value


def _add_facts(said: dict[str, Any], choice: dict[str, Any]) -> None:
    """Take what a piece of a choice says beside its message (`figures`)."""
    for name in ("token_ids", "logprobs"):
        said[name] = _joined(said.get(name), choice.get(name))
    if isinstance(facts := choice.get("meta_info"), dict):
        said["meta_info"] = _latest(_object(said.get("meta_info")), facts)


def _latest(before: dict[str, Any], piece: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of the last piece that has them; of lists in several nobody knows whether they go on."""
    lists = {name: None for name, value in piece.items() if isinstance(value, list) and name in before}
    return {**before, **piece, **lists}


def _joined(before: Any, piece: Any) -> Any:  # noqa: ANN401 - JSON
    """Return what two pieces say together: lists go on, of all else the later one counts where it says anything."""
    if isinstance(before, list) and isinstance(piece, list):
        before += piece
        return before
    if isinstance(before, dict) and isinstance(piece, dict):
        return {**before, **{name: _joined(before.get(name), value) for name, value in piece.items()}}
    return before if piece is None else piece


def _pieces(text: str) -> Iterator[dict[str, Any]]:
    for line in _LINE_END.split(text):
        kind, _, data = line.partition(":")
        if kind.strip() == "data" and data.strip() not in {"", "[DONE]"}:
            try:
                piece = _decoded(data.encode())
            except ValueError as error:
                raise _no_reply(f"an event that is no JSON ({error}): {data}") from None
            if isinstance(piece, dict):
                yield piece


def _add_calls(calls: dict[int, dict[str, Any]], pieces: object) -> None:
    for any_piece in pieces if isinstance(pieces, list) else []:
        piece = any_piece if isinstance(any_piece, dict) else {"function": {"arguments": json.dumps(any_piece)}}
        at = piece.get("index")
        at = at if isinstance(at, int) else len(calls)
        if at not in calls:
            calls[at] = {**piece, "function": dict(_object(piece.get("function")))}
            continue
        whole = calls[at]["function"]
        for name, value in _object(piece.get("function")).items():
            whole[name] = whole[name] + value if isinstance(value, str) and isinstance(whole.get(name), str) else value


def _parts(content: Any) -> tuple[Any, list[str]]:  # noqa: ANN401 - JSON
    """Return the visible content and the thinking of a content that comes in parts."""
    if not isinstance(content, list):
        return content, []
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content:
        is_thought = str(_object(part).get("type")) in {"thinking", "reasoning"}
        said = _said(part, ("text", "thinking", "reasoning", "refusal"))
        (thoughts if is_thought else texts).append(json.dumps(part) if said is None else said)
    return "".join(texts), thoughts


def _said(part: Any, names: tuple[str, ...]) -> str | None:  # noqa: ANN401 - JSON
    """Return the text of a part, itself in parts or not, under the first of these names that has any; else `None`."""
    if isinstance(part, str):
        return part
    if isinstance(part, list):
        return "".join(_said(one, names) or "" for one in part)
    if not isinstance(part, dict):
        return None
    found = [said for name in names if (said := _said(part.get(name), names)) is not None]
    return max(found, key=bool, default=None)


def _reasoning(message: dict[str, Any], thoughts: list[str]) -> str | None:
    """Return the thinking of a message, whatever the name it stands under; what stands there twice, once."""
    said = [message.get(name) for name in _THINKING]
    for name in ("reasoning_details", "thinking_blocks"):
        rows = message.get(name)
        said.append(_said(rows, ("text", "summary", "thinking", "content")))
    kept: list[str] = []
    for value in (*said, "".join(thoughts)):
        text = _text(value)
        if text and not any(text.strip() in one for one in kept):
            kept = [*(one for one in kept if one.strip() not in text), text]
    return "\n".join(kept) or None


def _calls(message: dict[str, Any], key: str | None) -> Iterator[ProposedCall]:
    """Yield the calls of a message; one that is not of a known form has the whole of it as its arguments."""
    calls = message.get("tool_calls") or message.get("function_call") or []
    for call in calls if isinstance(calls, list) else [calls]:
        found = _object(call)
        is_function = found.get("type") in (None, "", "function")
        function = _object(found.get("function") or found) if is_function else {}
        name, arguments = function.get("name"), function.get("arguments")
        if not isinstance(name, str) and arguments is None:
            other = found.get("custom") or found.get("function") or found
            name, arguments = _object(other).get("name"), call
        yield ProposedCall(name=_text(name, key) or "", arguments=_arguments(arguments, key))


def _arguments(value: object, key: str | None) -> str:
    """Return the text of a call's arguments; an escape in it hides no key from those who read what it stands for."""
    text = _text(value, key) or ""
    if key and "\\" in text:
        try:
            plain = json.dumps(json.loads(text), ensure_ascii=False)
        except (ValueError, RecursionError):
            return text
        if (without := scrubbed(plain, key)) != plain:
            return _text(without) or ""
    return text


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object, key: str | None = None) -> str | None:
    r"""Return text that any JSON writer can encode: a lone surrogate becomes `\udNNN`; an object becomes its JSON."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value)
    return scrubbed(text.encode("utf-8", "backslashreplace").decode("utf-8"), key)
