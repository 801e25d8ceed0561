"""One call, seen from the runner: start the helper, collect the output in bounded memory, put the reply together."""

from __future__ import annotations

import binascii
import contextlib
import os
import resource
import select
import signal
import sys

from . import frames, launch, leaf
from .capture import Capture
from .errors import FatalError, RequestError
from .job import Job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .counters import Gauges
    from .frames import Message
    from .settings import Settings

KINDS = ("bash", "python")
MAX_KEEP_BYTES = 16 * 2**20
ARGUMENT_BYTES = 100_000
_CHUNK = 65536
_DRAIN_READS = 256
_NOT_MEASURED = ("status", "timed_out", "aborted", "survivors", "ready_cpu_ns")
"""What a report says beside figures."""
_GONE = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


def run(
    settings: Settings,
    gauges: Gauges,
    line: launch.Line,
    request: Message,
    client_fd: int,
    clock_env: dict[str, str] | None = None,
) -> Message:
    """Carry out a `call` request; the reply without its id. `clock_env` pins the clock of the tool (see `clock`).

    Raises:
        RequestError: the request is malformed, or the program could not be started (kind `spawn`).
        FatalError: the helper was lost or could not clean up; the worker must go.
    """
    kind, code, limit_ms, keep_bytes = _validated(settings, request)
    self_before, before = _own_cpu_ns(), gauges.read()
    job = Job()
    job.cgroup = leaf.make(settings.cgroup) if settings.cgroup else ""
    outputs = (Capture(keep_bytes), Capture(keep_bytes))
    try:
        job.argv, job.env, job.limit_ms = _program(settings, kind, code), environment(settings), limit_ms
        job.env |= clock_env or {}
        _start(settings, line, job)
        report = _report(settings, *_collect(line, outputs, client_fd))
    finally:
        _remove(_code_path(settings))
        peak_bytes = leaf.finish(job.cgroup) if job.cgroup else None
    own_ns, after = _own_cpu_ns() - self_before, gauges.read()
    if "spawn_error" in report:
        raise RequestError("spawn", f"the {kind} process could not be started: {report['spawn_error']}")
    if report["survivors"] or report["status"] is None:
        raise FatalError("helper_lost", "processes of the call could not be killed")
    used = report["rusage"]
    not_own_ns = round((used["utime"] + used["stime"]) * 1e9) + report.get("ready_cpu_ns", 0)
    sample = {
        "source": f"{settings.helper}-helper",
        "platform": sys.platform,
        **{k: v for k, v in report.items() if k not in _NOT_MEASURED},
        "gauges_before": before,
        "gauges_after": after,
        "pressure_scope": gauges.pressure_scope,
        "runner_cpu_ns": own_ns - not_own_ns,
        "cgroup_memory_peak_bytes": peak_bytes,
        "network_bytes": gauges.network_bytes,
    }
    code_, signal_ = _ending(report["status"])
    return {
        "exit_code": code_,
        "signal": signal_,
        "timed_out": report["timed_out"],
        "oom_killed": after.get("oom_kills", 0) > before.get("oom_kills", after.get("oom_kills", 0)),
        "leftover_count": report["leftover_count"],
        "leftover_names": report["leftover_names"],
        "telemetry": sample,
        **_streams(outputs),
    }


def _validated(settings: Settings, request: Message) -> tuple[str, str, int, int]:
    kind, code = request.get("kind"), request.get("code")
    limit_ms, keep_bytes = request.get("limit_ms"), request.get("keep_bytes", _CHUNK)
    if kind not in KINDS:
        raise RequestError("bad_request", f"kind is {kind!r}; this worker knows {', '.join(KINDS)}")
    if kind == "python" and settings.policy == "execution_free":
        raise RequestError("policy", "policy execution_free has no Python tool")
    if not isinstance(code, str):
        raise RequestError("bad_request", "code must be a string")
    if type(limit_ms) is not int or limit_ms <= 0:
        raise RequestError("bad_request", f"limit_ms is {limit_ms!r}, not a positive whole number of milliseconds")
    if type(keep_bytes) is not int or not 0 <= keep_bytes <= MAX_KEEP_BYTES:
        raise RequestError("bad_request", f"keep_bytes is {keep_bytes!r}, not within 0 to {MAX_KEEP_BYTES}")
    return kind, code, limit_ms, keep_bytes


