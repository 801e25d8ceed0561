"""The verb `fetch`: as a person types it, and as the host runs it inside the fetcher container.

The host hands over a JSON order on standard input. What must not be seen (the Hub's token, a proxy's password) so
reaches the container on no command line, in no file, and in no environment that the engine shows to whoever may ask it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import UsageError
from agenttrace.models.fetch import fetch
from agenttrace.models.reference import ModelRef, find, mirror_folder
from agenttrace.records import Record

if TYPE_CHECKING:
    from rich.console import Console

    from agenttrace.records import ModelPin

MOUNT = Path("/mirror")
"""Where the fetcher container sees the user's mirror folder, or the one file it is to copy."""
PASSED_ON = (
    *("HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
)
"""Variables of the user that reach the fetcher."""


class Order(Record, frozen=True, kw_only=True):
    """What the host asks of the fetcher.

    Attributes:
        ref: the model.
        mirrored: whether it comes from `MOUNT` and from nowhere else.
        environment: variables of `PASSED_ON`.
        certificates: PEM text of the authorities to trust instead of the usual ones.
    """

    ref: ModelRef
    mirrored: bool
    environment: dict[str, str]
    certificates: str | None = None


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
    os.environ.update({name: value for name, value in asked.environment.items() if name in PASSED_ON})
    if asked.certificates is None:
        return _pin(asked, models_dir, out)
    with tempfile.NamedTemporaryFile("w", suffix=".pem", encoding="utf-8") as bundle:
        bundle.write(asked.certificates)
        bundle.flush()
        os.environ["SSL_CERT_FILE"] = bundle.name
        return _pin(asked, models_dir, out)


def _pin(asked: Order, models_dir: Path, out: Console | None) -> str:
    got = fetch(asked.ref, models_dir, mirror_dir=MOUNT if asked.mirrored else None, out=out)
    return msgspec.json.encode(got.pin).decode()
