"""Says what a file is that is no record file, so that a message can name it and what to do instead."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FAILURES = ".failures.jsonl"
"""End of the name of a file with attempts that ended in an infrastructure failure; it lies beside the records."""
_BESIDE = {
    ".cassette.zst": "a cassette",
    ".run.json": "a run spec",
}
_RELEASED = re.compile(rb'"schema_version"\s*:\s*"0\.3\.0"')
_OTHERS = {b"PAR1": "a Parquet file", b"PK\x03\x04": "a zip file"}


def is_failures(path: Path) -> bool:
    """Return whether a file holds attempts that ended in an infrastructure failure."""
    return path.name.removesuffix(".gz").removesuffix(".zst").endswith(FAILURES)


def other_kind(path: Path, head: bytes) -> str | None:
    """Return what a file is instead of a record file, and what to do; `None` when it may be one, compressed or not.

    Args:
        path: its name is looked at.
        head: its first bytes, four at least where it has them.
    """
    for suffix, kind in _BESIDE.items():
        if path.name.endswith(suffix):
            return f"it is {kind}; give the record file beside it ({path.name.removesuffix(suffix)}.jsonl)"
    for magic, kind in _OTHERS.items():
        if head.startswith(magic):
            return f"it is {kind}; give record files (.jsonl)"
    return None


def released(line: bytes) -> str | None:
    """Return that a line is a row of AgentTrace 0.3.0 and how to read it, for those who read our records only."""
    if _RELEASED.search(line):
        return "it holds rows of AgentTrace 0.3.0; convert it first: scripts/nox -s convert -- FILE --to agenttrace-1.0"
    return None
