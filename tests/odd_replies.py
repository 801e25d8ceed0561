"""Replies as models and servers of all sorts give them, good ones among them, drawn from a seed without an end."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from agenttrace.testing import answers, fails, says

if TYPE_CHECKING:
    from collections.abc import Iterator

Becomes = Literal["step", "unparsable", "again", "budget", "refused"]
"""A generation; one that could not be parsed; another try; the end of the conversation; the end of the attempt."""


class Drawn(NamedTuple):
    """A reply of one kind; `mark` is a word of it that must be found in what is recorded (empty: it has none)."""

    kind: str
    reply: dict[str, Any]
    becomes: Becomes
    mark: str


def message(finish_reason: str = "stop", **fields: Any) -> dict[str, Any]:
    """Return a chat completion with these fields in its message."""
    made = says("", finish_reason=finish_reason)
    made["choices"][0]["message"] |= fields
    return made


def calls(*entries: Any) -> dict[str, Any]:
    """Return a chat completion whose calls are these values, of whatever form."""
    return message("tool_calls", content=None, tool_calls=list(entries))


def function(name: Any, arguments: Any) -> dict[str, Any]:
    """Return one call."""
    return {"id": "a", "type": "function", "function": {"name": name, "arguments": arguments}}


def echo(mark: str) -> str:
    """Return the arguments of a harmless call."""
    return json.dumps({"command": f"echo {mark}"})


def deep(mark: str) -> bytes:
    """Return a chat completion nested beyond what can be read."""
    return json.dumps(calls(function("bash", mark))).encode().replace(b'"usage"', b'"x":' + b"[" * 99_999 + b',"usage"')


def events(mark: str, *, whole: bool = True) -> bytes:
    """Return a chat completion as a stream of events, which may break off."""
    pieces: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
        {"choices": [{"index": 0, "delta": {"reasoning": "so "}}]},
        {"choices": [{"index": 0, "delta": {"reasoning": mark}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, **function("bash", '{"comm')}]}}]},
        {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": 'and":"ls"}'}}]}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
        {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5}},
    ]
    lines = [": keep-alive\n\n", *(f"data: {json.dumps(piece)}\n\n" for piece in pieces), "data: [DONE]\n\n"]
    return "".join(lines if whole else lines[:5]).encode()


FULL = (Path(__file__).parent / "data" / "full-contexts.txt").read_text(encoding="utf-8").splitlines()
"""A full context in the words of vLLM, SGLang, OpenAI, LM Studio, TGI, Ollama, LiteLLM, Gemini, Mistral, llama.cpp."""


def full(chance: random.Random, mark: str) -> dict[str, Any]:
    """Return a full context in some server's words and form."""
    said = f"{chance.choice(FULL)} {mark}"
    error = {"message": said, "type": "BadRequestError", "param": None, "code": 400}
    forms = (
        fails(400, said),
        {"_status": 400, "object": "error", **error},
        {"_status": 400, "error": said},
        {"_status": 500, "error": error},
        {"_status": 422, "error": said, "error_type": "validation"},
        {"error": {**error, "metadata": {"raw": said}}},
        {"_status": 400, "error": {"message": f"too much {mark}", "code": "context_length_exceeded"}},
    )
    return chance.choice(forms)


