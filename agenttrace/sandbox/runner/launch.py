"""The two helpers behind one interface: which one to use, how it is started, what it reported.

`c` is the compiled one (../helper/call_helper.c): started without copying this process, and so small that it hides
nothing of a call's memory. `python` is a fork of this process (helper.py): slower, its size is a floor under every
peak, and a call can take back that it dies first when memory runs out.
"""

from __future__ import annotations

import json
import os
import signal

from . import helper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .frames import Message
    from .job import Job
    from .settings import Settings

INTERFACE = b"agenttrace call-helper 2\n"
LONGEST_LIMIT_MS = 10**12
_BLOCKED = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


def choose(settings: Settings) -> str:
    """`c` or `python` for what `--helper` says: `auto` is `c` where the compiled helper runs.

    Raises:
        ValueError: the compiled helper was asked for and does not run.
    """
    if settings.helper == "python":
        return "python"
    reason = _unusable(settings.helper_path)
    if reason is None:
        return "c"
    if settings.helper == "c":
        raise ValueError(f"--helper c: {settings.helper_path} (--helper-path) cannot be used: {reason}")
    return "python"


def start(settings: Settings, job: Job, report_fd: int) -> int:
    """Start the helper with its signals blocked; returns its process id. Its report comes through `report_fd`.

    Raises:
        OSError: it could not be started.
    """
    if settings.helper == "c":
        return _spawn(settings.helper_path, job, report_fd)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    try:
        pid = os.fork()
        if pid == 0:
            helper.main(job, report_fd)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def parse(settings: Settings, report: bytes) -> Message:
    """The report as a dictionary; raises `ValueError` when it is not one.

    The compiled helper writes each byte of a name or a message as one character, so that it need not know UTF-8.
    """
    parsed = json.loads(report)
    if not isinstance(parsed, dict):
        raise ValueError(f"the report is a {type(parsed).__name__}")  # noqa: TRY004 -- one error for what is no report
    if settings.helper == "c":
        parsed |= {key: _text(parsed[key]) for key in ("spawn_error", "helper_error") if key in parsed}
        parsed["leftover_names"] = [_text(name) for name in parsed.get("leftover_names", ())]
    return parsed


def _text(characters: str) -> str:
    return characters.encode("latin-1").decode("utf-8", "backslashreplace")


def _spawn(path: str, job: Job, report_fd: int) -> int:
    """`posix_spawn` shares this process's memory until the exec: nothing of it is copied or counted."""
    parameters = {
        "report": report_fd,
        "stdout": job.stdout_fd,
        "stderr": job.stderr_fd,
        "limit_ms": min(job.limit_ms, LONGEST_LIMIT_MS),
        "isolation": job.isolation,
        "uid": job.uid,
        "gid": job.gid,
        "fsize_bytes": job.fsize_bytes,
        "cwd": job.cwd,
        "cgroup": job.cgroup,
        "series": int("memory_series" in job.figures),
        "counters": int("cpu_counters" in job.figures),
        "basic": int("basic" in job.figures),
    }
    # A descriptor duplicated onto itself is one that survives the exec.
    keep = [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in (report_fd, job.stdout_fd, job.stderr_fd)]
    arguments = [path, *(f"{name}={value}" for name, value in parameters.items()), "--", *job.argv]
    return os.posix_spawn(path, arguments, job.env, file_actions=keep, setsigmask=_BLOCKED)


def _unusable(path: str) -> str | None:
    """Why the compiled helper does not run here; `None` when it does."""
    reader, writer = os.pipe()
    try:
        try:
            pid = os.posix_spawn(path, [path, "--probe"], {}, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)])
        except OSError as error:
            return f"{error.strerror}"
        finally:
            os.close(writer)
        said = os.read(reader, 100)
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(reader)
    if status != 0 or said != INTERFACE:
        return f"its probe said {said!r} and ended with status {os.waitstatus_to_exitcode(status)}"
    return None
