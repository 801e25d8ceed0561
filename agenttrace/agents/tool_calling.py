"""The tool-calling agent: think, call a tool, read its output, until `final_answer` or a limit.

The loop is that of AgentTrace's collector, without its losses: every proposed call has an id that its span carries,
malformed and unknown calls are spans too.
"""

from __future__ import annotations

import importlib.resources
import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from agenttrace.agents import AgentOptions, Run
from agenttrace.errors import AgentTraceError, WorkerLostError
from agenttrace.records import (
    NO_PROCESS,
    NOT_MEASURED,
    LLMStep,
    Outcome,
    Span,
    ToolCall,
    ToolCallingSpec,
    canonical_json,
    derived_id,
)
from agenttrace.serving.model import ContextFullError, NoReplyError, RequestRefusedError, UnparsableReplyError

if TYPE_CHECKING:
    from agenttrace.agents import Shell, Watch
    from agenttrace.records import AgentSpec, Ended
    from agenttrace.sandbox.policies import Policy
    from agenttrace.sandbox.reports import CallReport
    from agenttrace.serving.model import Model, Reply
    from agenttrace.tasks import Task

FINAL_ANSWER = "final_answer"
MAX_STEPS = 10
CALL_LIMIT_MS = 30_000
_REMINDER = "Call exactly one tool; end with final_answer."


_KINDS: dict[str, tuple[Literal["bash", "python"], str]] = {
    "bash": ("bash", "command"),
    "python_interpreter": ("python", "code"),
}
"""Tool → what runs it in the sandbox, and its one parameter."""
_PYTHON = ", python_interpreter runs Python code"


class ToolCalling:
    """The entry of `agenttrace.agents.AGENTS`."""

    counts_tokens = False

    def spec(
        self, options: AgentOptions, *, policy: Policy, context_length: int = 0, checkout: bool = False
    ) -> ToolCallingSpec:
        """Return the agent's part of a run spec; tools that the policy cannot serve are left out."""
        del context_length, checkout
        return agent_spec(
            max_steps=options.max_steps or MAX_STEPS,
            call_limit_ms=options.call_limit_ms or CALL_LIMIT_MS,
            python="python" in policy.kinds,
        )

    def options(self, spec: AgentSpec) -> AgentOptions:
        """Return the options that give this spec again."""
        return AgentOptions(max_steps=_own(spec).max_steps, call_limit_ms=_own(spec).call_limit_ms)

    def prompt(self, spec: AgentSpec, task: Task) -> str:
        """Return the task's own text."""
        del spec
        return task.prompt

    def metadata(self, spec: AgentSpec) -> dict[str, Any]:
        """Return `tool_choice` and `max_steps`."""
        own = _own(spec)
        return {"tool_choice": own.tool_choice, "max_steps": own.max_steps}

    def agent(self, spec: AgentSpec, model: Model, shell: Shell, watch: Watch) -> ToolCallingAgent:
        """Return an agent."""
        return ToolCallingAgent(_own(spec), model, shell, watch)


KIND = ToolCalling()


def agent_spec(
    *, max_steps: int = MAX_STEPS, call_limit_ms: int = CALL_LIMIT_MS, python: bool = True
) -> ToolCallingSpec:
    """Return the agent's own part of a run spec: prompt, tools and limits, all in full."""
    text, tools = _data("tool_calling.system.txt").strip(), json.loads(_data("tool_calling.tools.json"))
    if not python:
        text = text.replace(_PYTHON, "")
        tools = [tool for tool in tools if tool["function"]["name"] != "python_interpreter"]
    return ToolCallingSpec(
        version=1,
        system_prompt=text,
        tools=tuple(tools),
        tool_choice="auto",
        max_steps=max_steps,
        max_format_errors=3,
        call_limit_ms=call_limit_ms,
        keep_bytes=65_536,
        reminder=_REMINDER,
    )


def _own(spec: AgentSpec) -> ToolCallingSpec:
    assert isinstance(spec, ToolCallingSpec)  # noqa: S101 - its tag chose this module
    return spec


def _data(name: str) -> str:
    return importlib.resources.files("agenttrace.agents").joinpath(name).read_text(encoding="utf-8")


class _End(Exception):  # noqa: N818 - an end of the loop, not an error
    """Leaves the loop; carries what the outcome says."""

    def __init__(self, ended: Ended, detail: str | None = None, answer: str | None = None) -> None:
        super().__init__(ended)
        self.outcome = Outcome(ended=ended, detail=detail, final_answer=answer)


