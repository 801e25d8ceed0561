"""Brings a model's weights into the models folder, whole and verified, or not at all.

Bytes come into a hidden part file, which is locked while somebody fills it and stays when that is cut off; with the
right size and digest, it is renamed. Whoever dies at any instant leaves either a part that the next fetch goes on with,
or the whole file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from agenttrace.errors import DataError, StorageError, UsageError
from agenttrace.records import ModelPin, Record
from agenttrace.serving import download, hub, mirror
from agenttrace.serving.gguf import read_facts
from agenttrace.serving.pins import BUNDLED, stored_file
from agenttrace.serving.transfer import Transfer
from agenttrace.serving.wanted import DEFAULT_CONTEXT, Wanted, is_complete, is_settled, provisional

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console


class Fetched(Record, frozen=True, kw_only=True):
    """A model that is there: what to write into run specs, and where the file lies."""

    pin: ModelPin
    path: Path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file (64 hex digits)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path: Path, wanted: Wanted) -> None:
    """Check size and digest of a file.

    Raises:
        DataError: the bytes are not the expected ones; the message names both digests.
    """
    size = path.stat().st_size
    said = "pinned to" if wanted.digest_from == "pinned" else "said to have"
    if size != wanted.bytes:
        raise DataError(
            f"{path}: {size} bytes, but {wanted.name} is {said} {wanted.bytes} bytes; wrong or cut-off file"
        )
    found = sha256_of(path)
    if found != wanted.sha256:
        raise DataError(
            f"{path}: SHA-256 {found}, but {wanted.name} is {said} {wanted.sha256}; "
            "these are other bytes and they are not served"
        )


def fetch(wanted: Wanted, models_dir: Path, *, mirror_dir: Path | None = None, out: Console | None = None) -> Fetched:
    """Return the verified model in `models_dir`, fetching it there when it is missing.

    A file of that name with other bytes is set aside as `NAME.wrong` and reported, never served. Of two fetches of one
    file at the same time, one works and the other waits for it.

    Args:
        wanted: which model.
        models_dir: where models are kept; made when it does not exist.
        mirror_dir: take it from this folder and from nowhere else.
        out: console for progress.

    Raises:
        DataError: the file in place, or its source, has other bytes than expected; or it is no usable GGUF file.
        FetchError: it cannot be had from the Hub.
        UsageError: the mirror does not hold it, or two names mean different things.
        StorageError: the folder cannot be written, or is full.
    """
    wanted = _settled(wanted, mirror_dir)
    target = models_dir / stored_file(wanted.sha256 or "", wanted.artifact)
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        with _locked_part(target) as part:
            if target.exists():
                _verify_in_place(target, wanted)
            else:
                _fill(part, wanted, _local_source(wanted, mirror_dir), out)
                _finish(part, target, wanted)
    except OSError as error:
        what = "free some space" if error.errno in {errno.ENOSPC, errno.EDQUOT} else "make the folder writable"
        raise StorageError(f"cannot write {target}: {error.strerror}; {what} and run again") from error
    return Fetched(pin=completed(wanted, target), path=target)


def completed(wanted: Wanted, path: Path) -> ModelPin:
    """Return the pin of a verified file, with what was not known before taken from the file's own header.

    Raises:
        DataError: it is no GGUF file, one part of several, or has no chat template.
    """
    if is_complete(wanted):
        return provisional(wanted)
    facts = read_facts(path)
    if facts.parts > 1:
        raise DataError(f"{wanted.name}: one of {facts.parts} parts; join them with `llama-gguf-split --merge`")
    template = wanted.chat_template_sha256 or facts.chat_template_sha256
    if template is None:
        raise DataError(f"{wanted.name}: the file has no chat template, so llama-server cannot put tools before it")
    label = "".join(
        char if char.isascii() and char.isalnum() else "_" for char in facts.size_label or facts.architecture or "model"
    )
    known = msgspec.structs.replace(
        wanted,
        size=wanted.size or label[:20],
        quantization=wanted.quantization or facts.quantization or "unknown",
        chat_template_sha256=template,
        context_length=wanted.context_length or min(facts.context_length or DEFAULT_CONTEXT, DEFAULT_CONTEXT),
    )
    return provisional(known)


def _settled(wanted: Wanted, mirror_dir: Path | None) -> Wanted:
    """Return the model with size and digest: those asked for, else what the file has or the Hub states."""
    if is_settled(wanted):
        if wanted.source == "bundled":
            verify(_bundled(wanted), wanted)
        return wanted
    source = _local_source(wanted, mirror_dir)
    if source is None:
        return _as_the_hub_states(wanted)
    try:
        size, sha256 = source.stat().st_size, wanted.sha256 or sha256_of(source)
    except OSError as error:
        raise UsageError(f"cannot read {source}: {error.strerror}; make it readable for everybody") from error
    origin = wanted.digest_from if wanted.sha256 else "computed"
    return msgspec.structs.replace(wanted, bytes=wanted.bytes or size, sha256=sha256, digest_from=origin)


def _bundled(wanted: Wanted) -> Path:
    source = BUNDLED / wanted.artifact
    if not source.exists():
        raise DataError(
            f"{source}: the bundled model is missing from this installation; restore it from the repository"
        )
    return source


def _local_source(wanted: Wanted, mirror_dir: Path | None) -> Path | None:
    if wanted.source == "bundled":
        return _bundled(wanted)
    if wanted.source == "file":
        path = Path(wanted.path or "")
        return mirror_dir / path.name if mirror_dir is not None else path
    return None if mirror_dir is None else mirror.locate(mirror_dir, wanted)


def _as_the_hub_states(wanted: Wanted) -> Wanted:
    """Return the model with revision, size and digest as the Hub states them now, where the user named none.

    Raises:
        DataError: what the user named and what the Hub states differ.
        FetchError: the Hub states no digest, since the file is not in its large-file storage.
    """
    stated = download.patiently(lambda: hub.stated(wanted))
    _compare(wanted, stated)
    sha256, size = wanted.sha256 or stated.sha256, wanted.bytes or stated.bytes
    if sha256 is None or size is None:
        raise hub.FetchError(f"{wanted.name}: the Hub states no SHA-256 of this file; give --sha256 and --size")
    revision = stated.commit or wanted.revision or ""
    return msgspec.structs.replace(
        wanted,
        name=wanted.name.replace(f"@{wanted.revision}:", f"@{revision}:"),
        revision=revision,
        bytes=size,
        sha256=sha256,
    )


def _compare(wanted: Wanted, stated: hub.Stated) -> None:
    pairs = (("bytes", wanted.bytes, stated.bytes), ("SHA-256", wanted.sha256, stated.sha256))
    wrong = [
        f"{name} {theirs}, expected {ours}"
        for name, ours, theirs in pairs
        if None not in {ours, theirs} and ours != theirs
    ]
    if wrong:
        raise DataError(
            f"{wanted.name}: revision {wanted.revision} of {wanted.repo} now has another {wanted.in_repo} "
            f"({'; '.join(wrong)}); it is not fetched. Name the commit that has the expected bytes, or a mirror folder"
        )


@contextlib.contextmanager
def _locked_part(target: Path) -> Iterator[BinaryIO]:
    """Yield the open part file beside `target`, held by nobody else; an empty one does not stay."""
    path = target.with_name(f".{target.name}.part")
    while True:
        file = path.open("ab+", buffering=0)
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                break
        except FileNotFoundError:  # whoever held it has renamed it
            pass
        file.close()
    try:
        yield file
    finally:
        if not os.fstat(file.fileno()).st_size or target.exists():
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        file.close()


def _verify_in_place(target: Path, wanted: Wanted) -> None:
    try:
        verify(target, wanted)
    except DataError as error:
        aside = _set_aside(target, target)
        raise DataError(f"{error}; set aside as {aside}, run the same command again to fetch it anew") from None


def _set_aside(path: Path, target: Path) -> str:
    aside = target.with_name(f"{target.name}.wrong")
    path.replace(aside)
    return aside.name


def _fill(part: BinaryIO, wanted: Wanted, source: Path | None, out: Console | None) -> None:
    size = wanted.bytes or 0
    folder = Path(part.name).parent
    if os.fstat(part.fileno()).st_size > size:
        part.truncate(0)
    with Transfer(wanted.artifact, size, out) as shown:
        if source is None:
            _check_before(wanted, part)
            download.check_space(folder, wanted, size - os.fstat(part.fileno()).st_size)
            download.download(wanted, size, part, shown)
            return
        try:
            data = source.open("rb")
        except OSError as error:
            raise UsageError(f"cannot read {source}: {error.strerror}; make it readable for everybody") from error
        with data:
            if (found := os.fstat(data.fileno()).st_size) != size:
                raise DataError(
                    f"{source}: {found} bytes, but {wanted.name} is {wanted.described}; wrong or cut-off file"
                )
            part.truncate(0)
            download.check_space(folder, wanted, size)
            download.write_all(part, download.read_pieces(data), size, wanted, shown)


def _check_before(wanted: Wanted, part: BinaryIO) -> None:
    """Ask for what the Hub states before the first byte: refused or changed files cost no download."""
    if not os.fstat(part.fileno()).st_size:
        _compare(wanted, download.patiently(lambda: hub.stated(wanted)))


def _finish(part: BinaryIO, target: Path, wanted: Wanted) -> None:
    path = Path(part.name)
    try:
        verify(path, wanted)
    except DataError as error:
        aside = _set_aside(path, target)
        message = str(error).replace(str(path), aside)
        raise DataError(f"{message}; set aside under that name, run the same command again to fetch it anew") from None
    os.fchmod(part.fileno(), 0o644)
    os.fsync(part.fileno())
    path.replace(target)
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
