"""Holds one conversation of given lengths with a model server and prints what the server says of each reply, as JSON.

Runs inside the collector's image, as text: `python -c TEXT HOST:PORT PLAN`. Prompts are token ids, so that their
lengths are exact; each is the one before and some more, as where earlier thinking is not sent back.
"""

from __future__ import annotations

import http.client
import json
import random
import sys
import time
from typing import Any

_LOADING = 503


def main() -> None:
    """Wait for the model, hold the conversation, print the timings of its replies and the fastest short requests."""
    host, _, port = sys.argv[1].partition(":")
    plan = json.loads(sys.argv[2])
    connection = http.client.HTTPConnection(host, int(port), timeout=3600)
    while ask(connection, {"prompt": [1, 2, 3], "n_predict": 4, "cache_prompt": False}) is None:
        time.sleep(0.1)
    drawn = random.Random(plan["seed"])  # noqa: S311 - no secret
    ids = [drawn.randrange(plan["tokens"]) for _ in range(plan["lengths"][-1])]
    sampler = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0, "seed": plan["seed"]}
    replies = []
    for number, length in enumerate(plan["lengths"]):
        body = {"prompt": ids[:length], "n_predict": plan["reply"], "ignore_eos": True, **sampler}
        replies.append(ask(connection, {**body, "cache_prompt": plan["reuse"] and number > 0}))
    # So short that some meet no other work; the conversation is in the slot until a fresh prompt takes its place.
    more = {"prompt": ids, "n_predict": 8, "ignore_eos": True, **sampler, "cache_prompt": True}
    again = [ask(connection, more) for _ in range(plan["bursts"])]
    fresh = [
        ask(connection, {"prompt": ids[number : number + 128], "n_predict": 1, "cache_prompt": False})
        for number in range(plan["bursts"] // 2)
    ]
    generation = max(one["predicted_per_second"] for one in again if one)
    prompt = max(one["prompt_per_second"] for one in fresh if one)
    sys.stdout.write(json.dumps({"replies": replies, "prompt": prompt, "generation": generation}) + "\n")


def ask(connection: http.client.HTTPConnection, body: dict[str, Any]) -> dict[str, float] | None:
    """Return the timings of one reply; `None` while the server loads the model."""
    try:
        connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
    except OSError:  # it does not listen yet
        connection.close()
        return None
    if answer.status == _LOADING:
        return None
    found: dict[str, float] = json.loads(text)["timings"]
    return found


if __name__ == "__main__":
    main()
