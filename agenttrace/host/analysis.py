"""Runs the verbs that read records (`agenttrace.verbs`) in the analysis image: same code and libraries everywhere."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import DOOR, UsageError
from agenttrace.formats.prices import VARIABLE
from agenttrace.host import compose, engine, folders, gitleaks, images, weights
from agenttrace.host.guard import interrupts_held, stop, terminations_interrupt, uninterrupted
from agenttrace.store.opening import stem

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

_MEMORY = "4g"
_OURS = tuple(
    map(
        Path,
        ("/bin", "/dev", "/etc", "/lib", "/opt/agenttrace", "/opt/venv", "/proc", "/run/home", "/sbin", "/sys", "/usr"),
    )
)
"""Folders of the image that no folder of the user's machine may cover."""


def run(
    verb: str, argv: Sequence[str], *, read: Sequence[Path], written: Sequence[Path], order: bytes | None = None
) -> int:
    """Exit status of one verb, run over the user's files: what it reads is mounted read-only, under its own path.

    So every message names files as the user did. There is no network, and nothing else of the machine to be seen.

    Args:
        verb: a verb of the command line.
        argv: its arguments, relative paths relative to the working directory.
        read: what among them is read.
        written: what is written.
        order: given to the verb on its standard input; the container then has the way to the outside.

    Raises:
        UsageError: a file to read does not exist, or a folder to write cannot be mounted.
    """
    new = [folder for path in written if not (folder := _folder(_absolute(path))).exists()]
    mounts = list(_mounts(read, written))
    info = engine.check()
    image = images.build(targets=("analysis",)).ids["analysis"]
    name = f"{compose.project_name()}-{verb}-{os.getpid()}"
    words = [*_command(name, info, talks=order is not None), *(word for mount in mounts for word in ("--mount", mount))]
    stdin = subprocess.DEVNULL if order is None else engine.PIPE
    with terminations_interrupt():
        try:
            with interrupts_held():
                process = engine.start([*words, image, verb, *argv], env=dict(os.environ), stdin=stdin)
            process.communicate(order)
        except KeyboardInterrupt:
            with uninterrupted():
                stop(process, name)
            raise
    if process.returncode:
        for folder in new:  # a verb that wrote nothing leaves nothing
            with contextlib.suppress(OSError):
                folder.rmdir()
    return folders.checked_end(process.returncode, written, info)


def _command(name: str, info: engine.EngineInfo, *, talks: bool) -> list[str]:
    """Return `docker run` for a verb, up to its mounts.

    Where SELinux runs, the container goes without its label: with it the user's own files would have to be relabelled.
    """
    uid, gid = compose.caller(info)
    words = ["docker", "run", "--rm", "--name", name, "--init", "--read-only", "--cap-drop", "ALL"]
    words += ["--security-opt", "no-new-privileges", "--security-opt", "label=disable", "--memory", _MEMORY]
    words += ["--pids-limit", "256", "--log-driver", "none", "--label", f"{compose.PROJECT_LABEL}=agenttrace"]
    words += ["--user", f"{uid}:{gid}", "--tmpfs", "/run/home:mode=1777,size=256m", "--workdir", str(Path.cwd())]
    words += ["--env", f"COLUMNS={shutil.get_terminal_size((120, 40)).columns}"]
    words += ["--env", "TMPDIR=/run/home", "--env", VARIABLE, "--env", DOOR]
    words += [word for name in compose.TERMINAL if os.environ.get(name) for word in ("--env", name)]
    if sys.stdout.isatty() and not talks:
        words += ["--tty"]
    return [*words, *(["--interactive", "--env", "HF_HUB_OFFLINE="] if talks else ["--network", "none"])]


def publish(verb: str, arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Exit status of a verb that publishes, in two containers: one reads records, one has the way out and the token.

    The token reaches the second container, which sees the folder alone, on its standard input. In between gitleaks
    looks at the folder, here.

    Args:
        verb: `publish` or `publish-rollouts`.
        arguments: its arguments, checked.
        words: the same as they were typed, and what the first container cannot know.

    Raises:
        DataError: gitleaks found something.
        AgentTraceError: it failed.
    """
    if arguments.files:
        read = [*arguments.files, *filter(None, [arguments.about])]
        status = run(verb, [*words, "--make-only"], read=read, written=[arguments.output])
        if status != 0 or arguments.upload is None:
            return status
    gitleaks.search([arguments.output, *arguments.files], keep=arguments.keep_findings)
    words = ["--output", str(arguments.output), "--upload", arguments.upload, "--from-host"]
    private = ["--private"] if arguments.private_repository else []
    settings = msgspec.json.encode(weights.host_settings())
    return run("publish-rollouts", [*words, *private], read=[], written=[arguments.output], order=settings)


def _mounts(read: Sequence[Path], written: Sequence[Path]) -> Iterator[str]:
    """Mount options: files and folders to read as they are, for what is written its folder."""
    for path in dict.fromkeys(found for given in read for found in _with_sidecars(_absolute(given))):
        yield _bind(path) + ",readonly"
    for folder in dict.fromkeys(_made_folder(_absolute(path)) for path in written):
        yield _bind(folder)


def _absolute(path: Path) -> Path:
    """Return the path as the container sees it: like the user's, without `..`."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - symbolic links stay


def _with_sidecars(path: Path) -> Iterator[Path]:
    """Yield the path and what lies beside a record file under its name, such as its run spec."""
    if not path.exists():
        raise UsageError(f"cannot read {path}: there is no such file")
    yield path
    if path.is_file():
        there = path.parent.glob(f"{glob.escape(stem(path))}.*")
        yield from (found for found in there if found != path and found.is_file())


def _folder(path: Path) -> Path:
    """Return the folder to mount for something to be written."""
    return path if path.is_dir() or not path.suffix else path.parent


def _made_folder(path: Path) -> Path:
    """Return that folder, made if need be."""
    folder = _folder(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {folder}: {error.strerror}") from error
    return folder


def _bind(path: Path) -> str:
    covers = path.is_dir() and any(path == ours or path in ours.parents or ours in path.parents for ours in _OURS)
    if covers:
        raise UsageError(f"{path} cannot be shared with a container: use a folder of your own")
    source = path.resolve()
    if any(char in f"{path}{source}" for char in ',"\n\r'):
        raise UsageError(
            f"{path}: a comma, quote or line end in a path cannot be given to the engine; rename or copy it"
        )
    return f"type=bind,source={source},target={path}"
