"""Is the count of a prompt what the server counts? Random conversations at the edge of their budgets, many of them.

Runs inside the image of the collector, as text: `python -c TEXT --model NAME`. Prints what came of it; status 1 when a
count was wrong.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from agenttrace.errors import AgentTraceError
from agenttrace.records import Record, Sampler
from agenttrace.serving.budget import RESERVE_TOKENS, Counters
from agenttrace.serving.chat import ChatModel, fixed_part
from agenttrace.serving.endpoint import wait_until_ready
from agenttrace.serving.model import ContextFullError, RequestRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SCRIPTS: dict[str, tuple[int, int]] = {
    "Latin": (0x41, 0x7A), "Latin extended": (0xC0, 0x24F), "Greek": (0x391, 0x3C9), "Cyrillic": (0x410, 0x44F),
    "Armenian": (0x531, 0x586), "Hebrew": (0x5D0, 0x5EA), "Arabic": (0x621, 0x64A), "Syriac": (0x710, 0x72F),
    "Devanagari": (0x905, 0x939), "Bengali": (0x985, 0x9B9), "Tamil": (0xB85, 0xBB9), "Thai": (0xE01, 0xE2E),
    "Tibetan": (0xF40, 0xF69), "Georgian": (0x10D0, 0x10F0), "Ethiopic": (0x1200, 0x1248), "Khmer": (0x1780, 0x17A2),
    "Mongolian": (0x1820, 0x1842), "Hiragana": (0x3041, 0x3096), "Han": (0x4E00, 0x9FA5), "Hangul": (0xAC00, 0xD7A3),
}  # fmt: skip
_EMOJI = ("😀", "👩‍👩‍👧‍👦", "🏴‍☠️", "🇫🇷", "👍🏽", "✈️", "1️⃣", "🫠")
_ODD = (
    *(
        "\x00",
        "\x1b[31m",
        "\x7f",
        "\ufeff",
        "\u200b",
        "\u202e",
        "\ufffd",
        "\U0010ffff",
        "\r\n",
        "\t\t",
        "   ",
        "\n\n\n",
    ),
    *("<|im_start|>", "<|im_end|>", "<think>", "</think>", "<s>", "{{ x }}", "```bash\nls\n```", "\\xff\\xfe\\x00"),
)
_WORDS = ("def", "return", "self.", "import os", "0x7fff", "==", "grep -rn", "/usr/bin", "TODO", "\\u00e9")
EDGES = (1, 2, 3, 8, 24)
"""Tokens between a prompt and the end of its budget."""


class Outcome(Record, frozen=True, kw_only=True):
    """What a number of requests showed.

    Attributes:
        route: how prompts were counted.
        requests: sent.
        largest_prompt: tokens of it.
        exact: prompts that the server counted as we did.
        over_budget: requests whose prompt and reply passed the budget.
        refused: requests that the server refused for their length.
    """

    route: str
    requests: int
    largest_prompt: int
    exact: int
    over_budget: int
    refused: int

    @property
    def passed(self) -> bool:
        """Whether nothing was over budget and nothing refused, and an exact route was exact."""
        return not self.over_budget and not self.refused and (self.route == "estimate" or self.exact == self.requests)


def text(rng: random.Random, chars: int) -> str:
    """Return random text: a script or a mixture, emoji, what looks like binary data, special tokens of templates."""
    names = rng.sample(list(SCRIPTS), rng.choice((1, 1, 1, 3)))
    parts: list[str] = []
    size = 0
    while size < chars:
        kind = rng.random()
        if kind < 0.7:  # noqa: PLR2004 - shares of the mixture
            first, last = SCRIPTS[rng.choice(names)]
            part = "".join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, 12))) + " "
        elif kind < 0.8:  # noqa: PLR2004
            part = rng.choice(_WORDS) + " "
        elif kind < 0.87:  # noqa: PLR2004
            part = "".join(rng.choices(_EMOJI, k=rng.randint(1, 4)))
        elif kind < 0.94:  # noqa: PLR2004
            part = rng.choice(_ODD)
        else:
            part = rng.randbytes(rng.randint(1, 40)).decode("utf-8", "backslashreplace")
        parts.append(part)
        size += len(part)
    return "".join(parts)


def conversation(rng: random.Random, chars: int) -> list[dict[str, Any]]:
    """Return a conversation of the bash-block agent's form with about so many characters; a user's message is last."""
    turns = rng.randint(0, 3)
    share = max(1, chars // (2 * turns + 2))
    roles = ["system", "user", *["assistant", "user"] * turns]
    return [{"role": role, "content": text(rng, rng.randint(0, 2 * share))} for role in roles]


class _Tally:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests = self.largest_prompt = self.exact = self.over_budget = self.refused = 0

    def add(self, counted: int, used: tuple[int, int] | None, total: int) -> None:
        with self._lock:
            self.requests += 1
            self.largest_prompt = max(self.largest_prompt, counted)
            if used is None:
                self.refused += 1
            else:
                self.exact += used[0] == counted
                self.over_budget += sum(used) > total


def check(
    base_url: str,
    *,
    model: str,
    requests: int,
    context: int,
    seed: int,
    workers: int = 4,
    edges: Sequence[int] = EDGES,
    report: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Return what `requests` random requests show; each asks for every token that its budget leaves.

    Args:
        base_url: the server, up to and including `/v1`.
        model: name under which it knows the model.
        requests: how many.
        context: tokens that the server has room for; a tenth of the prompts comes as near to it as can be.
        seed: of the texts.
        workers: requests at a time.
        edges: tokens that a budget leaves, drawn for each request.
        report: gets a line of progress now and then.

    Raises:
        ModelServerError: nothing can be had from the server.
    """
    sampler = Sampler(name="fuzz", temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, seed=seed, max_tokens=1)
    counters = Counters(base_url, model=model)
    models = ChatModel(base_url, fixed_part(model=model, sampler=sampler), counters=counters)
    tally = _Tally()

    def one(number: int) -> None:
        rng = random.Random(f"{seed}-{number}")  # noqa: S311 - to be repeated
        chat = models.for_trace(str(number), seed=seed)
        messages, counted = _fitting(rng, chat, context)
        room = min(rng.choice(edges), context - RESERVE_TOKENS - counted)
        total = counted + RESERVE_TOKENS + room
        try:
            reply = chat.complete(messages, max_tokens=room)
        except (ContextFullError, RequestRefusedError):
            tally.add(counted, None, total)
        else:
            tally.add(counted, (reply.input_tokens or 0, reply.output_tokens or 0), total)
        if tally.requests % 1000 == 0:
            report(f"{tally.requests} requests, {tally.over_budget} over budget, {tally.refused} refused")

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, range(requests)))
    counters.close()
    models.close()
    return Outcome(route=counters.route, **{k: v for k, v in vars(tally).items() if not k.startswith("_")})


