"""The requests of records as a workload: Mooncake's trace of requests, and AIPerf's sessions.

Sources: kvcache-ai/Mooncake, `FAST25-release/traces` (a line a request: `timestamp` in ms, `input_length`,
`output_length`, `hash_ids` of blocks of 512 tokens, equal where the prompts before them are); ai-dynamo/aiperf 0.13,
`MooncakeTrace` in `dataset/loader/models.py` (`session_id`, `delay` in ms).

Records have no token ids, so blocks are told by the text: where a block ends in it follows from the counted tokens of
each request, and its id is the hash of all text up to there. So prompts that begin alike share their first blocks.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from agenttrace.errors import DataError
from agenttrace.formats.conversation import opening, tool_schemas
from agenttrace.formats.foreign import tokens
from agenttrace.formats.otlp import timeline

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from agenttrace.formats import Sourced
    from agenttrace.formats.conversation import Turn
    from agenttrace.records import RunSpec, Trace

BLOCK = 512
"""Tokens of a block."""
_CHARS_PER_TOKEN = 4
"""Of what every prompt of a run begins with; an estimate, the same for all of them, so that they share its blocks."""
_MOST_TOKENS = 1 << 24
_NS_PER_MS = 1e6


class WorkloadRequest(NamedTuple):
    """A generation as its server saw it.

    Attributes:
        start_ns: when it was sent.
        gap_ms: time since the reply before it: what the tools and the agent took.
        input_length: tokens of the prompt.
        new_length: those that neither the request before it nor its reply had.
        output_length: tokens of the reply.
        hash_ids: of the blocks of the prompt; the last one may not be full.
    """

    start_ns: int
    gap_ms: float
    input_length: int
    new_length: int
    output_length: int
    hash_ids: list[int]


def write(records: Iterable[Sourced], output: Path) -> dict[str, int]:
    """Write the requests of all records in the order of their start, the first at 0, and return how many there are.

    All lines are held in memory, some hundred bytes each.

    Raises:
        DataError: a record has no token counts, or more than any model reads.
    """
    found: list[WorkloadRequest] = []
    for record in records:
        try:
            found += requests(record.trace, record.spec)
        except DataError as error:
            named = f"{record.source}, trace {record.trace.trace_id[:60]!r}"
            raise DataError(f"{named} cannot be written: {error}") from error
    found.sort(key=lambda request: request.start_ns)
    with output.open("w", encoding="ascii") as file:
        for request in found:
            line = {
                "timestamp": round((request.start_ns - found[0].start_ns) / _NS_PER_MS),
                "input_length": request.input_length,
                "output_length": request.output_length,
                "hash_ids": request.hash_ids,
            }
            file.write(f"{json.dumps(line)}\n")
    return {output.name: len(found)}


def requests(trace: Trace, spec: RunSpec | None = None) -> list[WorkloadRequest]:
    """Return the generations of a record whose tokens are known.

    Raises:
        DataError: there is none, or a prompt of more than 16 Mi tokens.
    """
    blocks = _Blocks(trace, spec)
    found: list[WorkloadRequest] = []
    end_ns = seen = 0
    for turn, times, _ in timeline(trace, spec).turns:
        read, written = tokens(turn.step.input_tokens), tokens(turn.step.output_tokens)
        blocks.hear(turn, read)
        if read is not None and written is not None:
            gap = max(0, times.start - end_ns) / _NS_PER_MS if found else 0.0
            found.append(WorkloadRequest(times.start, gap, read, max(1, read - seen), written, blocks.ids(read)))
            end_ns, seen = times.end, read + written
        blocks.said(turn)
    if not found:
        raise DataError("no generation whose tokens are known, so it is no workload")
    return found


class _Blocks:
    """The blocks of a conversation as it grows."""

    def __init__(self, trace: Trace, spec: RunSpec | None) -> None:
        self._hash = hashlib.sha256(trace.model.encode("utf-8", "replace"))
        self._full: list[int] = []
        self._tokens = 0
        first, *rest = opening(trace, spec)[::-1]
        tools = tool_schemas(spec)
        shared = [*(one.content for one in rest), *([] if tools is None else [json.dumps(tools, sort_keys=True)])]
        self._shared = "\n".join(shared)
        self._new = [first.content]
        self._later = False

    def hear(self, turn: Turn, count: int | None) -> None:
        """Take what a generation reads, of so many tokens with all before it; unknown, it waits for the next."""
        self._new += [one.content for one in turn.heard if one.span is not None or self._later]
        self._later = True
        if count is None:
            return
        if count > _MOST_TOKENS:
            raise DataError(f"a prompt of {count} tokens is longer than any model reads")
        if not self._tokens:
            self._grow(self._shared, min(len(self._shared) // _CHARS_PER_TOKEN, max(0, count - 1)))
        self._grow("\n".join(self._new), max(0, count - self._tokens))
        self._new = []

    def said(self, turn: Turn) -> None:
        """Take the reply, which the next request has as a part of its prompt."""
        calls = [f"{call.name} {call.arguments}" for call in turn.step.tool_calls or ()]
        self._new += [turn.step.reasoning_content or "", turn.step.model_output or "", *calls]

    def _grow(self, text: str, count: int) -> None:
        """Take a text of so many tokens, spread evenly over it."""
        first, done = self._tokens, 0
        for end in range((first // BLOCK + 1) * BLOCK, first + count + 1, BLOCK):
            at = len(text) * (end - first) // count
            self._hash.update(text[done:at].encode("utf-8", "replace"))
            self._full.append(_id(self._hash))
            done = at
        self._hash.update(text[done:].encode("utf-8", "replace"))
        self._tokens = first + count

    def ids(self, count: int) -> list[int]:
        """Return the ids of the blocks of a prompt of so many tokens; only equal prompts share one that is not full."""
        found = self._full[: count // BLOCK]
        if count % BLOCK:
            part = self._hash.copy()
            part.update(f"\n{count}".encode())
            found.append(_id(part))
        return found


def _id(found: Any) -> int:  # noqa: ANN401 - a hash of hashlib
    """Return 48 bits of a hash, which every reader of JSON holds exactly."""
    return int.from_bytes(found.digest()[:6], "big")


def sessions(trace: Trace, spec: RunSpec | None = None) -> Iterator[dict[str, Any]]:
    """Yield the turns of a session by AIPerf's rules: each is what is new, as AIPerf adds what it has heard itself."""
    for number, request in enumerate(requests(trace, spec)):
        turn: dict[str, Any] = {"session_id": trace.trace_id}
        if number == 0:
            turn |= {"timestamp": request.start_ns / _NS_PER_MS, "hash_ids": request.hash_ids}
        else:
            turn["delay"] = request.gap_ms
        yield {**turn, "input_length": request.new_length, "output_length": request.output_length}
