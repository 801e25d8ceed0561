"""Weights, from the host's side: can they be had at all, and the fetcher container that brings them."""

from __future__ import annotations

import http.client
import os
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import AgentTraceError, UsageError
from agenttrace.host import base, compose, engine, images
from agenttrace.models import hub
from agenttrace.models.order import MOUNT, PASSED_ON, HostSettings, Order, described
from agenttrace.models.pins import MODELS_DIR, stored_file, stored_name
from agenttrace.models.reference import ModelRef, expanded, find, locate, mirror_folder
from agenttrace.records import ModelPin

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROBE_S = 8.0
"""Longest wait for an answer of the Hub, whatever the resolver does."""
_CA_VARIABLES = ("AGENTTRACE_CA_BUNDLE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")


class NotFetchedError(AgentTraceError):
    """The fetcher ended with an error that it has told itself; the exit status is its own."""

    def __init__(self, model: str, exit_code: int) -> None:
        super().__init__(f"the weights of {model} could not be fetched; nothing was collected")
        self.exit_code = exit_code


def bring(model: str, *, size: int | None = None, sha256: str | None = None) -> int:
    """Fetch a model into the models volume, print what it is, and return the exit status.

    Raises:
        AgentTraceError: unknown model, no engine, or no way to the weights; the fetcher's own errors are in the status.
    """
    ref = find(model, size=size, sha256=sha256)
    engine.check()
    check(ref)
    built = images.build(targets=("collector",))
    sdk = compose.client()
    compose.ensure_volumes(sdk)
    project = f"{compose.project_name()}-fetch-{os.getpid()}"
    known = {"AGENTTRACE_COLLECTOR_IMAGE": built.ids["collector"], "AGENTTRACE_TERMINAL": compose.terminal_size()}
    try:
        pin = fetch(compose.Services(project, {**known, **variables(ref)}), ref)
    except NotFetchedError as error:
        return error.exit_code
    finally:
        compose.sweep_for_good(sdk, project)
    print("\n".join([f"{stored_name(pin)} in the volume {compose.models_volume()}", *described(pin)]))  # noqa: T201
    return 0


def check(ref: ModelRef) -> None:
    """Refuse within seconds what cannot be fetched, before images are built; the rest is for the fetcher to find out.

    Raises:
        FetchError: the Hub cannot be reached, or must not be, and the models volume does not have the file.
        UsageError: the mirror folder does not hold it.
    """
    if _source(ref) is not None or ref.source != "hub":
        return
    if hub.offline():
        reason: str | None = "HF_HUB_OFFLINE forbids it"
    else:
        reason = unreachable(hub.endpoint())
    if reason is not None and not _in_volume(ref):
        message = f"{ref.name}: cannot reach {hub.shown_endpoint()} ({reason}). {hub.how_to_get(ref)}"
        raise hub.FetchError(message)


def variables(ref: ModelRef) -> dict[str, str]:
    """Return what docker-compose.yml needs for the fetcher: the one local file that it is to copy, if any."""
    source = _source(ref)
    if source is None:
        return {}
    return {"AGENTTRACE_WEIGHTS": str(source), "AGENTTRACE_WEIGHTS_TARGET": str(MOUNT / ref.artifact)}


def fetch(services: compose.Services, ref: ModelRef) -> ModelPin:
    """Return the pin of the model, which then lies in the models volume with verified bytes.

    Raises:
        NotFetchedError: the fetcher said why on standard error.
    """
    mirrored = _source(ref) is not None or mirror_folder() is not None
    order = Order(
        ref=msgspec.structs.replace(ref, path=ref.artifact) if ref.path else ref,
        mirrored=mirrored,
        settings=HostSettings(environment={}) if mirrored else host_settings(),
    )
    status, output = services.converse("fetcher", "fetch", "-", "--from-host", data=msgspec.json.encode(order))
    if status != 0:
        raise NotFetchedError(ref.name, status if status > 0 else 1)
    return msgspec.json.decode(output.splitlines()[-1], type=ModelPin)


def unreachable(address: str, timeout_s: float = hub.CONNECT_S) -> str | None:
    """Return why nothing answers at an HTTP address, or `None` when anything does, be it a refusal.

    No token is sent. A certificate that this machine does not trust counts as an answer: the fetcher trusts others.
    """
    found: list[str | None] = [f"no answer within {_PROBE_S:.0f} s"]

    def ask() -> None:
        found[0] = _asked(address, timeout_s)

    thread = threading.Thread(target=ask, daemon=True)  # a resolver may hang for much longer than any time limit
    thread.start()
    thread.join(_PROBE_S)
    return found[0]


def _asked(address: str, timeout_s: float) -> str | None:
    try:
        request = urllib.request.Request(address, method="HEAD")  # noqa: S310 - the scheme is checked just below
        if request.type not in {"http", "https"}:
            return "not an http address"
        with urllib.request.urlopen(request, timeout=timeout_s):  # noqa: S310
            return None
    except (urllib.error.HTTPError, http.client.HTTPException):
        return None
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "reason", error))
        return None if "certificate" in reason.lower() else reason


def _in_volume(ref: ModelRef) -> bool:
    """Return whether the models volume has the file, or may have it: without an image nobody can look."""
    if ref.sha256 is None:
        return False
    volume, image = compose.models_volume(), images.name("collector")
    if engine.run(["docker", "volume", "inspect", volume], check=False).returncode != 0:
        return False
    if engine.run(["docker", "image", "inspect", image], check=False).returncode != 0:
        return True
    path = f"{MODELS_DIR}/{stored_file(ref.sha256, ref.artifact)}"
    argv = ["docker", "run", "--rm", "--network", "none", "--volume", f"{volume}:{MODELS_DIR}:ro"]
    return engine.run([*argv, "--entrypoint", "test", image, "-f", path], check=False).returncode == 0


def _source(ref: ModelRef) -> Path | None:
    """Return the local file a model comes from: the user's own, or one of the mirror folder."""
    if ref.path is not None:
        path = Path(ref.path)
        if not path.is_file():
            raise UsageError(f"{ref.name}: {path} does not exist or is no file")
        return path.resolve()
    folder = mirror_folder()
    if ref.source != "hub" or folder is None:
        return None
    try:
        return locate(folder, ref).resolve()
    except UsageError:
        if _in_volume(ref):  # fetched before: the folder is not asked
            return None
        raise


def host_settings() -> HostSettings:
    """Return what a container that may reach out needs of this machine."""
    return HostSettings(environment=user_settings(os.environ), certificates=certificates())


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


def certificates() -> str | None:
    """Return the user's own certificates as PEM text; without any, the fetcher trusts the usual authorities."""
    if not any(os.environ.get(name) for name in _CA_VARIABLES):
        return None
    bundle = base.ca_bundle()
    return None if bundle is None else bundle.read_text(encoding="utf-8", errors="replace")
