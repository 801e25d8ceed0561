"""What people ask of a campaign, and what no campaign can be asked for."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from agenttrace.agents import AgentOptions, agent_kind
from agenttrace.errors import UsageError
from agenttrace.models import pins
from agenttrace.records import ModelPin  # noqa: TC001 - msgspec reads it
from agenttrace.serving import profiles
from agenttrace.store.opening import FAILURES
from agenttrace.tasks import SWE, set_name
from agenttrace.tasks.swe.prepare import SweOptions

if TYPE_CHECKING:
    from agenttrace.records import RunSpec, Sampler, ServingSpec

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_STAMP = re.compile(r"\d{8}T\d{6}Z")
_HOTTEST = 2.0
"""The protocol's limit."""
_MOST_RECORDS = 10_000_000
_SWE_ZERO_TEMPERATURE = 1.0
"""Sent for a model without a recommended sampler: several runs of one task are to differ."""


class Options(AgentOptions, frozen=True, kw_only=True):
    """What a user asks for; everything else is pinned. What may be chosen of the agent is in `AgentOptions`.

    Attributes:
        model: name of a pinned model, or of one that the endpoint serves.
        pin: what `model` turned out to be, where no table of this package names it.
        dataset: name of one task set.
        agent: name of the agent; `None` is the one that the task set is made for.
        profile: serving profile.
        sampler: `greedy` or `recommended`; where nothing is recommended that is SWE-ZERO's temperature of 1.
        temperature: instead of the sampler's; tokens are then drawn from all.
        seed: instead of the sampler's, and of the draw of tasks.
        context: context length in tokens instead of the pinned one.
        external: the model is served by an endpoint that somebody else started.
        offset: first task.
        count: number of tasks; `None` is all that follow.
        rollouts: how often each task is run.
        source: where tasks over checkouts come from; see `agenttrace.tasks.swe.rows.open_source`.
        split: of that data set.
        languages: only tasks in one of these; empty is all.
        hidden_tests: lay the hidden tests into the trees.
        repos: repositories to draw; `None` is all.
        per_repo: tasks of each; `None` is all.
        run_id: name of the campaign; trace ids derive from it.
        output: file name of the records.
        fresh: start a new campaign although one could be resumed.
        stamp: start of the whole campaign (`20261102T030405Z`), in the names of all its files.
    """

    model: str = pins.DEFAULT_MODEL
    pin: ModelPin | None = None
    dataset: str = "demo"
    agent: str | None = None
    profile: str = profiles.DEFAULT_PROFILE
    sampler: str = profiles.DEFAULT_SAMPLER
    temperature: float | None = None
    seed: int | None = None
    context: int | None = None
    external: bool = False
    offset: int = 0
    count: int | None = None
    rollouts: int = 1
    source: str = SweOptions().source
    split: str = SweOptions().split
    languages: tuple[str, ...] = ()
    hidden_tests: bool = False
    repos: int | None = None
    per_repo: int | None = None
    run_id: str | None = None
    output: str | None = None
    fresh: bool = False
    stamp: str | None = None

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
    context = served(options)[0].context_length
    for name, value, least, most in (
        ("--max-steps", options.max_steps, 1, 1000),
        ("--call-limit", options.call_limit_ms, 1, 3_600_000),
        ("--rollouts", options.rollouts, 1, 100_000),
        ("--context", options.context, 1024, 10_000_000),
        ("--seed", options.seed, 0, 2**31 - 1),
        ("--repos", options.repos, 1, _MOST_RECORDS),
        ("--per-repo", options.per_repo, 1, _MOST_RECORDS),
        ("--max-output-tokens", options.max_output_tokens, 1, 1_000_000),
        ("--max-total-tokens", options.max_total_tokens, 256, context),
    ):
        if value is not None and not least <= value <= most:
            raise UsageError(f"{name}: {value} is outside {least} to {most}{' ms' if 'limit' in name else ''}")
    if options.temperature is not None and not 0 <= options.temperature <= _HOTTEST:
        raise UsageError(f"--temperature {options.temperature}: expected 0 to {_HOTTEST:g}")
    if options.run_id is not None and not _RUN_ID.fullmatch(options.run_id):
        raise UsageError(
            f"run id {options.run_id!r}: expected letters, digits, dots, dashes, underscores (at most 100)"
        )
    if options.stamp is not None and not _STAMP.fullmatch(options.stamp):
        raise UsageError(f"stamp {options.stamp!r}: expected the form 20261102T030405Z")
    if options.output is not None and (
        PurePath(options.output).suffix != ".jsonl" or options.output.endswith(FAILURES)
    ):
        raise UsageError(f"--output {options.output}: the name of a record file ends in .jsonl, and not in {FAILURES}")
    if options.fresh and options.output is not None:
        raise UsageError("--fresh starts a new file with a name of its own: give it without --output")
    if options.agent is not None:
        agent_kind(options.agent)
    sampler_of(options)


def check_size(tasks: int, rollouts: int) -> None:
    """Refuse more records than a campaign can have; a run spec of somebody else's may say anything.

    Raises:
        UsageError: names both numbers.
    """
    if tasks * rollouts > _MOST_RECORDS:
        raise UsageError(f"{tasks} tasks with {rollouts} rollouts: more than {_MOST_RECORDS} records")


def served(options: Options) -> tuple[ModelPin, ServingSpec]:
    """Return the model and how it is served.

    Raises:
        UsageError: the model is not pinned and no endpoint serves it, or there is no such profile.
    """
    pin = options.pin or (profiles.external_pin if options.external else pins.model_pin)(options.model)
    if options.context is not None:
        pin = msgspec.structs.replace(pin, context_length=options.context)
    if options.external:
        return pin, profiles.external_serving(options.profile)
    return pin, profiles.serving_spec(pin, options.profile)


def sampler_of(options: Options) -> Sampler:
    """Return the sampler: the named one, with another seed, temperature or length of a reply where one was given.

    Raises:
        UsageError: there is no such sampler.
    """
    name, temperature = options.sampler, options.temperature
    if name == "recommended" and profiles.recommended(options.model) is None and options.dataset == SWE:
        name, temperature = "greedy", _SWE_ZERO_TEMPERATURE if temperature is None else temperature
    found = profiles.sampler(name, model=options.model)
    if options.seed is not None:
        found = msgspec.structs.replace(found, seed=options.seed)
    if options.max_output_tokens is not None:
        found = msgspec.structs.replace(found, max_tokens=options.max_output_tokens)
    if temperature is None:
        return found
    # As SWE-ZERO sends it: a temperature and nothing else that narrows the choice (top_k 0 is llama-server's "off").
    return msgspec.structs.replace(
        found, name=f"temperature-{temperature:g}", temperature=temperature, top_p=1.0, top_k=0
    )


def like(spec: RunSpec) -> Options:
    """Return the options that plan the campaign of a run spec again, as far as options shape it."""
    recommended = spec.sampler.name == profiles.recommended(spec.model.name)
    chosen = "recommended" if recommended else profiles.DEFAULT_SAMPLER
    named = profiles.sampler(chosen, model=spec.model.name)
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
        sampler=chosen,
        temperature=None if spec.sampler.name == named.name else spec.sampler.temperature,
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
