"""Trajectories of mini-swe-agent, read: v1 (`mini-swe-agent-1`, bash blocks) and v2 (`mini-swe-agent-1.1`, tool calls).

Sources: mini-swe-agent 1.17.5 and 2.4.6, `agents/default.py`, `models/` and `models/utils/actions_*.py`. A message has
the moment at which it was added, so a reply took from the message before it to its own, and the one call of a reply
likewise: what passed in the agent between them is in it.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from agenttrace.errors import DataError
from agenttrace.formats.chat_rows import calls_of
from agenttrace.formats.dialogue import Called, Dialogue
from agenttrace.formats.foreign import amount, at, between, exit_status, fitting, json_text, moment_ns, text_of, tokens
from agenttrace.formats.mini_swe import ENDS, NAME, from_trace
from agenttrace.formats.patch import with_patch
from agenttrace.records import Outcome, Output, SpanStatus, Telemetry, Timings, Totals, Trace, derived_id, digest

_RETURN_CODE = re.compile(r"<returncode>(-?\d{1,9})</returncode>")
_KILLED = ("The last command <command>", "</command> timed out and has been killed.")
"""How a message begins, and what it goes on to say, that answers a command at its time limit."""
_TOOL_CALLING = "mini-swe-agent-1.1"


class _Message(msgspec.Struct):
    """A message; by OpenAI's newer API a reply has `object` and `output`, a result `type` and `call_id`."""

    role: str | None = None
    content: Any = ""
    timestamp: Any = None
    extra: dict[str, Any] | None = None
    tool_calls: Any = None
    tool_call_id: Any = None
    reasoning_content: Any = None
    object: Any = None
    output: Any = None
    type: Any = None
    call_id: Any = None

    @property
    def moment_ns(self) -> int | None:
        """When it was added; in v1 often only when the server made the reply, to the second."""
        given = (self.timestamp, self.fact("timestamp"), self.fact("response", "created"))
        return next((found for one in given if (found := moment_ns(one)) is not None), None)

    def fact(self, *keys: str) -> Any:  # noqa: ANN401 - JSON of anyone
        """Return what stands in its `extra`."""
        return at(self.extra, *keys)


class _Info(msgspec.Struct):
    exit_status: str | None = None
    submission: str | None = None
    config: dict[str, Any] | None = None
    model_stats: dict[str, Any] | None = None
    agenttrace: Any = None


class _Ours(msgspec.Struct):
    """What our writing says of a run."""

    trace_id: str | UnsetType = UNSET
    timestamp_utc: str | UnsetType | None = UNSET
    total_duration_ms: float | UnsetType | None = UNSET
    outcome: Outcome | UnsetType = UNSET
    totals: Totals | UnsetType | None = UNSET
    metadata: dict[str, Any] = {}


class _End(msgspec.Struct):
    """How a call ended; we say it of each call that we write, and what it cost."""

    status: SpanStatus
    exit_code: int | None
    signal: int | UnsetType | None = UNSET
    telemetry: Telemetry | UnsetType = UNSET
    start_ns: int | UnsetType | None = UNSET
    end_ns: int | UnsetType | None = UNSET
    duration_ms: float | UnsetType | None = UNSET

    @property
    def known(self) -> dict[str, Any]:
        """The fields of a span that it has."""
        return {name: one for name, one in msgspec.structs.asdict(self).items() if one is not UNSET}


class _File(msgspec.Struct):
    messages: list[_Message]
    trajectory_format: str
    info: _Info | None = None
    instance_id: str | None = None


def to_trace(value: Any, source: str = "") -> Trace:  # noqa: ANN401 - whatever stood in the file
    """Return a trajectory as a record; nothing in it is executed, and written again it is as it was.

    In v1 a reply with exactly one bash block is a call of `bash`, and the user message after it its result; in v2 calls
    and results are joined by their ids. Exit status and end are those that our writing left beside it; else those that
    the message or its text has; what it does not say is `null` or `not-measured`. Without an `instance_id`, the name of
    the file names the task.

    Raises:
        DataError: it is no such file; the message names the field.
    """
    try:
        found = msgspec.convert(value, _File)
        return _trace(found, value, source)
    except (msgspec.ValidationError, RecursionError) as error:
        raise DataError(f"not a trajectory of mini-swe-agent: {error}") from error


