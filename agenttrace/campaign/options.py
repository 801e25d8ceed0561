"""What people ask of a campaign, and what no campaign can be asked for."""

from __future__ import annotations

import os
import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_type_hints

import msgspec
from msgspec import UNSET, Meta

from agenttrace.agents import AGENTS, AgentOptions, agent_kind
from agenttrace.errors import UsageError
from agenttrace.models import pins
from agenttrace.records import ModelPin, ReplyDetail
from agenttrace.serving import profiles
from agenttrace.serving.template import template_of, with_template
from agenttrace.store.opening import FAILURES
from agenttrace.tasks import SWE, set_name
from agenttrace.tasks.swe.prepare import SweOptions

if TYPE_CHECKING:
    from agenttrace.records import Record, RunSpec, Sampler, ServingSpec

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_STAMP = re.compile(r"\d{8}T\d{6}Z")
_TOP_P = "+top_p-"
"""What follows the name of a sampler whose `top_p` is another."""
_MOST_RECORDS = 1_000_000_000
_SWE_ZERO_TEMPERATURE = 1.0
"""Sent for a model without a recommended sampler: several runs of one task are to differ."""


GROUPS = {
    "model": "the model",
    "tasks": "the tasks",
    "checkouts": "tasks over checkouts of repositories",
    "sampling": "how tokens are chosen",
    "agent": "the agent",
}
"""Group of a described field (`agent` where it names none) → its heading on the command line."""


