"""The host's side of the worker protocol: frames over a socket or a pair of pipes, each exchange with a deadline."""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import TYPE_CHECKING, Any

from agenttrace.errors import WorkerLostError
from agenttrace.sandbox.runner import frames

if TYPE_CHECKING:
    from collections.abc import Callable


class Channel:
    """One exchange at a time over two descriptors.

    Every failure (time, end of stream, reset, malformed frame, wrong id) is a `WorkerLostError` that names the worker:
    after it the stream's position is unknown, so the channel is of no further use.

    Attributes:
        name: of the worker, for messages.
        number: id of the last request.
        closed: whether `close` was called.
    """

    def __init__(self, reader: int, writer: int, *, name: str, close: Callable[[], None]) -> None:
        self.name = name
        self._reader = reader
        self._writer = writer
        self._close = close
        self.number = 0
        self.closed = False
        for fd in {reader, writer}:
            os.set_blocking(fd, False)

    def exchange(self, message: dict[str, Any], *, timeout_s: float) -> bytes:
        """Send a request and return the body of its reply (`ok` or not), at most `timeout_s` later."""
        if self.closed:
            raise WorkerLostError(f"worker {self.name} is closed")
        self.number += 1
        deadline = time.monotonic() + timeout_s
        what = f"{message['op']} on worker {self.name}"
        try:
            self._send(frames.encode({"id": self.number} | message), deadline)
            header = self._receive(frames.HEADER_BYTES, deadline)
            return self._receive(frames.body_length(header), deadline)
        except TimeoutError:
            raise WorkerLostError(f"{what}: no reply within {timeout_s:.1f} s; see the worker's log") from None
        except (OSError, EOFError) as error:
            raise WorkerLostError(f"{what}: connection lost ({error}); the worker died or was recycled") from error
        except frames.FrameError as error:
            raise WorkerLostError(f"{what}: not the worker protocol: {error}") from error

    def _send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            self._await(self._writer, select.POLLOUT, deadline)
            with contextlib.suppress(BlockingIOError):
                view = view[os.write(self._writer, view) :]

    def _receive(self, count: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < count:
            self._await(self._reader, select.POLLIN, deadline)
            with contextlib.suppress(BlockingIOError):
                chunk = os.read(self._reader, min(count - len(data), 2**20))
                if not chunk:
                    raise EOFError("end of stream")
                data += chunk
        return bytes(data)

    @staticmethod
    def _await(fd: int, event: int, deadline: float) -> None:
        poller = select.poll()
        poller.register(fd, event)
        if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError

    def close(self) -> None:
        """End the connection; the worker then takes the next client, or goes when it is worn."""
        if not self.closed:
            self.closed = True
            with contextlib.suppress(OSError):
                self._close()
