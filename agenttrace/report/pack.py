"""Packs views into chunks of compressed JSON that a script or a data block of a page can hold."""

from __future__ import annotations

import base64
import os
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

CHUNK_BYTES = 256 << 10
"""JSON bytes after which a chunk is full: small enough to unpack in a few milliseconds, large enough to pack well."""
_LEVEL = 6
_GZIP = 16 + zlib.MAX_WBITS
_encode = msgspec.json.Encoder().encode


def packed(value: Any) -> bytes:  # noqa: ANN401 - any JSON-like value
    """Return a value as base64 of gzip of JSON, the same bytes each time.

    The alphabet of base64 has no character that ends a data block or a string, whatever the value holds.
    """
    return _pack(_encode(value))


def _pack(json: bytes) -> bytes:
    # zlib's own gzip header has neither a time nor a name.
    squeeze = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return base64.b64encode(squeeze.compress(json) + squeeze.flush())


class Packer:
    """Fills chunks with values and compresses full ones in threads; use it as a context.

    Attributes:
        chunk: number of the chunk that the next value goes to, from 0.
        place: its position there, from 0.
    """

    def __init__(self) -> None:
        self.chunk = 0
        self.place = 0
        self._parts: list[bytes] = []
        self._size = 0
        self._threads = ThreadPoolExecutor(os.cpu_count())
        self._waiting: deque[Future[bytes]] = deque()

    def add(self, value: Any) -> None:  # noqa: ANN401 - any JSON-like value
        """Put a value at (`chunk`, `place`)."""
        part = _encode(value)
        self._parts.append(part)
        self._size += len(part)
        self.place += 1
        if self._size >= CHUNK_BYTES:
            self._close()

    def _close(self) -> None:
        json = b"[" + b",".join(self._parts) + b"]"
        self._waiting.append(self._threads.submit(_pack, json))
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
