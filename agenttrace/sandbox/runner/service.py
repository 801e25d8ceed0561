"""The runner's life: one client at a time, one request at a time, until it is told or decides to go."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import time

from . import call, clock, confinement, counters, export, frames, launch, leaf, processes, settings, sockets, tree, wipe
from .errors import FatalError, RequestError
from .restore import WorkTree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType
    from typing import NoReturn

    from .frames import Message

EXIT_LOST = 3
_WORKING_S = 5.0


class WorkerState:
    """State of a worker between requests.

    Attributes:
        tasks_served: successful resets so far.
        worn: it should be replaced: enough tasks, or a call was killed for memory.
        clock_library: what pins the clock of tools; `None` where this is not possible.
        clock_env: pins it for the calls until the next reset; empty when their clock is the real one.
        confinement: how this worker was confined when it started; `None` where the kernel does not say.
        hidden_kib: by how much a call's peak RSS starts above what its child saw of itself before `exec`.
        writing_fd: leads to the client.
        ready: the way to a helper that was started before there is a call for it.
    """

    writing_fd: int

    def __init__(self, options: settings.Settings) -> None:
        self.settings = options
        self.tasks_served = 0
        self.worn = False
        owner = (options.tool_uid, options.tool_gid) if options.isolation == "uid" else None
        self.tree = WorkTree(options.work, options.fixtures, owner, options.trees)
        self.fixtures = self.tree.digests()
        self.clock_library = clock.find_library(options)
        self.clock_env: dict[str, str] = {}
        self.confinement = confinement.facts(options)
        self.gauges = counters.Gauges(basic="basic" in options.figures)
        self.ready: launch.Line | None = None
        self.hidden_kib = _hidden_kib(options, self.gauges)
        self.operations: dict[str, Callable[[Message, int], Message]] = {
            "hello": self._hello,
            "ping": lambda _request, _client: {},
            "reset": self._reset,
            "call": self._call,
            "manifest": self._manifest,
            "export": lambda request, _client: export.export(self.tree, request),
        }

    def _hello(self, request: Message, _client: int) -> Message:
        if request.get("protocol") != frames.PROTOCOL:
            asked = request.get("protocol")
            raise RequestError("protocol", f"client speaks protocol {asked!r}, this worker {frames.PROTOCOL}")
        options = self.settings
        return {
            "protocol": frames.PROTOCOL,
            "version": frames.VERSION,
            "helper": options.helper,
            "policy": options.policy,
            "isolation": options.isolation,
            "tool_uid": options.tool_uid,
            "tool_gid": options.tool_gid,
            "fixtures": self.fixtures,
            "clock": self.clock_library is not None,
            "python": ".".join(str(part) for part in sys.version_info[:3]),
            "limits": confinement.limits(options),
            "confinement": self.confinement,
            "policy_sha256": tree.hash_file(options.policies),
            "environment_digest": _content(options.environment_file),
            "work": options.work,
            "tasks_served": self.tasks_served,
            "max_tasks": options.max_tasks,
            "rss_kib": counters.own_rss_kib(),
        }

    def _reset(self, request: Message, _client: int) -> Message:
        name = request.get("fixture")
        if not isinstance(name, str):
            raise RequestError("bad_request", "fixture must be a string")
        clock_env = clock.environment(self.clock_library, request.get("clock"))
        told_s = time.monotonic()

        def tick() -> None:
            """Let the client know, now and then, that this goes on: a tool can leave millions of files."""
            nonlocal told_s
            if time.monotonic() - told_s > _WORKING_S:
                told_s = time.monotonic()
                with contextlib.suppress(OSError):  # the client went away: that is found out at the end
                    frames.write_all(self.writing_fd, frames.WORKING)

        wipe.everything(self.settings, tick)
        report = self.tree.reset(name, tick)
        self.clock_env = clock_env
        self.tasks_served += 1
        self.worn = self.worn or self.tasks_served >= self.settings.max_tasks
        return report | {"recycle_after": self.worn, "tasks_served": self.tasks_served}

    def _call(self, request: Message, client: int) -> Message:
        self.tree.settle()
        with self._line() as line:
            reply = call.run(self.settings, self.gauges, line, request, client, self.clock_env)
        self.worn = self.worn or reply["oom_killed"]
        if reply["telemetry"]["floor_kib"] is not None:
            reply["telemetry"]["floor_kib"] += self.hidden_kib
        return reply

    def _line(self) -> launch.Line:
        line, self.ready = self.ready, None
        if line is not None:
            if line.is_ready():
                return line
            line.close()
        return _new_line(self.settings)

    def get_ready(self) -> None:
        """Start a compiled helper for the next call, which then does not wait for its start."""
        if self.ready is None and self.settings.helper == "c":
            with contextlib.suppress(OSError):  # the call tries again, and says why not
                self.ready = launch.Line(self.settings)

    def _manifest(self, _request: Message, _client: int) -> Message:
        entries, truncated = tree.listing(self.settings.work)
        return {"entries": entries, "truncated": truncated}

    def answer(self, request: Message, client: int) -> tuple[Message, bool]:
        """The reply to one request, and whether the worker must end after sending it."""
        number = request.get("id")
        try:
            operation = self.operations.get(str(request.get("op")), _unknown)
            return {"id": number, "ok": True} | operation(request, client), False
        except RequestError as error:
            return _refusal(number, error.kind, str(error)), isinstance(error, FatalError)
        except Exception as error:  # noqa: BLE001 -- the client must learn of it; the state is unknown, so the worker goes
            return _refusal(number, "internal", f"{type(error).__name__}: {error}"), True

    def serve(self, receive: Callable[[int], bytes], reading_fd: int, writing_fd: int) -> None:
        """Answer one client until it goes; ends the process when the worker is lost."""
        lost = False
        self.writing_fd = writing_fd
        try:
            while not lost:
                try:
                    request = frames.read(receive)
                except frames.FrameError as error:
                    frames.write_all(writing_fd, frames.encode(_refusal(None, "bad_frame", str(error))))
                    return
                if request is None:
                    return
                reply, lost = self.answer(request, reading_fd)
                frames.write_all(writing_fd, frames.encode(reply))
                if not lost:
                    self.get_ready()
        except OSError:
            return  # the client went away
        finally:
            if lost:
                leave(self.settings, EXIT_LOST)


def _unknown(request: Message, _client: int) -> Message:
    raise RequestError("bad_request", f"unknown op {request.get('op')!r}")


def _new_line(options: settings.Settings) -> launch.Line:
    try:
        return launch.Line(options)
    except OSError as error:
        raise RequestError("spawn", f"the helper could not be started: {error}") from error


def _hidden_kib(options: settings.Settings, gauges: counters.Gauges) -> int:
    """Peak RSS of a call that needs next to nothing, above the floor that its child reported; 0 when it cannot run.

    The kernel's RSS counters lag, and `exec` itself touches memory: about half a MiB that no process can see of itself.
    """
    if options.helper == "c":
        return 0  # any program is larger than the helper by more than that
    never_ends, kept_open = os.pipe()
    try:
        request = {"kind": "bash", "code": ":", "limit_ms": 5000}
        with _new_line(options) as line:
            sample = call.run(options, gauges, line, request, never_ends)["telemetry"]
    except RequestError:
        return 0
    finally:
        os.close(never_ends)
        os.close(kept_open)
    return max(0, sample["rusage"]["maxrss"] - sample["floor_kib"]) if sys.platform == "linux" else 0


def _refusal(number: object, kind: str, message: str) -> Message:
    return {"id": number, "ok": False, "error": {"kind": kind, "message": message}}


def _content(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 -- pathlib costs memory
            return file.read(4096).strip() or None
    except OSError:
        return None


def leave(options: settings.Settings, code: int) -> NoReturn:
    """End the worker: nothing of the tool's user keeps running, the socket is gone."""
    sockets.remove_own()
    if options.isolation == "uid":
        processes.end_user(options.tool_uid)
    os._exit(code)


