"""Sessions of Claude Code, read: a file of `~/.claude/projects`, one entry a line.

A reply is several entries that share a message id, one for each block; results are entries of the user. An entry has
the moment at which it was written, so a reply took from the entry before to its last; how long a call took is not
known, since a person may have been asked in between. Branches that were left are in the file and in the record. A
sub-agent (side chain) is a record of its own. There is no specification: sources are teich 0.3.6 (`converter.py`), by
which `datasets` reads such files, and public descriptions of them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from agenttrace.errors import DataError
from agenttrace.formats.dialogue import Called, Dialogue
from agenttrace.formats.foreign import at, between, fitting, json_text, moment_ns, text_of, tokens
from agenttrace.records import Outcome, Timings, Trace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NAME = "claude-code"
_EXIT = re.compile(r"(?:Error: )?Exit code (\d{1,3})\b")
_MADE_UP = "<synthetic>"
"""Model of a message that no model wrote, such as of an API error."""


class _Entry(NamedTuple):
    number: int
    role: str
    message: dict[str, Any]
    moment: int | None
    raw: dict[str, Any]

    @property
    def blocks(self) -> list[dict[str, Any]]:
        """What it consists of; text alone is one block."""
        content = self.message.get("content")
        listed = content if isinstance(content, list) else [{"type": "text", "text": text_of(content)}]
        return [block if isinstance(block, dict) else {"type": "text", "text": str(block)} for block in listed]


def read(values: Iterable[tuple[int, Any]], source: str) -> Iterator[tuple[int, Trace]]:
    """Yield the session of a file and, after it, those of its sub-agents, with the number of their first line.

    Raises:
        DataError: no message stands in it.
    """
    chains: dict[str, list[_Entry]] = {"": []}
    chain_of: dict[str, str] = {}
    facts: dict[str, str] = {}
    for number, value in values:
        if not isinstance(value, dict):
            continue
        facts |= {key: one for key in ("sessionId", "version", "gitBranch") if isinstance(one := value.get(key), str)}
        if str(value.get("type")) in {"user", "assistant"} and isinstance(value.get("message"), dict):
            entry = _Entry(number, value["type"], value["message"], moment_ns(value.get("timestamp")), value)
            chains.setdefault(_chain(value, chain_of), []).append(entry)
    if not any(chains.values()):
        raise DataError("a session of Claude Code without a message")
    for chain, entries in chains.items():
        if entries:
            yield entries[0].number, _trace(chain, entries, facts, source)


def _chain(value: dict[str, Any], chain_of: dict[str, str]) -> str:
    """Return the name of the side chain that an entry is of, by its agent or its first entry; none for the main one."""
    if not value.get("isSidechain"):
        return ""
    own, parent = str(value.get("uuid")), str(value.get("parentUuid"))
    found = value.get("agentId") or chain_of.get(parent, own)
    chain_of[own] = str(found)
    return str(found)


def _trace(chain: str, entries: list[_Entry], facts: dict[str, str], source: str) -> Trace:
    talk, model = Dialogue(), None
    replies: dict[str, list[_Entry]] = {}
    for entry in entries:
        if entry.role == "assistant":
            replies.setdefault(_reply_id(entry), []).append(entry)
    before: int | None = None
    error: str | None = None
    for entry in entries:
        if entry.role == "user":
            _hear(talk, entry)
            before = entry.moment
        elif entry.message.get("model") == _MADE_UP:
            text = text_of(entry.message.get("content"))
            error = f"error: {text}" if entry.raw.get("isApiErrorMessage") else error
            if talk.begun:
                talk.asked(text)
        elif parts := replies.pop(_reply_id(entry), None):
            model = model or fitting(entry.message.get("model"), str)
            _say(talk, parts, before)
            error = None
            before = parts[-1].moment
    session = facts.get("sessionId") or source
    return talk.trace(
        NAME,
        [session, chain],
        outcome=Outcome(ended="unknown", detail=error),
        model=model,
        metadata={"session_id": session, "agent_id": chain or None, "agent_version": facts.get("version")},
        kept={"git_branch": facts.get("gitBranch")},
    )


def _reply_id(entry: _Entry) -> str:
    return str(entry.message.get("id") or entry.number)


def _hear(talk: Dialogue, entry: _Entry) -> None:
    texts = []
    for block in entry.blocks:
        if block.get("type") == "tool_result":
            text = text_of(block.get("content"))
            code = _EXIT.match(text) if block.get("is_error") else None
            called = fitting(block.get("tool_use_id"), str)
            talk.came_back(text, called, end_ns=entry.moment, exit_code=int(code[1]) if code else None)
        else:
            texts.append(text_of([block]))
    if texts:
        talk.asked("\n".join(texts))


def _say(talk: Dialogue, parts: list[_Entry], before: int | None) -> None:
    blocks = [block for entry in parts for block in entry.blocks]
    calls = []
    for block in blocks:
        if block.get("type") == "tool_use":
            name = fitting(block.get("name"), str) or "unknown"
            calls.append(Called(fitting(block.get("id"), str), name, json_text(block.get("input"))))
    last = parts[-1]
    usage = last.message.get("usage")
    given = [tokens(at(usage, f"{kind}input_tokens")) for kind in ("", "cache_read_", "cache_creation_")]
    thoughts = [text for block in blocks if isinstance(text := block.get("thinking"), str)]
    talk.replied(
        "\n".join(text for block in blocks if isinstance(text := block.get("text"), str)),
        calls,
        reasoning_content="\n".join(thoughts) or None,
        input_tokens=sum(one or 0 for one in given) if given[0] is not None else None,
        output_tokens=tokens(at(usage, "output_tokens")),
        finish_reason=fitting(last.message.get("stop_reason"), str),
        timings=None if given[1] is None else Timings(cached_n=given[1]),
        **between(before, last.moment),
    )
