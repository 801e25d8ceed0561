"""What is pinned about models, read from `models.toml`."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from agenttrace.errors import UsageError, did_you_mean
from agenttrace.records import ModelPin

BUNDLED = Path(__file__).parent / "bundled"
MODELS_DIR = "/models"
DEFAULT_MODEL = "agenttrace-demo"
DEFAULT_ROLLOUT_MODEL = "agenttrace-demo-swe"
"""Bundled as well; the other one knows no bash blocks."""

NO_TEMPLATE = "none"
"""Stands for the digest of a chat template where the file has none: that of a base model."""


@functools.cache
def table() -> dict[str, Any]:
    """Return `models.toml`: its table `model`."""
    return tomllib.loads((Path(__file__).parent / "models.toml").read_text(encoding="utf-8"))


def model_names() -> list[str]:
    """Return the names of all pinned models, in file order."""
    return list(table()["model"])


def model_pin(name: str) -> ModelPin:
    """Return the pin of a model; 0 threads are those that fit the machine.

    Raises:
        UsageError: no model of that name is pinned.
    """
    rows = table()["model"]
    if name not in rows:
        raise UsageError(f"unknown model {name!r}{did_you_mean(name, rows)}; pinned models: {', '.join(rows)}")
    return msgspec.convert({"name": name, "threads": 0, **rows[name]}, ModelPin)


def stored_file(sha256: str, artifact: str) -> str:
    """Return the file name of an artifact in the models volume: the digest first, so two versions never collide."""
    return f"{sha256[:16]}-{artifact}"


def stored_name(pin: ModelPin) -> str:
    """Return the file name of a pinned artifact in the models volume."""
    return stored_file(pin.sha256, pin.artifact)
