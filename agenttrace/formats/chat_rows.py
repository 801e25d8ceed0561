"""Rows of chat messages in OpenAI's form, as data sets of agents have them: one conversation a row.

`messages` (or `trajectory`, `conversation`, `conversations`) is a list of `{role, content, tool_calls?,
tool_call_id?}`, or JSON text of one; results are messages of role `tool`. Beside it stand what rows mostly have: an id
of the task, `model`, `repo`, `exit_status`, whether it was `resolved`, `model_patch`. Sources: OpenAI's reference of
chat completions; the cards of nebius/SWE-rebench-openhands-trajectories, nvidia/SWE-Zero-openhands-trajectories and
SWE-bench/SWE-smith-trajectories.
"""

from __future__ import annotations

from typing import Any

import msgspec

from agenttrace.errors import DataError
from agenttrace.formats.dialogue import STRAY, Called, Dialogue
from agenttrace.formats.foreign import at, fitting, json_text, moment_ns, parsed, text_of, tokens
from agenttrace.records import Outcome, Timings, Trace, Verdict

NAME = "chat"
_CHATS = ("messages", "trajectory", "conversation", "conversations")
_TASK = ("instance_id", "task_id", "task_name")
_RUN = ("trajectory_id", "traj_id", "trace_id", "session_id", "id")
_JUDGED = ("resolved", "target")
_PATCH = ("model_patch", "generated_patch", "patch")
_ANTHROPIC = ("tool_use", "tool_result", "thinking", "redacted_thinking")
"""Parts of a content by which Anthropic's form says what OpenAI's has fields and messages for."""
_THINKS = ("reasoning_content", "reasoning", "thinking")


def to_trace(value: Any, source: str = "") -> Trace:  # noqa: ANN401, ARG001 - whatever stood in the row
    """Return a row as a record.

    Raises:
        DataError: it has no list of messages; the message names what is wrong.
    """
    try:
        chat = next((value[key] for key in _CHATS if value.get(key) is not None), None)
        talk = Dialogue()
        if isinstance(value.get("system"), str) and value["system"]:
            talk.told(value["system"])
        listen(talk, parsed(chat.encode()) if isinstance(chat, str) else chat)
        return _record(talk, value)
    except (RecursionError, ValueError, msgspec.MsgspecError) as error:
        raise DataError(f"not a row of chat messages: {error}") from error


def _record(talk: Dialogue, row: dict[str, Any]) -> Trace:
    task, run = first_text(row, _TASK), first_text(row, _RUN)
    judged = next((one for key in _JUDGED if (one := _judged(row.get(key))) is not None), None)
    ended = row.get("exit_status")
    return talk.trace(
        NAME,
        [task or "", run or ""],
        outcome=Outcome(
            ended="unknown",
            detail=ended if isinstance(ended, str) else None,
            verdicts=() if judged is None else (judgement(passed=judged),),
            solved=judged,
            patch=next((row[key] for key in _PATCH if isinstance(row.get(key), str)), msgspec.UNSET),
        ),
        model=first_text(row, ("model", "model_name")),
        metadata={"task_id": task, "task_name": task, "repo": first_text(row, ("repo",))},
        kept={"id": run, "license": first_text(row, ("license",)), "dataset": first_text(row, ("dataset",))},
    )


def _judged(value: Any) -> bool | None:  # noqa: ANN401 - whatever stood in the row
    """Return what a row says of its run; a table that has it of some rows only writes 1.0 and 0.0."""
    return bool(value) if isinstance(value, int) or value in (0.0, 1.0) else None


def judgement(*, passed: bool) -> Verdict:
    """Return what whoever recorded a run says of it."""
    return Verdict(aspect="task", verdict="passed" if passed else "failed", method="as recorded")


def first_text(row: dict[str, Any], keys: tuple[str, ...]) -> str | None:
    """Return the first of some members that is a text or a number, as text."""
    found = (row.get(key) for key in keys)
    return next((str(one) for one in found if isinstance(one, (str, int)) and one != "" and one is not True), None)


def listen(talk: Dialogue, messages: Any) -> None:  # noqa: ANN401 - whatever stood in the row
    """Give messages to a dialogue; raises `DataError` where one is no message."""
    if not isinstance(messages, list):
        raise DataError("not a row of chat messages: its messages are no list")
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise DataError(f"not a row of chat messages: message {number} has no role")
        _hear(talk, message)


def _hear(talk: Dialogue, message: dict[str, Any]) -> None:
    role, blocks = message["role"], _blocks(message.get("content"))
    text = text_of([one for one in blocks if at(one, "type") not in _ANTHROPIC])
    if role in {"system", "developer"}:
        talk.told(text)
    elif role == "assistant":
        used = [one for one in blocks if at(one, "type") == "tool_use"]
        calls = [
            *calls_of(message),
            *calls_of({"tool_calls": [{**one, "arguments": one.get("input")} for one in used]}),
        ]
        thoughts = [one["thinking"] for one in blocks if isinstance(at(one, "thinking"), str)]
        known = facts(message)
        known["reasoning_content"] = known["reasoning_content"] or "\n".join(thoughts) or None
        talk.replied(text or text_of(message.get("refusal")), calls, **known)
    elif role in {"tool", "function"}:
        name = message.get("name")
        talk.came_back(text, fitting(message.get("tool_call_id"), str), name if isinstance(name, str) else STRAY)
    else:
        results = [one for one in blocks if at(one, "type") == "tool_result"]
        for one in results:
            talk.came_back(text_of(one.get("content")), fitting(one.get("tool_use_id"), str))
        if text or not results:
            talk.asked(text)


def _blocks(content: Any) -> list[Any]:  # noqa: ANN401 - text, parts or nothing
    """Return what a content consists of; a text is one part."""
    return content if isinstance(content, list) else [{"type": "text", "text": text_of(content)}]


def calls_of(message: dict[str, Any]) -> list[Called]:
    """Return the calls of a message of role `assistant`, also the one of the older `function_call`."""
    listed = message.get("tool_calls")
    found = [one for one in (listed if isinstance(listed, list) else []) if isinstance(one, dict)]
    if not found and isinstance(message.get("function_call"), dict):
        found = [{"function": message["function_call"]}]
    calls = []
    for one in found:
        inner = next((one[kind] for kind in ("function", "custom") if isinstance(one.get(kind), dict)), one)
        name = inner.get("name")
        given = {"input": inner.get("input")} if one.get("type") == "custom" else inner.get("arguments")
        arguments = json_text(given)
        calls.append(Called(fitting(one.get("id"), str), name if isinstance(name, str) else "unknown", arguments))
    return calls


def facts(message: dict[str, Any]) -> dict[str, Any]:
    """Return what a message says of its generation: reasoning, tokens, its end, when."""
    usage = message["usage"] if isinstance(message.get("usage"), dict) else {}
    cached = tokens(at(usage, "prompt_tokens_details", "cached_tokens"))
    thought = next((message[key] for key in _THINKS if isinstance(message.get(key), str)), None)
    return {
        "reasoning_content": thought,
        "input_tokens": tokens(usage.get("prompt_tokens")),
        "output_tokens": tokens(usage.get("completion_tokens")),
        "finish_reason": fitting(message.get("finish_reason"), str),
        "timings": None if cached is None else Timings(cached_n=cached),
        "end_ns": moment_ns(message.get("timestamp")),
    }
