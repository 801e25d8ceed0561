"""ShareGPT conversations, one a line: `from` is `system`, `human`, `gpt` or `tool`, `value` is text.

Reasoning, calls and results are written into the text as the chat template of Qwen3 does it (`<think>`,
`<tool_call>`, `<tool_response>`). Turns alternate, as trainers demand: results of one generation are one turn, and so
are generations of which it is not known what stood between them (a reminder, where there is no run spec). Of an
agent whose calls are bash blocks in its replies, texts stand as they are, and what came back is said by `human`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agenttrace.formats.conversation import in_text, messages, spoken, tool_schemas
from agenttrace.records import END_CLASSES

if TYPE_CHECKING:
    from agenttrace.formats.conversation import Message
    from agenttrace.records import RunSpec, Trace

_FROM = {"system": "system", "user": "human", "assistant": "gpt", "tool": "tool"}


def from_trace(trace: Trace, spec: RunSpec | None = None, source: str = "") -> dict[str, Any]:  # noqa: ARG001
    """Return one conversation; it ends with what the model said last, as no one answered that.

    `tools` holds the tool schemas as JSON text (empty without a run spec), `solved` the verdict.
    """
    found = messages(trace, spec)
    while found[-1].role != "assistant" and trace.llm_steps:
        found.pop()
    plain = in_text(trace, spec)
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
