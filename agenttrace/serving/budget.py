"""How many tokens a prompt has, before it is sent: by the server's own template and tokenizer, else from above.

Routes, tried in this order when a run starts:

- llama-server: `/apply-template` renders the conversation, `/tokenize` counts it, both as a chat request would;
- vLLM: `/tokenize` with `messages`;
- neither: an estimate that is never below the truth for tokenizers whose tokens hold a byte or more each: what the
  server reported for the last prompt and reply, and one token per UTF-8 byte of what was appended since.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import msgspec

from agenttrace.serving.endpoint import scrubbed
from agenttrace.serving.model import RETRY_DELAYS_S, NoReplyError, RequestRefusedError, passing

if TYPE_CHECKING:
    from collections.abc import Callable

    from agenttrace.serving.model import Messages, Reply

RESERVE_TOKENS = 16
"""Kept free of the budget: an exact count needs none of it, a template that numbers or dates messages a few."""
Route = Literal["llama-server", "vllm", "estimate"]
_MESSAGE_OVERHEAD = 32
"""Tokens that a template puts around one message, at most."""
_START_OVERHEAD = 256
"""Tokens that a template puts before the first message, at most: dates, default instructions."""
_TIMEOUT_S = 60.0

T = TypeVar("T")


class Counter(Protocol):
    """Something that counts the tokens of one conversation's prompts."""

    def count(self, messages: Messages) -> int:
        """Return the tokens of the prompt that these messages give; never fewer than the server will count."""
        ...

    def answered(self, messages: Messages, reply: Reply) -> None:
        """Learn from what the server reported of a prompt and its reply."""
        ...


class _Prompt(msgspec.Struct):
    prompt: str


class _Tokens(msgspec.Struct):
    tokens: list[int]


class _Count(msgspec.Struct):
    count: int


class Counters:
    """The way in which one server's prompts are counted; found once, then used from any thread.

    Args:
        base_url: up to and including `/v1`.
        model: name under which the server knows it.
        template: arguments of the chat template that every request carries.
        api_key: sent as the bearer token.
        sleep: waits between two tries (replaceable in tests).

    Attributes:
        route: which of the routes the server has.
    """

    def __init__(
        self,
        base_url: str,
        *,
        model: str,
        template: dict[str, Any] | None = None,
        api_key: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        from agenttrace.serving.wire import Wire, WireError  # noqa: PLC0415 - heavy

        self._error = WireError
        self._root = base_url.removesuffix("/v1")
        self._model = model
        self._template = {} if template is None else {"chat_template_kwargs": template}
        self._key = api_key
        self._sleep = sleep
        self._wire = Wire(api_key)
        self.route: Route = self._detect()

    def new(self) -> Counter:
        """Return the counter of one conversation."""
        return EstimatingCounter() if self.route == "estimate" else self

    def answered(self, messages: Messages, reply: Reply) -> None:
        """Learn nothing: what is exact needs no report."""

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of a text, as the server's own tokenizer cuts it; not for the route `estimate`.

        Raises:
            NoReplyError: the server does not answer, although it was asked again.
            RequestRefusedError: it refuses this text.
        """
        body = {"model": self._model, "content": text, "prompt": text}
        return self._post("/tokenize", body, _Tokens).tokens

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()

    def count(self, messages: Messages) -> int:
        """Return the exact count.

        Raises:
            NoReplyError: the server does not answer, although it was asked again.
            RequestRefusedError: it refuses to count this conversation.
        """
        body: dict[str, Any] = {"model": self._model, "messages": messages, **self._template}
        if self.route == "vllm":
            return self._post("/tokenize", {**body, "add_generation_prompt": True}, _Count).count
        prompt = self._post("/apply-template", body, _Prompt).prompt
        body = {"model": self._model, "content": prompt, "add_special": True, "parse_special": True}
        return len(self._post("/tokenize", body, _Tokens).tokens)

    def _detect(self) -> Route:
        """Return the first route on which the server counts a prompt."""
        exact: tuple[Route, ...] = ("llama-server", "vllm")
        for route in exact:
            self.route = route
            try:
                self.count([{"role": "user", "content": "a"}])
            except (RequestRefusedError, NoReplyError):
                continue
            return route
        return "estimate"

    def _post(self, path: str, body: dict[str, Any], expected: type[T]) -> T:
        failure = ""
        data = msgspec.json.encode(body)
        for delay in (*RETRY_DELAYS_S, None):
            try:
                answer = self._wire.post(f"{self._root}{path}", data, within_s=_TIMEOUT_S)
            except self._error as error:
                failure = scrubbed(str(error), self._key)
            else:
                if answer.status < 300:  # noqa: PLR2004 - good
                    return _decoded(answer.body, expected, path)
                failure = f"HTTP {answer.status}"
                if not passing(answer.status):
                    said = answer.body[:300].decode("utf-8", "replace")
                    raise RequestRefusedError(f"{path}: {failure}: {scrubbed(said, self._key)}")
            if delay is not None:
                self._sleep(delay)
        raise NoReplyError(f"the model server does not count a prompt at {path} ({failure})")


def _decoded(content: bytes, expected: type[T], path: str) -> T:
    try:
        return msgspec.json.decode(content, type=expected)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RequestRefusedError(f"{path}: the answer is not what was expected: {error}") from error


class EstimatingCounter:
    """Counts from above, without the server.

    A reply that is tokenized again can have more tokens than were generated, so an eighth is added to these; its bytes
    bound it as well.
    """

    def __init__(self) -> None:
        self._messages = 0
        self._tokens = 0

    def count(self, messages: Messages) -> int:
        """Return the last reported prompt and reply, and a token per byte of what was appended since."""
        start = self._tokens or _START_OVERHEAD
        return start + sum(_bytes(message) + _MESSAGE_OVERHEAD for message in messages[self._messages :])

    def answered(self, messages: Messages, reply: Reply) -> None:
        """Take over what the server reported; without a report the bytes stand."""
        if reply.input_tokens is None or reply.output_tokens is None:
            return
        generated = reply.output_tokens + reply.output_tokens // 8 + 8
        self._tokens = reply.input_tokens + min(generated, len((reply.content or "").encode())) + _MESSAGE_OVERHEAD
        self._messages = len(messages) + 1  # the reply is appended next


def _bytes(message: dict[str, Any]) -> int:
    return len((message.get("content") or "").encode("utf-8", "backslashreplace"))
