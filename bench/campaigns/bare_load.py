"""A bare load generator: sends the requests of a campaign once more, with nothing between two of them.

Runs inside the collector's image, as text: `python -c TEXT CASSETTE HOST:PORT CLIENTS`. The requests are those of the
cassette; the prompt token counts must be the recorded ones, or it was not the same load. Prints one JSON object.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import sys
import threading
import time
from pathlib import Path
from typing import Any

from agenttrace.serving.cassette import Cassette, Exchange


def body(turn: Exchange) -> bytes:
    """Return a request as it went over the wire."""
    fixed = dict(turn.fixed)
    extra: dict[str, Any] = fixed.pop("extra_body", {})
    return json.dumps({**fixed, **extra, "messages": list(turn.messages)}).encode()


def send(todo: queue.SimpleQueue[list[tuple[bytes, int | None]]], address: str, sums: dict[str, float]) -> None:
    """Send conversations until none is left; adds what the server reports to `sums`."""
    host, _, port = address.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=600)
    found = dict.fromkeys(sums, 0.0)
    while True:
        try:
            bodies = todo.get_nowait()
        except queue.Empty:
            break
        for body, tokens in bodies:
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())
            timings = answer["timings"]
            found["requests"] += 1
            found["slot_ms"] += timings["prompt_ms"] + timings["predicted_ms"]
            found["tokens"] += answer["usage"]["completion_tokens"]
            found["other_prompts"] += tokens is not None and answer["usage"]["prompt_tokens"] != tokens
    with _LOCK:
        for name, value in found.items():
            sums[name] += value


def await_ready(address: str) -> None:
    """Return when the server has loaded its model; it answers 503 until then, or not at all.

    Raises:
        TimeoutError: it has not after five minutes.
    """
    host, _, port = address.partition(":")
    end = time.monotonic() + _LOADS_S
    while time.monotonic() < end:
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/health")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        time.sleep(0.1)
    raise TimeoutError(f"no model is loaded at {address}")


_LOCK = threading.Lock()
_LOADS_S = 300.0


def main() -> None:
    """Read the requests, send them, print the sums and the time from the first request to the last reply."""
    file, address, clients = sys.argv[1:4]
    todo: queue.SimpleQueue[list[tuple[bytes, int | None]]] = queue.SimpleQueue()
    cassette = Cassette(Path(file))
    for trace in cassette.trace_ids:
        replied = (turn for turn in cassette.turns(trace) if turn.kind == "reply")
        todo.put([(body(turn), turn.result["input_tokens"]) for turn in replied])
    await_ready(address)
    sums = dict.fromkeys(("requests", "slot_ms", "tokens", "other_prompts"), 0.0)
    threads = [threading.Thread(target=send, args=(todo, address, sums)) for _ in range(int(clients))]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.stdout.write(json.dumps({**sums, "elapsed_s": time.monotonic() - start}) + "\n")


if __name__ == "__main__":
    main()
