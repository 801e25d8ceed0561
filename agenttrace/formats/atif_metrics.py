"""The `metrics` of the steps of a trajectory: counts of tokens, and where they are known their ids, prompts whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from agenttrace.formats.conversation import without_none
from agenttrace.formats.foreign import fitting
from agenttrace.records import Tokens, prompt_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agenttrace.records import LLMStep


class Metrics(msgspec.Struct):
    """What the metrics of a step say."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: Any = None
    cost_usd: Any = None
    prompt_token_ids: Any = None
    completion_token_ids: Any = None
    logprobs: Any = None


def metrics_of(steps: Sequence[LLMStep]) -> dict[str, dict[str, Any]]:
    """Return the metrics of each step, by its id."""
    return {step.step_id: _metrics(step, prompt) for step, prompt in zip(steps, prompt_ids(steps), strict=True)}


def _metrics(step: LLMStep, prompt: tuple[int, ...] | None) -> dict[str, Any]:
    tokens = step.tokens or Tokens()
    return without_none(
        {
            "prompt_tokens": step.input_tokens,
            "completion_tokens": step.output_tokens,
            "cached_tokens": step.timings.cached_n if step.timings else None,
            "prompt_token_ids": prompt,
            "completion_token_ids": tokens.output_ids,
            "logprobs": None if None in (tokens.output_logprobs or ()) else tokens.output_logprobs,
        }
    )


def left_of_tokens(tokens: dict[str, Any]) -> dict[str, Any]:
    """Return what of a step's tokens has no field in a trajectory."""
    named = {"prompt_ids", "output_ids", *([] if None in (tokens["output_logprobs"] or ()) else ["output_logprobs"])}
    return {name: value for name, value in tokens.items() if name not in named}


def tokens_of(metrics: Metrics, kept: dict[str, Any] | None = None) -> Tokens | UnsetType:
    """Return the tokens that a step's metrics have, with what `left_of_tokens` kept of them."""
    rest = kept or {}
    prompt = fitting(metrics.prompt_token_ids, tuple[int, ...])
    found = {
        "output_ids": fitting(metrics.completion_token_ids, tuple[int, ...]),
        "output_logprobs": fitting(metrics.logprobs, tuple[float, ...]),
        **rest,
        "prompt_ids": None if prompt is None else prompt[rest.get("prompt_shared", 0) :],
    }
    tokens = msgspec.convert(found, Tokens)
    return UNSET if tokens == Tokens() and kept is None else tokens
