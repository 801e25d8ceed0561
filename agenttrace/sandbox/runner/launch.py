"""The two helpers behind one interface: which one to use, how it is started, what it reported.

`c` is the compiled one (../helper/call_helper.c): started without copying this process, so small that it hides nothing
of a call's memory, and ready before there is a call, which then does not wait for its start. `python` is a fork of this
process (helper.py): slower, its size is a floor under every peak, and a call can take back that it dies first when
memory runs out.
"""

from __future__ import annotations

import json
import os
import signal

from . import frames, helper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from .frames import Message
    from .job import Job
    from .settings import Settings

INTERFACE = b"agenttrace call-helper 3\n"
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


class Line:
    """The way to one helper and back; at its end a compiled helper waits for its job already. Use it as a context.

    Attributes:
        readers: the ends at which this process reads the call's standard output, its standard error and the report.
        pid: of the helper; 0 where there is none.
    """

    def __init__(self, settings: Settings) -> None:
        """Raises `OSError` where there is no room for it."""
        self.readers: list[int] = []
        self.pid = 0
        self._writers: list[int] = []
        self._job_fd = -1
        try:
            for _ in range(3):
                reader, writer = os.pipe()
                self.readers.append(reader)
                self._writers.append(writer)
            if settings.isolation == "uid":  # `> /dev/stderr` opens the pipe anew, which only its owner may
                for writer in self._writers[:2]:
                    os.fchown(writer, settings.tool_uid, settings.tool_gid)
            if settings.helper == "c":
                self._spawn(settings.helper_path)
        except BaseException:
            self.close()
            raise

    def _spawn(self, path: str) -> None:
        """`posix_spawn` shares this process's memory until the exec: nothing of it is copied or counted."""
        reader, self._job_fd = os.pipe()
        try:
            # A descriptor duplicated onto itself is one that survives the exec.
            keep = [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in (reader, *self._writers)]
            self.pid = os.posix_spawn(path, [path, "--job", str(reader)], {}, file_actions=keep, setsigmask=_BLOCKED)
        finally:
            os.close(reader)

    def is_ready(self) -> bool:
        """Whether a helper waits for its job; one that has ended is collected."""
        try:
            gone = self.pid and os.waitpid(self.pid, os.WNOHANG)[0]
        except ChildProcessError:
            gone = True
        self.pid = 0 if gone else self.pid
        return bool(self.pid)

    def start(self, settings: Settings, job: Job) -> None:
        """Have a job carried out; this process's copies of the write ends are closed.

        Raises:
            OSError: the helper could not be started.
        """
        job.stdout_fd, job.stderr_fd, report_fd = self._writers
        try:
            if settings.helper == "c":
                frames.write_all(self._job_fd, _told(job, report_fd))
            else:
                self.pid = _forked(job, report_fd)
        except OSError:
            self._let_go()
            if self.pid:  # it reads no more: it has ended, or is about to
                self.ended()
            raise
        self._let_go()

    def ended(self) -> int:
        """Wait for the helper's end and return its wait status."""
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return status

    def _let_go(self) -> None:
        for fd in self._writers:
            os.close(fd)
        self._writers = []
        if self._job_fd >= 0:
            os.close(self._job_fd)
            self._job_fd = -1

    def close(self) -> None:
        """Close what is open; a helper that has got no job ends by that."""
        waits = self._job_fd >= 0
        self._let_go()
        for fd in self.readers:
            os.close(fd)
        self.readers = []
        if waits and self.pid:
            self.ended()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _forked(job: Job, report_fd: int) -> int:
    """Start the helper as a copy of this process, with its signals blocked; returns its process id."""
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


def _told(job: Job, report_fd: int) -> bytes:
    """A job as the compiled helper reads it (../helper/job.c)."""
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
    arguments = [*(f"{name}={value}" for name, value in parameters.items()), "--", *job.argv]
    variables = [f"{name}={value}" for name, value in job.env.items()]
    strings = [str(len(arguments)), str(len(variables)), *arguments, *variables, ""]
    return os.fsencode("\0".join(strings))


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
