"""How a model server is started and how it samples, read from `profiles.toml`; and what is known of other servers."""

from __future__ import annotations

import functools
import itertools
import re
import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from agenttrace.errors import UsageError
from agenttrace.models import pins
from agenttrace.records import ModelPin, Record, Sampler, ServingSpec

SERVER_PORT = 8080
DEFAULT_PROFILE = "reproducible"
DEFAULT_SAMPLER = "greedy"
SAMPLERS = ("greedy", "recommended")
NOT_REPORTED = "not reported"
"""Stands in a run spec or in `environment` where an endpoint keeps something to itself."""
CONTEXT_LENGTH = 16384
"""Context that an endpoint must have unless the user names another: that of the released data set."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}")
_SIZE = re.compile(r"(?<![A-Za-z0-9])(\d+(?:\.\d+)?)[bB](?![A-Za-z0-9])")


class Profile(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to serve a model.

    Attributes:
        version: raised whenever a name comes to mean something else.
        reproducible: output depends on the conversation alone, on one machine.
        slots: requests that the server works on at a time.
        reuse: what is reused of what the server computed for earlier prompts: nothing (`none`), the beginning of the
            same conversation (`trace`), or whatever a slot holds (`any`).
        batch_size: tokens of a logical batch.
        ubatch_size: tokens of a physical batch; changes the last bit of a logit.
        workers: tasks run at a time unless the user says otherwise.
        memory: limit of the server's container, as Docker writes it.
        poll: how busily threads wait for each other, 0 (they sleep) to 100; `None` leaves it to the server (50).
        slot_prompt_similarity: share of a prompt that must stand in a slot for the request to be sent to that slot, not
            to the one that was used longest ago; 0 is always the latter, `None` leaves it to the server (0.1).
        cache_ram_mib: MiB of memory for what was computed for conversations without a slot; `None` leaves it to the
            server (8192).
    """

    version: int
    reproducible: bool
    slots: int
    reuse: Literal["none", "trace", "any"]
    batch_size: int
    ubatch_size: int
    workers: int
    memory: str
    poll: int | None = None
    slot_prompt_similarity: float | None = None
    cache_ram_mib: int | None = None


class _Model(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    prefix: str
    max_tokens: int
    recommended: str | None = None
    thinks: bool = False


@functools.cache
def _table() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / "profiles.toml").read_text(encoding="utf-8"))


def profile_names() -> list[str]:
    """Return the names of all profiles, the default first."""
    return list(_table()["profile"])


def profile(name: str, version: int | None = None) -> Profile:
    """Return a profile, as it is or as it was in an earlier version.

    Raises:
        UsageError: there is none of that name, or it had no such version.
    """
    rows = _table()["profile"]
    if name not in rows:
        raise UsageError(f"unknown serving profile {name!r}; known: {', '.join(rows)}")
    tables = (rows, *_table()["earlier"].values())
    every = [msgspec.convert(table[name], Profile) for table in tables if name in table]
    found = next((one for one in every if version in {None, one.version}), None)
    if found is None:
        known = ", ".join(str(one.version) for one in every)
        raise UsageError(f"serving profile {name!r} has no version {version}; known: {known}")
    return found


def recommended(model: str) -> str | None:
    """Return the name of the sampler that a model's makers recommend; `None` where nothing is on record."""
    return _row(model).recommended


def default_sampler(model: str, thinking: Literal["on", "off"] | int | None = None) -> str:
    """Return the name of the sampler that is used unless another is asked for.

    It is `greedy`, but for models that think, where their makers advise against it: greedy thoughts repeat themselves.

    Args:
        model: by its name.
        thinking: what was asked of it; `None` is the model's own default.
    """
    return "recommended" if _row(model).thinks and thinking != "off" else DEFAULT_SAMPLER


def told_of_sampling(model: str, sampler: Sampler) -> str | None:
    """Return the line that says that a model is not decoded greedily, on its makers' advice; `None` elsewhere."""
    row = _row(model)
    if not row.thinks or sampler.thinking == "off" or sampler.name != row.recommended:
        return None
    return (
        f"{model} thinks, and its makers advise against greedy decoding: temperature {sampler.temperature:g}, "
        f"top_p {sampler.top_p:g}, seed {sampler.seed} (--sampler greedy is the other way)"
    )


def _row(model: str) -> _Model:
    fitting = [row for row in msgspec.convert(_table()["model"], list[_Model]) if model.startswith(row.prefix)]
    return max(fitting, key=lambda one: len(one.prefix))