class Options(AgentOptions, frozen=True, kw_only=True):
    """What a user asks for; everything else is pinned. What may be chosen of the agent is in `AgentOptions`.

    A field with a description is an option of the command line (`agenttrace.verbs.asked`), within these bounds.

    Attributes:
        pin: what `model` turned out to be, where no table of this package names it.
        external: the model is served by an endpoint that somebody else started.
        output: file name of the records.
        fresh: start a new campaign although one could be resumed.
        stamp: start of the whole campaign (`20261102T030405Z`), in the names of all its files.
        cpus: processors of the machine that the model server runs on; `None` is this one's.
        profile_version: version of the profile, of an earlier campaign's; `None` is the newest.
    """

    model: str = pins.DEFAULT_MODEL
    pin: ModelPin | None = None
    dataset: str = "demo"
    external: bool = False
    output: str | None = None
    fresh: bool = False
    stamp: str | None = None
    cpus: int | None = None
    profile_version: int | None = None
    agent: Annotated[str | None, Meta(description="default: that of the task set", extra={"choices": AGENTS})] = None
    offset: Annotated[
        int,
        Meta(
            description="first task (default: %(default)s)",
            extra={"least": 0, "most": _MOST_RECORDS, "group": "tasks", "metavar": "K"},
        ),
    ] = 0
    count: Annotated[
        int | None,
        Meta(
            description="number of tasks (default: all)",
            extra={"least": 1, "most": _MOST_RECORDS, "group": "tasks", "metavar": "N", "flag": "-n"},
        ),
    ] = None
    rollouts: Annotated[
        int,
        Meta(
            description="runs of each task (default: %(default)s)",
            extra={"least": 1, "most": 100_000, "group": "tasks", "metavar": "R"},
        ),
    ] = 1
    run_id: Annotated[
        str | None,
        Meta(
            description="name of the campaign; trace ids derive from it (default: made from model, date and task set)",
            extra={"group": "tasks", "metavar": "ID"},
        ),
    ] = None
    profile: Annotated[
        str,
        Meta(
            description="how the model is served: {choices} (default: %(default)s)",
            extra={"group": "model", "metavar": "P", "choices": profiles.profile_names()},
        ),
    ] = profiles.DEFAULT_PROFILE
    chat_template: Annotated[
        str | None,
        Meta(
            description="a file with a Jinja template of messages instead of the model's own, or `plain`, for a model "
            "without any",
            extra={"group": "model", "metavar": "FILE"},
        ),
    ] = None
    threads: Annotated[
        tuple[int, int] | None,
        Meta(
            description="threads of the model server: G generate, B read prompts (B is G where it is left out; "
            "default: from the machine)",
            extra={"least": 1, "most": 1024, "group": "model", "metavar": "G[,B]"},
        ),
    ] = None
    request_limit_s: Annotated[
        int | None,
        Meta(
            description="seconds for one reply; of a llama-server, since it last made progress (default: 600)",
            extra={"least": 1, "most": 1_000_000, "group": "model", "metavar": "S", "flag": "--request-limit"},
        ),
    ] = None
    sampler: Annotated[
        str | None,
        Meta(
            description="greedy, or what the model's makers recommend (default: greedy; recommended where a model "
            "thinks and its makers advise against greedy decoding, as those of Qwen3 do)",
            extra={"group": "sampling", "choices": profiles.SAMPLERS},
        ),
    ] = None
    temperature: Annotated[
        float | None,
        Meta(
            description="instead of the sampler's; tokens are then drawn from all (SWE-ZERO: 1.0)",
            extra={"least": 0, "most": 2, "group": "sampling", "metavar": "T"},
        ),
    ] = None
    top_p: Annotated[
        float | None,
        Meta(
            description="share of the likeliest tokens to draw from, instead of the sampler's",
            extra={"least": 0.001, "most": 1, "group": "sampling", "metavar": "P"},
        ),
    ] = None
    seed: Annotated[
        int | None,
        Meta(
            description="of sampling, and of the draw of tasks (default: the sampler's)",
            extra={"least": 0, "most": 2**31 - 1, "group": "sampling", "metavar": "N"},
        ),
    ] = None
    thinking: Annotated[
        Literal["on", "off"] | int | None,
        Meta(
            description="let the model think, or not, or for at most N tokens, where its chat template has a switch "
            "for it (default: the template's own)",
            extra={"least": 1, "most": 1_000_000, "group": "sampling", "metavar": "on|off|N"},
        ),
    ] = None
    reply_details: Annotated[
        tuple[str, ...],
        Meta(
            description="what else servers are asked to say of each reply: {choices} (docs/collect.md)",
            extra={"group": "sampling", "metavar": "D", "choices": get_args(ReplyDetail)},
        ),
    ] = ()
    context: Annotated[
        int | None,
        Meta(
            description="context length (default: the model's pin)",
            extra={"least": 1024, "most": 10_000_000, "group": "model", "metavar": "N"},
        ),
    ] = None
    source: Annotated[
        str,
        Meta(
            description="of tasks over checkouts: bundled, a .jsonl or .parquet file, a folder of them, or "
            "OWNER/NAME@REVISION of the Hub (default: bundled)",
            extra={"group": "checkouts", "metavar": "ROWS"},
        ),
    ] = SweOptions().source
    split: Annotated[
        str,
        Meta(
            description="of a data set on the Hub (default: %(default)s)",
            extra={"group": "checkouts", "metavar": "NAME"},
        ),
    ] = SweOptions().split
    languages: Annotated[
        tuple[str, ...],
        Meta(description="only tasks whose rows name one", extra={"group": "checkouts", "metavar": "NAME"}),
    ] = ()
    hidden_tests: Annotated[
        bool, Meta(description="lay the hidden tests into the trees, as SWE-ZERO", extra={"group": "checkouts"})
    ] = False
    repos: Annotated[
        int | None,
        Meta(
            description="repositories to draw (default: all)",
            extra={"least": 1, "most": _MOST_RECORDS, "group": "checkouts", "metavar": "N"},
        ),
    ] = None
    per_repo: Annotated[
        int | None,
        Meta(
            description="tasks of each (default: all)",
            extra={"least": 1, "most": _MOST_RECORDS, "group": "checkouts", "metavar": "N"},
        ),
    ] = None

    @property
    def of_checkouts(self) -> SweOptions:
        """The part that says which tasks over checkouts are drawn."""
        fields = {name: getattr(self, name) for name in SweOptions.__struct_fields__}
        return SweOptions(**fields | {"seed": SweOptions().seed if self.seed is None else self.seed})


ROLLOUTS = Options(
    model=pins.DEFAULT_ROLLOUT_MODEL, dataset=SWE, agent="bash_block", sampler="recommended", rollouts=2, seed=7
)
"""The preset of `nox -s rollouts`: what SWE-ZERO's rollouts are."""


