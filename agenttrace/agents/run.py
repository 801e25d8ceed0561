"""What an agent leaves behind of one task, and the log that it keeps on the way: the same for every agent."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from agenttrace.agents.repetition import ends_in_repetition
from agenttrace.errors import AgentTraceError, WorkerLostError
from agenttrace.records import (
    NO_PROCESS,
    NOT_MEASURED,
    LLMStep,
    Outcome,
    Record,
    Span,
    ToolCall,
    canonical_json,
    derived_id,
    without_shared,
)
from agenttrace.serving.model import (
    ContextFullError,
    NoReplyError,
    Reply,
    RequestRefusedError,
    UnparsableReplyError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from msgspec import UnsetType

    from agenttrace.records import Ended, Tokens
    from agenttrace.sandbox.reports import CallReport
    from agenttrace.serving.model import ProposedCall

    Watch = Callable[[LLMStep | Span], None]


LOST = "Error: the sandbox worker died under the call"
"""What stands for the answer of a call whose worker was lost; no model reads it."""
UNPARSABLE = "unparsable"
"""`finish_reason` of a reply that could not be parsed."""


class Run(Record, frozen=True, kw_only=True):
    """What an agent leaves behind: steps, spans and how it ended (verdicts still to come)."""

    steps: tuple[LLMStep, ...]
    spans: tuple[Span, ...]
    outcome: Outcome
    timestamp_utc: str
    elapsed_ns: int


class RunEnd(Exception):  # noqa: N818 - an end of the loop, not an error
    """Leaves an agent's loop; carries what the outcome says."""

    def __init__(self, ended: Ended, detail: str | None = None, *, answer: str | None = None) -> None:
        super().__init__(ended)
        self.outcome = Outcome(ended=ended, detail=detail, final_answer=answer)


