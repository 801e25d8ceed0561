"""An agent: this module and a line in `AGENTS`. Every reply is a command, but for one that begins with ANSWER."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agenttrace.agents import AgentOptions
from agenttrace.agents.run import RunEnd, RunLog
from agenttrace.agents.tool_calling import tool_text
from agenttrace.records import OtherAgentSpec, canonical_json
from agenttrace.serving.model import (
    ContextFullError,
    NoReplyError,
    ProposedCall,
    RequestRefusedError,
    UnparsableReplyError,
)

if TYPE_CHECKING:
    from agenttrace.agents import Shell
    from agenttrace.agents.run import Run, Watch
    from agenttrace.records import AgentSpec
    from agenttrace.sandbox.policies import Policy
    from agenttrace.serving.model import Model
    from agenttrace.tasks import Task


class OneLineAgent:
    counts_tokens = False

    def __init__(self, spec: OtherAgentSpec, model: Model, shell: Shell, watch: Watch) -> None:
        self._spec, self._model, self._shell, self._watch = spec, model, shell, watch

    @staticmethod
    def spec(options: AgentOptions, *, policy: Policy, context_length: int, checkout: bool) -> OtherAgentSpec:
        del policy, context_length, checkout
        return OtherAgentSpec(
            name="one_line",
            version=1,
            settings={"system": "Reply with one command, or with ANSWER and the answer."},
            max_steps=options.max_steps or 4,
            call_limit_ms=options.call_limit_ms or 5_000,
        )

    @staticmethod
    def options(spec: AgentSpec) -> AgentOptions:
        return AgentOptions(max_steps=spec.max_steps, call_limit_ms=spec.call_limit_ms)

    @staticmethod
    def prompt(spec: AgentSpec, task: Task) -> str:
        del spec
        return f"Task: {task.prompt}"

    @staticmethod
    def metadata(spec: AgentSpec) -> dict[str, Any]:
        return {"agent": spec.name, "max_steps": spec.max_steps}

    def run(self, trace_id: str, prompt: str) -> Run:
        self._log = RunLog(trace_id, self._watch)
        self._messages = [
            {"role": "system", "content": self._spec.settings["system"]},
            {"role": "user", "content": prompt},
        ]
        return self._log.until_end(self._turn)

    def _turn(self) -> None:
        if len(self._log.steps) == self._spec.max_steps:
            raise RunEnd("max_steps", f"{self._spec.max_steps} steps")
        try:
            reply = self._model.complete(self._messages)
        except ContextFullError as error:
            raise RunEnd("token_budget", str(error)) from None
        except (NoReplyError, RequestRefusedError, UnparsableReplyError) as error:
            raise RunEnd("model_error", str(error)) from None
        said = reply.content or ""
        if said.startswith("ANSWER"):
            self._log.generated(reply, ())
            raise RunEnd("final_answer", answer=said.removeprefix("ANSWER").strip())
        arguments = canonical_json({"command": said}).decode()
        step = self._log.generated(reply, [ProposedCall(name="bash", arguments=arguments)])
        limit_ms = self._spec.call_limit_ms
        _, text = self._log.carry_out(
            step,
            step.tool_calls[0],
            lambda: self._shell.call("bash", said, limit_ms=limit_ms),
            lambda report: {"tool_output": tool_text(report, limit_ms=limit_ms)},
        )
        self._messages += [{"role": "assistant", "content": said}, {"role": "user", "content": text}]
