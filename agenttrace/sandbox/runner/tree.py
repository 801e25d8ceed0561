r"""A file tree as a sorted list of entries, and the digest over it: pure functions, used by both ends.

An entry is a dictionary with `path` (relative, `/` between parts, undecodable bytes as `\\xNN`), `type` (`file`, `dir`,
`symlink`, `other`), `mode` (four octal digits), `size` (files), `sha256` (files), `target` (symlinks) and `mtime_ns`.
What does not apply is `None`. The root itself is not listed.
"""

from __future__ import annotations

import json
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    Entry = dict[str, Any]

MAX_ENTRIES = 20_000
MAX_HASHED_BYTES = 256 * 2**20
MAX_NAME_BYTES = 4 * 2**20
_CHUNK = 128 * 1024


def _builtin_sha256() -> Any:  # noqa: ANN401 -- the modules have no common public type
    """SHA-256 without OpenSSL: `hashlib` would add 3 MiB to the memory floor of every call."""
    for name in ("_sha2", "_sha256"):
        try:
            return __import__(name).sha256
        except ImportError:
            continue
    return __import__("hashlib").sha256


_sha256 = _builtin_sha256()


def shown(name: str | bytes) -> str:
    r"""A file name as text: bytes that are not UTF-8 become `\\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def kind_of(mode: int) -> str:
    """`file`, `dir`, `symlink` or `other` for an `st_mode`."""
    for test, name in ((stat.S_ISREG, "file"), (stat.S_ISDIR, "dir"), (stat.S_ISLNK, "symlink")):
        if test(mode):
            return name
    return "other"


def walk(root: str) -> Iterator[tuple[str, os.stat_result]]:
    """Every entry below `root` as (relative path, lstat), a folder before what it holds; links are not followed.

    Raises:
        OSError: a folder cannot be read or a path is too long for the kernel.
    """
    stack = [""]
    while stack:
        folder = stack.pop()
        within = f"{folder}/" if folder else ""
        with os.scandir(f"{root}/{folder}" if folder else root) as found:
            for item in found:
                path, info = within + item.name, item.stat(follow_symlinks=False)
                yield path, info
                if stat.S_ISDIR(info.st_mode):
                    stack.append(path)


def chunks(path: str) -> Iterator[bytes]:
    """The content of a file in pieces; no link is followed, and nothing is waited for.

    Raises:
        OSError: it cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while chunk := os.read(fd, _CHUNK):
            yield chunk
    finally:
        os.close(fd)


def hash_file(path: str) -> str | None:
    """SHA-256 of a regular file in hexadecimal; `None` when it cannot be read."""
    state = _sha256()
    try:
        for chunk in chunks(path):
            state.update(chunk)
    except OSError:
        return None
    return str(state.hexdigest())


def entry(root: str, path: str, info: os.stat_result, *, hashed: bool = True) -> Entry:
    """The entry of one path; its content is read only when `hashed`."""
    kind = kind_of(info.st_mode)
    full = f"{root}/{path}"
    return {
        "path": shown(path),
        "type": kind,
        "mode": "0777" if kind == "symlink" else f"{stat.S_IMODE(info.st_mode):04o}",
        "size": info.st_size if kind == "file" else None,
        "sha256": hash_file(full) if kind == "file" and hashed else None,
        "target": shown(os.readlink(full)) if kind == "symlink" else None,  # noqa: PTH115 -- pathlib costs memory
        "mtime_ns": info.st_mtime_ns,
    }


def listing(
    root: str, *, max_entries: int = MAX_ENTRIES, max_hashed_bytes: int = MAX_HASHED_BYTES
) -> tuple[list[Entry], bool]:
    """The entries below `root`, sorted by path, and whether a limit cut the list short.

    Beyond `max_entries` or 4 MiB of paths nothing more is listed (the list must fit a frame); beyond
    `max_hashed_bytes` files have no `sha256`.
    """
    found: list[Entry] = []
    budget, names, truncated = max_hashed_bytes, MAX_NAME_BYTES, False
    try:
        for path, info in walk(root):
            names -= len(os.fsencode(path)) + (info.st_size if stat.S_ISLNK(info.st_mode) else 0)
            if len(found) >= max_entries or names < 0:
                truncated = True
                break
            size = info.st_size if stat.S_ISREG(info.st_mode) else 0
            hashed = size <= budget
            budget -= size if hashed else 0
            truncated = truncated or not hashed
            found.append(entry(root, path, info, hashed=hashed))
    except OSError:
        truncated = True
    return sorted(found, key=lambda item: str(item["path"])), truncated


def digest(entries: Iterable[Entry]) -> str:
    """SHA-256 over the entries as canonical JSON lines, sorted by path.

    Covers path, type, mode, size, content and link target of everything and the mtime of files and folders; not
    owners, inode numbers, ctime, atime, nor the mtime of links and specials.
    """
    state = _sha256()
    for item in sorted(entries, key=lambda item: str(item["path"])):
        line = {key: item.get(key) for key in ("path", "type", "mode", "size", "sha256", "target")}
        line["mtime_ns"] = item.get("mtime_ns") if item["type"] in {"file", "dir"} else None
        state.update(json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n")
    return str(state.hexdigest())
