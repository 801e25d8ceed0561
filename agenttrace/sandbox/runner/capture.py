"""The beginning and the end of a stream in bounded memory."""

from __future__ import annotations


class Capture:
    """Keeps the first and the last bytes of what is fed to it and counts the rest.

    At most `keep_bytes` are reported; memory stays under `keep_bytes` plus twice the tail's share.
    """

    def __init__(self, keep_bytes: int) -> None:
        self.total = 0
        self._head_room = keep_bytes // 2
        self._tail_room = keep_bytes - self._head_room
        self._head = bytearray()
        self._tail = bytearray()

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self.total += len(data)
        missing = self._head_room - len(self._head)
        if missing > 0:
            self._head += data[:missing]
            data = data[missing:]
        if not data:
            return
        self._tail += data[-self._tail_room :] if self._tail_room else b""
        if len(self._tail) > 2 * self._tail_room:
            del self._tail[: -self._tail_room]

    @property
    def head(self) -> bytes:
        """The first bytes kept."""
        return bytes(self._head)

    @property
    def tail(self) -> bytes:
        """The last bytes kept; directly after `head` when nothing was cut."""
        return bytes(self._tail[-self._tail_room :]) if self._tail_room else b""
