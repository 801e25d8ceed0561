"""Settings of a runner and the command line that changes them."""

from __future__ import annotations

import functools
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


HELPERS = ("auto", "c", "python")
FIGURES = ("memory_series", "cpu_counters", "basic")
"""Figures that take room in a record, or need a right that a sandbox does not have by itself; and `basic`, which leaves
out all that schema 1.1.0 had not and that costs time."""


class Settings:
    """What a runner is told at its start. Every attribute is a flag: `tool_uid` is `--tool-uid VALUE`.

    Attributes:
        stdio: speak over stdin and stdout instead of a socket (a flag without value).
        enclose: first make of a container that shares network and mounts what the policy asks for (see `enclose`).
        confined: refuse to serve in a container that falls short of the policy.
        socket_dir: folder that gets `worker-*.sock`.
        socket_gid: group that may connect.
        work: the tool's working tree; itself never removed, only emptied.
        fixtures: one pristine tree per name, out of the tool's reach.
        trees: more pristine trees, brought from outside; each is read when asked for, the last one is kept in mind.
        call_dir: where code too long for an argument is placed.
        interpreter: script that runs Python code for the `python` tool.
        tool_uid: user of every tool process.
        tool_gid: group of every tool process.
        max_tasks: resets after which the worker asks to be replaced.
        helper: what forks and measures a call: `c`, `python`, or `auto` (`c` where it runs).
        helper_path: the compiled helper.
        cgroup: this container's own cgroup (v2); used when it is writable.
        policy: name of the tool policy this image carries; `execution_free` refuses Python.
        policies: what the policies ask for (`policies.toml`).
        path: PATH of the tools.
        shell: how the shell is started: a name to look up in `path`, or an absolute path.
        fsize_bytes: largest file a call may write.
        pids: processes that the tools' user may have, where the container's limit is none or higher; 0 is none.
        wipe: folders to empty at every reset (repeatable); none unless asked for.
        faketime: folder whose subfolders may hold `faketime/libfaketime.so.1`, which pins the clock of tools.
        environment_file: digest of the image's content, reported to the client.
        figures: what is measured of calls beside the usual figures: some of `FIGURES`, with commas.
    """

    stdio: bool = False
    enclose: bool = False
    confined: bool = False
    socket_dir: str = "/run/agenttrace"
    socket_gid: int = 20999
    work: str = "/testdata"
    fixtures: str = "/opt/agenttrace/fixtures"
    trees: str = "/trees"
    call_dir: str = "/run/call"
    interpreter: str = "/opt/agenttrace/tools/interpret.py"
    tool_uid: int = 20000
    tool_gid: int = 20000
    max_tasks: int = 200
    helper: str = "auto"
    helper_path: str = "/opt/agenttrace/call-helper"
    cgroup: str = "/sys/fs/cgroup"
    policy: str = "shell"
    policies: str = "/opt/agenttrace/policies.toml"
    path: str = "/usr/local/bin:/usr/bin:/bin"
    shell: str = "bash"
    fsize_bytes: int = 2 * 2**30
    pids: int = 0
    wipe: tuple[str, ...] = ()
    faketime: str = "/usr/lib"
    environment_file: str = "/etc/agenttrace/environment.sha256"
    figures: str = ""

    @functools.cached_property
    def isolation(self) -> str:
        """`uid` when tools run as another user, `none` when the runner has no right to switch."""
        return "uid" if os.geteuid() == 0 and self.tool_uid != 0 and os.path.exists("/proc/self/io") else "none"  # noqa: PTH110


def parse(arguments: Sequence[str]) -> Settings:
    """Settings from `--name value` pairs; raises `ValueError` naming what is wrong.

    By hand because argparse alone would raise the memory floor by half a MiB.
    """
    settings = Settings()
    rest = list(arguments)
    while rest:
        flag = rest.pop(0)
        name = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--") or name not in Settings.__annotations__:
            raise ValueError(f"unknown flag {flag}; known: {', '.join(_flags())}")
        default = getattr(Settings, name)
        if isinstance(default, bool):
            setattr(settings, name, True)
            continue
        if not rest:
            raise ValueError(f"{flag} needs a value")
        _assign(settings, name, rest.pop(0))
    if settings.helper not in HELPERS:
        raise ValueError(f"--helper {settings.helper} is not available; this runner knows: {', '.join(HELPERS)}")
    for name in filter(None, settings.figures.split(",")):
        if name not in FIGURES:
            raise ValueError(f"--figures {name} is not one; this runner knows: {', '.join(FIGURES)}")
    return settings


def _flags() -> list[str]:
    return ["--" + name.replace("_", "-") for name in Settings.__annotations__]


def _assign(settings: Settings, name: str, text: str) -> None:
    default = getattr(Settings, name)
    if isinstance(default, tuple):
        setattr(settings, name, (*getattr(settings, name), text))
    elif isinstance(default, int):
        if not text.isdecimal():
            raise ValueError(f"--{name.replace('_', '-')} needs a whole number, not {text!r}")
        setattr(settings, name, int(text))
    else:
        setattr(settings, name, text)
