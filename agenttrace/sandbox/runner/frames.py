"""Frames of the worker protocol: a 4-byte big-endian length, then that many bytes of a UTF-8 JSON object.

Used by both ends; nothing here knows what the messages mean. An empty frame before the reply to a reset (`WORKING`)
says that it goes on.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Message = dict[str, Any]

VERSION = "1.0.0"
PROTOCOL = 1
HEADER_BYTES = 4
MAX_FRAME_BYTES = 64 * 2**20
WORKING = bytes(HEADER_BYTES)

_ENCODER = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))


class FrameError(Exception):
    """The other side sent something that is not a frame."""


def encode(message: Message) -> bytes:
    """The frame that carries `message`; raises `FrameError` above 64 MiB."""
    body = _ENCODER.encode(message).encode("ascii")
    return _header(len(body)) + body


def _header(length: int) -> bytes:
    if length > MAX_FRAME_BYTES:
        raise FrameError(f"frame of {length} bytes is over the limit of {MAX_FRAME_BYTES}")
    return length.to_bytes(HEADER_BYTES, "big")


def body_length(header: bytes) -> int:
    """How many bytes follow this 4-byte header; raises `FrameError` above 64 MiB."""
    length = int.from_bytes(header, "big")
    _header(length)
    return length


def decode(body: bytes) -> Message:
    """The JSON object in `body`; raises `FrameError` when it is something else."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise FrameError(f"frame is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise FrameError(f"frame holds a JSON {type(message).__name__}, not an object")
    return message


def read(receive: Callable[[int], bytes]) -> Message | None:
    """The next message that `receive` (at most n bytes, empty at the end) yields; `None` at the end of the stream."""
    header = _exactly(receive, HEADER_BYTES, allow_end=True)
    if header is None:
        return None
    return decode(_exactly(receive, body_length(header), allow_end=False) or b"")


def _exactly(receive: Callable[[int], bytes], count: int, *, allow_end: bool) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        chunk = receive(min(count - len(data), 2**20))
        if not chunk:
            if allow_end and not data:
                return None
            raise FrameError(f"stream ended after {len(data)} of {count} bytes")
        data += chunk
    return bytes(data)


def write_all(fd: int, data: bytes) -> None:
    """Write `data` to a blocking descriptor, however many pieces that takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
