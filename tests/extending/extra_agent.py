"""An agent: this module and a line in `AGENTS`. Every reply is a command, but for one that begins with ANSWER."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agenttrace.agents import AgentOptions, Run
from agenttrace.agents.tool_calling import carried_out, tool_text
from agenttrace.errors import WorkerLostError
from agenttrace.records import LLMStep, OtherAgentSpec, Outcome, Span, ToolCall, canonical_json, derived_id
from agenttrace.serving.model import ContextFullError, NoReplyError, RequestRefusedError, UnparsableReplyError

if TYPE_CHECKING:
    from agenttrace.agents import Shell, Watch
    from agenttrace.records import AgentSpec
    from agenttrace.sandbox.policies import Policy
    from agenttrace.serving.model import Model
    from agenttrace.tasks import Task


class OneLine:
    counts_tokens = False

    def spec(self, options: AgentOptions, *, policy: Policy, context_length: int, checkout: bool) -> OtherAgentSpec:
        return OtherAgentSpec(
            name="one_line",
            version=1,
            settings={"system": "Reply with one command, or with ANSWER and the answer."},
            max_steps=options.max_steps or 4,
            call_limit_ms=options.call_limit_ms or 5_000,
        )

    def options(self, spec: AgentSpec) -> AgentOptions:
        return AgentOptions(max_steps=spec.max_steps, call_limit_ms=spec.call_limit_ms)

    def prompt(self, spec: AgentSpec, task: Task) -> str:
        return f"Task: {task.prompt}"

    def metadata(self, spec: AgentSpec) -> dict[str, Any]:
        return {"agent": spec.name, "max_steps": spec.max_steps}

    def agent(self, spec: AgentSpec, model: Model, shell: Shell, watch: Watch) -> OneLineAgent:
        return OneLineAgent(spec, model, shell, watch)


KIND = OneLine()


class OneLineAgent:
    def __init__(self, spec: OtherAgentSpec, model: Model, shell: Shell, watch: Watch) -> None:
        self._spec, self._model, self._shell, self._watch = spec, model, shell, watch

    def run(self, trace_id: str, prompt: str) -> Run:
        timestamp, started = datetime.now(UTC).isoformat(timespec="microseconds"), time.monotonic_ns()
        steps: list[LLMStep] = []
        spans: list[Span] = []
        outcome = self._loop(trace_id, prompt, steps, spans)
        return Run(
            steps=tuple(steps),
            spans=tuple(spans),
            outcome=outcome,
            timestamp_utc=timestamp,
            elapsed_ns=time.monotonic_ns() - started,
        )

    def _loop(self, trace_id: str, prompt: str, steps: list[LLMStep], spans: list[Span]) -> Outcome:
        messages = [
            {"role": "system", "content": self._spec.settings["system"]},
            {"role": "user", "content": prompt},
        ]
        for number in range(1, self._spec.max_steps + 1):
            try:
                reply = self._model.complete(messages)
            except ContextFullError as error:
                return Outcome(ended="token_budget", detail=str(error))
            except (NoReplyError, RequestRefusedError, UnparsableReplyError) as error:
                return Outcome(ended="model_error", detail=str(error))
            said = reply.content or ""
            command = None if said.startswith("ANSWER") else canonical_json({"command": said}).decode()
            call_id = f"call_{number}_1"
            step = LLMStep(
                step_id=derived_id(trace_id, "step", number),
                step_number=number,
                model_output=said or None,
                reasoning_content=reply.reasoning,
                tool_calls=None if command is None else (ToolCall(call_id=call_id, name="bash", arguments=command),),
                duration_ms=reply.elapsed_ns / 1e6,
                input_tokens=reply.input_tokens,
                output_tokens=reply.output_tokens,
                start_ns=reply.start_ns,
                end_ns=reply.end_ns,
                finish_reason=reply.finish_reason,
                timings=reply.timings,
            )
            steps.append(step)
            self._watch(step)
            if command is None:
                return Outcome(ended="final_answer", final_answer=said.removeprefix("ANSWER").strip())
            try:
                report = self._shell.call("bash", said, limit_ms=self._spec.call_limit_ms)
            except WorkerLostError as error:
                return Outcome(ended="sandbox_error", detail=str(error))
            text = tool_text(report, limit_ms=self._spec.call_limit_ms)
            span = Span(
                span_id=derived_id(trace_id, call_id),
                type="TOOL",
                tool_name="bash",
                tool_input=command,
                tool_output=text,
                exit_code=report.exit_code,
                parent_span_id=step.step_id,
                call_id=call_id,
                stdout=report.stdout,
                stderr=report.stderr,
                **carried_out(report),
            )
            spans.append(span)
            self._watch(span)
            messages += [{"role": "assistant", "content": said}, {"role": "user", "content": text}]
        return Outcome(ended="max_steps", detail=f"{self._spec.max_steps} steps")
