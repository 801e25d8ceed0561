"""What a worker reports, typed: its own facts, a reset, a call, a tree."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from agenttrace.records import Output, Telemetry
from agenttrace.telemetry.normalise import telemetry


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The container's limits; `None` where unlimited or not readable."""

    pids: int | None = None
    memory_bytes: int | None = None
    cpus: float | None = None


class WritablePlace(msgspec.Struct, frozen=True, kw_only=True):
    """A mount of a worker that can be written to.

    Attributes:
        kind: of its file system.
        bytes: that it takes, where it lies in memory.
        files: that it takes, likewise.
        runs_programs: whether what is written there can be run.
    """

    kind: str
    bytes: int | None
    files: int | None
    runs_programs: bool


class Confinement(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker was confined when it started, as the kernel told it.

    Attributes:
        interfaces: of its network, those that are up.
        capabilities: that it has or can get, as the kernel writes them.
        no_new_privileges: whether no program that it starts can gain any.
        seccomp: 2 where a filter of system calls stands before it.
        oom_kills_all: whether the kernel kills the whole container when a call takes too much memory.
        other_processes: that it sees beside itself and what started it.
        writable: by where it is mounted; without those of the kernel and the folder of sockets.
    """

    interfaces: tuple[str, ...]
    capabilities: str
    no_new_privileges: bool
    seccomp: int
    oom_kills_all: bool
    other_processes: int
    writable: dict[str, WritablePlace]


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of itself.

    Attributes:
        protocol: version of the worker protocol.
        version: version of the runner.
        helper: what forks and measures a call: `python` or `c`.
        policy: name of the tool policy its image carries.
        isolation: `uid` (tools run as another user) or `none`.
        tool_uid: user of the tools.
        tool_gid: group of the tools.
        fixtures: tree digest of every fixture it has, by name.
        clock: whether it can pin the clock that tools see.
        python: version of the interpreter that runs the runner.
        limits: the container's limits.
        environment_digest: digest of the image's content, when the image has one.
        work: the tools' working tree inside the worker.
        tasks_served: resets so far.
        max_tasks: resets after which it asks to be replaced.
        rss_kib: the runner's resident set when it said hello.
        confinement: how it was confined when it started; `None` where it does not know.
        policy_sha256: digest of the policies in its image; `None` where there are none.
    """

    protocol: int
    version: str
    helper: str
    policy: str
    isolation: Literal["uid", "none"]
    tool_uid: int
    tool_gid: int
    fixtures: dict[str, str]
    python: str
    limits: Limits
    environment_digest: str | None
    work: str
    tasks_served: int
    max_tasks: int
    rss_kib: int | None = None
    clock: bool = False
    confinement: Confinement | None = None
    policy_sha256: str | None = None


class ResetReport(msgspec.Struct, frozen=True, kw_only=True):
    """How the work tree was made pristine.

    Attributes:
        digest: tree digest of the fixture, which the tree was checked to equal.
        restored: paths copied again.
        removed: top-level paths removed.
        wall_ns: monotonic time in the worker for the tree alone.
        recycle_after: the worker wants to be replaced after this task.
        tasks_served: resets so far, this one included.
    """

    digest: str
    restored: int
    removed: int
    wall_ns: int
    recycle_after: bool
    tasks_served: int


class TreeEntry(msgspec.Struct, frozen=True, kw_only=True):
    r"""One path of the work tree; what does not apply is `None`.

    Attributes:
        path: relative to the root, `/` between parts, undecodable bytes as `\\xNN`.
        type: kind of the entry.
        mode: permission bits as four octal digits.
        size: bytes of a file.
        sha256: of a file's content; `None` for files beyond the hashing limit.
        target: of a symbolic link.
        mtime_ns: time of the last change of content.
    """

    path: str
    type: Literal["file", "dir", "symlink", "other"]
    mode: str
    size: int | None
    sha256: str | None
    target: str | None
    mtime_ns: int


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """The work tree's entries, sorted by path; `truncated` when a limit cut the list or the hashing short."""

    entries: tuple[TreeEntry, ...]
    truncated: bool


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """One path that differs from the pristine tree.

    Attributes:
        path: relative to the root, as the file system's bytes.
        type: what it is now; `absent` when it is gone.
        mode: permission bits as four octal digits.
        content: bytes of a file, target of a link; `None` for the rest, and for a file too large to be brought out.
    """

    path: bytes
    type: Literal["file", "dir", "symlink", "other", "absent"]
    mode: str | None
    content: bytes | None


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What differs from the pristine tree, sorted by path; `truncated` when a limit left out paths or content."""

    entries: tuple[Changed, ...]
    truncated: bool


class CallReport(msgspec.Struct, frozen=True, kw_only=True):
    """How a call ended, what it wrote and what it cost.

    Attributes:
        exit_code: of the main process; 128 + signal when a signal ended it.
        signal: that signal.
        status: `timeout` and `oom` say why it was killed; `ok` is every other end.
        stdout: standard output, the middle cut out when it was long.
        stderr: standard error, likewise.
        telemetry: the cost of its process tree.
        start_ns: wall clock of this host when the call was sent, nanoseconds since the epoch.
        end_ns: wall clock when the reply was there.
    """

    exit_code: int
    signal: int | None
    status: Literal["ok", "timeout", "oom"]
    stdout: Output
    stderr: Output
    telemetry: Telemetry
    start_ns: int
    end_ns: int


class RawCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call's reply as it comes over the wire; `*_head` bytes of what was kept are from the stream's beginning."""

    exit_code: int
    signal: int | None
    timed_out: bool
    oom_killed: bool
    stdout_b64: bytes
    stdout_total: int
    stdout_head: int
    stderr_b64: bytes
    stderr_total: int
    stderr_head: int
    telemetry: dict[str, Any]

    def report(self, start_ns: int, end_ns: int) -> CallReport:
        """The typed report of a call that was sent and answered at these times."""
        return CallReport(
            exit_code=self.exit_code,
            signal=self.signal,
            status="oom" if self.oom_killed else "timeout" if self.timed_out else "ok",
            stdout=output(self.stdout_b64[: self.stdout_head], self.stdout_b64[self.stdout_head :], self.stdout_total),
            stderr=output(self.stderr_b64[: self.stderr_head], self.stderr_b64[self.stderr_head :], self.stderr_total),
            telemetry=telemetry(self.telemetry),
            start_ns=start_ns,
            end_ns=end_ns,
        )


def output(head: bytes, tail: bytes, total: int) -> Output:
    """A stream from the beginning and the end that were kept of its `total` bytes.

    When something is missing between them, a line says how many bytes; it is not part of `bytes_kept`. A UTF-8
    character that the cut broke is left out as well.
    """
    cut = len(head) + len(tail) < total
    parts = [_without_broken_end(head), _without_broken_start(tail)] if cut else [head + tail]
    kept = sum(map(len, parts))
    encoding: Literal["utf-8", "backslashreplace"] = "utf-8"
    try:
        texts = [part.decode() for part in parts]
    except UnicodeDecodeError:
        encoding = "backslashreplace"
        texts = [part.decode("utf-8", encoding) for part in parts]
    if cut:
        newline = "" if not texts[0] or texts[0].endswith("\n") else "\n"
        texts.insert(1, f"{newline}[... {total - kept} bytes left out ...]\n")
    return Output(text="".join(texts), bytes_total=total, bytes_kept=kept if cut else total, encoding=encoding)


def _without_broken_end(data: bytes) -> bytes:
    """`data` without the beginning of a UTF-8 character at its end."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            return data[: error.start]
    return data


def _without_broken_start(data: bytes) -> bytes:
    """`data` without up to three continuation bytes at its start."""
    count = 0
    while count < min(3, len(data)) and data[count] & 0xC0 == 0x80:  # noqa: PLR2004 -- 10xxxxxx marks a continuation
        count += 1
    return data[count:]
