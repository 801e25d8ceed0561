"""What a server says of its own work in a reply: a function of the reply, whatever stands there.

Sources: llama.cpp `tools/server` (`timings`), vLLM `docs/features/per_request_metrics.md` (`metrics`), SGLang
`req_time_stats.py` and `tokenizer_manager.py` (`meta_info`, seconds), the OpenAI API (`usage`).
"""

from __future__ import annotations

from typing import Any

from agenttrace.records import Timings, Tokens

_MOST_TOKENS, _MOST = 1 << 40, 1e12
_MOST_LISTED = 1 << 18
"""Tokens of a prompt or a reply; longer lists are not kept."""
_ROUNDED_UP = 1e-3
"""What a logarithm of 1 may be where it was computed in few digits."""
_MOST_ID = 1 << 31
_NATIVE = "output_token_logprobs"
_Figures = dict[str, "float | None"]


def count(value: object) -> int | None:
    """Return a number of tokens, also where it is written `12.0`; what no context holds counts as not reported."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS else None


def timings(answer: dict[str, Any], choice: dict[str, Any]) -> Timings | None:
    """Return what a server reports of a generation; `None` where it reports nothing that is a figure.

    Args:
        answer: the whole answer.
        choice: its choice.
    """
    found = {
        "timings": _llama_cpp(_object(answer.get("timings"))),
        "metrics": _vllm(_object(answer.get("metrics"))),
        "meta_info": _sglang(_object(choice.get("meta_info"))),
        "usage": _usage(_object(answer.get("usage"))),
    }
    figures: dict[str, Any] = {}
    sources: list[str] = []
    for source, said in found.items():
        new = {name: value for name, value in said.items() if value is not None and name not in figures}
        if new:
            figures |= new
            sources.append(source)
    return Timings(**figures, sources=tuple(sources)) if figures else None


def _llama_cpp(row: dict[str, Any]) -> _Figures:
    return {
        "prompt_n": count(row.get("prompt_n")),
        "prompt_ms": _amount(row.get("prompt_ms")),
        "predicted_n": count(row.get("predicted_n")),
        "predicted_ms": _amount(row.get("predicted_ms")),
        "cached_n": count(row.get("cache_n")),
    }


def _vllm(row: dict[str, Any]) -> _Figures:
    return {
        "predicted_ms": _amount(row.get("generation_time_ms")),
        "queue_ms": _amount(row.get("queue_time_ms")),
        "first_token_ms": _amount(row.get("time_to_first_token_ms")),
        "mean_itl_ms": _amount(row.get("mean_itl_ms")),
        "tokens_per_second": _amount(row.get("tokens_per_second")),
    }


def _sglang(row: dict[str, Any]) -> _Figures:
    return {
        "cached_n": count(row.get("cached_tokens")),
        "queue_ms": _amount(row.get("queue_time"), 1e3),
        "decode_tokens_per_second": _amount(row.get("decode_throughput")),
        "server_ms": _amount(row.get("e2e_latency"), 1e3),
    }


def _usage(row: dict[str, Any]) -> _Figures:
    read, written = _object(row.get("prompt_tokens_details")), _object(row.get("completion_tokens_details"))
    reasoning = count(written.get("reasoning_tokens"))
    return {
        "cached_n": count(read.get("cached_tokens")),
        "reasoning_n": count(row.get("reasoning_tokens")) if reasoning is None else reasoning,
    }


def reply_tokens(answer: dict[str, Any], choice: dict[str, Any]) -> Tokens | None:
    """Return token ids and log-probabilities that an answer has; `None` where it has none.

    llama.cpp says the ids of a reply beside their log-probabilities; vLLM has `token_ids`, `prompt_token_ids` and
    `prompt_logprobs`, SGLang the first two of these in the choice and `output_token_logprobs` in `meta_info`.
    """
    content = _list(_object(choice.get("logprobs")).get("content"))
    rows = [_object(row) for row in content or ()]
    native = [
        row if isinstance(row, list) else [] for row in _list(_object(choice.get("meta_info")).get(_NATIVE)) or ()
    ]
    output = _ids(choice.get("token_ids")) or _ids([row.get("id") for row in rows])
    logprobs = tuple(_logprob(row.get("logprob")) for row in rows)
    if native and not rows:
        output = output or _ids([one[1] if len(one) > 1 else None for one in native])
        logprobs = tuple(_logprob(one[0] if one else None) for one in native)
    margins = tuple(map(_margin, rows))
    if output is not None and len(output) != len(logprobs):  # nobody knows which is whose
        logprobs = margins = ()
    prompt = _ids(answer.get("prompt_token_ids")) or _ids(choice.get("prompt_token_ids"))
    found = Tokens(
        prompt_ids=prompt,
        prompt_logprobs=_of_prompt(answer.get("prompt_logprobs"), prompt),
        output_ids=output,
        output_logprobs=_known(logprobs),
        margins=_known(margins),
    )
    return None if found == Tokens() else found


def _ids(value: object) -> tuple[int, ...] | None:
    """Return a list of token ids; anything else in it, and none is known."""
    listed = _list(value)
    ids = tuple(
        one for one in listed or () if isinstance(one, int) and not isinstance(one, bool) and 0 <= one < _MOST_ID
    )
    return ids if ids and len(ids) == len(listed or ()) else None


def _of_prompt(value: object, prompt: tuple[int, ...] | None) -> tuple[float | None, ...] | None:
    """Return the log-probabilities of a prompt's own tokens among those of its candidates."""
    listed = _list(value)
    if listed is None or (prompt is not None and len(prompt) != len(listed)):
        return None
    found = []
    for place, row in enumerate(map(_object, listed)):
        one = row.get(str(prompt[place])) if prompt else next(iter(row.values()), None) if len(row) == 1 else None
        found.append(_logprob(_object(one).get("logprob")))
    return _known(tuple(found))


def _margin(row: dict[str, Any]) -> float | None:
    """Return by how much a token's log-probability exceeds that of the likeliest other candidate."""
    others = [
        _logprob(one.get("logprob"))
        for one in map(_object, _list(row.get("top_logprobs")) or ())
        if any(one.get(name) != row.get(name) for name in ("id", "token", "bytes"))
    ]
    best, own = max((one for one in others if one is not None), default=None), _logprob(row.get("logprob"))
    return None if own is None or best is None else float(f"{own - best:.9g}")


def _logprob(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -_MOST < value <= _ROUNDED_UP:
        return None
    return float(f"{value:.9g}")


def _known(values: tuple[float | None, ...]) -> tuple[float | None, ...] | None:
    return None if all(one is None for one in values) else values


def _list(value: object) -> list[Any] | None:
    return value if isinstance(value, list) and len(value) <= _MOST_LISTED else None


def _amount(value: object, scale: float = 1.0) -> float | None:
    """Return a duration or a rate; one that no request has counts as not reported."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if scale == 1.0 and 0 <= value < _MOST else value * scale if 0 <= value < _MOST / scale else None


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
