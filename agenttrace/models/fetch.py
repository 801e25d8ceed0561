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
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from agenttrace.errors import DataError, StorageError, UsageError
from agenttrace.models import hub, index
from agenttrace.models.gguf import read_facts
from agenttrace.models.pins import BUNDLED, NO_TEMPLATE, stored_file
from agenttrace.models.reference import DEFAULT_CONTEXT, ModelRef, is_complete, is_settled, locate, provisional
from agenttrace.models.transfer import Transfer
from agenttrace.models.wheels import joined, wheel_file
from agenttrace.records import ModelPin, Record
from agenttrace.store.append import sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from rich.console import Console

    from agenttrace.models.hub import Wanted
    from agenttrace.records import Wheel

_CHUNK_BYTES = 1 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Fetched(Record, frozen=True, kw_only=True):
    """A model that is there: what to write into run specs, and where the file lies."""

    pin: ModelPin
    path: Path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file (64 hex digits)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path: Path, ref: Wanted) -> None:
    """Check size and digest of a file.

    Raises:
        DataError: the bytes are not the expected ones; the message names both digests.
    """
    size = path.stat().st_size
    said = "pinned to" if ref.digest_from == "pinned" else "said to have"
    if size != ref.bytes:
        raise DataError(f"{path}: {size} bytes, but {ref.name} is {said} {ref.bytes} bytes; wrong or cut-off file")
    found = sha256_of(path)
    if found != ref.sha256:
        raise DataError(
            f"{path}: SHA-256 {found}, but {ref.name} is {said} {ref.sha256}; "
            "these are other bytes and they are not served"
        )


def fetch(ref: ModelRef, models_dir: Path, *, mirror_dir: Path | None = None, out: Console | None = None) -> Fetched:
    """Return the verified model in `models_dir`, fetching it there when it is missing.

    A file of that name with other bytes is set aside as `NAME.wrong` and reported, never served. Of two fetches of one
    file at the same time, one works and the other waits for it.

    Args:
        ref: which model.
        models_dir: where models are kept; made when it does not exist.
        mirror_dir: take it from this folder and from nowhere else.
        out: console for progress.

    Raises:
        DataError: the file in place, or its source, has other bytes than expected; or it is no usable GGUF file.
        FetchError: it cannot be had from the Hub.
        UsageError: the mirror does not hold it, or two names mean different things.
        StorageError: the folder cannot be written, or is full.
    """
    ref = _settled(ref, mirror_dir)
    target = models_dir / stored_file(ref.sha256 or "", ref.artifact)
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        _settle(target, ref, lambda part: _fill(part, ref, mirror_dir, out))
        for wheel in ref.wheels:
            _stored(wheel, models_dir).unlink(missing_ok=True)
    except OSError as error:
        what = "make room" if error.errno in _FULL else "make the folder writable"
        raise StorageError(
            f"cannot write {target} ({ref.bytes or 0:,} bytes): {error.strerror}; {what} and run again, a download "
            "goes on from what has come"
        ) from error
    return Fetched(pin=completed(ref, target), path=target)


def _settle(target: Path, wanted: Wanted, fill: Callable[[BinaryIO], None]) -> None:
    """Have `target` hold the wanted bytes, verified; `fill` brings them into the part file where it is missing."""
    with _locked_part(target) as part:
        if target.exists():
            _verify_or_set_aside(target, target, wanted)
        else:
            fill(part)
            _verify_or_set_aside(Path(part.name), target, wanted)
            _put_in_place(part, target)


def completed(ref: ModelRef, path: Path) -> ModelPin:
    """Return the pin of a verified file, with what was not known before taken from the file's own header.

    Raises:
        DataError: it is no GGUF file.
    """
    if is_complete(ref):
        return provisional(ref)
    facts = read_facts(path)
    label = re.sub(r"[^A-Za-z0-9]", "_", facts.size_label or facts.architecture or "model")
    known = msgspec.structs.replace(
        ref,
        size=ref.size or label[:20],
        quantization=ref.quantization or facts.quantization or "unknown",
        chat_template_sha256=ref.chat_template_sha256 or facts.chat_template_sha256 or NO_TEMPLATE,
        template_tools=False if facts.template_tools is False else ref.template_tools,
        context_length=ref.context_length or min(facts.context_length or DEFAULT_CONTEXT, DEFAULT_CONTEXT),
    )
    return provisional(known)


