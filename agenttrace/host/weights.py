"""Weights, from the host's side: where they come from, and the fetcher container that brings them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import UsageError
from agenttrace.host import base, compose, engine, images
from agenttrace.models.hub import PASSED_ON, HostSettings, in_clear_text
from agenttrace.models.pins import stored_name
from agenttrace.models.reference import ModelRef, expanded, find, locate, mirror_folder, told
from agenttrace.records import ModelPin
from agenttrace.show import say

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOUNT = Path("/mirror")
"""Where the fetcher container sees the one file that it is to copy."""


def bring(model: str, *, size: int | None = None, sha256: str | None = None) -> ModelPin:
    """Fetch a model into the models volume and return what it is.

    Raises:
        AgentTraceError: unknown model, no engine, or no way to the weights.
    """
    ref = find(model, size=size, sha256=sha256)
    more = variables(ref)
    engine.check()
    built = images.build(targets=("collector",))
    sdk = compose.client()
    compose.ensure_volumes(sdk)
    project = f"{compose.project_name()}-fetch-{os.getpid()}"
    known = {"AGENTTRACE_COLLECTOR_IMAGE": built.ids["collector"], **compose.terminal_variables()}
    try:
        return fetch(compose.Services(project, {**known, **more}), ref)
    finally:
        compose.sweep_for_good(sdk, project)


def lines(pin: ModelPin) -> list[str]:
    """Return where a fetched model lies and what it is, for people."""
    return [f"{stored_name(pin)} in the volume {compose.models_volume()}", *told(pin)]


def variables(ref: ModelRef) -> dict[str, str]:
    """Return what docker-compose.yml needs for the fetcher: the one local file that it is to copy, if any.

    A file that the mirror folder does not hold may have been fetched before: where there is a models volume, the
    fetcher finds out.

    Raises:
        UsageError: the user's own file is not there, the mirror folder is none, or only the mirror could have the file.
    """
    folder = mirror_folder()
    if ref.path is not None:
        source = Path(ref.path)
        if not source.is_file():
            raise UsageError(f"{ref.name}: {source} does not exist or is no file")
    elif ref.source == "hub" and folder is not None:
        try:
            source = locate(folder, ref)
        except UsageError:
            if not compose.has_models_volume():
                raise
            return {}
    else:
        return {}
    return {"AGENTTRACE_WEIGHTS": str(source.resolve()), "AGENTTRACE_WEIGHTS_TARGET": str(_MOUNT / ref.artifact)}


def fetch(services: compose.Services, ref: ModelRef) -> ModelPin:
    """Return the pin of the model, which then lies in the models volume with verified bytes.

    Raises:
        EndedError: the fetcher said why on standard error.
    """
    mirrored = ref.path is not None or mirror_folder() is not None
    inside = msgspec.structs.replace(ref, path=ref.artifact) if ref.path else ref
    words = ["fetch", msgspec.json.encode(inside).decode(), "--from-host", *(["--mirror", str(_MOUNT)] * mirrored)]
    settings = HostSettings(environment={}) if mirrored else host_settings()
    otherwise = f"the weights of {ref.name} could not be fetched"
    output = services.converse("fetcher", *words, data=msgspec.json.encode(settings), otherwise=otherwise)
    return msgspec.json.decode(output.splitlines()[-1], type=ModelPin)


def host_settings() -> HostSettings:
    """Return what a container that may reach out needs of this machine; it trusts the usual authorities by itself."""
    settings = user_settings(os.environ)
    if "HF_TOKEN" in settings and in_clear_text():
        say("HF_ENDPOINT is an http:// address: HF_TOKEN crosses the network in clear text; https:// keeps it secret")
    bundle = base.ca_bundle(files=())
    certificates = None if bundle is None else bundle.read_text(encoding="utf-8", errors="replace")
    return HostSettings(environment=settings, certificates=certificates)


def user_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the fetcher needs; the token also from where `hf auth login` keeps it."""
    found = {name: environ[name] for name in PASSED_ON if environ.get(name)}
    if "HF_TOKEN" not in found and (token := _stored_token(environ)):
        found["HF_TOKEN"] = token
    return found


def _stored_token(environ: Mapping[str, str]) -> str | None:
    home = environ.get("HF_HOME") or Path(environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    path = expanded(environ.get("HF_TOKEN_PATH") or str(Path(home) / "token"))
    try:
        return path.read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None
