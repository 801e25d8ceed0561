"""What the host hands to a container that may reach out: settings, secrets and certificates, on standard input."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import UsageError
from agenttrace.models.order import PASSED_ON
from agenttrace.records.base import Record

if TYPE_CHECKING:
    from collections.abc import Iterator


class HostSettings(Record, frozen=True, kw_only=True):
    """What the host hands to a verb on standard input, so that no secret stands where others can read it.

    Attributes:
        environment: variables of `agenttrace.models.order.PASSED_ON`.
        certificates: PEM text of the authorities to trust instead of the usual ones.
    """

    environment: dict[str, str]
    certificates: str | None = None


@contextmanager
def host_settings(given: bytes | None) -> Iterator[None]:
    """Set what the host handed over, if anything.

    Raises:
        UsageError: it is not what was agreed.
    """
    if given is None:
        yield
        return
    try:
        asked = msgspec.json.decode(given, type=HostSettings)
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
