"""The verb `fetch`: as a person types it, and as the host runs it inside the fetcher container.

The host hands over a JSON order on standard input. What must not be seen (the Hub's token, a proxy's password) so
reaches the container on no command line, in no file, and in no environment that the engine shows to whoever may ask it.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import UsageError
from agenttrace.models.fetch import fetch
from agenttrace.models.reference import ModelRef, find, mirror_folder
from agenttrace.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from agenttrace.records import ModelPin

MOUNT = Path("/mirror")
"""Where the fetcher container sees the user's mirror folder, or the one file it is to copy."""
PASSED_ON = (
    *("HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
)
"""Variables of the user that reach the fetcher."""


class HostSettings(Record, frozen=True, kw_only=True):
    """What the host hands to a container that may reach out, so that no secret stands where others can read it.

    Attributes:
        environment: variables of `PASSED_ON`.
        certificates: PEM text of the authorities to trust instead of the usual ones.
    """

    environment: dict[str, str]
    certificates: str | None = None


@contextmanager
def host_settings(given: bytes | HostSettings | None) -> Iterator[None]:
    """Set what the host handed over (as JSON, or read already), if anything.

    Raises:
        UsageError: it is not what was agreed.
    """
    if given is None:
        yield
        return
    try:
        asked = msgspec.json.decode(given, type=HostSettings) if isinstance(given, bytes) else given
    except msgspec.DecodeError as error:
        raise UsageError(f"--from-host: {error}") from error
    os.environ.update({name: value for name, value in asked.environment.items() if name in PASSED_ON})
    if asked.certificates is None:
        yield
        return
    with tempfile.NamedTemporaryFile("w", suffix=".pem", encoding="utf-8") as bundle:
        bundle.write(asked.certificates)
        bundle.flush()
        os.environ.update(SSL_CERT_FILE=bundle.name, GIT_SSL_CAINFO=bundle.name)
        yield


class Order(Record, frozen=True, kw_only=True):
    """What the host asks of the fetcher.

    Attributes:
        ref: the model.
        mirrored: whether it comes from `MOUNT` and from nowhere else.
        settings: how the outside is reached.
    """

    ref: ModelRef
    mirrored: bool
    settings: HostSettings


def for_people(
    model: str, models_dir: Path, *, size: int | None, sha256: str | None, out: Console | None = None
) -> None:
    """Fetch a model and print where it lies and what it is.

    Raises:
        AgentTraceError: with the reason; see `fetch`.
    """
    got = fetch(find(model, size=size, sha256=sha256), models_dir, mirror_dir=mirror_folder(), out=out)
    print("\n".join([str(got.path), *described(got.pin)]))  # noqa: T201 - the verb's result


def described(pin: ModelPin) -> list[str]:
    """Return the lines that tell of a fetched model: name, size, digest and who said it, licence."""
    who = {
        "pinned": "as pinned by the kit",
        "given": "as given",
        "hub": "as the Hub states it now, not pinned: give --sha256 and --size to hold it",
        "computed": "computed from the file, nothing to compare it with",
    }[pin.digest_from]
    lines = [f"model {pin.name}", f"{pin.bytes} bytes, SHA-256 {pin.sha256} ({who})"]
    return lines + [f"licence {pin.licence}"] * (pin.licence is not None)


def for_the_host(order: bytes, models_dir: Path, *, out: Console | None = None) -> str:
    """Carry out the host's order and return the model's pin as JSON.

    Raises:
        AgentTraceError: with the reason; see `fetch`.
    """
    try:
        asked = msgspec.json.decode(order, type=Order)
    except msgspec.DecodeError as error:
        raise UsageError(f"--from-host: {error}") from error
    with host_settings(asked.settings):
        got = fetch(asked.ref, models_dir, mirror_dir=MOUNT if asked.mirrored else None, out=out)
    return msgspec.json.encode(got.pin).decode()
