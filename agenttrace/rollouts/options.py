"""What a user asks for when starting rollouts, and what cannot be asked for."""

from __future__ import annotations

import re

import msgspec

from agenttrace.agents.bash_block_spec import CALL_LIMIT_MS, MAX_OUTPUT_TOKENS, MAX_TURNS, Template
from agenttrace.errors import UsageError
from agenttrace.models import pins
from agenttrace.records import ModelPin, Record, Sampler, ServingSpec
from agenttrace.serving import profiles
from agenttrace.serving.external import external_pin
from agenttrace.tasks.swe.rows import BUNDLED

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MAX_ROLLOUTS = 10_000_000
SWE_ZERO_TEMPERATURE = 1.0
"""Sent for a model without a recommended sampler: rollouts of one task are to differ."""


class RolloutOptions(Record, frozen=True, kw_only=True):
    """What a user asks for; everything else is pinned.

    Attributes:
        model: name of a pinned model, or of one that the endpoint serves.
        pin: what `model` turned out to be, where no table of this package names it.
        profile: serving profile.
        sampler: `greedy` or `recommended`; where nothing is recommended that is SWE-ZERO's temperature of 1.
        temperature: instead of the sampler's.
        context: context length in tokens instead of the pinned one.
        external: the model is served by an endpoint that somebody else started.
        source: where the tasks come from; see `agenttrace.tasks.swe.rows.load`.
        split: of the data set.
        languages: only tasks in one of these; empty is all.
        hidden_tests: lay the hidden tests into the trees.
        repos: repositories to draw; `None` is all.
        per_repo: tasks of each; `None` is all.
        rollouts: attempts at each task.
        seed: of the draw and, with task and index, of every rollout's requests.
        max_turns: generations per rollout.
        max_output_tokens: per generation.
        max_total_tokens: of one conversation; `None` is the model's context.
        observation: format of what a command printed.
        call_limit_ms: limit of one command.
        run_id: name of the run; rollout ids derive from it.
        output: file name of the records.
        fresh: start a new run although one could be resumed.
    """

    model: str = pins.DEFAULT_ROLLOUT_MODEL
    pin: ModelPin | None = None
    profile: str = profiles.DEFAULT_PROFILE
    sampler: str = "recommended"
    temperature: float | None = None
    context: int | None = None
    external: bool = False
    source: str = BUNDLED
    split: str = "train"
    languages: tuple[str, ...] = ()
    hidden_tests: bool = False
    repos: int | None = None
    per_repo: int | None = None
    rollouts: int = 2
    seed: int = 7
    max_turns: int = MAX_TURNS
    max_output_tokens: int = MAX_OUTPUT_TOKENS
    max_total_tokens: int | None = None
    observation: Template = "swe-zero"
    call_limit_ms: int = CALL_LIMIT_MS
    run_id: str | None = None
    output: str | None = None
    fresh: bool = False


def check_options(options: RolloutOptions) -> None:
    """Refuse options that no run can have.

    Raises:
        UsageError: names the option, what was given and what is possible.
    """
    context = model_and_serving(options)[0].context_length
    for name, value, least, most in (
        ("--rollouts", options.rollouts, 1, 100_000),
        ("--repos", options.repos, 1, MAX_ROLLOUTS),
        ("--per-repo", options.per_repo, 1, MAX_ROLLOUTS),
        ("--seed", options.seed, 0, 2**31 - 1),
        ("--max-turns", options.max_turns, 1, 1000),
        ("--max-output-tokens", options.max_output_tokens, 1, 1_000_000),
        ("--max-total-tokens", options.max_total_tokens, 256, context),
        ("--call-limit", options.call_limit_ms, 1, 3_600_000),
        ("--context", options.context, 1024, 10_000_000),
    ):
        if value is not None and not least <= value <= most:
            raise UsageError(f"{name}: {value} is outside {least} to {most}{' ms' if 'limit' in name else ''}")
    if options.temperature is not None and not 0.0 <= options.temperature <= 2.0:  # noqa: PLR2004 - the protocol's limit
        raise UsageError(f"--temperature {options.temperature}: expected 0 to 2")
    if options.run_id is not None and not _RUN_ID.fullmatch(options.run_id):
        raise UsageError(
            f"run id {options.run_id!r}: expected letters, digits, dots, dashes, underscores (at most 100)"
        )
    if options.fresh and options.output is not None:
        raise UsageError("--fresh starts a new file with a name of its own: give it without --output")
    sampler(options)


def model_and_serving(options: RolloutOptions) -> tuple[ModelPin, ServingSpec]:
    """Return the model and how it is served.

    Raises:
        UsageError: the model is not pinned and no endpoint serves it, or there is no such profile.
    """
    pin = options.pin or (external_pin(options.model) if options.external else pins.model_pin(options.model))
    if options.context is not None:
        pin = msgspec.structs.replace(pin, context_length=options.context)
    if options.external:
        return pin, profiles.external_serving(options.profile)
    return pin, profiles.serving_spec(pin, options.profile)


def sampler(options: RolloutOptions) -> Sampler:
    """Return the sampler: the named one with the run's seed, and another temperature where one was given."""
    name, temperature = options.sampler, options.temperature
    if name == "recommended" and profiles.recommended(options.model) is None:
        name, temperature = "greedy", SWE_ZERO_TEMPERATURE if temperature is None else temperature
    chosen = profiles.sampler(name, model=options.model)
    chosen = msgspec.structs.replace(chosen, seed=options.seed, max_tokens=options.max_output_tokens)
    if temperature is None:
        return chosen
    # As SWE-ZERO sends it: a temperature and nothing else that narrows the choice (top_k 0 is llama-server's "off").
    return msgspec.structs.replace(
        chosen, name=f"temperature-{temperature:g}", temperature=temperature, top_p=1.0, top_k=0
    )