class RunLog:
    """Keeps the steps and spans of one run as they are finished, with their ids and clocks.

    Args:
        trace_id: ids derive from it.
        watch: called with every finished step and span, for progress; must not raise.

    Attributes:
        steps: so far.
        spans: so far.
    """

    def __init__(self, trace_id: str, watch: Watch) -> None:
        self._trace_id = trace_id
        self._watch = watch
        self._read: tuple[int, ...] = ()
        self.steps: list[LLMStep] = []
        self.spans: list[Span] = []

    def until_end(self, turn: Callable[[], None]) -> Run:
        """Take turns until one of them raises `RunEnd` and return everything that happened.

        Raises:
            AgentTraceError: no task can go on. Any other error is this task's and ends it as `internal_error`.
        """
        timestamp, started = datetime.now(UTC), time.monotonic_ns()
        try:
            while True:
                turn()
        except RunEnd as end:
            outcome = end.outcome
        except AgentTraceError:
            raise
        except Exception as error:  # noqa: BLE001 - one task's fault never ends the campaign, and keeps what it has done
            what = f"{type(error).__name__}: {error}"  # it may name a file by bytes that are no text
            outcome = Outcome(ended="internal_error", detail=what.encode("utf-8", "backslashreplace").decode())
        texts = ((step.reasoning_content or "") + (step.model_output or "") for step in self.steps)
        if repeating := sum(map(ends_in_repetition, texts)):
            outcome = msgspec.structs.replace(outcome, repeating_steps=repeating)
        return Run(
            steps=tuple(self.steps),
            spans=tuple(self.spans),
            outcome=outcome,
            timestamp_utc=timestamp.isoformat(timespec="microseconds"),
            elapsed_ns=time.monotonic_ns() - started,
        )

    def asked(self, complete: Callable[[], Reply]) -> Reply:
        """Return the reply to a request; one that could not be parsed has nothing in it but its `finish_reason`.

        Raises:
            RunEnd: the conversation is too long (`token_budget`), or there is no reply (`model_error`).
            ModelServerError: no request to this server can succeed.
        """
        start_ns, started = time.time_ns(), time.monotonic_ns()
        try:
            return complete()
        except ContextFullError as error:
            raise RunEnd("token_budget", str(error)) from None
        except (RequestRefusedError, NoReplyError) as error:
            raise RunEnd("model_error", str(error)) from None
        except UnparsableReplyError as error:
            elapsed_ns = time.monotonic_ns() - started
            return Reply(
                content=None,
                reasoning=None,
                tool_calls=(),
                finish_reason=UNPARSABLE,
                input_tokens=None,
                output_tokens=None,
                timings=None,
                start_ns=start_ns,
                end_ns=start_ns + elapsed_ns,
                elapsed_ns=elapsed_ns,
                failed_tries=(str(error),),
            )

    def generated(self, reply: Reply, calls: Iterable[ProposedCall], **more: Any) -> LLMStep:  # noqa: ANN401
        """Record a generation with the calls that are read from it; `more` are fields that not every agent has."""
        number = len(self.steps) + 1
        proposed = tuple(
            ToolCall(call_id=f"call_{number}_{index}", name=call.name, arguments=call.arguments)
            for index, call in enumerate(calls, start=1)
        )
        step = LLMStep(
            step_id=derived_id(self._trace_id, "step", number),
            step_number=number,
            model_output=reply.content or None,
            reasoning_content=reply.reasoning or None,
            tool_calls=proposed or None,
            duration_ms=reply.elapsed_ns / 1e6,
            input_tokens=reply.input_tokens,
            output_tokens=reply.output_tokens,
            start_ns=reply.start_ns,
            end_ns=reply.end_ns,
            finish_reason=reply.finish_reason,
            timings=reply.timings,
            failed_tries=reply.failed_tries,
            tokens=self._new_tokens(reply),
            **more,
        )
        self.steps.append(step)
        self._watch(step)
        return step

    def _new_tokens(self, reply: Reply) -> Tokens | UnsetType:
        """Return the tokens of a reply without those that the step before has."""
        if reply.tokens is UNSET:
            return UNSET
        tokens, self._read = without_shared(reply.tokens, self._read)
        return tokens

    def carry_out(
        self,
        step: LLMStep,
        call: ToolCall,
        work: Callable[[], CallReport],
        read: Callable[[CallReport], dict[str, Any]],
    ) -> tuple[CallReport, str]:
        """Carry out a call, record it, and return its report and the text that answers it.

        Args:
            step: proposed it.
            call: what is carried out.
            work: does it.
            read: returns the fields of the span that say what the model reads (`tool_output`, and what goes with it).

        Raises:
            RunEnd: the worker died; the call is recorded as lost.
        """
        start_ns, started = time.time_ns(), time.monotonic_ns()
        try:
            report = work()
        except WorkerLostError as error:
            elapsed_ns = time.monotonic_ns() - started
            self._append(
                step,
                call,
                tool_output=LOST,
                exit_code=-1,
                status="lost",
                start_ns=start_ns,
                end_ns=start_ns + elapsed_ns,
                duration_ms=elapsed_ns / 1e6,
                telemetry=NOT_MEASURED,
            )
            raise RunEnd("sandbox_error", str(error)) from None
        wall_ns = report.telemetry.wall_ns
        span = self._append(
            step,
            call,
            exit_code=report.exit_code,
            status=report.status,
            signal=report.signal,
            stdout=report.stdout,
            stderr=report.stderr,
            start_ns=report.start_ns,
            end_ns=report.end_ns,
            duration_ms=(report.end_ns - report.start_ns if wall_ns is None else wall_ns) / 1e6,
            telemetry=report.telemetry,
            **read(report),
        )
        return report, span.tool_output

    def not_executed(self, step: LLMStep, call: ToolCall, text: str, *, exit_code: int = -1, **more: Any) -> None:  # noqa: ANN401
        """Record a call that no process was started for; `text` is what the model reads of it."""
        now = time.time_ns()
        self._append(
            step,
            call,
            tool_output=text,
            exit_code=exit_code,
            status="not_executed",
            start_ns=now,
            end_ns=now,
            duration_ms=0.0,
            telemetry=NO_PROCESS,
            **more,
        )

    def _append(self, step: LLMStep, call: ToolCall, **fields: Any) -> Span:  # noqa: ANN401
        arguments = call_arguments(call.arguments)
        if arguments is not None and not all(isinstance(one, str) for one in arguments.values()):
            arguments = None
        span = Span(
            span_id=derived_id(self._trace_id, call.call_id),
            type="TOOL",
            tool_name=call.name,
            tool_input=call.arguments if arguments is None else canonical_json(arguments).decode(),
            parent_span_id=step.step_id,
            call_id=call.call_id,
            **fields,
        )
        self.spans.append(span)
        self._watch(span)
        return span


def call_arguments(text: str) -> dict[str, Any] | None:
    """Return the arguments of a call as an object, or `None` when the text is anything else.

    A number, `true` or `false` is its text as generated, however long: every parameter of our tools is a text. Text
    that cannot be encoded (a lone surrogate) is refused: no tool and no file could take it.
    """
    try:
        value = json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
        if not isinstance(value, dict):
            return None
        value = {name: str(item).lower() if isinstance(item, bool) else item for name, item in value.items()}
        canonical_json(value)
    except (ValueError, RecursionError):
        return None
    return value


def unrunnable(code: str) -> str | None:
    """Return why code cannot be run as it was written, or `None`: no program takes an argument with a NUL in it."""
    at = code.find("\0")
    return None if at < 0 else f"Error: not executed: there is a NUL character in it, at position {at}."
