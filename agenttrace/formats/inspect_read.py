"""Inspect's logs, read: `.eval` archives and `.json`, log version 2; a sample is a record, each epoch one of its own.

The messages of a sample are the conversation; its events say when, how many tokens, and how a call ended. Sources:
`EvalLog`, `EvalSample`, `ModelEvent`, `ToolEvent`, `ModelUsage` of inspect_ai 0.3.285, its layout of `.eval` archives.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.errors import DataError
from agenttrace.formats.conversation import iso
from agenttrace.formats.dialogue import STRAY, Called, Dialogue
from agenttrace.formats.foreign import (
    amount,
    at,
    between,
    fitting,
    json_text,
    moment_ns,
    parsed_with_constants,
    text_of,
    tokens,
)
from agenttrace.formats.inspect_eval import NOT_PARSED
from agenttrace.formats.measured import OURS, OwnRun, own_fields
from agenttrace.records import Outcome, Timings, Totals, Trace, Verdict, solved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agenttrace.formats.archives import Archive
    from agenttrace.records import Ended, SpanStatus

NAME = "inspect"
_VERSION = 2
_HEADERS = ("header.json", "_journal/start.json")
"""Members that say what the samples are of; of a log that was cut off, only the latter is there."""
_SAMPLE = re.compile(r"samples/[^/]*\.json")
_CHUNKED = re.compile(r"samples/(.*)/sample\.json")
_ATTACHED = "attachment://"
_JUDGED: dict[str, bool] = {"C": True, "I": False, "N": False}
_PARTIAL = 0.5
"""What Inspect counts a `P` as."""
_LIMITS: dict[str, Ended] = {
    "message": "max_steps",
    "turn": "max_steps",
    "token": "token_budget",
    "context": "token_budget",
}


def parts(log: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the samples of a log of one JSON text, each with what is said of all.

    Raises:
        DataError: it is of another version, or its samples are no list.
    """
    head = _head(log)
    found = log.get("samples")
    if found is not None and not isinstance(found, list):
        raise DataError("a log of Inspect whose samples are no list")
    yield from ({**head, "sample": one} for one in found or ())


def members(archive: Archive) -> Iterator[dict[str, Any] | DataError]:
    """Return the samples of an archive likewise, one in memory at a time; of one that cannot be read, why.

    Raises:
        DataError: it is no log of Inspect, or of another version.
    """
    name = next((one for one in _HEADERS if one in archive.members), None)
    if name is None:
        raise DataError("it is a zip file, and no log of Inspect: neither header.json nor _journal/start.json is in it")
    return _members(archive, _head(_member(archive, name)))


def _members(archive: Archive, head: dict[str, Any]) -> Iterator[dict[str, Any] | DataError]:
    for member in archive.members:
        if chunked := _CHUNKED.fullmatch(member):
            yield DataError(f"sample {chunked[1][:60]!r}: it is stored in chunks, which are not read")
        elif _SAMPLE.fullmatch(member):
            try:
                yield {**head, "sample": _member(archive, member)}
            except DataError as error:
                yield error