def _worker(options: settings.Settings) -> WorkerState:
    """A worker whose folders are there; ends the process with a message otherwise."""
    for flag in ("work", "call_dir"):
        folder = getattr(options, flag)
        if not os.path.isdir(folder):  # noqa: PTH112 -- pathlib costs memory
            name = flag.replace("_", "-")
            sys.stderr.write(f"runner: {folder} (--{name}) is not a folder; mount or create it\n")
            raise SystemExit(2)
    try:
        options.helper = launch.choose(options)
    except ValueError as error:
        sys.stderr.write(f"runner: {error}\n")
        raise SystemExit(2) from None
    options.cgroup = leaf.prepare(options.cgroup)
    try:
        return WorkerState(options)
    except (RequestError, OSError) as error:
        sys.stderr.write(f"runner: fixtures in {options.fixtures} cannot be used: {error}\n")
        raise SystemExit(EXIT_LOST) from error


def main(arguments: Sequence[str]) -> None:
    """Run until SIGTERM, until stdin ends (`--stdio`), or until the worker is worn and its client has gone."""
    try:
        options = settings.parse(arguments)
    except ValueError as error:
        sys.stderr.write(f"runner: {error}\n")
        raise SystemExit(2) from None

    if options.enclose or options.confined:
        from . import enclose  # noqa: PLC0415 -- what it needs is not to stay in the memory of a runner

        enclose.run(options)
    if options.pids:
        resource.setrlimit(resource.RLIMIT_NPROC, (options.pids, options.pids))

    def stop(_number: int, _frame: FrameType | None) -> None:
        leave(options, 0)

    signal.signal(signal.SIGTERM, stop)
    worker = _worker(options)
    if options.stdio:
        worker.serve(lambda count: os.read(0, count), 0, 1)
        leave(options, 0)
    try:
        listener = sockets.listen(options.socket_dir, options.socket_gid)
    except OSError as error:
        sys.stderr.write(f"runner: no socket can be made in {options.socket_dir} (--socket-dir): {error}\n")
        raise SystemExit(2) from None
    sockets.tell_own(f"{options.call_dir}/.socket")
    while not worker.worn:
        client, _ = listener.accept()
        with client:
            worker.serve(client.recv, client.fileno(), client.fileno())
    leave(options, 0)
