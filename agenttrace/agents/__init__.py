"""Agents: loops that let a model work on a task with tools.

An agent knows no server and no worker, only `Model` and `Shell`. `AGENTS` names all of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from msgspec import Meta

from agenttrace.errors import UsageError
from agenttrace.records import Record

if TYPE_CHECKING:
    from agenttrace.agents.run import Run, Watch
    from agenttrace.records import AgentSpec
    from agenttrace.sandbox.policies import Policy
    from agenttrace.sandbox.reports import CallReport
    from agenttrace.serving.model import Model
    from agenttrace.tasks import Task

AGENTS: dict[str, str] = {
    "tool_calling": "agenttrace.agents.tool_calling:ToolCallingAgent",
    "bash_block": "agenttrace.agents.bash_block:BashBlockAgent",
}
"""Name of an agent → where its class is, an `AgentKind`."""

Observation = Literal["swe-zero", "mini-swe-agent"]
"""Form in which a bash-block agent's model reads what a command printed."""


class AgentOptions(Record, frozen=True, kw_only=True):
    """What people may choose of an agent; `None` is the agent's own default, and an agent ignores what it has not.

    A field with a description is an option of the command line (`agenttrace.verbs.asked`), within these bounds.
    """

    max_steps: Annotated[
        int | None,
        Meta(
            description="generations per task",
            extra={"least": 1, "most": 1000, "metavar": "N", "also": ("--max-turns",)},
        ),
    ] = None
    call_limit_ms: Annotated[
        int | None,
        Meta(
            description="seconds per tool call (default: 30)",
            extra={"least": 1, "most": 3_600_000, "metavar": "S", "flag": "--call-limit"},
        ),
    ] = None
    max_output_tokens: Annotated[
        int | None,
        Meta(
            description="of one generation (default: the sampler's or the agent's)",
            extra={
                "least": 1,
                "most": 1_000_000,
                "metavar": "N",
                "group": "sampling",
                "flag": "--max-tokens",
                "also": ("--max-output-tokens",),
            },
        ),
    ] = None
    max_total_tokens: Annotated[
        int | None,
        Meta(
            description="of a conversation, for agents with a budget (default: the context)",
            extra={"least": 256, "metavar": "N"},
        ),
    ] = None
    observation: Annotated[
        Observation, Meta(description="form of what a command printed, for the bash-block agent (default: %(default)s)")
    ] = "swe-zero"
    system_prompt: Annotated[
        str | None,
        Meta(
            description="a file whose text is the first message, instead of the agent's own",
            extra={"metavar": "FILE"},
        ),
    ] = None
    constrained: Annotated[
        Literal["on", "off"] | None,
        Meta(
            description="have the server hold every reply to the agent's form, by a JSON schema or a grammar (default: "
            "on where the chat template shows no tools to the model)",
        ),
    ] = None


class Shell(Protocol):
    """Something that runs code over the task's tree; see `agenttrace.tasks.bench.Bench`."""

    def call(self, kind: Literal["bash", "python"], code: str, *, limit_ms: int, keep_bytes: int = ...) -> CallReport:
        """Run code; raises `WorkerLostError` when it cannot be said how it went."""
        ...


class Agent(Protocol):
    """Works on one task at a time."""

    def run(self, trace_id: str, prompt: str) -> Run:
        """Return everything that happened on one task.

        A worker that dies ends the run as `sandbox_error`, a request without a reply as `model_error`.

        Raises:
            ModelServerError: no request to this server can succeed.
        """
        ...


class AgentKind(Protocol):
    """The class of an agent: makes agents, and says what a campaign must know of them.

    Attributes:
        counts_tokens: whether it asks its model how many tokens a prompt has.
    """

    counts_tokens: bool

    def spec(self, options: AgentOptions, *, policy: Policy, context_length: int, checkout: bool) -> AgentSpec:
        """Return the agent's part of a run spec, prompts, tools and limits in full.

        Args:
            options: what people chose.
            policy: of the sandbox: which calls it serves, which commands exist.
            context_length: of the model, tokens.
            checkout: whether tasks are about a repository, and not about files and an answer.
        """
        ...

    def options(self, spec: AgentSpec) -> AgentOptions:
        """Return the options that give this spec again."""
        ...

    def prompt(self, spec: AgentSpec, task: Task) -> str:
        """Return the message that puts a task to the model."""
        ...

    def metadata(self, spec: AgentSpec) -> dict[str, Any]:
        """Return what a record's `metadata` says of the agent."""
        ...

    def __call__(self, spec: AgentSpec, model: Model, shell: Shell, watch: Watch) -> Agent:
        """Return an agent; `watch` is called with every finished step and span and must not raise."""
        ...


def agent_kind(name: str) -> AgentKind:
    """Return an entry of `AGENTS`.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in AGENTS:
        raise UsageError(f"unknown agent {name!r}; known: {', '.join(AGENTS)}")
    module, _, attribute = AGENTS[name].partition(":")
    found: AgentKind = getattr(import_module(module), attribute)
    return found


def whole_run(agent: Agent, model: Model, trace_id: str, prompt: str) -> Run:
    """Return what an agent leaves of one task, and let the model's next conversation begin."""
    try:
        return agent.run(trace_id, prompt)
    finally:
        model.over()
