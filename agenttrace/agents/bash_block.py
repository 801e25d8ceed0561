"""The bash-block agent: each turn the model writes a thought and one bash block, and is answered with what it printed.

The conversation has the form of mini-swe-agent v1 (system, task, then assistant and user in turn). Differences to the
rollouts of SWE-ZERO, all of them recorded: a reply with several blocks is a format error, not its first block; one
malformed reply does not end a rollout; the submitting command must succeed, as mini-swe-agent requires.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from agenttrace.agents.observation import observe
from agenttrace.errors import WorkerLostError
from agenttrace.records import NOT_MEASURED, Record
from agenttrace.records.rollout import Execution, Stop, Turn
from agenttrace.serving.chat import ContextFullError, NoReplyError, RequestRefusedError, UnparsableReplyError

if TYPE_CHECKING:
    from agenttrace.records.rollout import BashBlockSpec
    from agenttrace.sandbox.reports import CallReport
    from agenttrace.serving.chat import Reply

VERSION = 1
MARKERS = ("COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT", "MINI_SWE_AGENT_FINAL_OUTPUT")
"""A successful command whose output starts with a line that is one of these submits."""
LEAST_REPLY_TOKENS = 64
"""A turn is not begun with less room than this, as upstream."""
_REQUEST_ERRORS = (ContextFullError, RequestRefusedError, UnparsableReplyError, NoReplyError)
_FENCE = "```"
_START = re.compile(rf"{_FENCE}bash(\s*\n)")


class Conversation(Protocol):
    """A model that continues one conversation, and counts its tokens before."""

    def count(self, messages: list[dict[str, Any]]) -> int:
        """Return the tokens of the prompt that these messages give; never fewer than the server will count."""
        ...

    def complete(self, messages: list[dict[str, Any]], *, max_tokens: int) -> Reply:
        """Return the next reply."""
        ...


class Shell(Protocol):
    """Something that runs commands over the task's tree."""

    def execute(self, command: str) -> CallReport:
        """Run one command; raises `WorkerLostError` when it cannot be said how it went."""
        ...


class Attempt(Record, frozen=True, kw_only=True):
    """What the agent leaves behind: the turns and the rule that ended them."""

    turns: tuple[Turn, ...]
    stop: Stop
    detail: str | None
    submission: str | None
    timestamp_utc: str
    elapsed_ns: int


class _End(Exception):  # noqa: N818 - an end is no error
    def __init__(self, stop: Stop, detail: str | None = None, submission: str | None = None) -> None:
        super().__init__(stop)
        self.stop: Stop = stop
        self.detail = detail
        self.submission = submission


def blocks(content: str) -> list[str]:
    r"""Return the bash blocks of a reply, in order.

    The same as the pattern of mini-swe-agent v1, "```bash\s*\n(.*?)\n```" with dots for line feeds, gives. That takes
    time by the square of the line feeds after an open fence, and a model that repeats itself writes many.
    """
    found: list[str] = []
    at = 0
    while start := _START.search(content, at):
        first = start.end()
        end = content.find(f"\n{_FENCE}", first)
        if (
            end < 0
            and content.startswith(_FENCE, first)
            and (early := content.rfind("\n", start.start(1), first - 1)) >= 0
        ):
            first, end = early + 1, first - 1  # the pattern gives back the last line feed: an empty block
        if end < 0:
            at = start.start() + 1
        else:
            found.append(content[first:end].strip())
            at = end + 1 + len(_FENCE)
    return found


