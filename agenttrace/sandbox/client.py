"""Talk to sandbox workers: connect, reset the work tree, run calls, read the tree.

    with acquire(Path("/run/agenttrace"), count=1, timeout_s=30)[0] as worker:
        worker.reset("base")
        report = worker.call("bash", "ls -l", limit_ms=30_000)

A worker serves one client at a time and one call at a time; parallelism is more workers.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Self, TypeVar

import msgspec

from agenttrace.errors import UsageError, WorkerLostError
from agenttrace.sandbox.reports import CallReport, Changes, RawCall, ResetReport, Tree, TreeEntry, WorkerInfo
from agenttrace.sandbox.runner import frames

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from types import TracebackType

GRACE_S = 0.5
WATCHDOG_S = 5.0
HELLO_S = 2.0
CONTROL_S = 60.0
KEEP_BYTES = 64 * 1024
_POLL_S = 0.1
_USAGE_KINDS = frozenset({"bad_request", "policy"})

T = TypeVar("T")


class _Problem(msgspec.Struct, frozen=True):
    kind: str
    message: str


class _Envelope(msgspec.Struct, frozen=True):
    id: int | None
    ok: bool
    error: _Problem | None = None


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

    def send(self, message: dict[str, Any], *, timeout_s: float) -> None:
        """Send a request; `receive` returns the body of its reply."""
        if self.closed:
            raise WorkerLostError(f"worker {self.name} is closed")
        self.number += 1
        with self._told(message["op"], timeout_s):
            self._send(frames.encode({"id": self.number} | message), time.monotonic() + timeout_s)

    def receive(self, op: str, *, timeout_s: float, patient: bool = False) -> bytes:
        """Return the body of the reply (`ok` or not) to what was sent, at most `timeout_s` later.

        With `patient`, that is the longest silence: the worker may say any number of times that it still works.
        """
        deadline = time.monotonic() + timeout_s
        with self._told(op, timeout_s):
            while (header := self._receive(frames.HEADER_BYTES, deadline)) == frames.WORKING and patient:
                deadline = time.monotonic() + timeout_s
            return self._receive(frames.body_length(header), deadline)

    @contextlib.contextmanager
    def _told(self, op: str, timeout_s: float) -> Iterator[None]:
        """Turn every failure into the error that names worker and request."""
        what = f"{op} on worker {self.name}"
        try:
            yield
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


class Worker:
    """A connected worker. Make one with `connect`, `over_pipes` or `acquire`; close it, or use it in a `with`.

    Attributes:
        info: what the worker said of itself in the handshake.
        path: its socket; `None` over pipes.
    """

    def __init__(self, channel: Channel, path: Path | None = None, *, hello_s: float = HELLO_S) -> None:
        self.path = path
        self._channel = channel
        self._resetting = False
        try:
            self.info = self._request({"op": "hello", "protocol": frames.PROTOCOL}, WorkerInfo, timeout_s=hello_s)
        except BaseException:
            channel.close()
            raise

    @classmethod
    def connect(cls, path: Path | str, *, timeout_s: float = HELLO_S) -> Self:
        """The worker behind the unix socket `path`.

        Raises:
            WorkerLostError: nobody listens there, or no greeting came within `timeout_s` (it serves someone else).
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(timeout_s)
        try:
            sock.connect(str(path))
        except OSError as error:
            sock.close()
            raise WorkerLostError(f"no worker behind {path}: {error}") from error
        return cls(
            Channel(sock.fileno(), sock.fileno(), name=str(path), close=sock.close), Path(path), hello_s=timeout_s
        )

    @classmethod
    def over_pipes(cls, reader: IO[bytes], writer: IO[bytes], *, timeout_s: float = 10.0) -> Self:
        """The worker (`runner --stdio`) that writes to `reader` and reads from `writer`; both are closed with it.

        The streams must not have been read from or written to through their buffers.

        Raises:
            WorkerLostError: no greeting came within `timeout_s`.
        """

        def close() -> None:
            writer.close()
            reader.close()

        return cls(Channel(reader.fileno(), writer.fileno(), name="over pipes", close=close), hello_s=timeout_s)

    def reset(self, fixture: str, *, clock: str | None = None) -> ResetReport:
        """Make the work tree equal to `fixture` and everything else of earlier calls gone; see `begin_reset`."""
        self.begin_reset(fixture, clock=clock)
        return self.finish_reset()

    def begin_reset(self, fixture: str, *, clock: str | None = None) -> None:
        """Have the worker begin to make the work tree equal to `fixture` and everything else of earlier calls gone.

        Nothing else can be asked for until `finish_reset` has returned.

        Args:
            fixture: its name.
            clock: instant (`2024-05-01T09:00:00Z`) at which the clock of the calls stands until the next reset;
                `None` is the real clock.

        Raises:
            UsageError: the worker cannot pin the clock.
            WorkerLostError: the worker is gone.
        """
        message: dict[str, Any] = {"op": "reset", "fixture": fixture}
        if clock is not None:
            if not self.info.clock:
                raise UsageError(
                    f"worker {self._channel.name} cannot pin the clock ({clock} was asked for); build the images anew"
                )
            message["clock"] = clock
        self._send(message, timeout_s=CONTROL_S)
        self._resetting = True

    def finish_reset(self) -> ResetReport:
        """Return when the reset that was begun is done.

        It takes as long as there is something to remove; a worker that is silent for a minute is lost.

        Raises:
            UsageError: the worker has no such fixture.
            WorkerLostError: it could not be done; the worker is gone.
        """
        self._resetting = False
        return self._reply("reset", ResetReport, timeout_s=CONTROL_S, patient=True)

    def call(
        self, kind: Literal["bash", "python"], code: str, *, limit_ms: int, keep_bytes: int = KEEP_BYTES
    ) -> CallReport:
        """Run `code` as the tools' user in the work tree; whatever it leaves running is killed.

        Args:
            kind: what runs it.
            code: as the model wrote it.
            limit_ms: wall-clock limit; then SIGTERM, 0.5 s later SIGKILL.
            keep_bytes: how much of each stream is kept: half from the start, half from the end.

        Raises:
            UsageError: the worker does not run this kind, or an argument is out of range.
            WorkerLostError: the worker died, hung 5 s past limit and grace, or could not start the program.
        """
        message = {"op": "call", "kind": kind, "code": code, "limit_ms": limit_ms, "keep_bytes": keep_bytes}
        start_ns, started = time.time_ns(), time.monotonic_ns()
        raw = self._request(message, RawCall, timeout_s=limit_ms / 1000 + GRACE_S + WATCHDOG_S)
        return raw.report(start_ns, start_ns + time.monotonic_ns() - started)  # the wall clock may be set meanwhile

    def tree(self) -> Tree:
        """The work tree as it is, with a flag that says whether a limit cut it short."""
        return self._request({"op": "manifest"}, Tree, timeout_s=CONTROL_S)

    def manifest(self) -> tuple[TreeEntry, ...]:
        """The entries of the work tree as it is, sorted by path (`tree` also says whether they are complete)."""
        return self.tree().entries

    def changes(self, *, without: Collection[str] = ()) -> Changes:
        """Return what differs from the tree that the last reset made, with its bytes (at most 4 MiB a file, 24 in all).

        Args:
            without: top-level names to leave out, such as `.git`.

        Raises:
            UsageError: there was no reset yet.
            WorkerLostError: the worker is gone.
        """
        return self._request({"op": "export", "without": sorted(without)}, Changes, timeout_s=CONTROL_S)

    def ping(self) -> None:
        """Return when the worker has answered; raises `WorkerLostError` when it does not."""
        self._request({"op": "ping"}, dict[str, Any], timeout_s=HELLO_S)

    @property
    def closed(self) -> bool:
        """Whether the connection was ended, by `close` or by a failure."""
        return self._channel.closed

    def close(self) -> None:
        """Hang up: an idle worker takes the next client, a worn one exits and is replaced."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _request(self, message: dict[str, Any], expected: type[T], *, timeout_s: float) -> T:
        """One exchange; every reply that is not what was asked for is an error."""
        self._send(message, timeout_s=timeout_s)
        return self._reply(message["op"], expected, timeout_s=timeout_s)

    def _send(self, message: dict[str, Any], *, timeout_s: float) -> None:
        if self._resetting:
            raise UsageError(f"{message['op']} on worker {self._channel.name}: finish the reset first (`finish_reset`)")
        try:
            self._channel.send(message, timeout_s=timeout_s)
        except WorkerLostError:
            self.close()
            raise

    def _reply(self, op: str, expected: type[T], *, timeout_s: float, patient: bool = False) -> T:
        name = self._channel.name
        try:
            body = self._channel.receive(op, timeout_s=timeout_s, patient=patient)
            envelope = msgspec.json.decode(body, type=_Envelope)
            if envelope.ok and envelope.id == self._channel.number:
                return msgspec.json.decode(body, type=expected)
        except msgspec.MsgspecError as error:
            self.close()
            raise WorkerLostError(f"{op} on worker {name}: the reply is not what was expected: {error}") from error
        except WorkerLostError:
            self.close()
            raise
        problem = envelope.error or _Problem("protocol", f"reply to request {envelope.id}")
        text = f"{op} on worker {name} failed ({problem.kind}): {problem.message}"
        if problem.kind in _USAGE_KINDS:
            raise UsageError(text)
        self.close()
        raise WorkerLostError(text)


def discover(socket_dir: Path | str) -> list[Path]:
    """The worker sockets in `socket_dir`, sorted; live or not. Empty when the folder is missing or not readable."""
    try:
        return sorted(Path(socket_dir).glob("worker-*.sock"))
    except OSError:
        return []


def acquire(socket_dir: Path | str, *, count: int, timeout_s: float, held: Collection[Path] = ()) -> list[Worker]:
    """`count` idle workers, connected. Dead sockets and workers that serve someone else are passed over.

    Args:
        socket_dir: folder with the workers' sockets.
        count: how many.
        timeout_s: how long to wait for them; workers that start meanwhile are found.
        held: sockets not to try: workers this process already has.

    Raises:
        WorkerLostError: fewer became free in time; those found are let go.
    """
    deadline = time.monotonic() + timeout_s
    workers: dict[Path, Worker] = {}
    reasons: dict[Path, str] = {}
    with contextlib.ExitStack() as found:
        while True:
            for path in discover(socket_dir):
                if len(workers) < count and path not in held and path not in workers:
                    try:
                        workers[path] = found.enter_context(Worker.connect(path))
                    except WorkerLostError as error:
                        reasons[path] = str(error)
            if len(workers) == count:
                found.pop_all()
                return list(workers.values())
            if time.monotonic() >= deadline:
                raise WorkerLostError(_shortage(Path(socket_dir), len(workers), count, timeout_s, reasons))
            time.sleep(_POLL_S)


def _shortage(socket_dir: Path, found: int, count: int, timeout_s: float, reasons: dict[Path, str]) -> str:
    seen = [f"{path.name}: {reasons[path]}" for path in discover(socket_dir) if path in reasons]
    what = "; ".join(seen) if seen else f"no other worker-*.sock in {socket_dir}"
    return (
        f"{found} of {count} sandbox workers were free within {timeout_s:g} s. {what}. Look at the state and the log of"
        " the sandbox containers, whether enough of them run, and whether this process may read the socket folder"
    )
