"""Finds a model file in a folder that somebody filled: by its name, by repository, or laid out as the Hub's cache."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from agenttrace.errors import UsageError
from agenttrace.models.reference import expanded

if TYPE_CHECKING:
    from pathlib import Path

    from agenttrace.models.reference import ModelRef

VARIABLE = "AGENTTRACE_MODELS_MIRROR"
"""Names the folder; when it is set, weights come from there and from nowhere else."""


def folder() -> Path | None:
    """Return the mirror folder that the user named, if any.

    Raises:
        UsageError: it is no folder.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    path = expanded(named)
    if not path.is_dir():
        raise UsageError(f"{VARIABLE} names {named}, which is no folder: correct or unset it")
    return path


def locate(mirror: Path, ref: ModelRef) -> Path:
    """Return the file in the mirror: the first of the right size, else the first that is there.

    Looked at, in this order: `REPO/FILE`, the cache layout of huggingface_hub
    (`models--OWNER--NAME/snapshots/COMMIT/FILE`, also below `hub/`; a branch or tag through `refs/`), `NAME` alone.

    Raises:
        UsageError: none of them exists; the message names what was looked for.
    """
    places = _places(mirror, ref)
    there = [place for place in places if place.is_file()]
    if not there:
        names = ", ".join(str(place.relative_to(mirror)) for place in places)
        raise UsageError(f"the mirror folder of {VARIABLE} does not hold {ref.described}; looked for {names}")
    return next((place for place in there if place.stat().st_size == ref.bytes), there[0])


def _places(mirror: Path, ref: ModelRef) -> list[Path]:
    places = []
    if ref.repo and ref.revision:
        places.append(mirror / ref.repo / ref.in_repo)
        for root in (mirror, mirror / "hub"):
            cached = root / f"models--{ref.repo.replace('/', '--')}"
            places.append(cached / "snapshots" / _commit(cached, ref.revision) / ref.in_repo)
    return [*places, mirror / ref.artifact]


def _commit(cached: Path, revision: str) -> str:
    try:
        found = (cached / "refs" / revision).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return revision
    return found if found.isalnum() else revision
