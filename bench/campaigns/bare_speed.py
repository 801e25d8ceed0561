"""Asks a model server for a few replies and prints its rates, tokens per second, as one JSON object.

Runs inside the collector's image, as text: `python -c TEXT HOST:PORT`. Every prompt begins with another word, so
nothing is reused; the median of three counts.
"""

from __future__ import annotations

import http.client
import json
import statistics
import sys


def main() -> None:
    """Send the requests, print the rates."""
    host, _, port = sys.argv[1].partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=300)
    found: dict[str, list[float]] = {"prompt": [], "generation": []}
    for number in range(4):
        text = f"{number} " + " ".join(f"file{one} has {one * 7} lines." for one in range(60))
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": 48, "temperature": 0, "ignore_eos": True}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        timings = json.loads(connection.getresponse().read())["timings"]
        if number:  # the first warms up
            found["prompt"].append(timings["prompt_per_second"])
            found["generation"].append(timings["predicted_per_second"])
    sys.stdout.write(json.dumps({name: statistics.median(rates) for name, rates in found.items()}) + "\n")


if __name__ == "__main__":
    main()