def sampler(
    name: str = DEFAULT_SAMPLER, *, model: str = "agenttrace-demo", context_length: int = CONTEXT_LENGTH
) -> Sampler:
    """Return sampler settings for a model: `greedy`, or what its makers recommend.

    A reply of a model that `profiles.toml` does not name may take a quarter of the context, so that a conversation has
    room for several.

    Args:
        name: `greedy` or `recommended`.
        model: by its name.
        context_length: with which it is served, tokens.

    Raises:
        UsageError: there is no such sampler, or nothing is known to be recommended for the model.
    """
    row = _row(model)
    if name not in SAMPLERS:
        raise UsageError(f"unknown sampler {name!r}; known: {', '.join(SAMPLERS)}")
    chosen = row.recommended if name == "recommended" else name
    if chosen is None:
        raise UsageError(
            f"no sampler is on record as recommended for {model}; use --sampler greedy (and --temperature T)"
        )
    most = row.max_tokens if row.prefix else max(1, min(row.max_tokens, context_length // 4))
    values = {"name": chosen, "max_tokens": most, **_table()["sampler"][chosen]}
    return msgspec.convert(values, Sampler)


def serving_spec(
    pin: ModelPin, name: str = DEFAULT_PROFILE, *, threads_batch: int | None = None, version: int | None = None
) -> ServingSpec:
    """Return how the server for this model is started under a profile; every slot has the whole context.

    Args:
        pin: the model; its threads are those that generate.
        name: of the profile.
        threads_batch: threads that read prompts; as many as generate when `None`.
        version: of the profile; the newest when `None`.

    Raises:
        UsageError: no profile of that name, or of that version.
    """
    chosen = profile(name, version)
    engine = _table()["engine"]
    where_said = {
        "--poll": chosen.poll,
        "--slot-prompt-similarity": chosen.slot_prompt_similarity,
        "--cache-ram": chosen.cache_ram_mib,
    }
    args = {
        "--model": f"{pins.MODELS_DIR}/{pins.stored_name(pin)}",
        "--alias": pin.name,
        "--host": "0.0.0.0",  # noqa: S104 - the server's only network is the internal one
        "--port": SERVER_PORT,
        "--ctx-size": pin.context_length * chosen.slots,
        "--parallel": chosen.slots,
        "--threads": pin.threads,
        "--threads-batch": threads_batch or pin.threads,
        **{name: value for name, value in where_said.items() if value is not None},
        "--batch-size": chosen.batch_size,
        "--ubatch-size": chosen.ubatch_size,
        "--flash-attn": "on",
        "--cache-type-k": "f16",
        "--cache-type-v": "f16",
    }
    flags = ["--jinja", "--no-webui", "--offline", "--no-kv-unified"]
    flags += ["--cache-prompt"] if chosen.reuse == "any" else ["--no-cache-prompt", "--cache-ram", "0"]
    # Snapshots of a sliding window or a recurrent state outlive a request as well.
    flags += ["--ctx-checkpoints", "0"] if chosen.reuse != "any" and chosen.version > 1 else []
    flags += ["--metrics"] if chosen.version > 1 else []
    flags += ["--cont-batching"] if chosen.slots > 1 else ["--no-cont-batching"]
    return ServingSpec(
        engine=engine["name"],
        engine_version=engine["version"],
        profile=name,
        args=(*(str(part) for pair in args.items() for part in pair), *flags),
        cache_prompt=chosen.reuse != "none",
        slots=chosen.slots,
        reproducible=chosen.reproducible,
        profile_version=UNSET if chosen.version == 1 else chosen.version,
        prompt_reuse=chosen.reuse if chosen.reuse == "trace" else UNSET,
    )


def threads_of(serving: ServingSpec) -> tuple[int, int] | None:
    """Return how many threads generate and how many read prompts; `None` where the arguments do not say."""
    said = dict(itertools.pairwise(serving.args))
    found = said.get("--threads", ""), said.get("--threads-batch", "")
    return (int(found[0]), int(found[1])) if all(one.isascii() and one.isdigit() for one in found) else None


def threads_for(cpus: int) -> tuple[int, int]:
    """Return how many threads generate and how many read prompts on a machine with so many processors.

    All threads wait for the slowest at every layer of every token, so one core is left to everything else while
    tokens are generated; a prompt is read in few, long steps. Measured: docs/benchmarks.md.
    """
    return max(1, cpus - 1), max(1, cpus)


def external_serving(name: str = DEFAULT_PROFILE) -> ServingSpec:
    """Return what can be said of a server that somebody else started: what is sent to it, and nothing else.

    Where it is (`--base-url`) is no part of it: the same endpoint has another address on another machine. Who else
    asks it is not known, so of a conversation nothing is taken to be there still.

    Raises:
        UsageError: no profile of that name.
    """
    return ServingSpec(
        engine="external",
        engine_version=NOT_REPORTED,
        profile=name,
        args=(),
        cache_prompt=profile(name).reuse == "any",
        slots=None,
        reproducible=False,
    )


def external_pin(name: str) -> ModelPin:
    """Return the pin of a model that an endpoint serves under this name.

    A model of `models.toml` keeps its pin, so the endpoint is held against it. Of any other only the name is pinned,
    and records say so: digest, template and quantization read `not reported`.

    Raises:
        UsageError: the name is none.
    """
    if name in pins.model_names():
        return pins.model_pin(name)
    if not _NAME.fullmatch(name):
        raise UsageError(f"model {name!r}: expected a name such as Qwen/Qwen3-8B, as the endpoint lists it")
    return ModelPin(
        name=name,
        size=_size(name),
        artifact=NOT_REPORTED,
        source="endpoint",
        bytes=0,
        sha256=NOT_REPORTED,
        quantization=NOT_REPORTED,
        chat_template_sha256=NOT_REPORTED,
        context_length=CONTEXT_LENGTH,
        threads=0,
    )


def _size(name: str) -> str:
    """Return the short size for file names (`8B`, `0_6B`), or the last part of the name where it says none."""
    last = name.rpartition("/")[2]
    found = _SIZE.search(last)
    return re.sub(r"[^A-Za-z0-9-]", "_", f"{found[1]}B" if found else last[:40])
