"""From a fresh fork to the tool's program: the last steps of root before `exec`."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys

from . import leaf, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from .job import Job

_STATUS_FD = 3
_OPEN_FILES = 1024


def become(job: Job, status_fd: int) -> NoReturn:
    """Turn this process into the job's program; never returns.

    What happened is written to `status_fd`: `floor N`, the peak RSS in KiB that `exec` hands on, or `error TEXT`.
    """
    try:
        os.setsid()
        _wire(job, status_fd)
        status_fd = _STATUS_FD
        _limit(job)
        _default_signals()
        os.umask(0o022)
        os.chdir(job.cwd)
        if job.cgroup:
            leaf.enter(job.cgroup)
        if job.isolation == "uid":
            os.setgroups([])
            os.setresgid(job.gid, job.gid, job.gid)
            os.setresuid(job.uid, job.uid, job.uid)
        libc.forbid_new_privileges()
        os.write(status_fd, b"floor %d\n" % resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        _execute(job)
    except BaseException as error:  # noqa: BLE001 -- the parent must learn of every failure
        os.write(status_fd, f"error {type(error).__name__}: {error}\n".encode("utf-8", "backslashreplace"))
    finally:
        os._exit(127)


def _execute(job: Job) -> None:
    """Replace this process by the program, found along the job's PATH.

    `os.execvpe` would first import a module, and its reads and its CPU time would count as the call's.
    """
    refused: OSError = FileNotFoundError(f"{job.argv[0]} is not on {job.env['PATH']}")
    folders = [""] if job.argv[0].startswith("/") else job.env["PATH"].split(":")
    for folder in folders:
        try:
            os.execve(f"{folder}/{job.argv[0]}", job.argv, job.env)  # noqa: S606 -- starting the tool is the point
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            refused = error
    raise refused


def _wire(job: Job, status_fd: int) -> None:
    """Standard streams on 0 to 2, the status pipe on 3, nothing else open."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(job.stdout_fd, 1)
    os.dup2(job.stderr_fd, 2)
    if status_fd != _STATUS_FD:
        os.dup2(status_fd, _STATUS_FD, inheritable=False)
    os.closerange(_STATUS_FD + 1, max(os.sysconf("SC_OPEN_MAX"), 4096))


def _limit(job: Job) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = job.fsize_bytes if hard == resource.RLIM_INFINITY else min(job.fsize_bytes, hard)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # the tool dies first when memory runs out; a wish, not a need
            fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
            os.write(fd, b"1000")
            os.close(fd)


def _default_signals() -> None:
    """Python ignores SIGPIPE and SIGXFSZ and this runner handles or blocks others; a tool expects the defaults."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
