"""Helpers for tests: a model server that says what a script tells it, over the real protocol."""

from __future__ import annotations

import http.server
import json
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    Script = Callable[[list[dict[str, Any]]], dict[str, Any]]

_NONE: Mapping[str, str] = {}


def says(
    content: str | None = None,
    *,
    calls: Sequence[tuple[str, str]] = (),
    reasoning: str | None = None,
    finish_reason: str | None = None,
) -> dict[str, Any]:
    """Return a chat completion as llama-server sends it.

    Args:
        content: visible text.
        calls: (tool name, argument text) pairs; the text is sent as it is, valid JSON or not.
        reasoning: thinking text.
        finish_reason: `tool_calls` with calls and `stop` without, unless given.
    """
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if reasoning is not None:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = [
            {"id": f"random{index}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for index, (name, arguments) in enumerate(calls)
        ]
    return {
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": message,
                "finish_reason": finish_reason or ("tool_calls" if calls else "stop"),
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        "timings": {"prompt_n": 10, "prompt_ms": 1.5, "predicted_n": 5, "predicted_ms": 2.5, "cache_n": 0},
    }


def fails(status: int, message: str) -> dict[str, Any]:
    """Return a scripted HTTP error in the form of the OpenAI protocol."""
    return {"_status": status, "error": {"code": status, "message": message, "type": "server_error"}}


def answers(
    body: bytes, *, status: int = 200, headers: Mapping[str, str] = _NONE, lacking: int = 0, every_s: float = 0.0
) -> dict[str, Any]:
    """Return a scripted answer of any bytes.

    Args:
        body: as sent.
        status: of HTTP.
        headers: beside `Content-Length`.
        lacking: bytes that are announced and then never come.
        every_s: pause after each byte.
    """
    return {"_status": status, "_headers": headers, "_raw": body, "_lacking": lacking, "_every_s": every_s}


def _send(handler: http.server.BaseHTTPRequestHandler, reply: Mapping[str, Any]) -> None:
    """Send a scripted reply; what is about it and not in it has a name that begins with `_`."""
    data = reply.get("_raw")
    if data is None:
        data = json.dumps({name: value for name, value in reply.items() if name[0] != "_"}).encode()
    handler.send_response(reply.get("_status", 200))
    for name, value in {"Content-Type": "application/json", **reply.get("_headers", _NONE)}.items():
        handler.send_header(name, value)
    lacking, every_s = reply.get("_lacking", 0), reply.get("_every_s", 0.0)
    handler.send_header("Content-Length", str(len(data) + lacking))
    handler.end_headers()
    handler.close_connection = bool(lacking)
    for part in [data[at : at + 1] for at in range(len(data))] if every_s else [data]:
        handler.wfile.write(part)
        time.sleep(every_s)


class _QuietServer(http.server.ThreadingHTTPServer):
    """A server whose clients may be killed under a request."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the library's signature
        """Say nothing of a client that went away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _text(body: dict[str, Any]) -> str:
    return " ".join(message["content"] for message in body["messages"])


_COUNTING: dict[str, dict[str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "llama-server": {
        "/apply-template": lambda body: {"prompt": _text(body)},
        "/tokenize": lambda body: {"tokens": [0] * len(body["content"].split())},
    },
    "vllm": {"/tokenize": lambda body: {"count": len(_text(body).split()), "max_model_len": 4096, "tokens": []}},
}


class ScriptedServer:
    """An OpenAI-compatible server on a free loopback port; use it as a context.

    Args:
        script: replies in order, or a function from the request's messages to a reply. Replies come from `says`,
            `fails` and `answers`; when a list is used up, the server answers 500.
        props: what `/props` answers; there is none by default, as on servers other than llama.cpp's.
        models: the rows of `/v1/models`.
        address: where to listen; port 0 is a free one.
        remember: keep requests and headers.
        redirects: paths that answer 302, and where they point.
        counts: the server whose way to count a prompt it has; a word is a token.

    Attributes:
        script: as given; may be replaced.
        pages: what is answered to a GET, or to a POST that asks for no reply, by path; may be changed.
        requests: bodies of the chat requests so far.
        headers: their headers, names in lower case.
        count: how many there were.
    """

    def __init__(
        self,
        script: Sequence[dict[str, Any]] | Script,
        props: dict[str, Any] | None = None,
        *,
        models: Sequence[dict[str, Any]] = (),
        address: tuple[str, int] = ("127.0.0.1", 0),
        remember: bool = True,
        redirects: Mapping[str, str] = _NONE,
        counts: Literal["llama-server", "vllm"] | None = None,
    ) -> None:
        self.script = script
        self._remember = remember
        self._lock = threading.Lock()
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.count = 0
        self.pages: dict[str, dict[str, Any]]
        owner = self
        pages = self.pages = {"/health": {"status": "ok"}, "/v1/models": {"data": list(models)}}
        if props is not None:
            pages["/props"] = props

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else each answer, written in two parts, waits 40 ms for the client

            def do_GET(self) -> None:
                if self.path in redirects:
                    _send(self, {"_status": 302, "_headers": {"Location": redirects[self.path]}})
                else:
                    _send(self, pages.get(self.path, {"_status": 404}))

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                data = self.rfile.read(length)
                if len(data) < length:  # the client was killed in the middle of its request
                    self.close_connection = True
                    return
                body = json.loads(data)
                if self.path != "/v1/chat/completions":
                    known = _COUNTING.get(counts or "", {}).get(self.path)
                    _send(self, known(body) if known else pages.get(self.path, {"_status": 404}))
                    return
                _send(self, owner._reply(body, {name.lower(): value for name, value in self.headers.items()}))

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self._server = _QuietServer(address, Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def base_url(self) -> str:
        """The endpoint, up to and including `/v1`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def _reply(self, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
        with self._lock:
            index, self.count = self.count, self.count + 1
            if self._remember:
                self.requests.append(body)
                self.headers.append(headers)
        if callable(self.script):
            return self.script(body["messages"])
        return self.script[index] if index < len(self.script) else fails(500, "the script is used up")

    def stop(self) -> dict[str, Any]:
        """Vanish: every connection is refused from now on; as a script's reply, this request gets an error."""
        self._server.shutdown()
        self._server.server_close()
        return fails(503, "shutting down")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._thread.join()