def _settled(ref: ModelRef, mirror_dir: Path | None) -> ModelRef:
    """Return the model with size and digest: those asked for, else what the file has or the Hub states."""
    if is_settled(ref):
        if ref.source == "bundled":
            verify(_bundled(ref), ref)
        return ref
    source = _local_source(ref, mirror_dir)
    if source is None:
        return _agreed(ref)
    try:
        size, sha256 = source.stat().st_size, ref.sha256 or sha256_of(source)
    except OSError as error:
        raise UsageError(f"cannot read {source}: {error.strerror}; make it readable for everybody") from error
    origin = ref.digest_from if ref.sha256 else "computed"
    return msgspec.structs.replace(ref, bytes=ref.bytes or size, sha256=sha256, digest_from=origin)


def _bundled(ref: ModelRef) -> Path:
    source = BUNDLED / ref.artifact
    if not source.exists():
        raise DataError(
            f"{source}: the bundled model is missing from this installation; restore it from the repository"
        )
    return source


def _local_source(ref: ModelRef, mirror_dir: Path | None) -> Path | None:
    if ref.source == "bundled":
        return _bundled(ref)
    if ref.source == "file":
        path = Path(ref.path or "")
        return mirror_dir / path.name if mirror_dir is not None else path
    return None if mirror_dir is None else locate(mirror_dir, ref)


def _agreed(ref: ModelRef) -> ModelRef:
    """Return the model with revision, size and digest as the Hub states them now, where the user named none.

    Raises:
        DataError: what was named and what the Hub states differ.
        FetchError: the Hub states no digest, since the file is not in its large-file storage.
    """
    stated = hub.stated(ref)
    pairs = (("bytes", ref.bytes, stated.bytes), ("SHA-256", ref.sha256, stated.sha256))
    wrong = [f"{what} {theirs}, expected {ours}" for what, ours, theirs in pairs if ours and theirs and ours != theirs]
    if wrong:
        raise DataError(
            f"{ref.name}: revision {ref.revision} of {ref.repo} now has another {ref.in_repo} "
            f"({'; '.join(wrong)}); it is not fetched. Name the commit that has the expected bytes, or a mirror folder"
        )
    sha256, size = ref.sha256 or stated.sha256, ref.bytes or stated.bytes
    if sha256 is None or size is None:
        raise hub.FetchError(f"{ref.name}: the Hub states no SHA-256 of this file; give --sha256 and --size")
    name = ref.name.replace(f"@{ref.revision}:", f"@{stated.revision}:")
    return msgspec.structs.replace(stated, name=name, bytes=size, sha256=sha256)


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


def _verify_or_set_aside(path: Path, target: Path, ref: Wanted) -> None:
    try:
        verify(path, ref)
    except DataError as error:
        aside = target.with_name(f"{target.name}.wrong")
        path.replace(aside)
        raise DataError(f"{error}; set aside as {aside.name}, run the same command again to fetch it anew") from None


def _fill(part: BinaryIO, ref: ModelRef, mirror_dir: Path | None, out: Console | None) -> None:
    """Make the part hold as many bytes as the model has."""
    source, size = _local_source(ref, mirror_dir), ref.bytes or 0
    if source is None and ref.wheels:
        _join(part, ref, out)
        return
    if source is None:
        _continue(part, ref, lambda had: hub.pieces(ref, had), out, before=lambda: _agreed(ref))
        return
    try:
        data = source.open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {source}: {error.strerror}; make it readable for everybody") from error
    with data:
        if (found := os.fstat(data.fileno()).st_size) != size:
            raise DataError(f"{source}: {found} bytes, but {ref.name} is {ref.described}; wrong or cut-off file")
        _begin(part, iter(lambda: data.read(_CHUNK_BYTES), b""), ref, out)


def _join(part: BinaryIO, ref: ModelRef, out: Console | None) -> None:
    """Make the part hold the members of the model's wheels, of which those that are not here are fetched first."""
    folder = Path(part.name).parent
    there = [(wheel, _wheel(wheel, folder, ref, out)) for wheel in ref.wheels]
    _begin(part, joined(there), ref, out)


