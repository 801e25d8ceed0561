"""ShareGPT conversations, one a line: `from` is `system`, `human`, `gpt` or `tool`, `value` is text.

Reasoning, calls and results are written into the text as the chat template of Qwen3 does it (`<think>`,
`<tool_call>`, `<tool_response>`). Turns alternate, as trainers demand: results of one generation are one turn, and so
are generations of which it is not known what stood between them (a reminder, where there is no run spec). Of an
agent whose calls are bash blocks in its replies, texts stand as they are, and what came back is said by `human`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.errors import DataError
from agenttrace.formats.chat_rows import first_text, judgement
from agenttrace.formats.conversation import as_json, in_text, messages, spoken, tool_schemas
from agenttrace.formats.dialogue import STRAY, Called, Dialogue
from agenttrace.formats.foreign import fitting, json_text, parsed, text_of
from agenttrace.records import END_CLASSES, Outcome

if TYPE_CHECKING:
    from agenttrace.formats.conversation import Message
    from agenttrace.records import RunSpec, Trace

NAME = "sharegpt"
_REPLIES = frozenset({"gpt", "assistant", "chatgpt", "bing", "bard", "model", "function_call"})
_RESULTS = frozenset({"tool", "observation", "function_response", "function"})
_FROM = {"system": "system", "user": "human", "assistant": "gpt", "tool": "tool"}


def from_trace(trace: Trace, spec: RunSpec | None = None, source: str = "") -> dict[str, Any]:  # noqa: ARG001
    """Return one conversation; it ends with what the model said last, as no one answered that.

    `tools` holds the tool schemas as JSON text (empty without a run spec), `solved` the verdict.
    """
    found = messages(trace, spec)
    while found[-1].role != "assistant" and trace.llm_steps:
        found.pop()
    plain = in_text(trace, spec) or as_json(spec)
    conversation: list[dict[str, str]] = []
    for message in found:
        role = "user" if plain and message.role == "tool" else message.role
        turn = {"from": _FROM[role], "value": _text(message, plain=plain)}
        if conversation and message.role in {"tool", "assistant"} and conversation[-1]["from"] == turn["from"]:
            conversation[-1]["value"] += f"\n{turn['value']}"
        else:
            conversation.append(turn)
    return {
        "id": trace.trace_id,
        "conversations": conversation,
        "tools": json.dumps(tools) if (tools := tool_schemas(spec)) is not None else "",
        "model": trace.model,
        "ended": trace.outcome.ended,
        "end_class": END_CLASSES.get(trace.outcome.ended),
        "solved": trace.outcome.solved,
    }


def _text(message: Message, *, plain: bool) -> str:
    if message.role == "tool":
        return message.content if plain else f"<tool_response>\n{message.content}\n</tool_response>"
    thinks = message.step.reasoning_content if message.step else None
    parts = [f"<think>\n{thinks.strip()}\n</think>\n"] if thinks else []
    parts += [message.content] if message.content else []
    for call in () if plain else message.calls:
        said = json.dumps({"name": call.name, "arguments": spoken(call)}, ensure_ascii=False)
        parts.append(f"<tool_call>\n{said}\n</tool_call>")
    return "\n".join(parts)


def to_trace(value: Any, source: str = "") -> Trace:  # noqa: ANN401, ARG001 - whatever stood in the row; as all formats
    """Return a conversation of anyone as a record: `from` and `value` (or `role` and `content`) of each turn.

    Reasoning, calls and results are those between the tags of Qwen3's template, calls also those of turns of
    `function_call` (LLaMA-Factory). Nothing else is in it: no times, tokens or exit codes.

    Raises:
        DataError: a turn has no text, or nobody says it.
    """
    talk = Dialogue()
    if isinstance(value.get("system"), str) and value["system"]:
        talk.told(value["system"])
    for number, turn in enumerate(value["conversations"], start=1):
        speaker = (turn.get("from") or turn.get("role")) if isinstance(turn, dict) else None
        if not isinstance(speaker, str):
            raise DataError(f"not a ShareGPT conversation: turn {number} says nobody")
        _hear(talk, speaker.lower(), text_of(turn["value"] if "value" in turn else turn.get("content")))
    ended, solved = value.get("ended"), fitting(value.get("solved"), bool)
    run = first_text(value, ("id",))
    return talk.trace(
        NAME,
        [run or ""],
        outcome=Outcome(
            ended="unknown",
            detail=ended if isinstance(ended, str) else None,
            verdicts=() if solved is None else (judgement(passed=solved),),
            solved=solved,
        ),
        model=first_text(value, ("model",)),
        kept={"id": run, "license": first_text(value, ("license",))},
    )


def _hear(talk: Dialogue, speaker: str, text: str) -> None:
    if speaker == "system":
        talk.told(text)
    elif speaker in _REPLIES:
        thoughts, rest = _tagged(text, "think")
        calls, rest = _tagged(rest, "tool_call")
        if speaker == "function_call":
            calls, rest = [rest], ""
        talk.replied(rest.strip("\n"), list(map(_call, calls)), reasoning_content="\n".join(thoughts) or None)
    elif speaker in _RESULTS or (talk.waits and "<tool_response>" in text):
        results, rest = _tagged(text, "tool_response")
        for result in results or [rest]:
            talk.came_back(result, None, STRAY)
    else:
        talk.asked(text)


def _tagged(text: str, tag: str) -> tuple[list[str], str]:
    """Return what stands between the tags of a name, and the text without it."""
    found, rest, at = [], [], 0
    begin, end = f"<{tag}>", f"</{tag}>"
    while (start := text.find(begin, at)) >= 0 and (stop := text.find(end, start)) >= 0:
        rest.append(text[at:start])
        found.append(text[start + len(begin) : stop].strip("\n"))
        at = stop + len(end)
    return found, "".join([*rest, text[at:]])


def _call(text: str) -> Called:
    try:
        said = parsed(text.encode("utf-8", "surrogatepass"))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        said = None
    name = said.get("name") if isinstance(said, dict) else None
    if not isinstance(name, str):
        return Called(None, "unknown", text)
    return Called(None, name, json_text(said.get("arguments", said.get("parameters"))))