class ToolCallingAgent:
    """Runs one task at a time.

    Args:
        spec: prompts and limits.
        model: what generates.
        shell: what executes.
        watch: called with every finished step and span, for progress; must not raise.
    """

    def __init__(self, spec: ToolCallingSpec, model: Model, shell: Shell, watch: Watch = lambda _: None) -> None:
        self._spec = spec
        self._model = model
        self._shell = shell
        self._watch = watch
        self._parameters = {
            tool["function"]["name"]: set(tool["function"]["parameters"]["properties"]) for tool in spec.tools
        }

    def run(self, trace_id: str, prompt: str) -> Run:
        """Return everything that happened on one task.

        A worker that dies ends the run as `sandbox_error`, a request without a reply as `model_error`.

        Raises:
            ModelServerError: no request to this server can succeed.
        """
        self._trace_id = trace_id
        self._steps: list[LLMStep] = []
        self._spans: list[Span] = []
        self._format_errors = 0
        self._messages: list[dict[str, Any]] = [
            {"role": "system", "content": self._spec.system_prompt},
            {"role": "user", "content": prompt},
        ]
        timestamp, started = datetime.now(UTC), time.monotonic_ns()
        try:
            while True:
                self._step()
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

    def _step(self) -> None:
        if len(self._steps) >= self._spec.max_steps:
            raise _End("max_steps", f"no final answer within {self._spec.max_steps} steps")
        start_ns, started = time.time_ns(), time.monotonic_ns()
        try:
            reply = self._model.complete(self._messages)
        except ContextFullError as error:
            raise _End("token_budget", str(error)) from None
        except (RequestRefusedError, NoReplyError) as error:
            raise _End("model_error", str(error)) from None
        except UnparsableReplyError as error:
            self._record_unparsable(str(error), start_ns, time.monotonic_ns() - started)
            return
        step = self._record(reply)
        if step.tool_calls and all(_arguments(call.arguments) is not None for call in step.tool_calls):
            self._format_errors = 0
            self._say_calls(step)
            self._carry_out(step.tool_calls, step)
        elif step.tool_calls:
            self._reject(step)
        else:
            self._say(reply.content or "")
            self._remind("the reply holds no tool call")

    def _carry_out(self, calls: tuple[ToolCall, ...], step: LLMStep) -> None:
        """Carry out calls in order; when one ends the run, those after it are recorded as not executed."""
        for number, call in enumerate(calls, start=1):
            try:
                self._call(call, step)
            except _End:
                for rest in calls[number:]:
                    self._append_span(rest, step, text="Error: not executed, the run had ended.")
                raise

    def _record(self, reply: Reply) -> LLMStep:
        number = len(self._steps) + 1
        calls = tuple(
            ToolCall(call_id=f"call_{number}_{index}", name=call.name, arguments=call.arguments)
            for index, call in enumerate(reply.tool_calls, start=1)
        )
        step = LLMStep(
            step_id=derived_id(self._trace_id, "step", number),
            step_number=number,
            model_output=reply.content or None,
            reasoning_content=reply.reasoning or None,
            tool_calls=calls or None,
            duration_ms=reply.elapsed_ns / 1e6,
            input_tokens=reply.input_tokens,
            output_tokens=reply.output_tokens,
            start_ns=reply.start_ns,
            end_ns=reply.end_ns,
            finish_reason=reply.finish_reason,
            timings=reply.timings,
        )
        self._steps.append(step)
        self._watch(step)
        return step

    def _record_unparsable(self, message: str, start_ns: int, elapsed_ns: int) -> None:
        """Record a generation of which the server kept only that it could not be parsed."""
        number = len(self._steps) + 1
        step = LLMStep(
            step_id=derived_id(self._trace_id, "step", number),
            step_number=number,
            model_output=None,
            reasoning_content=None,
            tool_calls=None,
            duration_ms=elapsed_ns / 1e6,
            input_tokens=None,
            output_tokens=None,
            start_ns=start_ns,
            end_ns=time.time_ns(),
            finish_reason="unparsable",
        )
        self._steps.append(step)
        self._watch(step)
        self._say("")
        self._remind(f"the server could not parse the reply: {message}")

    def _say(self, content: str) -> None:
        self._messages.append({"role": "assistant", "content": content})

    def _say_calls(self, step: LLMStep) -> None:
        """Put the proposed calls into the conversation; earlier reasoning is not fed back, as upstream."""
        calls = [
            {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in step.tool_calls or ()
        ]
        self._messages.append({"role": "assistant", "content": step.model_output or "", "tool_calls": calls})

    def _remind(self, why: str) -> None:
        self._format_errors += 1
        if self._format_errors >= self._spec.max_format_errors:
            raise _End(
                "format_error", f"{self._format_errors} replies in a row without a usable tool call; last: {why}"
            )
        self._messages.append({"role": "user", "content": self._spec.reminder})

    def _reject(self, step: LLMStep) -> None:
        """Record calls of a reply in which at least one has malformed arguments: none of them is executed.

        The text goes back as plain content, because a server refuses a history with unparsable arguments.
        """
        for call in step.tool_calls or ():
            self._append_span(call, step, text="Error: the arguments of this call are not a JSON object of strings.")
        self._say("\n".join(f"{call.name}: {call.arguments}" for call in step.tool_calls or ()))
        self._remind("malformed tool call arguments")

    def _call(self, call: ToolCall, step: LLMStep) -> None:
        arguments = _arguments(call.arguments) or {}
        if call.name == FINAL_ANSWER and set(arguments) == {"answer"}:
            self._append_span(call, step, text=arguments["answer"], exit_code=0)
            raise _End("final_answer", answer=arguments["answer"])
        expected = self._parameters.get(call.name)
        if expected is None:
            names = ", ".join(self._parameters)
            text = f"Error: there is no tool {call.name!r}; the tools are {names}."
        elif set(arguments) != expected:
            text = f"Error: {call.name} takes exactly {', '.join(sorted(expected))}."
        else:
            self._execute(call, step, arguments)
            return
        self._append_span(call, step, text=text)
        self._answer(call, text)

    def _execute(self, call: ToolCall, step: LLMStep, arguments: dict[str, str]) -> None:
        start_ns, started = time.time_ns(), time.monotonic_ns()
        kind, parameter = _KINDS[call.name]
        limit_ms, keep_bytes = self._spec.call_limit_ms, self._spec.keep_bytes
        try:
            report = self._shell.call(kind, arguments[parameter], limit_ms=limit_ms, keep_bytes=keep_bytes)
        except WorkerLostError as error:
            self._append_span(
                call,
                step,
                text=f"Error: {error}",
                status="lost",
                start_ns=start_ns,
                duration_ms=(time.monotonic_ns() - started) / 1e6,
                telemetry=NOT_MEASURED,
            )
            raise _End("sandbox_error", str(error)) from None
        text = tool_text(report, limit_ms=limit_ms)
        self._append_span(
            call,
            step,
            text=text,
            exit_code=report.exit_code,
            stdout=report.stdout,
            stderr=report.stderr,
            **carried_out(report),
        )
        self._answer(call, text)

    def _append_span(self, call: ToolCall, step: LLMStep, *, text: str, exit_code: int = -1, **fields: Any) -> None:  # noqa: ANN401
        now = time.time_ns()
        arguments = _arguments(call.arguments)
        values: dict[str, Any] = {
            "start_ns": now,
            "end_ns": now,
            "duration_ms": 0.0,
            "telemetry": NO_PROCESS,
            "status": "not_executed",
            **fields,
        }
        span = Span(
            span_id=derived_id(self._trace_id, call.call_id),
            type="TOOL",
            tool_name=call.name,
            tool_input=call.arguments if arguments is None else canonical_json(arguments).decode(),
            tool_output=text,
            exit_code=exit_code,
            parent_span_id=step.step_id,
            call_id=call.call_id,
            **values,
        )
        self._spans.append(span)
        self._watch(span)

    def _answer(self, call: ToolCall, text: str) -> None:
        self._messages.append({"role": "tool", "tool_call_id": call.call_id, "content": text})


def carried_out(report: CallReport) -> dict[str, Any]:
    """Return the fields of a span that say how a call went, but for its output."""
    wall_ns = report.telemetry.wall_ns
    return {
        "start_ns": report.start_ns,
        "end_ns": report.end_ns,
        "duration_ms": (report.end_ns - report.start_ns if wall_ns is None else wall_ns) / 1e6,
        "telemetry": report.telemetry,
        "status": report.status,
        "signal": report.signal,
    }


def tool_text(report: CallReport, *, limit_ms: int) -> str:
    """Return what the model reads: exit code, then standard output and standard error where there is any."""
    lines = [f"exit_code: {report.exit_code}"]
    if report.status == "timeout":
        lines.append(f"The call was stopped at its time limit of {limit_ms / 1000:g} s.")
    elif report.status == "oom":
        lines.append("The call was stopped because it used too much memory.")
    for name, output in (("stdout", report.stdout), ("stderr", report.stderr)):
        text = (output.text or "").rstrip("\n")
        if text:
            lines += [f"{name}:", text]
    return "\n".join(lines)


def _arguments(text: str) -> dict[str, str] | None:
    """Return the arguments as an object of strings, or `None` when the text is anything else.

    Text that cannot be encoded (a lone surrogate) is refused, too: no tool and no file could take it.
    """
    try:
        value = json.loads(text)
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            return None
        "".join([*value, *value.values()]).encode()
    except (ValueError, RecursionError):
        return None
    return value