def _trace(found: _File, value: dict[str, Any], source: str) -> Trace:
    said = [[one.content, one.timestamp, one.fact("timestamp"), one.tool_calls, one.output] for one in found.messages]
    info = found.info or _Info()
    listener = _Listener(in_text=not _calls_tools(found))
    for message in found.messages:
        listener.hear(message)
    ours = fitting(info.agenttrace, _Ours) or _Ours()
    task = found.instance_id or (source.removesuffix(".traj.json") if source.endswith(".traj.json") else None)
    task = None if task == ours.trace_id else task  # what we write where no task is known
    paid = amount(at(info.model_stats, "instance_cost"))
    known = {name: getattr(ours, name) for name in ("timestamp_utc", "total_duration_ms")}
    trace = listener.talk.trace(
        NAME,
        [],
        trace_id=derived_id(NAME, found.instance_id or "", digest(said)) if ours.trace_id is UNSET else ours.trace_id,
        outcome=_outcome(info) if ours.outcome is UNSET else ours.outcome,
        model=fitting(at(info.config, "model", "model_name"), str),
        metadata={"task_id": task, "task_name": task, **ours.metadata, "source": found.trajectory_format},
        **{name: one for name, one in known.items() if one is not UNSET},
        totals=ours.totals or Totals(cost_usd=paid or listener.cost_usd or None),
    )
    return with_patch(trace, from_trace(trace), value)


def _calls_tools(found: _File) -> bool:
    """Return whether calls stand beside the texts: in files of v2, unless their model is one of texts alone."""
    beside = any(one.tool_calls or one.tool_call_id or one.output or one.call_id for one in found.messages)
    return found.trajectory_format == _TOOL_CALLING and beside


def _outcome(info: _Info) -> Outcome:
    given = info.exit_status or None
    submitted = given == "Submitted"
    return Outcome(
        ended=ENDS.get(given or "", "unknown"),
        detail=given,
        final_answer=info.submission or None if submitted else None,
    )


class _Listener:
    """Gives messages to a dialogue.

    Attributes:
        talk: the dialogue.
        cost_usd: of the messages so far.
    """

    def __init__(self, *, in_text: bool) -> None:
        self.talk = Dialogue()
        self.cost_usd = 0.0
        self._in_text = in_text
        self._before_ns: int | None = None
        self._calls = 0

    def hear(self, message: _Message) -> None:
        """Take the next message."""
        moment = message.moment_ns
        self.cost_usd += amount(message.fact("cost")) or 0.0
        if message.role == "assistant" or message.object == "response":
            self._reply(message, moment)
        elif message.role == "tool" or message.type == "function_call_output" or self._answers(message):
            self._result(message, moment)
        elif message.role == "system":
            self.talk.told(text_of(message.content))
        elif message.role != "exit":
            self._user(message, moment)
        self._before_ns = moment

    def _answers(self, message: _Message) -> bool:
        return self._in_text and message.role == "user" and self.talk.waits

    def _user(self, message: _Message, moment: int | None) -> None:
        refused = at(message.fact("response"), "choices")
        if message.fact("interrupt_type") == "FormatError" and isinstance(refused, list) and refused:
            # v2 keeps a reply that it cannot use only beside what answers it.
            said = fitting(at(refused[0], "message"), dict[str, Any]) or {}
            reply = fitting({"extra": message.extra, **said}, _Message)
            self._reply(reply or _Message(extra=message.extra), moment)
        self.talk.asked(text_of(message.content))

    def _reply(self, message: _Message, moment: int | None) -> None:
        facts = _facts(message) | between(self._before_ns, moment)
        if message.object == "response":
            text, thought, calls = _items(message.output)
            self._calls = len(calls)
            self.talk.replied(text, calls, **facts | {"reasoning_content": thought})
        elif self._in_text:
            self._calls = 1
            self.talk.replied_in_blocks(text_of(message.content), runs_first=False, **facts)
        else:
            calls = calls_of({"tool_calls": message.tool_calls})
            self._calls = len(calls)
            self.talk.replied(text_of(message.content), calls, **facts)

    def _result(self, message: _Message, moment: int | None) -> None:
        text = text_of(message.output if message.type == "function_call_output" else message.content)
        (end,) = fitting(message.fact("agenttrace", "calls"), tuple[_End]) or (_end(message, text),)
        called = fitting(message.tool_call_id or message.call_id, str)
        # Results of several calls are stamped together, when the last has ended.
        times = between(self._before_ns, moment) if self._calls == 1 else {"end_ns": moment}
        self.talk.came_back(text, called, stdout=_printed(message), **{**times, **end.known})