def check_options(options: Options) -> None:
    """Refuse options that no campaign can run with.

    Raises:
        UsageError: names the option, what was given and what is possible.
    """
    _check_bounds(options)
    if options.threads is not None and options.external:
        raise UsageError("--threads is for a server that is started here: leave it out with --base-url")
    if options.thinking is not None and served(options)[0].demo:
        raise UsageError("--thinking: the bundled models think as they were trained to; their template has no switch")
    if options.run_id is not None:
        check_run_id(options.run_id)
    if options.stamp is not None and not _STAMP.fullmatch(options.stamp):
        raise UsageError(f"stamp {options.stamp!r}: expected the form 20261102T030405Z")
    if options.output is not None and (
        PurePath(options.output).suffix != ".jsonl" or options.output.endswith(FAILURES)
    ):
        raise UsageError(f"--output {options.output}: the name of a record file ends in .jsonl, and not in {FAILURES}")
    if options.fresh and options.output is not None:
        raise UsageError("--fresh starts a new file with a name of its own: leave --output out, or name another")
    if options.agent is not None:
        agent_kind(options.agent)
    sampler_of(options)


def _check_bounds(options: Options) -> None:
    """Refuse a number outside the bounds that its field names."""
    context = served(options)[0].context_length
    for name, meta in described(Options).items():
        value = getattr(options, name)
        extra: dict[str, Any] = meta.extra or {}
        most = context if name == "max_total_tokens" else extra.get("most")
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, int | float) and most is not None and not extra["least"] <= one <= most:
                raise UsageError(f"{flag_of(name, meta)}: {one} is outside {extra['least']} to {most}{_unit(name)}")


def described(kind: type[Record]) -> dict[str, Meta]:
    """Return the fields of a structure that have a description: those that a user may give."""
    hints = get_type_hints(kind, include_extras=True)
    found = {name: getattr(hints[name], "__metadata__", ()) for name in kind.__struct_fields__}
    return {name: meta[0] for name, meta in found.items() if meta}


def flag_of(name: str, meta: Meta) -> str:
    """Return how a field is called on the command line."""
    return str((meta.extra or {}).get("flag", f"--{name.replace('_', '-')}"))


def _unit(name: str) -> str:
    return " ms" if name.endswith("_ms") else ""


