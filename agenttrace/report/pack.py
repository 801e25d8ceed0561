"""Packs views and records into chunks that a script or a data block of a page can hold, and keeps the chunks.

Unpacked, a chunk is lines: the view of a trace as JSON, then its record as it stands in its file. A record right behind
its view costs little: most of its text has just been there.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from agenttrace.report.sources import Shown

CHUNK_BYTES = 384 << 10
"""Bytes after which a chunk is full: small enough to unpack in a few milliseconds, large enough to pack well."""
SIDECAR_BYTES = 4_000_000
"""Size after which a data file is full."""
_SIDECAR = re.compile(r"\d{3,}\.js")
_CALL = b"agenttraceReport("
_LEVEL = 6
_GZIP = 16 + zlib.MAX_WBITS
_encode = msgspec.json.Encoder().encode


def packed(value: Any) -> bytes:  # noqa: ANN401 - any JSON-like value
    """Return a value as base64 of gzip of JSON, the same bytes each time.

    The alphabet of base64 has no character that ends a data block or a string, whatever the value holds.
    """
    return _pack(_encode(value))


def squeezed(data: bytes) -> bytes:
    """Return gzip of the bytes, the same each time: zlib's own header has neither a time nor a name."""
    squeeze = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return squeeze.compress(data) + squeeze.flush()


def _pack(data: bytes) -> bytes:
    return base64.b64encode(squeezed(data))


def entry(shown: Shown) -> bytes:
    """Return the lines of one trace in a chunk."""
    return _encode(shown.view) + b"\n" + shown.line + b"\n"


class Packer:
    """Fills chunks with traces and compresses full ones in threads; use it as a context.

    Attributes:
        chunk: number of the chunk that the next trace goes to, from 0.
        place: its position there, from 0.
    """

    def __init__(self) -> None:
        self.chunk = 0
        self.place = 0
        self._parts: list[bytes] = []
        self._size = 0
        self._threads = ThreadPoolExecutor(os.cpu_count())
        self._waiting: deque[Future[bytes]] = deque()

    def add(self, shown: Shown) -> None:
        """Put a trace at (`chunk`, `place`)."""
        part = entry(shown)
        self._parts.append(part)
        self._size += len(part)
        self.place += 1
        if self._size >= CHUNK_BYTES:
            self._close()

    def _close(self) -> None:
        self._waiting.append(self._threads.submit(_pack, b"".join(self._parts)))
        self._parts, self._size = [], 0
        self.chunk, self.place = self.chunk + 1, 0

    def ready(self, *, ahead: int = 16) -> Iterator[bytes]:
        """Yield finished chunks in order, all but the last `ahead`; that many may wait, so memory stays bounded."""
        while len(self._waiting) > ahead:
            yield self._waiting.popleft().result()

    def rest(self) -> Iterator[bytes]:
        """Yield every chunk that is left, the unfinished one last."""
        if self._parts:
            self._close()
        yield from self.ready(ahead=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)


class Chunks:
    """Packed chunks, held in memory as long as a page can hold them, then in data files; use it as a context.

    A data file is a script that hands its chunks over: a page that was opened from a disk may load scripts, and
    nothing else. Until `publish` the files have other names; leaving the context removes what was not published.
    """

    def __init__(self, output: Path, limit: int) -> None:
        """Nothing is written yet.

        Args:
            output: the page; data files go to the folder of the same name that ends in `.data`.
            limit: bytes of chunks that the page holds itself.
        """
        self.folder = output.with_name(f"{output.stem}.data")
        self.held: list[bytes] = []
        self.written = 0
        self._limit = limit
        self._size = 0
        self._count = 0
        self._files: list[dict[str, Any]] = []
        self._over = False

    def extend(self, chunks: Iterable[bytes]) -> None:
        """Take finished chunks, in order."""
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
