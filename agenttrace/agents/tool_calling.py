"""The tool-calling agent: think, call a tool, read its output, until `final_answer` or a limit.

The loop is that of AgentTrace's collector, without its losses: every proposed call has an id that its span carries,
malformed and unknown calls are spans too.
"""

from __future__ import annotations

import importlib.resources
import json
import math
import re
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET

from agenttrace.agents import AgentOptions
from agenttrace.agents.constrained import read_call, reply_form
from agenttrace.agents.run import UNPARSABLE, RunEnd, RunLog, call_arguments, unrunnable
from agenttrace.records import ToolCallingSpec, canonical_json, digest

if TYPE_CHECKING:
    from agenttrace.agents import Shell
    from agenttrace.agents.run import Run, Watch
    from agenttrace.records import LLMStep, ToolCall
    from agenttrace.sandbox.policies import Policy
    from agenttrace.sandbox.reports import CallReport
    from agenttrace.serving.model import Model, ProposedCall, Reply
    from agenttrace.tasks import Task

FINAL_ANSWER = "final_answer"
MAX_STEPS = 10
CALL_LIMIT_MS = 30_000
_HELD_TOKENS = 1024
MOST_CALLS = 16
"""Carried out of one reply."""
_REMINDER = "Call exactly one tool; end with final_answer."
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What the protocol lets be the name of a tool: servers refuse a conversation that holds another."""
_SHOWN_CHARS = 64
_TYPES = {"NoneType": "null", "list": "a list", "dict": "an object"}

_KINDS: dict[str, tuple[Literal["bash", "python"], str]] = {
    "bash": ("bash", "command"),
    "python_interpreter": ("python", "code"),
}
"""Tool → what runs it in the sandbox, and its one parameter."""
_PYTHON = ", python_interpreter runs Python code"


def agent_spec(
    *,
    max_steps: int = MAX_STEPS,
    call_limit_ms: int = CALL_LIMIT_MS,
    python: bool = True,
    held_tokens: int | None = None,
) -> ToolCallingSpec:
    """Return the agent's own part of a run spec: prompt, tools and limits, all in full.

    With `held_tokens`, the most tokens of a reply, the server holds replies to a form.
    """
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
        reply_form=UNSET if held_tokens is None else reply_form(tools, limit_tokens=held_tokens),
    )


def _data(name: str) -> str:
    return importlib.resources.files("agenttrace.agents").joinpath(name).read_text(encoding="utf-8")


class ToolCallingAgent:
    """Runs one task at a time.

    Args:
        spec: prompts and limits.
        model: what generates.
        shell: what executes.
        watch: called with every finished step and span, for progress; must not raise.
    """

    counts_tokens = False

    def __init__(self, spec: ToolCallingSpec, model: Model, shell: Shell, watch: Watch = lambda _: None) -> None:
        self._spec = spec
        self._model = model
        self._shell = shell
        self._watch = watch
        self._parameters = {
            tool["function"]["name"]: set(tool["function"]["parameters"]["properties"]) for tool in spec.tools
        }

    @staticmethod
    def spec(
        options: AgentOptions, *, policy: Policy, context_length: int = 0, checkout: bool = False
    ) -> ToolCallingSpec:
        """Return the agent's part of a run spec; tools that the policy cannot serve are left out."""
        del checkout
        most = options.max_output_tokens or (context_length // 8 if context_length else _HELD_TOKENS)
        own = agent_spec(
            max_steps=options.max_steps or MAX_STEPS,
            call_limit_ms=options.call_limit_ms or CALL_LIMIT_MS,
            python="python" in policy.kinds,
            held_tokens=most if options.constrained == "on" else None,
        )
        if options.system_prompt is None:
            return own
        return msgspec.structs.replace(own, system_prompt=options.system_prompt, system_prompt_from="given")

    @staticmethod
    def options(spec: ToolCallingSpec) -> AgentOptions:
        """Return the options that give this spec again."""
        given = None if spec.system_prompt_from is UNSET else spec.system_prompt
        return AgentOptions(
            max_steps=spec.max_steps,
            call_limit_ms=spec.call_limit_ms,
            system_prompt=given,
            constrained="off" if spec.reply_form is UNSET else "on",
        )

    @staticmethod
    def prompt(spec: ToolCallingSpec, task: Task) -> str:
        """Return the task's own text."""
        del spec
        return task.prompt

    @staticmethod
    def metadata(spec: ToolCallingSpec) -> dict[str, Any]:
        """Return `tool_choice`, `max_steps`, of a prompt that was given its digest, and what replies are held to."""
        own = spec.system_prompt_from is UNSET
        prompt = {} if own else {"prompt_sha256": digest([spec.system_prompt])}
        held = {} if spec.reply_form is UNSET else {"constrained": "json_schema"}
        return {"tool_choice": spec.tool_choice, "max_steps": spec.max_steps, **prompt, **held}

    def run(self, trace_id: str, prompt: str) -> Run:
        """Return everything that happened on one task.

        A worker that dies ends the run as `sandbox_error`, a request without a reply as `model_error`.

        Raises:
            ModelServerError: no request to this server can succeed.
        """
        self._log = RunLog(trace_id, self._watch)
        self._format_errors = 0
        self._messages: list[dict[str, Any]] = [
            {"role": "system", "content": self._spec.system_message},
            {"role": "user", "content": prompt},
        ]
        return self._log.until_end(self._step)

    def _step(self) -> None:
        if len(self._log.steps) >= self._spec.max_steps:
            raise RunEnd("max_steps", f"no final answer within {self._spec.max_steps} steps")
        reply = self._log.asked(lambda: self._model.complete(self._messages))
        step = self._log.generated(reply, self._proposed(reply))
        if not step.tool_calls:
            self._say(reply.content or "")
            self._remind("could not be parsed" if reply.finish_reason == UNPARSABLE else "the reply holds no tool call")
        elif why := next(filter(None, map(self._unsendable, step.tool_calls)), None):
            self._reject(step, why)
        else:
            self._format_errors = 0
            self._say_calls(step)
            self._carry_out(step.tool_calls, step)

    def _proposed(self, reply: Reply) -> tuple[ProposedCall, ...]:
        """Return the calls of a reply: those that the server read, or the one that its text is."""
        if self._spec.reply_form is UNSET:
            return reply.tool_calls
        return () if (call := read_call(reply.content)) is None else (call,)

    def _carry_out(self, calls: tuple[ToolCall, ...], step: LLMStep) -> None:
        """Carry out calls in order; when one ends the run, those after it are recorded as not executed."""
        for number, call in enumerate(calls, start=1):
            try:
                if number > MOST_CALLS:
                    text = f"Error: not executed: of one reply at most {MOST_CALLS} calls are."
                    self._refuse(call, step, text)
                else:
                    self._call(call, step)
            except RunEnd:
                for rest in calls[number:]:
                    self._log.not_executed(step, rest, "Error: not executed, the run had ended.")
                raise

    def _say(self, content: str) -> None:
        self._messages.append({"role": "assistant", "content": content})

    def _say_calls(self, step: LLMStep) -> None:
        """Put the proposed calls into the conversation; earlier reasoning is not fed back, as upstream."""
        if self._spec.reply_form is not UNSET:
            self._say(step.model_output or "")
            return
        calls = [
            {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": _sent(call)}}
            for call in step.tool_calls or ()
        ]
        self._messages.append({"role": "assistant", "content": step.model_output or "", "tool_calls": calls})

    def _remind(self, why: str) -> None:
        self._count_format_error(why)
        self._messages.append({"role": "user", "content": self._spec.reminder})

    def _count_format_error(self, why: str) -> None:
        self._format_errors += 1
        if self._format_errors >= self._spec.max_format_errors:
            raise RunEnd(
                "format_error", f"{self._format_errors} replies in a row without a usable tool call; last: {why}"
            )

    def _reject(self, step: LLMStep, why: str) -> None:
        """Record calls of a reply in which at least one has no usable form: none of them is executed.

        The calls go back as plain content, because a server refuses a history with unparsable arguments.
        """
        calls, text = step.tool_calls or (), f"Error: not executed: {why}.\n{self._spec.reminder}"
        for call in calls:
            self._log.not_executed(step, call, text)
        self._say("\n".join(f"{call.name}: {call.arguments}" for call in calls))
        self._count_format_error(why)
        self._messages.append({"role": "user", "content": text})

    def _unsendable(self, call: ToolCall) -> str | None:
        """Return why a server would refuse a conversation that holds this call, or `None`."""
        if not _NAME.fullmatch(call.name):
            return self._no_tool(call.name)
        if call_arguments(call.arguments) is None:
            return f"the arguments of {call.name} are not a JSON object of strings"
        return None

    def _no_tool(self, name: str) -> str:
        return f"there is no tool {name[:_SHOWN_CHARS]!r}; the tools are {', '.join(self._parameters)}"

    def _call(self, call: ToolCall, step: LLMStep) -> None:
        arguments = call_arguments(call.arguments) or {}
        wrong = self._wrong(call.name, arguments)
        if wrong is not None:
            self._refuse(call, step, wrong)
        elif call.name == FINAL_ANSWER:
            self._log.not_executed(step, call, arguments["answer"], exit_code=0)
            raise RunEnd("final_answer", answer=arguments["answer"])
        else:
            self._execute(call, step, arguments)

    def _wrong(self, name: str, arguments: dict[str, Any]) -> str | None:
        """Return what is wrong with a call, in the tool's words, or `None`."""
        expected = self._parameters.get(name)
        if expected is None:
            return f"Error: {self._no_tool(name)}."
        if set(arguments) != expected:
            return f"Error: {name} takes exactly {', '.join(sorted(expected))}."
        for parameter, value in arguments.items():
            if not isinstance(value, str):
                kind = _TYPES[type(value).__name__]
                return f"Error: {name}: the argument {parameter!r} must be a string, not {kind}."
        return None if name == FINAL_ANSWER else unrunnable("".join(arguments.values()))

    def _refuse(self, call: ToolCall, step: LLMStep, text: str) -> None:
        self._log.not_executed(step, call, text)
        self._answer(call, text)

    def _execute(self, call: ToolCall, step: LLMStep, arguments: dict[str, str]) -> None:
        kind, parameter = _KINDS[call.name]
        limit_ms, keep_bytes = self._spec.call_limit_ms, self._spec.keep_bytes
        _, text = self._log.carry_out(
            step,
            call,
            lambda: self._shell.call(kind, arguments[parameter], limit_ms=limit_ms, keep_bytes=keep_bytes),
            lambda report: {"tool_output": tool_text(report, limit_ms=limit_ms)},
        )
        self._answer(call, text)

    def _answer(self, call: ToolCall, text: str) -> None:
        if self._spec.reply_form is UNSET:
            self._messages.append({"role": "tool", "tool_call_id": call.call_id, "content": text})
        else:  # the template knows no such role
            self._messages.append({"role": "user", "content": text})


def _sent(call: ToolCall) -> str:
    """Return usable arguments as every server reads them: a number that is not JSON or no double is its text."""

    def checked(number: str) -> None:
        if not math.isfinite(float(number)):
            raise ValueError(number)

    try:
        json.loads(call.arguments, parse_int=checked, parse_float=checked, parse_constant=checked)
    except ValueError:
        return canonical_json(call_arguments(call.arguments)).decode()
    return call.arguments


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