def _member(archive: Archive, name: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return parsed_with_constants(archive.read(name))
    except DataError as error:
        raise DataError(f"{name[:120]!r}: {error}") from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise DataError(f"{name[:120]!r}: not JSON: {error}") from error


def _head(log: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    version, told = at(log, "version"), at(log, "eval")
    if not isinstance(told, dict):
        raise DataError("it is no log of Inspect: nothing is said of its evaluation")
    if version != _VERSION:
        raise DataError(
            f"a log of Inspect of version {str(version)[:20]}; {_VERSION} is read: inspect log convert writes it"
        )
    return {"version": version, "eval": told}


class _Events:
    """What the events of a sample say of its replies and calls, by the ids of messages and calls."""

    def __init__(self, listed: Any) -> None:  # noqa: ANN401 - JSON of anyone
        self.replies: dict[str, dict[str, Any]] = {}
        self.calls: dict[str, dict[str, Any]] = {}
        self.failed = False
        for event in listed if isinstance(listed, list) else ():
            kind = at(event, "event")
            if kind == "model":
                choices = at(event, "output", "choices")
                choice = choices[0] if isinstance(choices, list) and choices else None
                self.failed = at(event, "error") is not None
                self._keep(self.replies, at(choice, "message", "id"), {**event, "choice": choice})
            elif kind == "tool":
                self._keep(self.calls, at(event, "message_id"), event)
                self._keep(self.calls, at(event, "id"), event)

    @staticmethod
    def _keep(found: dict[str, dict[str, Any]], name: Any, event: dict[str, Any]) -> None:  # noqa: ANN401 - as above
        if isinstance(name, str):
            found.setdefault(name, event)


def to_trace(value: Any, source: str = "") -> Trace:  # noqa: ANN401, ARG001 - as `parts` gives it; as all formats
    """Return a sample as a record.

    Raises:
        DataError: it is none; the message says what is wrong.
    """
    sample, told = value.get("sample"), value["eval"]
    if not isinstance(sample, dict) or not isinstance(sample.get("messages", []), list):
        raise DataError("not a sample of Inspect: it has no list of messages")
    events, talk = _Events(sample.get("events")), Dialogue()
    attached = sample["attachments"] if isinstance(sample.get("attachments"), dict) else {}
    for message in sample.get("messages", []):
        if not isinstance(message, dict):
            raise DataError("not a sample of Inspect: a message of it is no object")
        _hear(talk, message, events, attached)
    if not talk.begun and not sample.get("messages"):
        _asked(talk, sample.get("input"))
    return _record(talk, sample, told, failed=events.failed)


def _record(talk: Dialogue, sample: dict[str, Any], told: dict[str, Any], *, failed: bool) -> Trace:
    name, epoch, run = sample.get("id"), fitting(sample.get("epoch"), int), fitting(told.get("eval_id"), str)
    given = sample["metadata"] if isinstance(sample.get("metadata"), dict) else {}
    ours = fitting(given.get(OURS), OwnRun)
    if ours is not None:  # written by us
        return talk.trace(
            NAME,
            [],
            outcome=ours.outcome,
            model=fitting(at(sample, "output", "model"), str),
            metadata={key: one for key, one in given.items() if key != OURS},
            trace_id=fitting(sample.get("uuid"), str),
            **ours.known,
        )
    task = name if isinstance(name, (int, str)) and not isinstance(name, bool) else None
    began, took = moment_ns(sample.get("started_at")), amount(sample.get("total_time"))
    usage = sample["model_usage"] if isinstance(sample.get("model_usage"), dict) else {}
    return talk.trace(
        NAME,
        [run or "", str(task), str(epoch), fitting(sample.get("uuid"), str) or ""],
        outcome=_outcome(sample, failed=failed),
        model=fitting(told.get("model"), str),
        metadata={
            "run_id": fitting(told.get("run_id"), str) or run,
            "dataset_name": fitting(at(told, "dataset", "name"), str) or fitting(told.get("task"), str),
            "task_id": task,
            "task_name": None if task is None else str(task),
            "rollout_index": None if epoch is None or epoch < 1 else epoch - 1,
        },
        kept={"task": fitting(told.get("task"), str), "model_usage": usage or None},
        totals=_totals([one for one in usage.values() if isinstance(one, dict)]),
        **({} if began is None else {"timestamp_utc": iso(began)}),
        **({} if took is None else {"total_duration_ms": 1000 * took}),
    )


def _outcome(sample: dict[str, Any], *, failed: bool) -> Outcome:
    """Return how a sample ended: by an error, at a limit, or with the model's answer, and what its scorers say."""
    error, limit = sample.get("error"), sample.get("limit")
    answer = fitting(at(sample, "output", "completion"), str)
    ended: Ended = "unknown" if answer is None or not at(sample, "output", "choices") else "final_answer"
    detail = None
    if error is not None:
        ended, detail = "model_error" if failed else "internal_error", text_of(at(error, "message") or error)
    elif limit is not None:
        kind = str(at(limit, "type"))
        ended, detail = _LIMITS.get(kind, "unknown"), f"limit: {kind} {at(limit, 'limit')}"
    verdicts, scores = _scores(sample.get("scores"))
    return Outcome(
        ended=ended,
        detail=detail,
        final_answer=answer if ended == "final_answer" else None,
        verdicts=verdicts,
        solved=solved(verdicts),
        scores=scores,
    )


def _scores(found: Any) -> tuple[tuple[Verdict, ...], dict[str, float]]:  # noqa: ANN401 - JSON of anyone
    """Return `C`, `I`, `N` and truth values as verdicts, and numbers as scores; a number says not what is enough."""
    verdicts, scores = [], {}
    for scorer, score in found.items() if isinstance(found, dict) else ():
        value, why = at(score, "value"), fitting(at(score, "explanation"), str)
        parts = {f"{scorer}.{key}": one for key, one in value.items()} if isinstance(value, dict) else {scorer: value}
        for name, one in parts.items():
            passed = one if isinstance(one, bool) else _JUDGED.get(one) if isinstance(one, str) else None
            if passed is not None:
                told = None if passed else why
                verdicts.append(
                    Verdict(aspect=name, verdict="passed" if passed else "failed", method="as recorded", reason=told)
                )
            elif one == "P":
                scores[name] = _PARTIAL
            elif isinstance(one, (int, float)):
                scores[name] = float(one)
    return tuple(verdicts), scores


def _totals(usages: list[dict[str, Any]]) -> Totals:
    """Return the figures of a whole sample: also of what was asked of a model and stands in no message."""
    counts = [_counts(one) for one in usages]
    costs = [cost for one in usages if (cost := amount(one.get("total_cost"))) is not None]
    keys = ("input_tokens", "output_tokens", "cached_tokens")
    known = {key: [count for one in counts if (count := one[key]) is not None] for key in keys}
    return Totals(**{key: sum(found) for key, found in known.items() if found}, cost_usd=sum(costs) if costs else None)


def _counts(usage: Any) -> dict[str, int | None]:  # noqa: ANN401 - JSON of anyone
    """Return the tokens of a usage; Inspect does not count what a cache had, or took, among `input_tokens`."""
    given, cached = tokens(at(usage, "input_tokens")), tokens(at(usage, "input_tokens_cache_read"))
    read = None if given is None else given + (cached or 0) + (tokens(at(usage, "input_tokens_cache_write")) or 0)
    return {"input_tokens": read, "output_tokens": tokens(at(usage, "output_tokens")), "cached_tokens": cached}


def _hear(talk: Dialogue, message: dict[str, Any], events: _Events, attached: dict[str, Any]) -> None:
    role, content = message.get("role"), _whole(message.get("content"), attached)
    event = events.replies.get(str(message.get("id")))
    if role == "assistant" and (event is not None or message.get("source") != "input"):
        _say(talk, message, content, event)
    elif role == "tool":
        _result(talk, message, text_of(content), events)
    elif role == "system":
        talk.told(text_of(content))
    else:
        talk.asked(text_of(content))


def _whole(content: Any, attached: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON of anyone
    """Return a content with the texts that stand once for all messages, by their digest."""
    if isinstance(content, list):
        return [{**one, "text": _whole(one["text"], attached)} if at(one, "text") else one for one in content]
    if not isinstance(content, str) or not content.startswith(_ATTACHED):
        return content
    found = attached.get(content.removeprefix(_ATTACHED))
    return found if isinstance(found, str) else content


def _asked(talk: Dialogue, given: Any) -> None:  # noqa: ANN401 - JSON of anyone
    """Take the input of a sample that no message came of."""
    for one in given if isinstance(given, list) else [given]:
        talk.asked(text_of(one.get("content") if isinstance(one, dict) else one))


def _say(talk: Dialogue, message: dict[str, Any], content: Any, event: Any) -> None:  # noqa: ANN401 - JSON of anyone
    parts = content if isinstance(content, list) else []
    thoughts = [
        text for one in parts if (text := fitting(at(one, "reasoning"), str) or fitting(at(one, "summary"), str))
    ]
    counts = _counts(at(event, "output", "usage"))
    cached = counts.pop("cached_tokens")
    known = {
        "reasoning_content": "\n".join(thoughts) or None,
        **counts,
        "finish_reason": fitting(at(event, "choice", "stop_reason"), str),
        "timings": None if cached is None else Timings(cached_n=cached),
        **between(moment_ns(at(event, "timestamp")), moment_ns(at(event, "completed"))),
    }
    texts = [one for one in parts if at(one, "type") != "reasoning"] if isinstance(content, list) else content
    talk.replied(text_of(texts), _calls(message.get("tool_calls")), **own_fields(at(event, "metadata", OURS), known))


def _calls(listed: Any) -> Iterator[Called]:  # noqa: ANN401 - JSON of anyone
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict):
            wrong = fitting(one.get("parse_error"), str) or ""
            told = wrong.removeprefix(NOT_PARSED) if wrong.startswith(NOT_PARSED) else json_text(one.get("arguments"))
            yield Called(fitting(one.get("id"), str), fitting(one.get("function"), str) or "unknown", told)


def _result(talk: Dialogue, message: dict[str, Any], text: str, events: _Events) -> None:
    called, error = fitting(message.get("tool_call_id"), str), message.get("error")
    event = events.calls.get(str(message.get("id"))) or events.calls.get(str(called))
    late: SpanStatus = "timeout" if at(error, "type") == "timeout" else "ok"
    known = {"status": late, **between(moment_ns(at(event, "timestamp")), moment_ns(at(event, "completed")))}
    text = text or text_of(at(error, "message"))
    name = fitting(message.get("function"), str) or STRAY
    talk.came_back(text, called, name, **own_fields(at(event, "metadata", OURS), known))
