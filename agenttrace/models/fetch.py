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
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from agenttrace.errors import DataError, StorageError, UsageError
from agenttrace.models import hub
from agenttrace.models.gguf import read_facts
from agenttrace.models.pins import BUNDLED, stored_file
from agenttrace.models.reference import DEFAULT_CONTEXT, ModelRef, is_complete, is_settled, locate, provisional
from agenttrace.records import ModelPin, Record
from agenttrace.store.append import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console

_CHUNK_BYTES = 1 << 20
_LINE_EVERY_S = 5.0
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Fetched(Record, frozen=True, kw_only=True):
    """A model that is there: what to write into run specs, and where the file lies."""

    pin: ModelPin
    path: Path


class Transfer:
    """Progress of one file: a bar on a terminal, a line now and then anywhere else.

    Attributes:
        bar: to be entered as a context while bytes come.

    Args:
        label: what is fetched.
        total: its size, bytes.
        out: where to show it; `None` is nowhere.
    """

    def __init__(self, label: str, total: int, out: Console | None = None) -> None:
        from rich import progress as shown  # noqa: PLC0415 - heavy

        self._out = out
        self._line_at = time.monotonic()
        figures = (shown.DownloadColumn(), shown.TransferSpeedColumn(), "ETA", shown.TimeRemainingColumn())
        self.bar = shown.Progress(
            "[bold]{task.description}[/]",
            shown.BarColumn(bar_width=24),
            *figures,
            console=out,
            disable=out is None or not out.is_interactive,
        )
        self._figures = figures
        self._task = self.bar.add_task(label, total=total, start=False)

    def at(self, done: int) -> None:
        """Say that `done` bytes of the file are there."""
        task = self.bar.tasks[0]
        if not task.started:  # the rate is that of this run: what an earlier one has left counts for nothing
            task.completed = done
            self.bar.start_task(self._task)
        self.bar.update(self._task, completed=done)
        if self._out is None or self._out.is_interactive:
            return
        now = time.monotonic()
        if now - self._line_at >= _LINE_EVERY_S or done == task.total:
            self._line_at = now
            self._out.print(self.line(), markup=False)

    def line(self) -> str:
        """Return the line for what is there: share, bytes, rate of this run, time left."""
        task = self.bar.tasks[0]
        told = (column if isinstance(column, str) else str(column.render(task)) for column in self._figures)
        return f"{task.description}: {task.percentage:.0f} %, {' '.join(told)}"

    def note(self, text: str) -> None:
        """Tell of something that happened on the way."""
        if self._out is not None:
            self._out.print(f"{self.bar.tasks[0].description}: {text}", markup=False)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file (64 hex digits)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path: Path, ref: ModelRef) -> None:
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
        with _locked_part(target) as part:
            if target.exists():
                _verify_or_set_aside(target, target, ref)
            else:
                shown = Transfer(ref.artifact, ref.bytes or 0, out)
                with shown.bar:
                    _fill(part, ref, _local_source(ref, mirror_dir), shown)
                _verify_or_set_aside(Path(part.name), target, ref)
                _put_in_place(part, target)
    except OSError as error:
        what = "make room" if error.errno in _FULL else "make the folder writable"
        raise StorageError(
            f"cannot write {target} ({ref.bytes or 0:,} bytes): {error.strerror}; {what} and run again, a download "
            "goes on from what has come"
        ) from error
    return Fetched(pin=completed(ref, target), path=target)


def completed(ref: ModelRef, path: Path) -> ModelPin:
    """Return the pin of a verified file, with what was not known before taken from the file's own header.

    Raises:
        DataError: it is no GGUF file, or has no chat template.
    """
    if is_complete(ref):
        return provisional(ref)
    facts = read_facts(path)
    template = ref.chat_template_sha256 or facts.chat_template_sha256
    if template is None:
        raise DataError(f"{ref.name}: the file has no chat template, so llama-server cannot put tools before it")
    label = re.sub(r"[^A-Za-z0-9]", "_", facts.size_label or facts.architecture or "model")
    known = msgspec.structs.replace(
        ref,
        size=ref.size or label[:20],
        quantization=ref.quantization or facts.quantization or "unknown",
        chat_template_sha256=template,
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


def _verify_or_set_aside(path: Path, target: Path, ref: ModelRef) -> None:
    try:
        verify(path, ref)
    except DataError as error:
        aside = target.with_name(f"{target.name}.wrong")
        path.replace(aside)
        raise DataError(f"{error}; set aside as {aside.name}, run the same command again to fetch it anew") from None


def _fill(part: BinaryIO, ref: ModelRef, source: Path | None, shown: Transfer) -> None:
    """Make the part hold as many bytes as the model has."""
    size = ref.bytes or 0
    if source is not None or _length(part) > size:
        part.truncate(0)
    if source is None:
        if _length(part) < size:
            _agreed(ref)  # a file that is refused or was changed costs no download
            _check_space(part, ref)
            _download(part, ref, shown)
        return
    try:
        data = source.open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {source}: {error.strerror}; make it readable for everybody") from error
    with data:
        if (found := os.fstat(data.fileno()).st_size) != size:
            raise DataError(f"{source}: {found} bytes, but {ref.name} is {ref.described}; wrong or cut-off file")
        _check_space(part, ref)
        _append(part, iter(lambda: data.read(_CHUNK_BYTES), b""), ref, shown)


def _download(part: BinaryIO, ref: ModelRef, shown: Transfer) -> None:
    """Append what is missing, going on where a connection was cut, until nothing more comes.

    A server or proxy that does not go on within the file is asked for the whole of it, once: the digest decides.
    """
    failures, begun_again = 0, False
    while (had := _length(part)) < (ref.bytes or 0):
        error = hub.TryAgainError(f"{ref.name}: the server ends the file too early")
        try:
            with contextlib.closing(hub.pieces(ref, had)) as pieces:
                _append(part, pieces, ref, shown)
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


def _append(part: BinaryIO, pieces: Iterable[bytes], ref: ModelRef, shown: Transfer) -> None:
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


def _check_space(part: BinaryIO, ref: ModelRef) -> None:
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
