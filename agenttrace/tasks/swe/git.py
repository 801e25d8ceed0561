"""The one place that starts git: over hostile repositories, so no setting of theirs, the user or the system acts."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

from agenttrace.errors import AgentTraceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TIMEOUT_S = 600.0
FIXED_TIME_S = 1_704_067_200
"""2024-01-01T00:00:00Z: the time of every file and commit that the kit makes."""

_NO_GIT = "git is not installed; rollouts run in the image `rollouts`, which has it"
_CONFIG = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.attributesFile": os.devnull,
    "core.excludesFile": os.devnull,
    "core.protectHFS": "true",
    "core.protectNTFS": "false",
    "credential.helper": "",
    "diff.external": "",
    "fetch.recurseSubmodules": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "pack.threads": "1",
    "protocol.allow": "never",
    "protocol.https.allow": "always",
    "protocol.http.allow": "always",
    "protocol.file.allow": "always",
    "safe.directory": "*",
    "transfer.bundleURI": "false",
}
_INHERITED = (
    "PATH",
    "https_proxy",
    "HTTPS_PROXY",
    "http_proxy",
    "HTTP_PROXY",
    "no_proxy",
    "NO_PROXY",
    "GIT_SSL_CAINFO",
)


class GitError(AgentTraceError):
    """git ended with another status than 0; the message holds the last of what it said."""


def run(
    folder: Path,
    arguments: Sequence[str],
    *,
    stdin: bytes = b"",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> bytes:
    """Return what one git command prints.

    Args:
        folder: its git directory (bare, or the `.git` of a tree).
        arguments: after `git --git-dir FOLDER`.
        stdin: what it reads.
        cwd: where it runs.
        env: more variables.
        timeout_s: after that long it is killed.

    Raises:
        UsageError: git is not installed.
        GitError: it failed or took too long.
    """
    try:
        ended = subprocess.run(  # noqa: S603 - an argument list of ours, no shell
            ["git", "--git-dir", str(folder), *arguments],  # noqa: S607 - the image's git
            input=stdin,
            cwd=cwd or "/",
            capture_output=True,
            env={**_environment(), **(env or {})},
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise UsageError(_NO_GIT) from error
    except subprocess.TimeoutExpired as error:
        raise GitError(f"git {arguments[0]} took more than {timeout_s:.0f} s") from error
    if ended.returncode:
        said = ended.stderr.decode(errors="replace").strip().splitlines()[-3:]
        raise GitError(f"git {arguments[0]} ended with status {ended.returncode}: {' / '.join(said) or 'no message'}")
    return ended.stdout


def read(folder: Path, arguments: Sequence[str], *, most_bytes: int, timeout_s: float = TIMEOUT_S) -> bytes:
    """Return the first `most_bytes` and one of what one git command prints; it is killed when there is more.

    Raises:
        UsageError: git is not installed.
        GitError: it failed or took too long.
    """
    words = ["git", "--git-dir", str(folder), *arguments]
    try:
        process = subprocess.Popen(  # noqa: S603 - an argument list of ours, no shell
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/",
            env=_environment(),
        )  # fmt: skip
    except FileNotFoundError as error:
        raise UsageError(_NO_GIT) from error
    watch = threading.Timer(timeout_s, process.kill)
    watch.start()
    try:
        with process:  # leaving it closes the pipe, at which a git that goes on writing ends
            data = process.stdout.read(most_bytes + 1) if process.stdout is not None else b""
    finally:
        watch.cancel()
    if process.returncode and len(data) <= most_bytes:
        late = f"took more than {timeout_s:.0f} s" if process.returncode == -signal.SIGKILL else "failed"
        raise GitError(f"git {arguments[0]} {late}, status {process.returncode}")
    return data


def _environment() -> dict[str, str]:
    settings = {
        name: value for i, pair in enumerate(_CONFIG.items())
        for name, value in ((f"GIT_CONFIG_KEY_{i}", pair[0]), (f"GIT_CONFIG_VALUE_{i}", pair[1]))
    }  # fmt: skip
    stamp = f"{FIXED_TIME_S} +0000"
    return {
        **{name: os.environ[name] for name in _INHERITED if name in os.environ},
        **settings,
        "GIT_CONFIG_COUNT": str(len(_CONFIG)),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_AUTHOR_NAME": "agenttrace",
        "GIT_AUTHOR_EMAIL": "agenttrace@localhost",
        "GIT_COMMITTER_NAME": "agenttrace",
        "GIT_COMMITTER_EMAIL": "agenttrace@localhost",
        "GIT_AUTHOR_DATE": stamp,
        "GIT_COMMITTER_DATE": stamp,
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
    }
