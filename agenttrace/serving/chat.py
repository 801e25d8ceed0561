"""The one place that talks to the model server: chat completions over the `openai` client."""

from __future__ import annotations

import copy
import json
import math
import re
import time
from typing import TYPE_CHECKING, Any

from agenttrace.errors import ModelServerError
from agenttrace.records import Timings
from agenttrace.serving.budget import EstimatingCounter
from agenttrace.serving.endpoint import scrubbed
from agenttrace.serving.model import (
    RETRY_DELAYS_S,
    ContextFullError,
    NoReplyError,
    ProposedCall,
    Reply,
    RequestRefusedError,
    UnparsableReplyError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from agenttrace.records import Sampler
    from agenttrace.serving.budget import Counter, Counters
    from agenttrace.serving.model import Messages

_SERVER_ERROR = 500
_NOT_OURS = {401, 403, 404}
"""No request to this endpoint can succeed: wrong key, or not the API."""
_PASSING = {408, 409, 429}
_UNPARSABLE = re.compile(r"parse|does not match the expected \S+ format", re.IGNORECASE)
"""What llama-server says, in its two ways, of a generation from which it cannot make a reply."""
_LONGEST_PAUSE_S = 60.0


def fixed_part(
    *,
    model: str,
    sampler: Sampler,
    tools: tuple[dict[str, Any], ...] = (),
    tool_choice: str = "auto",
    cache_prompt: bool = False,
) -> dict[str, Any]:
    """Return what is sent with every request, whatever the conversation: a pure function of the run spec.

    Args:
        model: name under which the server knows it.
        sampler: its settings.
        tools: tool schemas; without any, neither they nor `tool_choice` are sent.
        tool_choice: as the protocol has it.
        cache_prompt: llama.cpp's prompt cache; off where output must depend on the request alone.
    """
    return {
        "model": model,
        **({"tools": list(tools), "tool_choice": tool_choice} if tools else {}),
        "temperature": sampler.temperature,
        "top_p": sampler.top_p,
        "seed": sampler.seed,
        "max_tokens": sampler.max_tokens,
        "extra_body": {"top_k": sampler.top_k, "min_p": sampler.min_p, "cache_prompt": cache_prompt},
    }


class ChatModel:
    """A model behind an OpenAI-compatible endpoint.

    Args:
        base_url: up to and including `/v1`.
        fixed: what is sent with every request; see `fixed_part`.
        counters: count prompts as the server does; without them an estimate does.
        api_key: sent as the bearer token; it is in no message and no record.
        timeout_s: limit of one request.
        sleep: waits between two tries (replaceable in tests).
    """

    def __init__(
        self,
        base_url: str,
        fixed: dict[str, Any],
        *,
        counters: Counters | None = None,
        api_key: str | None = None,
        timeout_s: float = 600.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        import openai  # noqa: PLC0415 - half a second that `--help` need not pay

        self._openai = openai
        self._key = api_key
        self._client = openai.OpenAI(base_url=base_url, api_key=api_key or "none", max_retries=0, timeout=timeout_s)
        self._sleep = sleep
        self._base_url = base_url
        self._counters = counters
        self._counter: Counter = EstimatingCounter()
        self._fixed = fixed

    def for_trace(self, trace_id: str, *, seed: int) -> Self:  # noqa: ARG002 - for models that know the conversation
        """Return the model as one trace uses it: every request carries `seed`, and its prompts are counted alone."""
        other = copy.copy(self)
        other._fixed = {**self._fixed, "seed": seed}  # noqa: SLF001 - a copy of our own
        other._counter = EstimatingCounter() if self._counters is None else self._counters.new()  # noqa: SLF001
        return other

    def count(self, messages: Messages) -> int:
        """Return the tokens of the prompt that these messages give, from the server or from above.

        Raises:
            NoReplyError: the server does not answer, although it was asked again.
            RequestRefusedError: it refuses to count this conversation.
        """
        return self._counter.count(messages)

    def complete(self, messages: Messages, *, max_tokens: int | None = None) -> Reply:
        """Return the model's reply to a conversation, of at most `max_tokens` (default: the sampler's).

        Connection failures and server errors are tried again with growing pauses (7.5 s in all, longer where the server
        names a longer one). A request that takes too long is not: it would take as long again.

        Raises:
            ContextFullError: the prompt is longer than the context.
            UnparsableReplyError: the server could not parse what the model generated.
            RequestRefusedError: the server refuses this request.
            NoReplyError: there was no reply in time, or in no try.
            ModelServerError: nothing at this address can be used: wrong key, or not the protocol.
        """
        failure = ""
        for delay in (*RETRY_DELAYS_S, None):
            pause = delay or 0.0
            try:
                reply = self._request(messages, max_tokens)
            except self._openai.APITimeoutError as error:
                failure = f"no reply within the time limit ({self._scrubbed(error.__cause__ or error)})"
                if not _connecting(error):
                    raise NoReplyError(f"the model server at {self._base_url}: {failure}") from None
            except self._openai.APIStatusError as error:
                failure = self._sort(error)
                pause = max(pause, _asked_pause(error.response.headers.get("retry-after")))
            except self._openai.APIConnectionError as error:
                failure = f"{type(error).__name__}: {self._scrubbed(error.__cause__ or error)}"
            else:
                self._counter.answered(messages, reply)
                return reply
            if delay is not None:
                self._sleep(pause)
        raise NoReplyError(
            f"the model server at {self._base_url} does not answer after {len(RETRY_DELAYS_S) + 1} tries ({failure})"
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _scrubbed(self, value: object) -> str:
        return scrubbed(str(value), self._key)

    def _sort(self, error: Any) -> str:  # noqa: ANN401 - openai.APIStatusError, imported late
        text = self._scrubbed(error.message)
        if "exceed_context_size" in text or "exceeds the available context size" in text:
            raise ContextFullError(text) from None
        if error.status_code == _SERVER_ERROR and _UNPARSABLE.search(text):
            raise UnparsableReplyError(text) from None
        if error.status_code in _NOT_OURS:
            raise ModelServerError(f"the model server refuses the request (HTTP {error.status_code}): {text}") from None
        if error.status_code < _SERVER_ERROR and error.status_code not in _PASSING:
            raise RequestRefusedError(f"HTTP {error.status_code}: {text}") from None
        return f"HTTP {error.status_code}: {text}"

    def _request(self, messages: list[dict[str, Any]], max_tokens: int | None) -> Reply:
        sent = self._fixed if max_tokens is None else {**self._fixed, "max_tokens": max_tokens}
        start_ns, started = time.time_ns(), time.monotonic_ns()
        # As a part of the body that the client leaves alone: it would walk through every message by its type hints,
        # which costs more than everything else of a request.
        extra = {**sent["extra_body"], "messages": messages}
        raw = self._client.chat.completions.with_raw_response.create(**{**sent, "extra_body": extra}, messages=[])
        elapsed_ns, end_ns = time.monotonic_ns() - started, time.time_ns()
        try:
            body = json.loads(raw.content)
            message = body["choices"][0]["message"]
            usage = body.get("usage")
            usage = usage if isinstance(usage, dict) else {}
            calls = tuple(
                ProposedCall(
                    name=_text(call["function"]["name"]) or "", arguments=_text(call["function"]["arguments"]) or ""
                )
                for call in message.get("tool_calls") or ()
            )
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ModelServerError(
                f"the model server at {self._base_url} answered outside the chat-completions format ({error!r})"
            ) from error
        return Reply(
            content=_text(message.get("content")),
            reasoning=_text(message.get("reasoning_content")),
            tool_calls=calls,
            finish_reason=_text(body["choices"][0].get("finish_reason")),
            input_tokens=_count(usage.get("prompt_tokens")),
            output_tokens=_count(usage.get("completion_tokens")),
            timings=_timings(body.get("timings")),
            start_ns=start_ns,
            end_ns=end_ns,
            elapsed_ns=elapsed_ns,
        )


def _connecting(error: BaseException) -> bool:
    """Return whether the time ran out before the request was sent: another try then costs little."""
    return type(error.__cause__).__name__ in {"ConnectTimeout", "PoolTimeout"}


def _asked_pause(text: str | None) -> float:
    """Return the pause that a server asks for in `Retry-After`, in seconds; dates and nonsense count as none."""
    return min(float(text), _LONGEST_PAUSE_S) if text and text.isascii() and text.isdigit() else 0.0


def _text(value: object) -> str | None:
    r"""Return text that any JSON writer can encode: a lone surrogate becomes `\udNNN`; an object becomes its JSON."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _count(value: object) -> int | None:
    """Return a number of tokens; what no record could hold counts as not reported."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63 else None


def _milliseconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if math.isfinite(value) else None


def _timings(row: object) -> Timings | None:
    if not isinstance(row, dict) or not row:
        return None
    return Timings(
        prompt_n=_count(row.get("prompt_n")),
        prompt_ms=_milliseconds(row.get("prompt_ms")),
        predicted_n=_count(row.get("predicted_n")),
        predicted_ms=_milliseconds(row.get("predicted_ms")),
        cached_n=_count(row.get("cache_n")),
    )
