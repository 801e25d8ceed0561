"""Writes a report: one page, and data files beside it when the page would grow too large."""

from __future__ import annotations

import base64
import hashlib
from contextlib import ExitStack
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from agenttrace.analysis.tables import Source
from agenttrace.errors import StorageError, UsageError
from agenttrace.records import Record
from agenttrace.report.index import FIELDS, IndexRow, index_row
from agenttrace.report.pack import Chunks, Packer, packed
from agenttrace.report.sources import read_run, read_views
from agenttrace.store.jsonl import replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from agenttrace.store.read import Problem

PAGE_BYTES = 28_000_000
"""Packed data that a page holds itself; what is larger goes to data files."""
STYLES = ("page.css", "list.css", "trace.css")
SCRIPTS = (
    "dom.js",
    "text.js",
    "format.js",
    "data.js",
    "route.js",
    "filter.js",
    "search.js",
    "list.js",
    "timeline.js",
    "trace.js",
    "difference.js",
    "compare.js",
    "keys.js",
    "main.js",
)
"""In the order in which they are joined: they share one scope, as if they were one file."""
DATA_POLICY = "agenttrace-data"
"""The one Trusted Types policy, which makes nothing but addresses of the report's own data files."""


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
            chunks = stack.enter_context(Chunks(output, page_bytes))
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
    chunks: Chunks,
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
    chunks: Chunks,
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


def page(*, title: str, sidecars: bool) -> tuple[str, str, str]:
    """Return the page in three parts: before the index, between index and chunks, and after the chunks.

    The script stands before the chunks, so that the list is on the screen while they are still being read.

    Args:
        title: shown in the tab and at the top; any text.
        sidecars: the page's script may load data files.
    """
    style = "\n".join(map(_read, STYLES))
    script = f'"use strict";\n(() => {{\n{"".join(map(_read, SCRIPTS))}}})();\n'
    if "</script" in script.lower() or "</style" in style.lower():
        raise AssertionError("the page's own files would break the page")
    filled = _read("page.html")
    for name, text in {"policy": _policy(style, script, sidecars=sidecars), "style": style, "script": script}.items():
        filled = filled.replace(f"<!--{name}-->", text)
    before, _, rest = filled.partition("<!--index-->")
    between, _, after = rest.partition("<!--chunks-->")
    return before.replace("<!--title-->", escape(title)), between, after


def _policy(style: str, script: str, *, sidecars: bool) -> str:
    # A data file cannot be named by hash or address when the page is a file; a script that the page's own, hashed
    # script adds is let through by 'strict-dynamic', and the Trusted Types policy says which addresses those may be.
    loads = " 'strict-dynamic'" if sidecars else ""
    rules = {
        "default-src": "'none'",
        "script-src": f"{_hash(script)}{loads}",
        "style-src": _hash(style),
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": DATA_POLICY if sidecars else "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _read(name: str) -> str:
    return files("agenttrace.report").joinpath("page", name).read_text(encoding="utf-8")
