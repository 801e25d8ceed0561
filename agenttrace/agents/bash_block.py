"""The bash-block agent: each turn the model writes a thought and one bash block, and is answered with what it printed.

The conversation has the form of mini-swe-agent v1 (system, task, then assistant and user in turn). Differences to the
rollouts of SWE-ZERO, all of them recorded: a reply with several blocks is a format error, not its first block; one
malformed reply does not end a rollout; the submitting command must succeed, as mini-swe-agent requires.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agenttrace.agents import Run
from agenttrace.agents.tool_calling import carried_out
from agenttrace.errors import AgentTraceError, WorkerLostError
from agenttrace.records import (
    NOT_MEASURED,
    LLMStep,
    Outcome,
    Span,
    ToolCall,
    canonical_json,
    derived_id,
)
from agenttrace.serving.model import ContextFullError, NoReplyError, RequestRefusedError, UnparsableReplyError

if TYPE_CHECKING:
    from agenttrace.agents import Shell, Watch
    from agenttrace.records import BashBlockSpec, Ended
    from agenttrace.sandbox.reports import CallReport
    from agenttrace.serving.model import Messages, Model, Reply

VERSION = 1
TOOL = "bash"
MARKERS = ("COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT", "MINI_SWE_AGENT_FINAL_OUTPUT")
"""A successful command whose output starts with a line that is one of these submits."""
LEAST_REPLY_TOKENS = 64
"""A turn is not begun with less room than this, as upstream."""
_REQUEST_ERRORS = (ContextFullError, RequestRefusedError, UnparsableReplyError, NoReplyError)
_FENCE = "```"
_START = re.compile(rf"{_FENCE}bash(\s*\n)")


class _End(Exception):  # noqa: N818 - an end is no error
    def __init__(self, ended: Ended, detail: str | None = None, submission: str | None = None) -> None:
        super().__init__(ended)
        self.outcome = Outcome(ended=ended, detail=detail, final_answer=submission)


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
    """Works on one task at a time.

    Args:
        spec: templates, limits and rules.
        model: continues the conversation.
        shell: runs the commands.
        watch: called with every finished step and span, for progress; must not raise.
    """

    def __init__(self, spec: BashBlockSpec, model: Model, shell: Shell, watch: Watch = lambda _: None) -> None:
        self._spec = spec
        self._model = model
        self._shell = shell
        self._watch = watch

    def run(self, trace_id: str, prompt: str) -> Run:
        """Return what came of the task; `prompt` is the second message, after the system message.

        Raises:
            ModelServerError: the server is gone for good.
        """
        self._trace_id = trace_id
        self._steps: list[LLMStep] = []
        self._spans: list[Span] = []
        self._malformed = 0
        self._messages: Messages = [
            {"role": "system", "content": self._spec.system_template},
            {"role": "user", "content": prompt},
        ]
        timestamp, started = datetime.now(UTC), time.monotonic_ns()
        try:
            while True:
                self._turn()
        except _End as end:
            outcome = end.outcome
        except AgentTraceError:
            raise
        except Exception as error:  # noqa: BLE001 - one task's fault never ends the campaign, and keeps what it has done
            outcome = Outcome(ended="internal_error", detail=f"{type(error).__name__}: {error}")
        return Run(
            steps=tuple(self._steps),
            spans=tuple(self._spans),
            outcome=outcome,
            timestamp_utc=timestamp.isoformat(timespec="microseconds"),
            elapsed_ns=time.monotonic_ns() - started,
        )

    def _turn(self) -> None:
        """Ask once, act on the reply, answer it; raises `_End` when a stop rule fires."""
        if len(self._steps) == self._spec.max_turns:
            raise _End("max_steps", f"{self._spec.max_turns} turns")
        counted = self._counted()
        room = self._spec.max_total_tokens - self._spec.reserve_tokens - counted
        if room < min(LEAST_REPLY_TOKENS, self._spec.max_output_tokens):
            raise _End("token_budget", f"the prompt has {counted} of {self._spec.max_total_tokens} tokens")
        try:
            reply = self._model.complete(self._messages, max_tokens=min(self._spec.max_output_tokens, room))
        except _REQUEST_ERRORS as error:
            raise _End("model_error", f"{type(error).__name__}: {error}") from error
        content = reply.content or ""
        self._messages.append({"role": "assistant", "content": content})
        found = blocks(content)
        if len(found) == 1:
            self._malformed = 0
            self._act(found[0], self._record(reply, counted, found))
        else:
            self._malformed += 1
            answer = self._spec.format_error_template
            self._record(reply, counted, found, answered=answer)
            self._answer(answer)
            if self._malformed == self._spec.max_format_errors:
                raise _End("format_error", f"{self._malformed} replies in a row without exactly one bash block")

    def _counted(self) -> int:
        try:
            return self._model.count(self._messages)
        except _REQUEST_ERRORS as error:
            raise _End("model_error", f"the prompt could not be counted: {type(error).__name__}: {error}") from error

    def _record(self, reply: Reply, counted: int, found: list[str], *, answered: str | None = None) -> LLMStep:
        number = len(self._steps) + 1
        calls = None
        if len(found) == 1:
            calls = (ToolCall(call_id=f"call_{number}_1", name=TOOL, arguments=_arguments(found[0])),)
        step = LLMStep(
            step_id=derived_id(self._trace_id, "step", number),
            step_number=number,
            model_output=reply.content or None,
            reasoning_content=reply.reasoning or None,
            tool_calls=calls,
            duration_ms=reply.elapsed_ns / 1e6,
            input_tokens=reply.input_tokens,
            output_tokens=reply.output_tokens,
            start_ns=reply.start_ns,
            end_ns=reply.end_ns,
            finish_reason=reply.finish_reason,
            timings=reply.timings,
            counted_tokens=counted,
            blocks=len(found),
            answered=answered,
        )
        self._steps.append(step)
        self._watch(step)
        return step

    def _answer(self, text: str) -> None:
        self._messages.append({"role": "user", "content": text})

    def _act(self, command: str, step: LLMStep) -> None:
        start_ns, started = time.time_ns(), time.monotonic_ns()
        try:
            report = self._shell.call("bash", command, limit_ms=self._spec.call_limit_ms)
        except WorkerLostError as error:
            elapsed_ns = time.monotonic_ns() - started
            lost = {
                "start_ns": start_ns,
                "end_ns": start_ns + elapsed_ns,
                "duration_ms": elapsed_ns / 1e6,
                "telemetry": NOT_MEASURED,
                "status": "lost",
            }
            self._append_span(command, step, text=f"Error: {error}", exit_code=-1, **lost)
            raise _End("sandbox_error", str(error)) from None
        text, cut_chars = observe(report, self._spec)
        self._append_span(
            command,
            step,
            text=text,
            exit_code=report.exit_code,
            stdout=report.stdout,
            stderr=report.stderr,
            cut_chars=cut_chars,
            **carried_out(report),
        )
        self._answer(text)
        submission = submitted(report)
        if submission is not None:
            raise _End("final_answer", submission=submission)

    def _append_span(self, command: str, step: LLMStep, *, text: str, exit_code: int, **fields: Any) -> None:  # noqa: ANN401
        call_id = f"call_{step.step_number}_1"
        span = Span(
            span_id=derived_id(self._trace_id, call_id),
            type="TOOL",
            tool_name=TOOL,
            tool_input=_arguments(command),
            tool_output=text,
            exit_code=exit_code,
            parent_span_id=step.step_id,
            call_id=call_id,
            **fields,
        )
        self._spans.append(span)
        self._watch(span)


def submitted(report: CallReport) -> str | None:
    """Return what a submitting command printed after the marker, or `None` when it does not submit."""
    first, _, rest = (report.stdout.text or "").lstrip().partition("\n")
    return rest if report.exit_code == 0 and first.strip() in MARKERS else None


def observe(report: CallReport, spec: BashBlockSpec) -> tuple[str, int]:
    """Return the observation of a call in the format of the run spec, and how many characters it leaves out.

    `swe-zero`: `Observation: `, standard output, then standard error on a line of its own; the middle of more than
    `observation_max_chars` characters is replaced by a line that says how many. `mini-swe-agent`: the tags of its
    `default.yaml` (v1.17.5), with the return code.
    """
    text = "\n".join(part for part in (report.stdout.text, report.stderr.text) if part)
    if report.status == "timeout":
        text = f"{text}\n[command timed out]"
    elif report.status == "oom":
        text = f"{text}\n[command stopped: out of memory]"
    limit = spec.observation_max_chars
    cut = max(0, len(text) - limit)
    head, tail = text[: limit // 2], text[len(text) - (limit - limit // 2) :]
    if spec.observation_template == "swe-zero":
        shown = f"{head}\n[... {cut} characters elided ...]\n{tail}" if cut else text
        return f"Observation: {shown}", cut
    code = f"<returncode>{report.exit_code}</returncode>"
    if not cut:
        return f"{code}\n<output>\n{text}</output>", 0
    warning = "<warning>\nThe output was too long and its middle is left out; narrow the command down.\n</warning>"
    elided = f"<elided_chars>\n{cut} characters elided\n</elided_chars>"
    parts = (code, warning, f"<output_head>\n{head}\n</output_head>", elided, f"<output_tail>\n{tail}\n</output_tail>")
    return "\n".join(parts), cut


def _arguments(command: str) -> str:
    return canonical_json({"command": command}).decode()
