"""Where the task files come from: a mirror folder, the cache, or their pinned place; always with their pinned digest.

A folder holds them as `intercode-nl2bash/nl2bash_fs_1.json` ... `_4.json` and `mbpp/mbpp.jsonl`. With the variable
`AGENTTRACE_MIRROR` set, that folder is the only place looked at, and nothing is downloaded. Otherwise the cache
(`AGENTTRACE_CACHE`, else `agenttrace/tasks` in the user's cache folder) is filled on first use. A `~` at the start of
such a folder is the home folder.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.errors import AgentTraceError
from agenttrace.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable

MIRROR = "AGENTTRACE_MIRROR"
CACHE = "AGENTTRACE_CACHE"
TIMEOUT_S = 30.0
_HOST = "https://raw.githubusercontent.com"
_INTERCODE = f"{_HOST}/princeton-nlp/intercode/c3e46d827cfc9d4c704ec078f7abf9f41e3191d8/data/nl2bash"
_GOOGLE = f"{_HOST}/google-research/google-research/f82046ba5aabbbb427dbfd38a254d26bff08b533/mbpp"


class SourceFile(Record, frozen=True, kw_only=True):
    """One pinned file.

    Attributes:
        path: where it lies in a mirror or in the cache.
        url: its pinned place.
        bytes: its size.
        sha256: its digest.
    """

    path: str
    url: str
    bytes: int
    sha256: str


def _intercode(number: int, size: int, sha256: str) -> SourceFile:
    name = f"nl2bash_fs_{number}.json"
    return SourceFile(path=f"intercode-nl2bash/{name}", url=f"{_INTERCODE}/{name}", bytes=size, sha256=sha256)


NL2BASH = (
    _intercode(2, 11_158, "8f4ce24e535fab782fda607e37db2ae1d6c5f99993c638d1ac0a7e0b542f633e"),
    _intercode(1, 13_588, "60f88e1aacc7ebba535093f9890c5c33203f4e5f32958e0e94fbe90ec4f01c82"),
    _intercode(4, 4_028, "ce41b89450f87765a02a51df259ca0c1762e8249185c022adb089147e2c16200"),
    _intercode(3, 11_264, "a2d4ec8bc7ad69a4e2fb3eb84033994cf65ee9cfb355e3e63099df67a339b2e1"),
)
"""In the order in which the curated set counts its tasks."""
MBPP = SourceFile(
    path="mbpp/mbpp.jsonl",
    url=f"{_GOOGLE}/mbpp.jsonl",
    bytes=563_743,
    sha256="ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f",
)
MBPP_OLDER = "0b7004a79cd62d9ec7ecdd5a6e5f0ef1210ff00b286df3c5d5b57bf38c58e19a"
"""Digest of the version before August 2022, with other asserts: a common wrong file, so it is called by name."""


class SourceError(AgentTraceError):
    """A task file cannot be had, or is not the pinned one (exit status 2)."""

    exit_code = 2


def folder() -> Path:
    """Return the folder that task files are read from: the mirror when one is named, else the cache.

    Raises:
        SourceError: its name begins with the home folder of a user that has none.
    """
    for variable in (MIRROR, CACHE):
        if named := os.environ.get(variable):
            return _expanded(variable, named)
    return _expanded("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "agenttrace" / "tasks"


def mirror() -> bool:
    """Return whether a mirror is named: then nothing is downloaded."""
    return bool(os.environ.get(MIRROR))


def _expanded(variable: str, named: str) -> Path:
    try:
        return Path(named).expanduser()
    except RuntimeError as error:
        raise SourceError(
            f"the folder of task files begins with {named} ({variable}), and this machine knows no such home folder; "
            f"name a folder by its full path in {CACHE}, or in {MIRROR} one that holds the files"
        ) from error


def read(source: SourceFile, download: Callable[[str, int], bytes] | None = None) -> bytes:
    """Return the bytes of a pinned file, downloading it into the cache when it is in no folder yet.

    Args:
        source: which file.
        download: gets address and most bytes to read; another one only in tests.

    Raises:
        SourceError: it is missing, truncated or changed, or cannot be downloaded; the message says what to do.
    """
    path = folder() / source.path
    try:
        data, size = _content(path, source.bytes + 1)
    except FileNotFoundError:
        if os.environ.get(MIRROR):
            raise SourceError(
                f"{path} does not exist: the folder named in {MIRROR} must hold {source.path} "
                f"({_pinned(source)}; from {source.url})"
            ) from None
        return _fetch(source, path, download or _download)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}; {MIRROR} may name a folder that holds it") from error
    if (wrong := _problem(source, data, size)) is not None:
        advice = "replace it" if os.environ.get(MIRROR) else "remove it, it is fetched anew"
        raise SourceError(f"{path} {wrong}; expected {_pinned(source)}. What to do: {advice}")
    return data


def _content(path: Path, most: int) -> tuple[bytes, int]:
    """Return at most so many bytes of a regular file, and its size."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise SourceError(f"{path} is not a regular file: put the file itself there")
    # Should it be another thing by now, opening and reading it must not wait either.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        data = file.read(most)
    return data, max(found.st_size, len(data))


def _fetch(source: SourceFile, path: Path, download: Callable[[str, int], bytes]) -> bytes:
    try:
        data = download(source.url, source.bytes + 1)
    except OSError as error:
        raise SourceError(
            f"cannot download {source.url}: {error}. Fetch it elsewhere ({_pinned(source)}), put it into a folder as "
            f"{source.path} and name that folder in {MIRROR}"
        ) from error
    if (wrong := _problem(source, data, len(data), more=" or more")) is not None:
        advice = f"run again, or put the file into a folder that {MIRROR} names"
        raise SourceError(f"{source.url} {wrong}; expected {_pinned(source)}. What to do: {advice}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SourceError(f"cannot write {path}: {error.strerror}; {CACHE} may name another folder") from error
    return data


def _download(url: str, most: int) -> bytes:
    import http.client  # noqa: PLC0415 - only the first use of a set downloads
    import urllib.request  # noqa: PLC0415

    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:  # noqa: S310 - a pinned https address
            data: bytes = response.read(most)
    except http.client.HTTPException as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
    return data


def _problem(source: SourceFile, data: bytes, size: int, *, more: str = "") -> str | None:
    """Return what is wrong with a file of that size, of which at most one byte more than its pin says was read."""
    digest = hashlib.sha256(data).hexdigest()
    if digest == source.sha256:
        return None
    if digest == MBPP_OLDER:
        return f"is the version of before August 2022: {size} bytes"
    if size < source.bytes:
        return f"is truncated or another file: {size} bytes"
    if size > source.bytes:
        return f"is not the pinned file: {size} bytes{more}"
    return f"is not the pinned file: {size} bytes, SHA-256 {digest}"


def _pinned(source: SourceFile) -> str:
    return f"{source.bytes} bytes, SHA-256 {source.sha256}"
