"""What a helper is to carry out."""

from __future__ import annotations


class Job:
    """One program to run, and as whom.

    Attributes:
        argv: program and arguments; the program is an absolute path or looked up in `env["PATH"]`.
        env: the whole environment.
        cwd: working directory.
        limit_ms: wall-clock limit.
        stdout_fd: where its standard output goes.
        stderr_fd: where its standard error goes.
        isolation: `uid` or `none`.
        uid: user of the program when isolation is `uid`.
        gid: group of the program when isolation is `uid`.
        fsize_bytes: largest file it may write.
        cgroup: the cgroup it enters, empty for none.
        figures: what is measured only when it is asked for, with commas.
    """

    argv: list[str]
    env: dict[str, str]
    cwd: str
    limit_ms: int
    stdout_fd: int
    stderr_fd: int
    isolation: str
    uid: int
    gid: int
    fsize_bytes: int
    cgroup: str
    figures: str
