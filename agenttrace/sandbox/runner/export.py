"""What a task left behind, with its bytes: the paths of the work tree that differ from the pristine one.

Valid only between calls: no tool process lives then, so nothing can be swapped while it is read.
"""

from __future__ import annotations

import base64
import os
import stat

from . import tree
from .errors import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .frames import Message
    from .restore import WorkTree

MAX_FILE_BYTES = 4 * 2**20
MAX_TOTAL_BYTES = 24 * 2**20
MAX_PATHS = 5_000
"""Far more than a person would read, and base64 of all of it still fits a frame."""


def export(work: WorkTree, request: Message) -> Message:
    """The changed paths, sorted, each with type, mode and content; what a limit left out has `content` `None`.

    Args:
        work: the work tree, reset at least once.
        request: `without` is a list of top-level names to leave out, such as `.git`.

    Raises:
        RequestError: there was no reset yet, or `without` is not a list of names.
    """
    without = request.get("without", [])
    if not isinstance(without, list) or not all(isinstance(name, str) for name in without):
        raise RequestError("bad_request", "without must be a list of names")
    left_out, truncated, budget = set(without), False, MAX_TOTAL_BYTES
    entries: list[dict[str, Any]] = []
    try:
        for path, info in work.changed():
            if path.partition("/")[0] in left_out:
                continue
            if len(entries) == MAX_PATHS:
                truncated = True
                break
            item = _entry(work.root, path, info, min(budget, MAX_FILE_BYTES))
            budget -= len(item["content"] or "") * 3 // 4
            truncated = truncated or (item["type"] == "file" and item["content"] is None)
            entries.append(item)
    except OSError:
        truncated = True
    return {"entries": sorted(entries, key=lambda item: str(item["path"])), "truncated": truncated}


def _entry(root: str, path: str, info: os.stat_result | None, limit: int) -> dict[str, Any]:
    raw = base64.b64encode(os.fsencode(path)).decode("ascii")
    if info is None:
        return {"path": raw, "type": "absent", "mode": None, "content": None}
    kind, content = tree.kind_of(info.st_mode), None
    full = f"{root}/{path}"
    if kind == "file" and info.st_size <= limit:
        content = _read(full, limit)
    elif kind == "symlink":
        content = os.fsencode(os.readlink(full))  # noqa: PTH115 -- pathlib costs memory
    return {
        "path": raw,
        "type": kind,
        "mode": f"{stat.S_IMODE(info.st_mode):04o}",
        "content": None if content is None else base64.b64encode(content).decode("ascii"),
    }


def _read(path: str, limit: int) -> bytes | None:
    data = bytearray()
    try:
        for chunk in tree.chunks(path):
            data += chunk
            if len(data) > limit:
                return None
    except OSError:
        return None
    return bytes(data)
