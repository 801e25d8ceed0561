"""Sessions of the Pi coding agent, and session traces of the Hub that have their form or its simple one, read.

A header, then an entry a line; entries are a tree, of which the branch that ends with the last one is the session.
Sources: `packages/coding-agent/docs/session.md` of badlogic/pi-mono (version 3), the Hub's page on session traces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agenttrace.errors import DataError
from agenttrace.formats.chat_rows import calls_of
from agenttrace.formats.dialogue import STRAY, Called, Dialogue
from agenttrace.formats.foreign import amount, at, between, fitting, json_text, moment_ns, text_of, tokens
from agenttrace.formats.measured import OURS, OwnRun, own_fields
from agenttrace.formats.session_trace import HARNESS
from agenttrace.records import Outcome, Timings, Totals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agenttrace.records import Trace

NAME = "pi"
_SUMMARIES = frozenset({"compaction", "branch_summary"})


def read(values: Iterable[tuple[int, Any]], source: str) -> Iterator[tuple[int, Trace]]:
    """Yield the session of a file.

    Raises:
        DataError: no message stands in it.
    """
    entries = [(number, value) for number, value in values if isinstance(value, dict)]
    header = next((value for _, value in entries if value.get("type") == "session"), {})
    talk, model, cost, before, error = Dialogue(), None, 0.0, None, None
    for value in _branch([value for _, value in entries]):
        message = value.get("message")
        if str(value.get("type")) in _SUMMARIES:
            talk.asked(text_of(value.get("summary")))
        elif value.get("type") == "custom_message":
            talk.asked(text_of(value.get("content")))
        elif isinstance(message, dict):
            moment = moment_ns(message.get("timestamp") or value.get("timestamp"))
            _hear(talk, message, before, moment)
            model = model or fitting(message.get("model"), str)
            error = fitting(message.get("errorMessage"), str)  # what was retried is not how it ended
            cost += amount(at(message, "usage", "cost", "total")) or 0.0
            before = moment
    if talk.silent:
        raise DataError("a session without a message")
    name, harness = fitting(header.get("id"), str), fitting(header.get("harness"), str)
    ours = (fitting(header.get(OURS), OwnRun) if harness == HARNESS else None) or OwnRun(
        outcome=Outcome(ended="unknown", detail=None if error is None else f"error: {error}")
    )
    yield (
        entries[0][0],
        talk.trace(
            NAME,
            [name or source],
            outcome=ours.outcome,
            model=model,
            metadata={**ours.metadata, "session_id": name or source, "agent": harness},
            **({"trace_id": name} if harness == HARNESS else {}),
            **{"totals": Totals(cost_usd=cost or None), **ours.known},
        ),
    )


def _branch(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the entries from the root to the last one; all of them where they are no tree."""
    by_id = {one["id"]: one for one in entries if isinstance(one.get("id"), str) and one.get("type") != "session"}
    last = next((one for one in reversed(entries) if str(one.get("id")) in by_id and "parentId" in one), None)
    if last is None:
        return entries
    found = []
    while last is not None:
        found.append(last)
        last = by_id.pop(last["id"], None) and by_id.get(str(last.get("parentId")))  # popped: a circle ends, too
    return found[::-1]


def _hear(talk: Dialogue, message: dict[str, Any], before: int | None, moment: int | None) -> None:
    role, content = str(message.get("role")), message.get("content")
    if role == "assistant":
        _say(talk, message, before, moment)
    elif role in {"toolResult", "tool"}:
        name = fitting(message.get("toolName"), str) or STRAY
        told = own_fields(at(message, "details", OURS), {"end_ns": moment})
        talk.came_back(text_of(content), fitting(message.get("toolCallId"), str), name, **told)
    elif role == "bashExecution":  # by the user, shown to the model
        talk.asked(f"$ {message.get('command')}\n{text_of(message.get('output'))}")
    elif role == "system":
        talk.told(text_of(content))
    else:
        talk.asked(text_of(content) if content is not None else text_of(message.get("summary")))


def _say(talk: Dialogue, message: dict[str, Any], before: int | None, moment: int | None) -> None:
    content = message.get("content")
    blocks = [one for one in (content if isinstance(content, list) else ()) if isinstance(one, dict)]
    thoughts = [text for one in blocks if isinstance(text := one.get("thinking"), str)]
    calls = [
        Called(fitting(one.get("id"), str), fitting(one.get("name"), str) or "unknown", json_text(one.get("arguments")))
        for one in blocks
        if one.get("type") == "toolCall"
    ]
    texts = [one for one in blocks if str(one.get("type")) not in {"thinking", "toolCall"}]
    usage = message.get("usage")
    given = [tokens(at(usage, kind)) for kind in ("input", "cacheRead", "cacheWrite")]
    times = {
        "finish_reason": fitting(message.get("stopReason"), str),
        "timings": None if given[1] is None else Timings(cached_n=given[1]),
        **between(before, moment),
    }
    talk.replied(
        text_of(texts) if blocks else text_of(content),
        calls or calls_of({"tool_calls": message.get("toolCalls")}),
        reasoning_content="\n".join(thoughts) or fitting(message.get("reasoningContent"), str),
        input_tokens=sum(one or 0 for one in given) if given[0] is not None else None,
        output_tokens=tokens(at(usage, "output")),
        **own_fields(message.get(OURS), times),
    )