def _wheel(wheel: Wheel, folder: Path, ref: ModelRef, out: Console | None) -> Path:
    """Return a wheel with verified bytes: one that pip has been given a folder of, or one that is fetched."""
    wanted, target = wheel_file(wheel, digest_from=ref.digest_from), _stored(wheel, folder)
    if not target.exists() and (own := index.local(wheel, index.folders())) is not None:
        try:
            verify(own, wanted)
        except OSError as error:
            raise UsageError(f"cannot read {own}: {error.strerror}; make it readable for everybody") from error
        return own
    _settle(target, wanted, lambda part: _continue(part, wanted, lambda had: index.pieces(wheel, wanted, had), out))
    return target


def _stored(wheel: Wheel, folder: Path) -> Path:
    return folder / stored_file(wheel.sha256, wheel.file)


def _begin(part: BinaryIO, pieces: Iterable[bytes], wanted: Wanted, out: Console | None) -> None:
    """Fill the part from its first byte on."""
    part.truncate(0)
    _check_space(part, wanted)
    shown = Transfer(wanted.artifact, wanted.bytes or 0, out)
    with shown.bar:
        _append(part, pieces, wanted, shown)


def _continue(
    part: BinaryIO,
    wanted: Wanted,
    pieces: Callable[[int], Generator[bytes, None, None]],
    out: Console | None,
    before: Callable[[], object] = lambda: None,
) -> None:
    """Fill the part from where it ends; `pieces` yields what comes from an offset on."""
    size = wanted.bytes or 0
    if _length(part) > size:
        part.truncate(0)
    if _length(part) < size:
        before()  # a file that is refused or was changed costs no download
        _check_space(part, wanted)
        shown = Transfer(wanted.artifact, size, out)
        with shown.bar:
            _download(part, wanted, pieces, shown)


def _download(
    part: BinaryIO, ref: Wanted, pieces: Callable[[int], Generator[bytes, None, None]], shown: Transfer
) -> None:
    """Append what is missing, going on where a connection was cut, until nothing more comes.

    A server or proxy that does not go on within the file is asked for the whole of it, once: the digest decides.
    """
    failures, begun_again = 0, False
    while (had := _length(part)) < (ref.bytes or 0):
        error = hub.TryAgainError(f"{ref.name}: the server ends the file too early")
        try:
            with contextlib.closing(pieces(had)) as rest:
                _append(part, rest, ref, shown)
        except hub.TryAgainError as cut:
            error = cut
        except hub.RangeRefusedError:
            if begun_again:
                raise
            begun_again = True
            shown.note(f"the server does not go on from byte {had:,}, beginning again")
            part.truncate(0)
            continue
        have = _length(part)
        if have < (ref.bytes or 0):
            failures = 1 if have > had else failures + 1
            shown.note(f"cut off at {have:,} of {ref.bytes:,} bytes, going on from there")
            hub.wait_or_raise(error, failures)


def _append(part: BinaryIO, pieces: Iterable[bytes], ref: Wanted, shown: Transfer) -> None:
    """Write pieces at the end of the part, never more than the model has bytes."""
    size, at = ref.bytes or 0, _length(part)
    shown.at(at)
    for piece in pieces:
        if at + len(piece) > size:
            part.truncate(0)
            raise DataError(f"{ref.name}: more bytes come than the {size} of {ref.described}; nothing is kept")
        rest = memoryview(piece)
        while rest:  # a disk that is nearly full takes a part of it, and the next may fit again
            rest = rest[part.write(rest) :]  # unbuffered: what was written survives the end of this process
        at += len(piece)
        shown.at(at)


def _length(part: BinaryIO) -> int:
    return part.seek(0, os.SEEK_END)


def _check_space(part: BinaryIO, ref: Wanted) -> None:
    missing, free = (ref.bytes or 0) - _length(part), shutil.disk_usage(Path(part.name).parent).free
    if free < missing:
        raise StorageError(
            f"{ref.artifact} needs {missing:,} more bytes, the models folder has {free:,} free; make room and run again"
        )


def _put_in_place(part: BinaryIO, target: Path) -> None:
    os.fchmod(part.fileno(), 0o644)
    os.fsync(part.fileno())
    Path(part.name).replace(target)
    sync_folder(target.parent)