def check_run_id(run_id: str) -> None:
    """Refuse what is no name of a run; a folder of a store has it.

    Raises:
        UsageError: shows it.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise UsageError(f"run id {run_id!r}: expected letters, digits, dots, dashes, underscores (at most 100)")


def check_size(tasks: int, rollouts: int) -> None:
    """Refuse more records than a campaign can have; a run spec of somebody else's may say anything.

    Raises:
        UsageError: names both numbers.
    """
    if tasks * rollouts > _MOST_RECORDS:
        raise UsageError(f"{tasks} tasks with {rollouts} rollouts: more than {_MOST_RECORDS} records")


def served(options: Options) -> tuple[ModelPin, ServingSpec]:
    """Return the model and how it is served; threads are those asked for, the pin's, or what fits the machine.

    Raises:
        UsageError: the model is not pinned and no endpoint serves it, there is no such profile, or no chat template.
    """
    pin = options.pin or (profiles.external_pin if options.external else pins.model_pin)(options.model)
    if options.context is not None:
        pin = msgspec.structs.replace(pin, context_length=options.context)
    if options.external:
        if options.chat_template is not None:
            raise UsageError("--chat-template: an endpoint that runs already has its own; start it with another there")
        return pin, profiles.external_serving(options.profile)
    fitting = (pin.threads, pin.threads) if pin.threads else profiles.threads_for(options.cpus or os.cpu_count() or 1)
    generation, batch = options.threads or fitting
    pin = msgspec.structs.replace(pin, threads=generation)
    serving = profiles.serving_spec(pin, options.profile, threads_batch=batch, version=options.profile_version)
    return with_template(pin, serving, options.chat_template)


def sampler_of(options: Options) -> Sampler:
    """Return the sampler: the named one, with another seed, temperature or length of a reply where one was given.

    Raises:
        UsageError: there is no such sampler.
    """
    name, temperature = options.sampler, options.temperature
    if name is None:
        name = profiles.default_sampler(options.model, options.thinking)
    if name == "recommended" and profiles.recommended(options.model) is None and options.dataset == SWE:
        name, temperature = "greedy", _SWE_ZERO_TEMPERATURE if temperature is None else temperature
    found = profiles.sampler(name, model=options.model, context_length=served(options)[0].context_length)
    if options.seed is not None:
        found = msgspec.structs.replace(found, seed=options.seed)
    if options.max_output_tokens is not None:
        found = msgspec.structs.replace(found, max_tokens=options.max_output_tokens)
    if options.thinking is not None:
        found = msgspec.structs.replace(found, thinking=options.thinking)
    if options.reply_details:
        found = msgspec.structs.replace(found, details=_details(options.reply_details))
    if temperature is not None:
        # As SWE-ZERO sends it: a temperature, and nothing else that narrows the choice (top_k 0 is llama-server's off).
        found = msgspec.structs.replace(
            found, name=f"temperature-{temperature:g}", temperature=temperature, top_p=1.0, top_k=0
        )
    if options.top_p is None:
        return found
    return msgspec.structs.replace(found, name=f"{found.name}{_TOP_P}{options.top_p:g}", top_p=options.top_p)


def _details(asked: tuple[str, ...]) -> tuple[ReplyDetail, ...]:
    """Return what is asked for, once and in one order.

    Raises:
        UsageError: a word is none of them.
    """
    known = get_args(ReplyDetail)
    if unknown := [one for one in asked if one not in known]:
        raise UsageError(f"--reply-details {unknown[0]}: expected some of {', '.join(known)}")
    return tuple(one for one in known if one in asked)


def like(spec: RunSpec) -> Options:
    """Return the options that plan the campaign of a run spec again, as far as options shape it."""
    name, changed, _ = spec.sampler.name.partition(_TOP_P)
    recommended = name == profiles.recommended(spec.model.name)
    chosen = "recommended" if recommended else profiles.DEFAULT_SAMPLER
    named = profiles.sampler(chosen, model=spec.model.name, context_length=spec.model.context_length)
    agent = msgspec.structs.asdict(agent_kind(spec.agent.kind).options(spec.agent))
    if agent["max_output_tokens"] is None and spec.sampler.max_tokens != named.max_tokens:
        agent["max_output_tokens"] = spec.sampler.max_tokens
    sampling = spec.dataset.sampling
    drawn_as_sampled = sampling is not UNSET and sampling.seed == spec.sampler.seed  # a seed was asked for
    drawn: dict[str, Any] = (
        {}
        if sampling is UNSET
        else {
            "source": spec.dataset.source.removeprefix("hub:"),
            "split": spec.dataset.split,
            "languages": sampling.languages,
            "hidden_tests": sampling.hidden_tests,
            "repos": sampling.repos,
            "per_repo": sampling.per_repo,
        }
    )
    return Options(
        model=spec.model.name,
        pin=None if spec.model.name in pins.model_names() else spec.model,
        dataset=set_name(spec.dataset),
        agent=spec.agent.kind,
        profile=spec.serving.profile,
        chat_template=template_of(spec.serving),
        profile_version=1 if spec.serving.profile_version is UNSET else spec.serving.profile_version,
        threads=profiles.threads_of(spec.serving),
        sampler=chosen,
        temperature=None if name == named.name else spec.sampler.temperature,
        top_p=spec.sampler.top_p if changed else None,
        thinking=None if spec.sampler.thinking is UNSET else spec.sampler.thinking,
        reply_details=spec.sampler.details or (),
        seed=None if spec.sampler.seed == named.seed and not drawn_as_sampled else spec.sampler.seed,
        context=spec.model.context_length,
        external=spec.serving.engine == "external",
        offset=spec.dataset.offset,
        count=spec.dataset.count,
        rollouts=spec.dataset.rollouts,
        run_id=spec.run_id,
        **agent,
        **drawn,
    )