def _fitting(rng: random.Random, chat: ChatModel, context: int) -> tuple[list[dict[str, Any]], int]:
    """Return a conversation that leaves a token of room at least, and its count."""
    chars = rng.choice((20, 100, 400))
    most = context - RESERVE_TOKENS - 1
    messages = conversation(rng, chars)
    counted = chat.count(messages)
    if rng.random() < 0.1:  # noqa: PLR2004 - fill the context
        while counted < most:
            messages[-1]["content"] += text(rng, max(1, (most - counted) // 3))
            counted = chat.count(messages)
    while counted > most:
        longest = max(messages, key=lambda message: len(message["content"]))
        longest["content"] = longest["content"][: -max(1, len(longest["content"]) // 16)]
        counted = chat.count(messages)
    return messages, counted


def main() -> int:
    """Compare counts on random conversations, print what came of it and return the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--base-url", default="http://server:8080/v1")
    parser.add_argument("--model", required=True)
    for name, default in (("requests", 200), ("context", 1024), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    try:
        wait_until_ready(arguments.base_url, timeout_s=120.0)
        outcome = check(**vars(arguments), report=lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201
    except AgentTraceError as error:
        print(f"agenttrace: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    print(  # noqa: T201 - the session's result
        f"counted by {outcome.route}: {outcome.requests} requests, largest prompt {outcome.largest_prompt} tokens, "
        f"{outcome.exact} counted exactly, {outcome.over_budget} over budget, {outcome.refused} refused for length"
    )
    return 0 if outcome.passed else 1


if __name__ == "__main__":
    sys.exit(main())
