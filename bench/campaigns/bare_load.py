"""A bare load generator: sends the requests of a record file once more, with nothing between two of them.

Runs inside the collector's image, as text: `python -c TEXT RECORDS SPEC HOST:PORT CLIENTS`. The conversations are
rebuilt from the records; the prompt token counts must be the recorded ones, or it was not the same load. Prints one
JSON object.
"""

from __future__ import annotations

import http.client
import json
import queue
import sys
import threading
import time
from pathlib import Path
from typing import Any


def conversation(trace: dict[str, Any], spec: dict[str, Any]) -> list[tuple[bytes, int | None]]:
    """Return the bodies of a trace's requests, each with the recorded number of prompt tokens.

    Only for runs without format errors: every reply was followed by its calls' outputs.
    """
    sampler, agent = spec["sampler"], spec["agent"]
    fixed = {
        "model": spec["model"]["name"], "tools": agent["tools"], "tool_choice": agent["tool_choice"],
        "temperature": sampler["temperature"], "top_p": sampler["top_p"], "top_k": sampler["top_k"],
        "min_p": sampler["min_p"], "max_tokens": sampler["max_tokens"], "seed": trace["metadata"]["seed"],
        "cache_prompt": spec["serving"]["cache_prompt"],
    }  # fmt: skip
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": agent["system_prompt"]},
        {"role": "user", "content": trace["prompt"]},
    ]
    outputs = {span["call_id"]: span["tool_output"] for span in trace["spans"]}
    bodies = []
    for step in trace["llm_steps"]:
        bodies.append((json.dumps({**fixed, "messages": messages}).encode(), step["input_tokens"]))
        calls = step["tool_calls"] or ()
        functions = [
            {
                "id": call["call_id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": call["arguments"]},
            }
            for call in calls
        ]
        messages.append({"role": "assistant", "content": step["model_output"] or "", "tool_calls": functions})
        messages += [
            {"role": "tool", "tool_call_id": call["call_id"], "content": outputs[call["call_id"]]} for call in calls
        ]
    return bodies


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


_LOCK = threading.Lock()


def main() -> None:
    """Read the records, send their requests, print the sums and the time from the first request to the last reply."""
    records, spec_file, address, clients = sys.argv[1:5]
    spec = json.loads(Path(spec_file).read_bytes())
    todo: queue.SimpleQueue[list[tuple[bytes, int | None]]] = queue.SimpleQueue()
    with Path(records).open("rb") as lines:
        for line in lines:
            todo.put(conversation(json.loads(line), spec))
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
