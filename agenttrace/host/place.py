"""Where the files of images lie: in a checkout, or unfolded from what an installed package brought."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from agenttrace.errors import UsageError

_PACKAGE = Path(__file__).resolve().parents[1]
_BROUGHT = _PACKAGE / "_context"
"""In an installed package: what of a checkout lies beside the package (see pyproject.toml)."""
_NOT_OF_IMAGES = shutil.ignore_patterns("__pycache__", "*.pyc", _BROUGHT.name)
IS_CHECKOUT = not _BROUGHT.is_dir()


def _root() -> Path:
    if IS_CHECKOUT:
        return _PACKAGE.parent
    installed = hashlib.sha256(f"{_PACKAGE} {_BROUGHT.stat().st_mtime_ns}".encode()).hexdigest()[:16]
    cache = os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")  # noqa: PTH111 - a user may have no home
    return Path(cache, "agenttrace", f"images-{installed}")


ROOT = _root()
"""Folder with Dockerfile and docker-compose.yml; of an installed package one of its own in the user's cache."""
CAME_ALONG = ("agenttrace-demo", "small-models")
"""Releases of the kit below `datasets`: the first is what `reproduce` takes where nobody named or made another."""


def unfold() -> None:
    """Make `ROOT` where it is not a checkout: whole or not at all, the same files as in a checkout.

    Raises:
        UsageError: the cache cannot be written.
    """
    if IS_CHECKOUT or (ROOT / "Dockerfile").is_file():
        return
    try:
        ROOT.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=ROOT.parent, ignore_cleanup_errors=True) as work:
            new = Path(work, "new")
            shutil.copytree(_BROUGHT, new)
            shutil.copytree(_PACKAGE, new / _PACKAGE.name, ignore=_NOT_OF_IMAGES)
            with contextlib.suppress(OSError):  # another process was first
                new.rename(ROOT)
    except OSError as error:
        raise UsageError(
            f"cannot make {ROOT}: {error.strerror}; XDG_CACHE_HOME names another folder for caches"
        ) from error


def datasets() -> Path:
    """Return the folder for records: that of the checkout, or `datasets` in the working directory."""
    here = not IS_CHECKOUT or Path.cwd() == ROOT
    return Path("datasets") if here else ROOT / "datasets"


def releases() -> Path:
    """Return the folder in which released data sets are looked for: that for records, else the one that came along."""
    own = datasets()
    return own if any(own.glob("*/manifest.json")) else ROOT / "datasets"
