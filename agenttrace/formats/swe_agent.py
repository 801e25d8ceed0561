"""Trajectories of SWE-agent, read: its `.traj` files, and rows of nebius/SWE-agent-trajectories made from such.

An action is one command of the agent's shell, so it is a call of `bash`; its first word is the agent's tool. Sources:
SWE-agent's documentation of its output files and `sweagent/types.py` (1.1), the card of nebius/SWE-agent-trajectories.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.errors import DataError
from agenttrace.formats.chat_rows import judgement
from agenttrace.formats.dialogue import Called, Dialogue
from agenttrace.formats.foreign import amount, at, dollars, fitting, parsed, text_of, tokens
from agenttrace.records import Outcome, Totals, Trace, canonical_json

if TYPE_CHECKING:
    from agenttrace.records import Ended, SpanStatus

NAME = "swe-agent"
_SUFFIX = ".traj"
_ENDS: dict[str, Ended] = {
    "submitted": "final_answer",
    "exit_format": "format_error",
    "exit_context": "token_budget",
    "exit_api": "model_error",
    "exit_environment_error": "sandbox_error",
}
_LATE = "was cancelled because it took more than"
_FENCE = "```"


class _Turn(msgspec.Struct):
    """A step of a `.traj` file."""

    action: str | None = None
    observation: Any = None
    response: Any = None
    thought: str | None = None
    execution_time: Any = None


class _Said(msgspec.Struct):
    """A message of a history, or of a row."""

    role: str
    content: Any = None
    text: str | None = None
    system_prompt: str | None = None
    is_demo: Any = None
    message_type: str | None = None

    @property
    def demonstrates(self) -> bool:
        """Whether it is of a demonstration, not of the run."""
        return bool(self.is_demo) or self.message_type == "demonstration"


class _Stats(msgspec.Struct):
    instance_cost: Any = None
    tokens_sent: Any = None
    tokens_received: Any = None


class _Info(msgspec.Struct):
    exit_status: str | None = None
    submission: str | None = None
    model_stats: _Stats | None = None
    swe_agent_version: str | None = None


class _File(msgspec.Struct):
    trajectory: list[_Turn]
    history: list[_Said] = []
    info: _Info | None = None
    replay_config: Any = None


class _Row(msgspec.Struct):
    trajectory: list[_Said]
    instance_id: str | None = None
    model_name: str | None = None
    target: bool | int | None = None
    exit_status: str | None = None
    generated_patch: str | None = None


def to_trace(value: Any, source: str = "") -> Trace:  # noqa: ANN401 - whatever stood in the file
    """Return a trajectory as a record; the name of a `.traj` file is that of its task.

    Raises:
        DataError: it is none; the message names the field.
    """
    try:
        if any("text" in turn for turn in value["trajectory"][:1]):
            return _of_row(msgspec.convert(value, _Row))
        return _of_file(msgspec.convert(value, _File), source)
    except (msgspec.ValidationError, RecursionError, TypeError) as error:
        raise DataError(f"not a trajectory of SWE-agent: {error}") from error


def _of_file(found: _File, source: str) -> Trace:
    talk = Dialogue()
    for said in found.history:
        if said.role == "assistant" and not said.demonstrates:
            break
        if not said.demonstrates:
            (talk.told if said.role == "system" else talk.asked)(text_of(said.content))
    for turn in found.trajectory:
        reply = text_of(turn.response)
        if turn.action or reply:  # else the agent says why it ended
            talk.replied(reply or turn.thought or "", _calls(turn.action))
        if turn.action:
            took = amount(turn.execution_time)
            text = text_of(turn.observation)
            talk.came_back(text, status=_status(text), duration_ms=None if took is None else 1000 * took)
        elif turn.observation and talk.begun:
            talk.asked(text_of(turn.observation))
    info = found.info or _Info()
    stats = info.model_stats or _Stats()
    task = source.removesuffix(_SUFFIX) if source.endswith(_SUFFIX) else None
    return talk.trace(
        NAME,
        [task or ""],
        outcome=_outcome(info.exit_status, info.submission),
        model=fitting(at(_configured(found.replay_config), "agent", "model", "name"), str),
        metadata={"task_id": task, "task_name": task, "agent": info.swe_agent_version},
        totals=Totals(
            input_tokens=tokens(stats.tokens_sent),
            output_tokens=tokens(stats.tokens_received),
            cost_usd=dollars(stats.instance_cost),
        ),
    )


def _configured(value: Any) -> Any:  # noqa: ANN401 - JSON, or text of it
    try:
        return parsed(value.encode()) if isinstance(value, str) else value
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def _calls(action: str | None) -> list[Called]:
    command = (action or "").strip()
    return [Called(None, "bash", canonical_json({"command": command}).decode())] if command else []


def _status(text: str) -> SpanStatus:
    return "timeout" if _LATE in text[:10_000] else "ok"


def _of_row(found: _Row) -> Trace:
    talk = Dialogue()
    for said in found.trajectory:
        text = said.text if said.text is not None else said.system_prompt or ""
        if said.role == "system":
            talk.told(text)
        elif said.role in {"ai", "assistant"}:
            talk.replied(text, _calls(_block(text)))
        elif talk.waits:
            talk.came_back(text, status=_status(text))
        else:
            talk.asked(text)
    solved = None if found.target is None else bool(found.target)
    outcome = _outcome(found.exit_status, found.generated_patch)
    verdicts = () if solved is None else (judgement(passed=solved),)
    return talk.trace(
        NAME,
        [found.instance_id or ""],
        outcome=msgspec.structs.replace(outcome, verdicts=verdicts, solved=solved),
        model=found.model_name,
        metadata={"task_id": found.instance_id, "task_name": found.instance_id},
    )


def _block(text: str) -> str | None:
    """Return the last fenced block of a reply, which is its command."""
    parts = text.rsplit(_FENCE, 2)
    return parts[1].partition("\n")[2] if len(parts) == 3 else None  # noqa: PLR2004 - before, block, after


def _outcome(said: str | None, patch: str | None) -> Outcome:
    ended = _ENDS.get(said or "", "unknown")
    return Outcome(ended=ended, detail=said, patch=msgspec.UNSET if patch is None else patch)
