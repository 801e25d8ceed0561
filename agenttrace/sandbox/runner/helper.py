"""The per-call helper: a process of its own that starts one program, waits for it and accounts for all of its tree.

Because it is a subreaper and lives for one call only, `RUSAGE_CHILDREN` and its own `/proc/self/io` delta are exactly
that call's. It is forked from the runner with SIGCHLD and SIGTERM blocked; it waits for them with a deadline, which
(unlike a pidfd) also tells it of orphans that ended and must be reaped before they use up the pid limit.
SIGTERM from the runner means that nobody wants the result any more.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import time

from . import child, counters, frames, libc, processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from .frames import Message
    from .job import Job

GRACE_NS = 500_000_000
MAX_NAMES = 16
_LOOK_NS = 1_000_000_000


class _AbortedError(Exception):
    """The runner asked for the call to be stopped."""


def main(job: Job, report_fd: int) -> NoReturn:
    """Run `job`, write the report as JSON to `report_fd`, end the process; never returns."""
    code = 1
    try:
        report = _run(job)
        frames.write_all(report_fd, json.dumps(report).encode("ascii"))
        code = 0
    except BaseException as error:  # noqa: BLE001 -- it must not run on into the runner's code
        with contextlib.suppress(OSError):
            os.write(report_fd, json.dumps({"helper_error": f"{type(error).__name__}: {error}"}).encode("ascii"))
    finally:
        os._exit(code)


def _run(job: Job) -> Message:
    libc.become_subreaper()
    io_before = counters.reaped_io()
    status_read, status_write = os.pipe()
    start_ns = time.monotonic_ns()
    started = counters.Started()
    try:
        pid = os.fork()
    except OSError as error:
        return {"spawn_error": f"fork: {error}"}
    if pid == 0:
        child.become(job, status_write)
    for fd in (status_write, job.stdout_fd, job.stderr_fd):
        os.close(fd)
    floor_kib, spawn_error = _spawned(status_read)
    if spawn_error:
        os.waitpid(pid, 0)
        return {"spawn_error": spawn_error}
    report = _supervise(job, pid, start_ns, started) | _usage(io_before) | {"floor_kib": floor_kib}
    started.look()
    report["processes_started"] = started.count()
    if "cpu_counters" in job.figures:
        report["counters_reason"] = "the Python helper counts none"
    return report


def _spawned(status_fd: int) -> tuple[int | None, str | None]:
    """What the child wrote before `exec` closed the pipe: its peak RSS in KiB, or why it could not start."""
    text = b""
    while chunk := os.read(status_fd, 4096):
        text += chunk
    os.close(status_fd)
    floor, error = None, None
    for line in text.decode("utf-8", "replace").splitlines():
        word, _, rest = line.partition(" ")
        if word == "floor":
            floor = int(rest)
        else:
            error = f"{error}\n{line}" if error else rest
    return floor, error


def _supervise(job: Job, pid: int, start_ns: int, started: counters.Started) -> Message:
    """Wait for the main process, then end whatever is left; returns how it went."""
    state = {"timed_out": False, "aborted": False}
    ending = None
    try:
        ending = _wait(pid, start_ns + job.limit_ms * 1_000_000, started)
        if ending is None:
            state["timed_out"] = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGTERM)
            ending = _wait(pid, time.monotonic_ns() + GRACE_NS, started)
    except _AbortedError:
        state["aborted"] = True
    ended, children_left = processes.reap()
    leftovers = [name for number, name in _living(job) if number != pid] if children_left else []
    killed, survivors = processes.end_children(lambda: _kill(job, pid))
    done_ns = time.monotonic_ns()
    status, end_ns = ending or (ended | killed).get(pid) or (None, done_ns)
    return state | {
        "status": status,
        "wall_ns": end_ns - start_ns,
        "cleanup_ns": done_ns - end_ns,
        "leftover_count": len(leftovers),
        "leftover_names": sorted(leftovers)[:MAX_NAMES],
        "survivors": survivors,
    }


def _wait(pid: int, until_ns: int, started: counters.Started) -> tuple[int, int] | None:
    """Wait status and end of `pid`, or `None` at the deadline; reaps every other child that ends meanwhile."""
    while True:
        ended, _ = processes.reap()
        if pid in ended:
            return ended[pid]
        remaining_ns = min(until_ns - time.monotonic_ns(), _LOOK_NS)
        if remaining_ns <= 0:
            return None
        started.look()
        if _next_signal(remaining_ns / 1e9) == signal.SIGTERM:
            raise _AbortedError


def _next_signal(timeout_s: float) -> int | None:
    if not hasattr(signal, "sigtimedwait"):  # macOS
        time.sleep(min(timeout_s, 0.002))
        return signal.SIGTERM if signal.SIGTERM in signal.sigpending() else None
    info = signal.sigtimedwait({signal.SIGCHLD, signal.SIGTERM}, timeout_s)
    return None if info is None else info.si_signo


def _living(job: Job) -> list[tuple[int, str]]:
    return processes.of_user(job.uid) if job.isolation == "uid" else processes.descendants(os.getpid())


def _kill(job: Job, pid: int) -> None:
    if job.isolation == "uid":
        processes.kill_user(job.uid)
    else:
        processes.kill_tree(os.getpid(), pid)


def _usage(io_before: dict[str, int] | None) -> Message:
    """Raw counters of everything reaped, in the units of the kernel."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "rusage": {
            "utime": used.ru_utime,
            "stime": used.ru_stime,
            "maxrss": used.ru_maxrss,
            "inblock": used.ru_inblock,
            "oublock": used.ru_oublock,
            "minflt": used.ru_minflt,
            "majflt": used.ru_majflt,
            "nvcsw": used.ru_nvcsw,
            "nivcsw": used.ru_nivcsw,
        },
        "io_before": io_before,
        "io_after": counters.reaped_io(),
    }
