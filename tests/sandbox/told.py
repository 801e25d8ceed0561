"""The compiled helper as a process that is told what to do."""

import contextlib
import json
import os
import subprocess

UID = 61_000 + os.getpid() % 4_000
"""One's own: the helper kills everything of that user, and tests may run side by side."""


def job(*arguments, variables=("PATH=/usr/bin:/bin",)):
    """A job as the helper reads it."""
    strings = [len(arguments), len(variables), *arguments, *variables]
    return b"".join(os.fsencode(f"{string}\0") for string in strings)


def told(binary, words, pass_fds=()):
    """What became of a helper that got these words as its job."""
    reader, writer = os.pipe()
    argv = [binary, "--job", str(reader)]
    with subprocess.Popen(
        argv, pass_fds=[reader, *pass_fds], env={}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        os.close(reader)
        with contextlib.suppress(BrokenPipeError), os.fdopen(writer, "wb") as file:
            file.write(words)
        return subprocess.CompletedProcess(argv, process.wait(60), process.stdout.read(), process.stderr.read())


def run(binary, *command, tmp_path, **changed):
    """The report of one call of the helper; parameters that are `None` are left out."""
    streams = [os.open(tmp_path / name, os.O_RDWR | os.O_CREAT | os.O_TRUNC) for name in ("report", "out", "err")]
    values = dict(zip(("report", "stdout", "stderr"), streams, strict=True))
    values |= {
        "limit_ms": 9000,
        "isolation": "uid",
        "uid": UID,
        "gid": UID,
        "fsize_bytes": 10**9,
        "cwd": "/",
        "cgroup": "",
        "series": 0,
        "counters": 0,
        "basic": 0,
    }
    pairs = [f"{name}={value}" for name, value in (values | changed).items() if value is not None]
    ended = told(binary, job(*pairs, "--", *command), pass_fds=streams)
    for fd in streams:
        os.close(fd)
    text = (tmp_path / "report").read_bytes()
    return (json.loads(text) if text else None), ended, (tmp_path / "out").read_text()
