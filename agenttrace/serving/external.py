"""Models behind an endpoint that somebody else started: pinned as far as they are known."""

from __future__ import annotations

import re

from agenttrace.errors import UsageError
from agenttrace.models import pins
from agenttrace.records import ModelPin
from agenttrace.serving.profiles import NOT_REPORTED

CONTEXT_LENGTH = 16384
"""Context that an endpoint must have unless the user names another: that of the released data set."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}")
_SIZE = re.compile(r"(?<![A-Za-z0-9])(\d+(?:\.\d+)?)[bB](?![A-Za-z0-9])")


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
