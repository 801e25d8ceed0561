"""Writes a report: one page, and data files beside it when the page would grow too large."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from agenttrace.analysis.tables import Source
from agenttrace.errors import StorageError, UsageError
from agenttrace.records import Record
from agenttrace.report.html import page
from agenttrace.report.index import FIELDS, IndexRow, index_row
from agenttrace.report.pack import Chunks, Packer, packed
from agenttrace.report.sources import read_run, read_views
from agenttrace.store.jsonl import replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from agenttrace.formats.prices import Prices
    from agenttrace.store.read import Problem

PAGE_BYTES = 28_000_000
"""Packed data that a page holds itself; what is larger goes to data files."""


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
    prices: Prices | None = None,
) -> Written:
    """Write the report of some record files; the same files give the same bytes.

    The page gets its name when it is complete, so a report that is there stays whole until the new one is.

    Args:
        records: files of any format that `read_views` knows, mixed as you like.
        output: the page (`.html`); data files, if any, go to a folder of the same name that ends in `.data`.
        title: shown at the top (default: the names of the files).
        page_bytes: packed data that the page holds itself.
        on_problem: called for every line that is no record; the page says that it is partial, and of which file.
        prices: as those of `read_views`.

    Raises:
        UsageError: the output cannot be a page, or would replace a record file; or there are no records.
        DataError: a line is not a record, and there is no `on_problem`.
        StorageError: the disk is full or not writable.
    """
    _check(records, output)
    try:
        with ExitStack() as stack:
            chunks = stack.enter_context(Chunks(output, page_bytes))
            sources = [Source(file=str(path), problems=[]) for path in records]
            rows, converted = _fill(records, chunks, sources, on_problem, prices)
            if not rows:
                raise UsageError("there is no record in these files yet: nothing to report on")
            name = title or ", ".join(map(_name, records))
            listed = [
                file_entry(path, source, converted=number in converted)
                for number, (path, source) in enumerate(zip(records, sources, strict=True))
            ]
            return _finish(output, name, rows, chunks, sources, listed)
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
    chunks: Chunks,
    sources: Sequence[Source],
    on_problem: Callable[[Problem], object] | None,
    prices: Prices | None,
) -> tuple[list[IndexRow], set[int]]:
    """Return the rows, and the numbers of the files whose lines stand in the page as `convert` writes them."""
    rows = []
    converted = set[int]()
    with Packer() as packer:
        for number, (path, source) in enumerate(zip(records, sources, strict=True)):
            for shown in read_views(path, on_problem and source.noting(on_problem), prices):
                source.rows += 1
                rows.append(index_row(shown.view, file=number, chunk=packer.chunk, place=packer.place))
                if not shown.original:
                    converted.add(number)
                packer.add(shown)
                chunks.extend(packer.ready())
        chunks.extend(packer.rest())
    return rows, converted


def _name(path: Path) -> str:
    return path.name.encode(errors="backslashreplace").decode()  # a page is UTF-8, a name need not be


def file_entry(path: Path, source: Source, *, converted: bool) -> dict[str, Any]:
    """Return what the index says of a file."""
    return {"name": _name(path), "run": read_run(path), "missing": source.missing, "converted": converted}


def _finish(
    output: Path,
    title: str,
    rows: list[IndexRow],
    chunks: Chunks,
    sources: list[Source],
    listed: list[dict[str, Any]],
) -> Written:
    sidecars = chunks.finish()
    index: dict[str, Any] = {
        "fields": FIELDS,
        "rows": rows,
        "files": listed,
        "folder": chunks.folder.name,
        "sidecars": sidecars,
    }
    before, between, after = page(title=title, sidecars=bool(sidecars))
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as file:
        file.write(before.encode() + _block("index", packed(index)) + between.encode())
        for number, chunk in enumerate(chunks.held):
            file.write(_block(f"chunk-{number}", chunk))
        file.write(after.encode())
        chunks.publish()
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
