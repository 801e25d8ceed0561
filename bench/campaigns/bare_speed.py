"""Asks a model server for a few replies and prints its rates, tokens per second, as one JSON object.

Runs inside the collector's image, as text: `python -c TEXT HOST:PORT`. Every prompt begins with another word, so
nothing is reused; the median of two counts.
"""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import time
from typing import Any

LOADING = 503


def asked(connection: http.client.HTTPConnection, body: dict[str, Any]) -> dict[str, Any]:
    """Return what the server answers."""
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer: dict[str, Any] = json.loads(connection.getresponse().read())
    return answer


def main() -> None:
    """Send the requests, print the rates."""
    host, _, port = sys.argv[1].partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=300)
    found: dict[str, list[float]] = {"prompt": [], "generation": []}
    for number in range(3):
        text = f"{number} " + " ".join(f"file{one} has {one * 7} lines." for one in range(60))
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": 16, "temperature": 0, "ignore_eos": True}
        answer = asked(connection, body)
        while answer.get("error", {}).get("code") == LOADING:
            time.sleep(0.2)
            answer = asked(connection, body)
        if "timings" not in answer:
            sys.exit(f"the server answered {json.dumps(answer)[:500]}")
        timings = answer["timings"]
        if number:  # the first warms up
            found["prompt"].append(timings["prompt_per_second"])
            found["generation"].append(timings["predicted_per_second"])
    sys.stdout.write(json.dumps({name: statistics.median(rates) for name, rates in found.items()}) + "\n")


if __name__ == "__main__":
    main()