def _program(settings: Settings, kind: str, code: str) -> list[str]:
    """The command line for `code`.

    Bash code is an argument where it can be: only that gives the very messages of `bash -c CODE` (through `eval`,
    syntax errors lose their line number). The kernel limits one argument to 128 KiB and cannot hold a NUL, so longer
    code goes by file, as Python code always does.
    """
    data = code.encode("utf-8", "surrogatepass")
    if kind == "bash" and len(data) <= ARGUMENT_BYTES and b"\0" not in data:
        return [settings.shell, "-c", os.fsdecode(data)]
    path = _code_path(settings)
    try:
        _place(path, data)
    except OSError as error:
        raise RequestError("spawn", f"code of {len(data)} bytes could not be placed in {path}: {error}") from error
    if kind == "bash":
        quoted = path.replace("'", "'\\''")
        return [settings.shell, "-c", f"eval \"$(<'{quoted}')\""]
    return ["python3", "-B", settings.interpreter, path]


def _code_path(settings: Settings) -> str:
    return f"{settings.call_dir}/code"


def _remove(path: str) -> None:
    """No later call sees the code of this one."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 -- pathlib costs memory


def _place(path: str, data: bytes) -> None:
    _remove(path)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.fchmod(fd, 0o644)
        frames.write_all(fd, data)
    finally:
        os.close(fd)


def environment(settings: Settings) -> dict[str, str]:
    """The whole environment of a tool process whose clock is not pinned."""
    return {
        "PATH": settings.path,
        "HOME": settings.work,
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
        "PAGER": "cat",
        "USER": "agent",
        "LOGNAME": "agent",
        "SHELL": "/bin/bash",
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",
    }


def _start(settings: Settings, line: launch.Line, job: Job) -> None:
    job.cwd, job.fsize_bytes, job.figures = settings.work, settings.fsize_bytes, settings.figures
    job.isolation, job.uid, job.gid = settings.isolation, settings.tool_uid, settings.tool_gid
    try:
        line.start(settings, job)
    except OSError as error:
        raise RequestError("spawn", f"the helper could not be started: {error}") from error


def _collect(line: launch.Line, outputs: tuple[Capture, Capture], client_fd: int) -> tuple[bytes, int]:
    """Read both streams until the helper has reported; a client that hangs up stops the call.

    Returns:
        The report and the helper's wait status.
    """
    stdout_fd, stderr_fd, report_fd = line.readers
    captures = {stdout_fd: outputs[0], stderr_fd: outputs[1]}
    poller = select.poll()
    for fd in line.readers:
        os.set_blocking(fd, False)
        poller.register(fd, select.POLLIN)
    poller.register(client_fd, _GONE)
    report = bytearray()
    reporting = True
    while reporting:
        for fd, _ in poller.poll():
            if fd == client_fd:
                poller.unregister(client_fd)
                os.kill(line.pid, signal.SIGTERM)
                continue
            chunk = _available(fd)
            if chunk is None:
                continue
            if chunk and fd != report_fd:
                captures[fd].feed(chunk)
            elif chunk:
                report += chunk
            else:
                poller.unregister(fd)
                reporting = reporting and fd != report_fd
    status = line.ended()
    for fd, capture in captures.items():
        _drain(fd, capture)
    return bytes(report), status


def _report(settings: Settings, report: bytes, status: int) -> Message:
    try:
        parsed = launch.parse(settings, report)
    except ValueError as error:
        raise FatalError("helper_lost", f"the helper ended without a report (wait status {status}): {error}") from error
    if "helper_error" in parsed:
        raise FatalError("helper_lost", f"the helper failed: {parsed['helper_error']}")
    return parsed


def _available(fd: int) -> bytes | None:
    """What can be read now: empty at the end of the stream, `None` when there is nothing yet."""
    try:
        return os.read(fd, _CHUNK)
    except BlockingIOError:
        return None


def _drain(fd: int, capture: Capture) -> None:
    """Take what is still in the pipe; whoever may hold its other end is not waited for."""
    for _ in range(_DRAIN_READS):
        chunk = _available(fd)
        if not chunk:
            return
        capture.feed(chunk)


def _own_cpu_ns() -> int:
    """CPU of the runner and of everything it has waited for."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        used = resource.getrusage(who)
        total += used.ru_utime + used.ru_stime
    return round(total * 1e9)


def _ending(status: int) -> tuple[int, int | None]:
    """Exit code (128 + signal when signalled) and signal of a wait status."""
    code = os.waitstatus_to_exitcode(status)
    return (code, None) if code >= 0 else (128 - code, -code)


def _streams(outputs: tuple[Capture, Capture]) -> Message:
    fields: Message = {}
    for name, capture in zip(("stdout", "stderr"), outputs, strict=True):
        fields[f"{name}_b64"] = binascii.b2a_base64(capture.head + capture.tail, newline=False).decode("ascii")
        fields[f"{name}_total"] = capture.total
        fields[f"{name}_kept"] = len(capture.head) + len(capture.tail)
        fields[f"{name}_head"] = len(capture.head)
    return fields
