"""The one place that talks to the model server: chat completions, tried again where that may help."""

from __future__ import annotations

import copy
import re
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from agenttrace.errors import ModelServerError
from agenttrace.serving.budget import EstimatingCounter
from agenttrace.serving.endpoint import THINKING_SWITCH, scrubbed
from agenttrace.serving.model import (
    RETRY_DELAYS_S,
    ContextFullError,
    NoReplyError,
    RequestRefusedError,
    UnparsableReplyError,
    passing,
)
from agenttrace.serving.replies import AnswerError, read_reply, refusal
from agenttrace.serving.tenancy import LOST, Said, Tenancy, cached, gist

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from agenttrace.records import ReplyDetail, Sampler
    from agenttrace.serving.budget import Counter, Counters
    from agenttrace.serving.model import Messages, Reply
    from agenttrace.serving.wire import Answer

REQUEST_LIMIT_S = 600.0
_REDIRECTED = 300
_SERVER_ERROR = 500
_TOO_LARGE = 413
_NOT_OF_LENGTH = frozenset({401, 402, 403, 429, 503, 529})
"""Quotas and load are told of in the same words: tokens, limits, exceeded."""
_NO_SERVER = frozenset({301, 302, 303, 307, 308, 401, 404, 405})
"""To the first request of all: a wrong key, a wrong address, or not the API."""
_UNPARSABLE = re.compile(r"parse|does not match the expected \S+ format", re.IGNORECASE)
"""What llama-server says, in its two ways, of a generation from which it cannot make a reply."""
_CALL_FAILED = "tool_use_failed"
"""What Groq says of that."""
_CONTEXT_FULL = re.compile(
    r"""
    exceed_context_size | context_?(length|window)_?exceeded | tokens_limit_reached
    | context\ (length|window|size|limit)\b.*(exceed|reduce|shorter|maximum\ input|not\ enough|requested|however)
    | (exceed|longer\ than|greater\ than|too\ large|reached).*\bcontext\ (length|window|size|limit)
    | maximum\ (model|allowed|sequence|context|prompt|input)\ length | range\ of\ input\ length | max_?kv_?size
    | `inputs`.*(must\ be\ <=|must\ have\ less) | (prompt|inputs?|conversation)\ (is|are)?\ ?too\ long
    | (prompt|input)\ length.*exceed | input\ tokens?\ (count\ )?.*exceed | n_keep.*n_ctx
    | reduce\ the\ length\ of\ the\ (messages|input|prompt) | too\ many\ tokens | token\ limit\ exceeded
    | exceeded\ model\ token\ limit
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""What servers say of a conversation that has outgrown them.

llama-server, vLLM (each of its wordings, also where the prompt fits and the prompt with `max_tokens` does not), SGLang,
LM Studio, TGI, Ollama, LiteLLM, OpenAI, Anthropic, Gemini, Mistral, xAI, Groq.
"""
_LONGEST_PAUSE_S = 60.0
_SHOWN_CHARS = 300


def fixed_part(
    *,
    model: str,
    sampler: Sampler,
    tools: tuple[dict[str, Any], ...] = (),
    tool_choice: str = "auto",
    cache_prompt: bool | None = False,
    form: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what is sent with every request, whatever the conversation: a pure function of the run spec.

    Args:
        model: name under which the server knows it.
        sampler: its settings.
        tools: tool schemas; without any, neither they nor `tool_choice` are sent.
        tool_choice: as the protocol has it.
        cache_prompt: llama.cpp's prompt cache; off where output must depend on the request alone, `None` where each
            request says for itself (see `ChatModel`).
        form: what the server holds every reply to: a `response_format`, or llama-server's `grammar`.
    """
    return {
        "model": model,
        **({"tools": list(tools), "tool_choice": tool_choice} if tools else {}),
        **(form or {}),
        "temperature": sampler.temperature,
        "top_p": sampler.top_p,
        "seed": sampler.seed,
        "max_tokens": sampler.max_tokens,
        "extra_body": {
            "top_k": sampler.top_k,
            "min_p": sampler.min_p,
            **({} if cache_prompt is None else {"cache_prompt": cache_prompt}),
            **_thinking(sampler),
            **_details(sampler),
        },
    }


def _thinking(sampler: Sampler) -> dict[str, Any]:
    """Return what tells the template of llama-server or vLLM whether a model thinks; a budget is llama-server's."""
    if sampler.thinking is UNSET:
        return {}
    switch = {"chat_template_kwargs": {THINKING_SWITCH: sampler.thinking != "off"}}
    return switch if isinstance(sampler.thinking, str) else {**switch, "thinking_budget_tokens": sampler.thinking}


_ASKED: dict[ReplyDetail, dict[str, Any]] = {
    "figures": {"return_meta_info": True},
    "token-ids": {"return_token_ids": True, "return_prompt_token_ids": True},
    "logprobs": {"logprobs": True, "top_logprobs": 2},
    "prompt-logprobs": {"prompt_logprobs": 0},
}
"""What asks llama.cpp, vLLM and SGLang for a detail; each passes over what it does not know."""


def _details(sampler: Sampler) -> dict[str, Any]:
    return {} if sampler.details is UNSET else {key: on for one in sampler.details for key, on in _ASKED[one].items()}


class ChatModel:
    """A model behind an OpenAI-compatible endpoint.

    Args:
        base_url: up to and including `/v1`.
        fixed: what is sent with every request; see `fixed_part`.
        counters: count prompts as the server does; without them an estimate does.
        api_key: sent as the bearer token; it is taken out of every message and reply.
        timeout_s: limit of one request, until its answer is whole; of one to a server that shows its progress, since
            the last of it.
        shows_progress: it has the page `/slots`, as llama-server has.
        reuses_own: a conversation reuses what the server computed for its own earlier requests, and nothing else.
        send: sends a request when it is its turn, where others use the server, too; gets what posts it.
        sleep: waits between two tries (replaceable in tests).
    """

    def __init__(
        self,
        base_url: str,
        fixed: dict[str, Any],
        *,
        counters: Counters | None = None,
        api_key: str | None = None,
        timeout_s: float = REQUEST_LIMIT_S,
        shows_progress: bool = False,
        reuses_own: bool = False,
        send: Callable[[Callable[[], Answer]], Answer] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        from agenttrace.serving.wire import Wire, WireError  # noqa: PLC0415 - heavy

        self._error = WireError
        self._wire = Wire(api_key)
        self._key = api_key
        self._timeout_s = timeout_s
        self._progress_at = f"{base_url.removesuffix('/v1')}/slots" if shows_progress else None
        self._send = send or (lambda post: post())
        self._sleep = sleep
        self._base_url = base_url
        self._counters = counters
        self._counter: Counter = EstimatingCounter()
        self._fixed = fixed
        self._replied = threading.Event()  # shared by the copies of all traces
        self._slot = threading.Lock() if reuses_own else None  # as well
        self._tenancy: Tenancy | None = None

    def for_trace(self, trace_id: str, *, seed: int) -> Self:  # noqa: ARG002 - for models that know the conversation
        """Return the model as one trace uses it: every request carries `seed`, and its prompts are counted alone."""
        other = copy.copy(self)
        other._fixed = {**self._fixed, "seed": seed}  # noqa: SLF001 - a copy of our own
        other._counter = EstimatingCounter() if self._counters is None else self._counters.new()  # noqa: SLF001
        other._tenancy = None if self._slot is None else Tenancy(self._slot)  # noqa: SLF001
        return other

    def over(self) -> None:
        """Let the next conversation have the server's slot."""
        if self._tenancy is not None:
            self._tenancy.end()

    def count(self, messages: Messages) -> int:
        """Return the tokens of the prompt that these messages give, from the server or from above.

        Raises:
            NoReplyError: the server does not answer, although it was asked again.
            RequestRefusedError: it refuses to count this conversation.
        """
        return self._counter.count(messages)

    def complete(self, messages: Messages, *, max_tokens: int | None = None) -> Reply:
        """Return the model's reply to a conversation, of at most `max_tokens` (default: the sampler's).

        Connection failures, server errors and answers that are no reply are tried again with growing pauses (7.5 s in
        all, longer where the server names a longer one). A request that takes too long is not: it would take as long
        again.

        A conversation that reuses its own beginning holds the server's slot until it is `over`. When a try fails, or
        the server turns out to have been started anew, its earlier requests are sent again first, and must be answered
        as they were.

        Raises:
            ContextFullError: the conversation is longer than the context, or than the server takes.
            UnparsableReplyError: what the model generated could not be parsed.
            RequestRefusedError: the server refuses this request.
            NoReplyError: there was no reply in time, or in no try.
            ModelServerError: the first request of all shows that nothing at this address can be used.
        """
        failed: list[str] = []
        for delay in (*RETRY_DELAYS_S, None):
            pause = delay or 0.0
            try:
                reply, pause = self._in_turn(messages, max_tokens, failed, pause)
            except self._error as error:
                failed.append(self._shown(str(error)))
                if error.overdue:
                    what = f"no reply within the time limit: {failed[-1]}{_before(failed[:-1])}"
                    raise NoReplyError(self._without_reply(what)) from None
            else:
                if reply is not None:
                    self._replied.set()
                    self._counter.answered(messages, reply)
                    return msgspec.structs.replace(reply, failed_tries=tuple(failed)) if failed else reply
            if delay is not None:
                self._sleep(pause)
        what = f"does not answer after {len(failed)} tries ({failed[-1]}){_before(failed[:-1])}"
        raise NoReplyError(self._without_reply(what))

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()

    def _in_turn(
        self, messages: Messages, max_tokens: int | None, failed: list[str], pause: float
    ) -> tuple[Reply | None, float]:
        """Return what one try brings; the server's slot holds the conversation's own beginning before it, or nothing.

        Raises:
            NoReplyError: what was said before is not said again.
        """
        tenancy = self._tenancy
        if tenancy is None:
            return self._tried(self._body(messages, max_tokens), failed, pause)
        tenancy.begin()
        again, tenancy.doubtful = tenancy.doubtful, bool(tenancy.said)
        if again and (longer := self._say_again(tenancy, failed, pause)) is not None:
            return None, longer
        said = Said(messages=[*messages], max_tokens=max_tokens)
        try:
            reply, pause = self._tried(self._body(messages, max_tokens, reuse=bool(tenancy.said)), failed, pause)
        except UnparsableReplyError:
            tenancy.said.append(said)
            tenancy.doubtful = False
            raise
        if reply is None:
            return None, pause
        if tenancy.said and tenancy.reuses and cached(reply) == 0:
            tenancy.reuses = not again  # of some models the server never reuses anything
            if not again:
                failed.append(LOST)
                return None, 0.0
        tenancy.said.append(msgspec.structs.replace(said, gist=gist(reply), cached=cached(reply)))
        tenancy.doubtful = False
        return reply, pause

    def _say_again(self, tenancy: Tenancy, failed: list[str], pause: float) -> float | None:
        """Bring the slot to where it was after the last reply; return the pause to make where that fails."""
        for number, said in enumerate(tenancy.said):
            body = self._body(said.messages, said.max_tokens, reuse=number > 0)
            try:
                reply, pause = self._tried(body, failed, pause)
                if reply is None:
                    return pause
                if said.cached and cached(reply) == 0:
                    failed.append(LOST)
                    return 0.0
                found = gist(reply)
            except UnparsableReplyError:
                found = None
            except (ContextFullError, RequestRefusedError) as error:
                what = f"refuses what it had answered: {error}{_before(failed)}"
                raise NoReplyError(self._without_reply(what)) from None
            if found != said.gist:
                what = f"answers request {number + 1} of a conversation otherwise than before; it is begun anew"
                what += _before(failed)
                raise NoReplyError(self._without_reply(what))
        return None

    def _body(self, messages: Messages, max_tokens: int | None, *, reuse: bool | None = None) -> bytes:
        limit: dict[str, Any] = {} if max_tokens is None else {"max_tokens": max_tokens}
        if reuse is not None:
            limit["cache_prompt"] = reuse
        request = {**self._fixed, **limit, **self._fixed.get("extra_body", {}), "messages": messages}
        request.pop("extra_body", None)
        return msgspec.json.encode(request)

    def _tried(self, body: bytes, failed: list[str], pause: float) -> tuple[Reply | None, float]:
        """Return the reply of one try; else note in `failed` what came instead, and return the pause to make."""
        start_ns = started = 0

        def post() -> Answer:
            nonlocal start_ns, started
            start_ns, started = time.time_ns(), time.monotonic_ns()
            return self._wire.post(
                f"{self._base_url}/chat/completions", body, within_s=self._timeout_s, progress_at=self._progress_at
            )

        answer = self._send(post)
        elapsed_ns = time.monotonic_ns() - started
        end_ns = start_ns + elapsed_ns  # the wall clock may be set meanwhile
        try:
            if answer.status >= _REDIRECTED:
                raise refusal(answer.status, answer.body)
            reply = read_reply(answer.body, key=self._key, start_ns=start_ns, end_ns=end_ns, elapsed_ns=elapsed_ns)
        except AnswerError as error:
            failed.append(self._sort(error, _before(failed)))
            return None, max(pause, asked_pause(answer))
        return reply, 0.0

    def _sort(self, error: AnswerError, before: str) -> str:
        """Return what an answer says that may be another one next time; raise what will not."""
        status, shown = error.status, self._shown(error.said)
        text = f"HTTP {status}: {shown}"
        said = error.said if error.is_error else ""
        if status == _TOO_LARGE or (status not in _NOT_OF_LENGTH and _CONTEXT_FULL.search(said)):
            raise ContextFullError(text + before) from None
        if (status == _SERVER_ERROR and _UNPARSABLE.search(said)) or _CALL_FAILED in said:
            raise UnparsableReplyError(text + before) from None
        if status in _NO_SERVER and not self._replied.is_set():
            raise ModelServerError(f"the model server at {self._base_url} refuses the first request: {text}") from None
        if not passing(status):
            raise RequestRefusedError(text + before) from None
        return text

    def _without_reply(self, what: str) -> str:
        return f"the model server at {self._base_url}: {what}"

    def _shown(self, text: str) -> str:
        """Return a server's words for a message: without the key, and not all of too many."""
        said = scrubbed(text, self._key)
        return said if len(said) <= _SHOWN_CHARS else f"{said[:_SHOWN_CHARS]}…"


def _before(failed: list[str]) -> str:
    """Return what came of the tries before the last one, for its message: the same words once, with how often."""
    counted = {what: failed.count(what) for what in failed}
    shown = "; ".join(f"{what} ({times} times)" if times > 1 else what for what, times in counted.items())
    return f" (before that: {shown})" if failed else ""


def asked_pause(answer: Answer) -> float:
    """Return the pause that a server asks for in `Retry-After`, in seconds; dates and nonsense count as none."""
    text = answer.headers.get("retry-after")
    return min(float(text), _LONGEST_PAUSE_S) if text and text.isascii() and text.isdigit() else 0.0
