"""Brings a pinned model artifact into the models folder, whole and verified, or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from typing import TYPE_CHECKING

from agenttrace.errors import DataError, StorageError, UsageError
from agenttrace.serving.pins import BUNDLED, stored_name

if TYPE_CHECKING:
    from pathlib import Path

    from agenttrace.records import ModelPin

_CHUNK = 1 << 20


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file (64 hex digits), read in 1 MiB pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path: Path, pin: ModelPin) -> None:
    """Check size and digest of an artifact.

    Raises:
        DataError: the bytes are not the pinned ones; the message names both digests.
    """
    size = path.stat().st_size
    if size != pin.bytes:
        raise DataError(f"{path}: {size} bytes, but {pin.name} is pinned to {pin.bytes} bytes; wrong or cut-off file")
    found = sha256_of(path)
    if found != pin.sha256:
        raise DataError(
            f"{path}: SHA-256 {found}, but {pin.name} is pinned to {pin.sha256}; "
            "these are other bytes than the released ones and they are not served"
        )


def fetch(pin: ModelPin, models_dir: Path) -> Path:
    """Return the verified artifact in `models_dir`, copying it there when it is missing.

    A file of that name with other bytes is set aside as `NAME.wrong` and reported, never served.

    Raises:
        DataError: the artifact in place, or its source, has other bytes than the pinned ones.
        UsageError: the pin names a source that this version cannot read.
        StorageError: the folder cannot be written.
    """
    target = models_dir / stored_name(pin)
    if target.exists():
        try:
            verify(target, pin)
        except DataError as error:
            aside = target.with_name(f"{target.name}.wrong")
            target.replace(aside)
            raise DataError(
                f"{error}; set aside as {aside.name}, run the same command again to fetch it anew"
            ) from None
        return target
    if pin.source != "bundled":
        raise UsageError(f"{pin.name}: cannot fetch from {pin.source!r}, only bundled models can be served")
    source = BUNDLED / pin.artifact
    if not source.exists():
        raise DataError(
            f"{source}: the bundled model is missing from this installation; restore it from the repository"
        )
    verify(source, pin)
    try:
        _copy(source, target)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror}; free some space and run again") from error
    verify(target, pin)
    return target


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as out, source.open("rb") as data:
            shutil.copyfileobj(data, out, _CHUNK)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(name, 0o644)  # noqa: PTH101 - the name is a string here
        os.replace(name, target)  # noqa: PTH105
    except BaseException:
        os.unlink(name)  # noqa: PTH108
        raise