class BashBlockAgent:
    """Works on one task.

    Args:
        spec: templates, limits and rules.
        model: continues the conversation.
        shell: runs the commands.
    """

    def __init__(self, spec: BashBlockSpec, model: Conversation, shell: Shell) -> None:
        self._spec = spec
        self._model = model
        self._shell = shell
        self._messages: list[dict[str, Any]] = []
        self._turns: list[Turn] = []
        self._malformed = 0

    def run(self, system: str, prompt: str) -> Attempt:
        """Return what came of the task; the model server's final failure is the only error that leaves.

        Args:
            system: the first message.
            prompt: the second.

        Raises:
            ModelServerError: the server is gone for good.
        """
        timestamp, started = datetime.now(UTC).isoformat(timespec="microseconds"), time.monotonic_ns()
        self._messages = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
        try:
            while True:
                self._turn()
        except _End as end:
            return Attempt(
                turns=tuple(self._turns),
                stop=end.stop,
                detail=end.detail,
                submission=end.submission,
                timestamp_utc=timestamp,
                elapsed_ns=time.monotonic_ns() - started,
            )

    def _turn(self) -> None:
        """Ask once, act on the reply, answer it; raises `_End` when a stop rule fires."""
        if len(self._turns) == self._spec.max_turns:
            raise _End("turns", f"{self._spec.max_turns} turns")
        counted = self._counted()
        room = self._spec.max_total_tokens - self._spec.reserve_tokens - counted
        if room < min(LEAST_REPLY_TOKENS, self._spec.max_output_tokens):
            raise _End("tokens", f"the prompt has {counted} of {self._spec.max_total_tokens} tokens")
        try:
            reply = self._model.complete(self._messages, max_tokens=min(self._spec.max_output_tokens, room))
        except _REQUEST_ERRORS as error:
            raise _End("error", f"{type(error).__name__}: {error}") from error
        content = reply.content or ""
        self._messages.append({"role": "assistant", "content": content})
        found = blocks(content)
        if len(found) == 1:
            self._malformed = 0
            self._act(found[0], reply, counted)
        else:
            self._malformed += 1
            self._answer(reply, counted, len(found), self._spec.format_error_template)
            if self._malformed == self._spec.max_format_errors:
                raise _End("format", f"{self._malformed} replies in a row without exactly one bash block")

    def _counted(self) -> int:
        try:
            return self._model.count(self._messages)
        except _REQUEST_ERRORS as error:
            raise _End("error", f"the prompt could not be counted: {type(error).__name__}: {error}") from error

    def _act(self, command: str, reply: Reply, counted: int) -> None:
        started = time.time_ns()
        try:
            report = self._shell.execute(command)
        except WorkerLostError as error:
            lost = Execution(
                command=command, exit_code=-1, status="lost", start_ns=started, duration_ms=0.0,
                telemetry=NOT_MEASURED, stdout_bytes=0, stderr_bytes=0,
            )  # fmt: skip
            self._answer(reply, counted, 1, None, lost)
            raise _End("error", str(error)) from None
        seen = observe(report, self._spec)
        self._answer(reply, counted, 1, seen.text, _execution(command, report, seen.cut_chars))
        submission = submitted(report)
        if submission is not None:
            raise _End("submitted", submission=submission)

    def _answer(
        self, reply: Reply, counted: int, count: int, observation: str | None, execution: Execution | None = None
    ) -> None:
        self._turns.append(
            Turn(
                turn=len(self._turns) + 1,
                content=reply.content or "",
                blocks=count,
                execution=execution,
                observation=observation,
                finish_reason=reply.finish_reason,
                input_tokens=reply.input_tokens,
                counted_tokens=counted,
                output_tokens=reply.output_tokens,
                start_ns=reply.start_ns,
                duration_ms=reply.elapsed_ns / 1e6,
                reasoning_content=reply.reasoning,
                timings=reply.timings,
            )
        )
        if observation is not None:
            self._messages.append({"role": "user", "content": observation})


def submitted(report: CallReport) -> str | None:
    """Return what a submitting command printed after the marker, or `None` when it does not submit."""
    first, _, rest = report.stdout.text.lstrip().partition("\n")
    return rest if report.exit_code == 0 and first.strip() in MARKERS else None


def _execution(command: str, report: CallReport, cut_chars: int) -> Execution:
    wall_ns = report.telemetry.wall_ns
    clean = report.stdout.encoding == report.stderr.encoding == "utf-8"
    return Execution(
        command=command,
        exit_code=report.exit_code,
        status=report.status,
        start_ns=report.start_ns,
        duration_ms=(report.end_ns - report.start_ns if wall_ns is None else wall_ns) / 1e6,
        telemetry=report.telemetry,
        stdout_bytes=report.stdout.bytes_total,
        stderr_bytes=report.stderr.bytes_total,
        lost_bytes=sum(out.bytes_total - out.bytes_kept for out in (report.stdout, report.stderr)),
        cut_chars=cut_chars,
        encoding="utf-8" if clean else "backslashreplace",
    )