STEPS: dict[str, Any] = {
    "good": lambda _, m: calls(function("bash", echo(m))),
    "reasoning": lambda _, m: message(reasoning=m, tool_calls=[function("bash", echo("a"))]),
    "reasoning_content": lambda _, m: message(reasoning_content=m, tool_calls=[function("bash", echo("a"))]),
    "reasoning twice": lambda _, m: message(reasoning=m, reasoning_content=m),
    "reasoning_details": lambda _, m: message(reasoning_details=[{"type": "reasoning.text", "text": m}]),
    "content in parts": lambda _, m: message(content=[{"type": "text", "text": "a"}, {"type": "text", "text": m}]),
    "thinking in parts": lambda _, m: message(content=[{"type": "thinking", "thinking": [{"text": m}]}]),
    "refusal": lambda _, m: message(content=None, refusal=m),
    "content is a number": lambda _, m: message(content=int(m.removeprefix("odd"))),
    "no arguments": lambda _, m: calls({"id": m, "type": "function", "function": {"name": m}}),
    "null arguments": lambda _, m: calls(function(m, None)),
    "no name": lambda _, m: calls({"type": "function", "function": {"arguments": echo(m)}}),
    "null name": lambda _, m: calls(function(None, echo(m))),
    "no function": lambda _, m: calls({"id": m, "type": "function"}),
    "null function": lambda _, m: calls({"id": m, "type": "function", "function": None}),
    "unknown type": lambda _, m: calls({"type": "tool_use", "name": "bash", "input": {"command": m}}),
    "custom call": lambda _, m: calls({"type": "custom", "custom": {"name": "bash", "input": m}}),
    "calls that are no objects": lambda _, m: calls(None, m, 7, [m], True),
    "calls are an object": lambda _, m: message(tool_calls=function("bash", echo(m))),
    "calls are text": lambda _, m: message(tool_calls=m),
    "function_call": lambda _, m: message(function_call={"name": "bash", "arguments": echo(m)}),
    "arguments are an object": lambda _, m: calls(function("bash", {"command": f"echo {m}"})),
    "arguments are a list": lambda _, m: calls(function("bash", [m])),
    "arguments are a number": lambda _, m: calls(function("bash", int(m.removeprefix("odd")))),
    "arguments are no JSON": lambda _, m: calls(function("bash", '{"command": "' + m)),
    "arguments are deep": lambda _, m: calls(function("bash", f'{{"command": "{m}", "a": ' + "[" * 9999)),
    "a number": lambda _, m: calls(function("bash", '{"command": ' + m.removeprefix("odd") + "}")),
    "5000 digits": lambda _, m: calls(function("bash", '{"command": ' + m.removeprefix("odd") + "7" * 5000 + "}")),
    "null": lambda _, m: calls(function("bash", f'{{"command": null, "{m}": 1}}')),
    "a list": lambda _, m: calls(function("bash", f'{{"command": ["{m}"]}}')),
    "an object": lambda _, m: calls(function("bash", f'{{"command": {{"a": "{m}"}}}}')),
    "lone surrogate": lambda _, m: calls(function("bash", f'{{"command": "{m} \\ud800"}}')),
    "NUL": lambda _, m: calls(function("bash", json.dumps({"command": f"echo {m}\0"}))),
    "NUL in Python": lambda _, m: calls(function("python_interpreter", json.dumps({"code": f"'{m}\0'"}))),
    "unknown tool": lambda _, m: calls(function(m, "{}")),
    "a name with a blank": lambda _, m: calls(function(f"bash {m}", echo("a"))),
    "a long name": lambda _, m: calls(function(m * 100, echo("a"))),
    "40 calls": lambda _, m: calls(*[function("bash", echo(m)) for _ in range(40)]),
    "a NUL in the text": lambda _, m: message(content=f"```bash\necho {m}\0\n```"),
    "odd usage": lambda _, m: message(content=m) | {"usage": {"prompt_tokens": "many", "completion_tokens": -1}},
    "huge usage": lambda _, m: answers(
        json.dumps(message(content=m)).replace('"prompt_tokens": 10', '"prompt_tokens": ' + "1" * 5000).encode()
    ),
    "odd finish_reason": lambda _, m: message(finish_reason={"a": m}),  # type: ignore[arg-type]
    "no message at the limit": lambda c, _: {
        "choices": [{"message": None, "finish_reason": c.choice(("length", "content_filter"))}]
    },
    "raw control characters": lambda _, m: answers(json.dumps(message(content=f"{m}|")).replace("|", "\n\t").encode()),
    "broken UTF-8": lambda _, m: answers(json.dumps(message(content=f"{m}|")).encode().replace(b"|", b"\xff")),
    "byte order mark": lambda _, m: answers(b"\xef\xbb\xbf" + json.dumps(message(content=m)).encode()),
    "packed": lambda _, m: answers(
        gzip.compress(json.dumps(message(content=m)).encode()), headers={"Content-Encoding": "gzip"}
    ),
    "events": lambda _, m: answers(events(m), headers={"Content-Type": "text/event-stream"}),
    "endless text": lambda _, m: message("length", content=m + " la" * 5000),
}  # fmt: skip
AGAIN: dict[str, Any] = {
    "error in a good answer": lambda c, m: {"error": {"message": m, "code": c.choice((502, 529, "503", 429, None))}},
    "error that is text": lambda _, m: {"error": m},
    "error of the choice": lambda _, m: {
        "choices": [{"finish_reason": "error", "error": {"code": 502, "message": m}, "message": {"content": "half"}}]
    },
    "choices are null": lambda _, m: {"id": m, "choices": None},
    "choices are empty": lambda _, m: {"id": m, "choices": []},
    "choice is text": lambda _, m: {"choices": [m]},
    "no choices": lambda _, m: {"detail": m},
    "message is null": lambda _, m: {"id": m, "choices": [{"message": None, "finish_reason": "stop"}]},
    "message is text": lambda _, m: {"choices": [{"message": m}]},
    "a page": lambda _, m: answers(f"<html><h1>{m}</h1></html>".encode(), headers={"Content-Type": "text/html"}),
    "nothing": lambda *_: answers(b""),
    "cut-off JSON": lambda _, m: answers(f'{{"id": "{m}", "choices": [{{"mess'.encode()),
    "a list of all": lambda _, m: answers(json.dumps([m]).encode()),
    "less than announced": lambda _, m: answers(json.dumps(message(content=m)).encode(), lacking=9),
    "a bomb": lambda *_: answers(BOMB, headers={"Content-Encoding": "gzip"}),
    "events that break off": lambda _, m: answers(events(m, whole=False)),
    "events of an error": lambda _, m: answers(f'data: {{"error": {{"message": "{m}", "code": 502}}}}\n\n'.encode()),
    "HTTP error": lambda c, m: fails(c.choice((408, 429, 500, 502, 503, 504, 529)), m),
}
BOMB = gzip.compress(b" " * (64 * 2**20))
OTHERS: dict[str, tuple[Becomes, Any]] = {
    "nested too deeply": ("unparsable", lambda _, m: answers(deep(m))),
    "cannot parse": ("unparsable", lambda _, m: fails(500, f"Failed to parse input at pos 7: {m}")),
    "tool_use_failed": (
        "unparsable",
        lambda _, m: {
            "_status": 400,
            "error": {"message": f"Failed to call a function {m}", "code": "tool_use_failed"},
        },
    ),
    "context full": ("budget", full),
    "too large": ("budget", lambda _, m: answers(f"<h1>413 {m}</h1>".encode(), status=413)),
    "refused": ("refused", lambda c, m: fails(c.choice((400, 402, 403, 404, 422)), f"flagged {m}")),
    "elsewhere": ("refused", lambda _, m: answers(m.encode(), status=307, headers={"Location": "http://127.0.0.1:9/"})),
}
KINDS: dict[str, tuple[Becomes, Any]] = {
    **{name: ("step", make) for name, make in STEPS.items()},
    **{name: ("again", make) for name, make in AGAIN.items()},
    **OTHERS,
}
_WITHOUT_MARK = {"nothing", "a bomb", "no message at the limit", "less than announced", "nested too deeply"}
_RARE = {"refused": 0.15, "budget": 0.5}


def draw(seed: int) -> Iterator[Drawn]:
    """Yield replies of every kind, without an end; those that end an attempt or a conversation come more rarely."""
    chance = random.Random(seed)
    number = 0
    while True:
        kind = chance.choice(list(KINDS))
        becomes, make = KINDS[kind]
        if chance.random() < _RARE.get(becomes, 1.0):
            number += 1
            mark = f"odd{1_000_000 + number}"
            yield Drawn(kind, make(chance, mark), becomes, "" if kind in _WITHOUT_MARK else mark)
