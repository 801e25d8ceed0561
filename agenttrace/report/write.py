"""Writes a report: one page, and data files beside it when the page would grow too large."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from agenttrace.analysis.tables import Source
from agenttrace.errors import StorageError, UsageError
from agenttrace.records import Record
from agenttrace.report.assemble import page
from agenttrace.report.index import FIELDS, IndexRow, index_row
from agenttrace.report.pack import Packer, packed
from agenttrace.report.sources import read_run, read_views

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path
    from typing import Self

    from agenttrace.store.read import Problem

PAGE_BYTES = 28_000_000
"""Packed data that a page holds itself; what is larger goes to data files."""
SIDECAR_BYTES = 4_000_000
"""Size after which a data file is full."""
_SIDECAR = re.compile(r"\d{3,}\.js")
_CALL = b"agenttraceReport("


class Written(Record, frozen=True, kw_only=True):
    """What was written; sizes in bytes, the largest is what a reader loads at first.

    Attributes:
        sources: what became of each file.
    """

    traces: int
    sources: list[Source]
    page_bytes: int
    sidecar_bytes: int
    sidecars: int


def write_report(
    records: Sequence[Path],
    output: Path,
    *,
    title: str | None = None,
    page_bytes: int = PAGE_BYTES,
    on_problem: Callable[[Problem], object] | None = None,
) -> Written:
    """Write the report of some record files; the same files give the same bytes.

    The page gets its name when it is complete, so a report that is there stays whole until the new one is.

    Args:
        records: files of any format that `read_views` knows, mixed as you like.
        output: the page (`.html`); data files, if any, go to a folder of the same name that ends in `.data`.
        title: shown at the top (default: the names of the files).
        page_bytes: packed data that the page holds itself.
        on_problem: called for every line that is no record; the page says that it is partial, and of which file.

    Raises:
        UsageError: the output cannot be a page, or would replace a record file; or there are no records.
        DataError: a line is not a record, and there is no `on_problem`.
        StorageError: the disk is full or not writable.
    """
    _check(records, output)
    try:
        with ExitStack() as stack:
            chunks = stack.enter_context(_Chunks(output, page_bytes))
            sources = [Source(file=str(path), problems=[]) for path in records]
            rows = _fill(records, chunks, sources, on_problem)
            if not rows:
                raise UsageError("there is no record in these files yet: nothing to report on")
            name = title or ", ".join(path.name for path in records)
            return _finish(records, output, name, rows, chunks, sources)
    except OSError as error:
        raise StorageError(f"cannot write {error.filename or output}: {error.strerror}") from error


def _check(records: Sequence[Path], output: Path) -> None:
    if output.suffix.lower() not in {".html", ".htm"}:
        raise UsageError(f"{output}: a report is a page, give it a name that ends in .html")
    if output.is_dir():
        raise UsageError(f"{output} is a folder: name the page, such as {output / 'report.html'}")
    for path in records:
        if output.exists() and path.exists() and output.samefile(path):
            raise UsageError(f"{output} is a record file: give the report another name")


def _fill(
    records: Sequence[Path],
    chunks: _Chunks,
    sources: Sequence[Source],
    on_problem: Callable[[Problem], object] | None,
) -> list[IndexRow]:
    rows = []
    with Packer() as packer:
        for number, (path, source) in enumerate(zip(records, sources, strict=True)):
            for view in read_views(path, on_problem and source.noting(on_problem)):
                source.rows += 1
                rows.append(index_row(view, file=number, chunk=packer.chunk, place=packer.place))
                packer.add(view)
                chunks.extend(packer.ready())
        chunks.extend(packer.rest())
    return rows


def _finish(
    records: Sequence[Path],
    output: Path,
    title: str,
    rows: list[IndexRow],
    chunks: _Chunks,
    sources: list[Source],
) -> Written:
    sidecars = chunks.finish()
    index: dict[str, Any] = {
        "fields": FIELDS,
        "rows": rows,
        "files": [
            {"name": path.name, "run": read_run(path), "missing": source.missing}
            for path, source in zip(records, sources, strict=True)
        ],
        "folder": chunks.folder.name,
        "sidecars": sidecars,
    }
    before, between, after = page(title=title, sidecars=bool(sidecars))
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(f".{output.name}.unfinished")
    try:
        with unfinished.open("wb") as file:
            file.write(before.encode() + _block("index", packed(index)) + between.encode())
            for number, chunk in enumerate(chunks.held):
                file.write(_block(f"chunk-{number}", chunk))
            file.write(after.encode())
        chunks.publish()
        os.replace(unfinished, output)  # noqa: PTH105 - replaces on every system
    finally:
        unfinished.unlink(missing_ok=True)
    return Written(
        traces=len(rows),
        sources=sources,
        page_bytes=output.stat().st_size,
        sidecar_bytes=chunks.written,
        sidecars=len(sidecars),
    )


def _block(name: str, data: bytes) -> bytes:
    """Return a data block: the browser neither runs nor shows it."""
    return b'<script type="text/plain" id="%s">%s</script>\n' % (name.encode(), data)


class _Chunks:
    """Packed chunks, held in memory as long as a page can hold them, then in data files; use it as a context.

    A data file is a script that hands its chunks over: a page that was opened from a disk may load scripts, and
    nothing else. Until `publish` the files have other names; leaving the context removes what was not published.
    """

    def __init__(self, output: Path, limit: int) -> None:
        self.folder = output.with_name(f"{output.stem}.data")
        self.held: list[bytes] = []
        self.written = 0
        self._limit = limit
        self._size = 0
        self._count = 0
        self._files: list[dict[str, Any]] = []
        self._over = False

    def extend(self, chunks: Iterable[bytes]) -> None:
        for chunk in chunks:
            self.held.append(chunk)
            self._size += len(chunk)
            self._over = self._over or self._size > self._limit
            if self._over and self._size > SIDECAR_BYTES:
                self._flush()

    def finish(self) -> list[dict[str, Any]]:
        """Return the data files (first chunk, digest); empty when the page holds everything."""
        if self._over and self.held:
            self._flush()
        return self._files

    def _flush(self) -> None:
        """Write what is held; at the first time that is more than one file's worth."""
        self.folder.mkdir(parents=True, exist_ok=True)
        part: list[bytes] = []
        size = 0
        for chunk in self.held:
            part.append(chunk)
            size += len(chunk)
            if size > SIDECAR_BYTES:
                self._write(part)
                part, size = [], 0
        if part:
            self._write(part)
        self.held, self._size = [], 0

    def _write(self, chunks: list[bytes]) -> None:
        digest = hashlib.sha256(b",".join(chunks)).hexdigest()[:16]
        number = len(self._files)
        quoted = b",\n".join(b'"%s"' % chunk for chunk in chunks)
        script = _CALL + b'%d, "%s", [\n%s\n]);\n' % (number, digest.encode(), quoted)
        with self._unfinished(number).open("wb") as file:
            file.write(script)
        self._files.append({"first": self._count, "digest": digest})
        self._count += len(chunks)
        self.written += len(script)

    def _unfinished(self, number: int) -> Path:
        return self.folder / f"{number:03d}.js.unfinished"

    def publish(self) -> None:
        """Give the data files their names and remove those of an earlier report."""
        for number in range(len(self._files)):
            os.replace(self._unfinished(number), self.folder / f"{number:03d}.js")  # noqa: PTH105
        if not self.folder.is_dir():
            return
        names = {f"{number:03d}.js" for number in range(len(self._files))}
        for path in self.folder.iterdir():
            if _SIDECAR.fullmatch(path.name) and path.name not in names and _is_ours(path):
                path.unlink()
        self._remove_if_empty()

    def _remove_if_empty(self) -> None:
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for number in range(len(self._files)):
            self._unfinished(number).unlink(missing_ok=True)
        self._remove_if_empty()


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_CALL)) == _CALL
