"""Finds a model file in a folder that somebody filled: by its name, by repository, or laid out as the Hub's cache."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.errors import UsageError

if TYPE_CHECKING:
    from agenttrace.serving.wanted import Wanted

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


def expanded(named: str) -> Path:
    """Return a path that a variable names; a `~` that no shell has expanded is the home folder, if there is one."""
    return Path(os.path.expanduser(named))  # noqa: PTH111 - Path's own is an error where nobody has that name


def locate(mirror: Path, wanted: Wanted) -> Path:
    """Return the file in the mirror: the first of the right size, else the first that is there.

    Looked at, in this order: `REPO/FILE`, the cache layout of huggingface_hub
    (`models--OWNER--NAME/snapshots/COMMIT/FILE`, also below `hub/`; a branch or tag through `refs/`), `NAME` alone.

    Raises:
        UsageError: none of them exists; the message names what was looked for.
    """
    places = _places(mirror, wanted)
    there = [place for place in places if place.is_file()]
    if not there:
        names = ", ".join(str(place.relative_to(mirror)) for place in places)
        raise UsageError(f"the mirror folder of {VARIABLE} does not hold {wanted.described}; looked for {names}")
    return next((place for place in there if place.stat().st_size == wanted.bytes), there[0])


def _places(mirror: Path, wanted: Wanted) -> list[Path]:
    places = []
    if wanted.repo and wanted.revision:
        places.append(mirror / wanted.repo / wanted.in_repo)
        for root in (mirror, mirror / "hub"):
            cached = root / f"models--{wanted.repo.replace('/', '--')}"
            places.append(cached / "snapshots" / _commit(cached, wanted.revision) / wanted.in_repo)
    return [*places, mirror / wanted.artifact]


def _commit(cached: Path, revision: str) -> str:
    try:
        found = (cached / "refs" / revision).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return revision
    return found if found.isalnum() else revision
