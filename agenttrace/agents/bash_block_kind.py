"""The bash-block agent as an entry of the table: its run spec, and the two messages that begin a conversation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agenttrace.agents import AgentOptions, Observation
from agenttrace.agents.bash_block import VERSION, BashBlockAgent
from agenttrace.records import BashBlockSpec, digest
from agenttrace.serving.budget import RESERVE_TOKENS

if TYPE_CHECKING:
    from agenttrace.agents import Shell, Watch
    from agenttrace.records import AgentSpec
    from agenttrace.sandbox.policies import Policy
    from agenttrace.serving.model import Model
    from agenttrace.tasks import Task

OBSERVATION_CHARS: dict[Observation, int] = {"swe-zero": 8_000, "mini-swe-agent": 10_000}
"""Longest output that is shown whole: of SWE-ZERO, and of mini-swe-agent's `default.yaml` (v1.17.5)."""
MAX_TURNS = 30
MAX_FORMAT_ERRORS = 3
MAX_OUTPUT_TOKENS = 1024
CALL_LIMIT_MS = 30_000
_FIELD = re.compile(r"\{(\w+)\}")


class BashBlock:
    """The entry of `agenttrace.agents.AGENTS`."""

    counts_tokens = True

    def spec(self, options: AgentOptions, *, policy: Policy, context_length: int, checkout: bool) -> BashBlockSpec:
        """Return the agent's part of a run spec, its system message with the commands that the policy lets exist."""
        about = "" if checkout else ".shell"
        commands = policy.commands if isinstance(policy.commands, str) else ", ".join(policy.commands)
        return BashBlockSpec(
            version=VERSION,
            system_template=filled(_template(f"system{about}"), {"commands": commands}),
            instance_template=_template(f"task{about}"),
            observation_template=options.observation,
            format_error_template=_template("format_error"),
            max_turns=options.max_steps or MAX_TURNS,
            max_format_errors=MAX_FORMAT_ERRORS,
            max_output_tokens=options.max_output_tokens or MAX_OUTPUT_TOKENS,
            max_total_tokens=options.max_total_tokens or context_length,
            reserve_tokens=RESERVE_TOKENS,
            observation_max_chars=OBSERVATION_CHARS[options.observation],
            call_limit_ms=options.call_limit_ms or CALL_LIMIT_MS,
        )

    def options(self, spec: AgentSpec) -> AgentOptions:
        """Return the options that give this spec again."""
        own = _own(spec)
        return AgentOptions(
            max_steps=own.max_turns,
            call_limit_ms=own.call_limit_ms,
            max_output_tokens=own.max_output_tokens,
            max_total_tokens=own.max_total_tokens,
            observation=own.observation_template,
        )

    def prompt(self, spec: AgentSpec, task: Task) -> str:
        r"""Return the second message: what the agent is told of a task.

        The reference solution and the hidden tests are no field of it. A lone surrogate in the row becomes `\udNNN`.
        """
        return filled(_own(spec).instance_template, {"problem_statement": task.prompt, **task.fields})

    def metadata(self, spec: AgentSpec) -> dict[str, Any]:
        """Return limits, the form of observations, and a digest of the prompts."""
        own = _own(spec)
        return {
            "agent": own.kind,
            "prompt_sha256": digest([own.system_template, own.instance_template]),
            "observation_template": own.observation_template,
            "max_steps": own.max_turns,
            "max_total_tokens": own.max_total_tokens,
        }

    def agent(self, spec: AgentSpec, model: Model, shell: Shell, watch: Watch) -> BashBlockAgent:
        """Return an agent."""
        return BashBlockAgent(_own(spec), model, shell, watch)


KIND = BashBlock()


def _own(spec: AgentSpec) -> BashBlockSpec:
    assert isinstance(spec, BashBlockSpec)  # noqa: S101 - its tag chose this module
    return spec


def _template(name: str) -> str:
    return (Path(__file__).parent / f"bash_block.{name}.txt").read_text(encoding="utf-8")


def filled(template: str, values: dict[str, str]) -> str:
    """Return the template with its fields in place; braces in a value, which others wrote, mean nothing."""
    text = _FIELD.sub(lambda found: values.get(found[1], found[0]), template)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
