"""One generation of the model as a record has it: what it said, what the server says of its work, its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import UNSET, UnsetType

from agenttrace.records.base import MEASURED, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class ToolCall(Record, frozen=True, kw_only=True):
    """A tool call as the model proposed it.

    Attributes:
        call_id: `call_STEP_INDEX`; the server's random id is not kept.
        name: tool name as generated.
        arguments: argument text as generated; it need not be valid JSON.
    """

    call_id: str
    name: str
    arguments: str


class Timings(Record, frozen=True, kw_only=True):
    """What the server reports of one generation: token counts and milliseconds; nothing of it is computed here.

    `None` is "not reported"; the fields of 1.2.0 are absent then. Servers measure what has one name elsewhere between
    other instants, so each field says whose it is: `timings` are llama.cpp's, `metrics` vLLM's
    (`--enable-per-request-metrics`), `meta_info` SGLang's (it is asked for), `usage` anybody's.

    Attributes:
        prompt_n: prompt tokens that were computed (`timings`).
        prompt_ms: prefill: from the start of that work to the first token (`timings`).
        predicted_n: tokens that were generated (`timings`).
        predicted_ms: decode: from the first token to the last (`timings`; `metrics.generation_time_ms`).
        cached_n: prompt tokens taken from the server's cache (`timings.cache_n`, else `meta_info.cached_tokens`, else
            `usage.prompt_tokens_details.cached_tokens`).
        queue_ms: from the arrival in the server's queue to the start of the work (`metrics.queue_time_ms`;
            `meta_info.queue_time`). llama.cpp does not say it: what `duration_ms` has beyond `prompt_ms` and
            `predicted_ms` is no more than a bound, as connection, template and parsing are in it (since 1.2.0).
        first_token_ms: from that start to the first token (`metrics.time_to_first_token_ms`): the queue is not in it,
            the prefill is (since 1.2.0).
        mean_itl_ms: mean time between two tokens (`metrics.mean_itl_ms`; since 1.2.0).
        tokens_per_second: generated tokens over the time from the start of the work to the last token
            (`metrics.tokens_per_second`; since 1.2.0).
        decode_tokens_per_second: generated tokens after the first over the time since the first
            (`meta_info.decode_throughput`; since 1.2.0).
        server_ms: from the request's arrival to the end of the generation (`meta_info.e2e_latency`; since 1.2.0).
        reasoning_n: generated tokens that are reasoning (`usage.completion_tokens_details.reasoning_tokens`, SGLang's
            `usage.reasoning_tokens`; since 1.2.0).
        sources: the parts of the reply that anything here is from, by the names above; where two say the same, the one
            that is named first (since 1.2.0).
    """

    prompt_n: int | None = None
    prompt_ms: Annotated[float | None, MEASURED] = None
    predicted_n: int | None = None
    predicted_ms: Annotated[float | None, MEASURED] = None
    cached_n: int | None = None
    queue_ms: Annotated[float | UnsetType | None, MEASURED] = UNSET
    first_token_ms: Annotated[float | UnsetType | None, MEASURED] = UNSET
    mean_itl_ms: Annotated[float | UnsetType | None, MEASURED] = UNSET
    tokens_per_second: Annotated[float | UnsetType | None, MEASURED] = UNSET
    decode_tokens_per_second: Annotated[float | UnsetType | None, MEASURED] = UNSET
    server_ms: Annotated[float | UnsetType | None, MEASURED] = UNSET
    reasoning_n: Annotated[int | UnsetType | None, MEASURED] = UNSET
    sources: Annotated[tuple[str, ...] | UnsetType | None, MEASURED] = UNSET


class Tokens(Record, frozen=True, kw_only=True):
    """Token ids and log-probabilities of a generation, as the server says them; asked for with `--reply-details`.

    A prompt repeats the one before it, so only what is new of it stands here: `prompt_ids` gives it whole. Of texts
    that are cut into tokens again, neither need come out. `None` is "not reported". Log-probabilities are natural, with
    nine significant digits: each single-precision number has its own.

    Attributes:
        prompt_shared: tokens at the beginning of the prompt that are those of the step before: its prompt, then its
            reply.
        prompt_ids: the other tokens of the prompt.
        prompt_logprobs: their log-probabilities; of the first token of a prompt there is none.
        output_ids: tokens of the reply, those of its end included where the server counts them.
        output_logprobs: their log-probabilities.
        margins: for each of these, that minus the log-probability of the likeliest other token: at 0 the reply could
            as well have been another, and below it another one was likelier.
    """

    prompt_shared: int = 0
    prompt_ids: tuple[int, ...] | None = None
    prompt_logprobs: tuple[float | None, ...] | None = None
    output_ids: tuple[int, ...] | None = None
    output_logprobs: tuple[float | None, ...] | None = None
    margins: tuple[float | None, ...] | None = None


class LLMStep(Record, frozen=True, kw_only=True):
    """One model generation.

    Attributes:
        step_id: UUIDv5 of the trace id and the step number.
        step_number: 1, 2, ...
        model_output: visible content; `None` when the reply had none.
        reasoning_content: thinking text; `None` when the reply had none.
        tool_calls: proposed calls in order; `None` when there were none.
        duration_ms: monotonic time of the request, milliseconds; `None` only in records read from a format that
            does not say.
        input_tokens: prompt tokens as the server counted them.
        output_tokens: generated tokens as the server counted them.
        start_ns: wall clock when the request was sent, nanoseconds since the Unix epoch; `None` as above.
        end_ns: wall clock when the reply was complete; `None` as above.
        finish_reason: `stop`, `tool_calls` or `length`, as the server says; `unparsable` when the server could not
            parse what the model generated (text and token counts are then unknown).
        timings: the server's own measurement.
        counted_tokens: prompt tokens as counted before the request was sent (since 1.1.0).
        blocks: bash blocks in the reply; exactly one is a call (since 1.1.0).
        answered: the message that answered a reply without a call; `None` when nothing did (since 1.1.0).
        failed_tries: what came instead of a reply before this one did, or why it is `unparsable`: a line for each try,
            in the server's words; absent where the first try succeeded (since 1.1.0).
        tokens: token ids and log-probabilities, where they were asked for (since 1.2.0).
        ignored_calls: `NAME: ARGUMENTS` of each structured call in a reply to an agent that reads none (since 1.1.0).
    """

    step_id: str
    step_number: int
    model_output: str | None
    reasoning_content: str | None
    tool_calls: tuple[ToolCall, ...] | None
    duration_ms: Annotated[float | None, MEASURED]
    input_tokens: int | None
    output_tokens: int | None
    start_ns: Annotated[int | None, MEASURED]
    end_ns: Annotated[int | None, MEASURED]
    finish_reason: str | None = None
    timings: Timings | None = None
    counted_tokens: int | UnsetType | None = UNSET
    blocks: int | UnsetType | None = UNSET
    answered: str | UnsetType | None = UNSET
    failed_tries: Annotated[tuple[str, ...] | UnsetType | None, MEASURED] = UNSET
    ignored_calls: tuple[str, ...] | UnsetType | None = UNSET
    tokens: Tokens | UnsetType | None = UNSET


def prompt_ids(steps: Iterable[LLMStep]) -> Iterator[tuple[int, ...] | None]:
    """Yield the token ids of the whole prompt of each step; `None` where they are not known."""
    before: tuple[int, ...] = ()
    for step in steps:
        tokens = step.tokens
        if not tokens or tokens.prompt_ids is None or tokens.prompt_shared > len(before):
            before = () if tokens else before  # a reply that nobody could read leaves what was before it
            yield None
            continue
        whole = (*before[: tokens.prompt_shared], *tokens.prompt_ids)
        before = (*whole, *(tokens.output_ids or ()))
        yield whole


def without_shared(tokens: Tokens, before: tuple[int, ...]) -> tuple[Tokens, tuple[int, ...]]:
    """Return the tokens of a step without what its prompt has of the step before, and what the next one may share.

    Args:
        tokens: of a step, with the whole of its prompt.
        before: what the step before left: its prompt, then its reply; empty for the first.
    """
    whole = tokens.prompt_ids
    if whole is None:
        return tokens, ()
    ends = (place for place, (one, other) in enumerate(zip(whole, before, strict=False)) if one != other)
    shared = next(ends, min(len(whole), len(before)))
    logprobs = tokens.prompt_logprobs and tokens.prompt_logprobs[shared:]
    rest = msgspec.structs.replace(tokens, prompt_shared=shared, prompt_ids=whole[shared:], prompt_logprobs=logprobs)
    return rest, (*whole, *(tokens.output_ids or ()))