def _facts(message: _Message) -> dict[str, Any]:
    """Return what a reply says of its generation."""
    response = message.fact("response")
    usage = at(response, "usage") or message.fact("agenttrace", "usage")
    choices = at(response, "choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    thoughts = [
        message.fact("agenttrace", "reasoning_content"),
        message.reasoning_content,
        at(choice, "message", "reasoning_content"),
        at(choice, "message", "reasoning"),
    ]
    cached = tokens(at(usage, "prompt_tokens_details", "cached_tokens"))
    ended = at(choice, "finish_reason") or message.fact("agenttrace", "finish_reason")
    return {
        "reasoning_content": next((one for one in thoughts if isinstance(one, str)), None),
        "input_tokens": _first(usage, "prompt_tokens", "input_tokens"),
        "output_tokens": _first(usage, "completion_tokens", "output_tokens"),
        "finish_reason": fitting(ended, str),
        "timings": None if cached is None else Timings(cached_n=cached),
    }


def _first(usage: Any, *names: str) -> int | None:  # noqa: ANN401 - JSON of anyone
    return next((found for name in names if (found := tokens(at(usage, name))) is not None), None)


def _items(output: Any) -> tuple[str, str | None, list[Called]]:  # noqa: ANN401 - as above
    """Return text, reasoning and calls of the output items of OpenAI's responses."""
    texts, thoughts, calls = [], [], []
    for item in output if isinstance(output, list) else ():
        kind = at(item, "type")
        if kind == "message":
            texts.append(text_of(item.get("content")))
        elif kind == "reasoning":
            thoughts.append(text_of(item.get("summary") or item.get("content")))
        elif kind == "function_call":
            name = fitting(item.get("name"), str) or "unknown"
            calls.append(Called(fitting(item.get("call_id"), str), name, json_text(item.get("arguments"))))
    return "\n".join(texts), "\n".join(thoughts) or None, calls


def _end(message: _Message, text: str) -> _End:
    """Return how a command ended, as far as its answer says."""
    if message.extra is not None and "returncode" in message.extra:
        code, why = exit_status(message.extra["returncode"]), str(message.extra.get("exception_info") or "")
        if not why:
            return _End(status="ok", exit_code=code)
        if why == "action was not executed":
            return _End(status="not_executed", exit_code=None)
        late = message.extra.get("exception_type") == "TimeoutExpired" or "timed out after" in why
        return _End(status="timeout" if late else "ok", exit_code=None)
    found = _RETURN_CODE.search(text[:200])
    killed = text.startswith(_KILLED[0]) and _KILLED[1] in text
    return _End(status="timeout" if killed else "ok", exit_code=int(found[1]) if found else None)


def _printed(message: _Message) -> Output | None:
    """Return how much a call printed, where the file keeps all of it."""
    raw = message.fact("raw_output")
    size = len(raw.encode("utf-8", "surrogatepass")) if isinstance(raw, str) else None
    return None if size is None else Output(text=None, bytes_total=size, bytes_kept=size)
