"""One task over a checkout, as the rows of SWE-rebench V2 and its relatives describe it."""

from __future__ import annotations

import re
from typing import Any

from agenttrace.errors import DataError
from agenttrace.records.base import Record

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,99}/[A-Za-z0-9_][\w.-]{0,99}")
_INSTANCE = re.compile(r"[\w.-][\w.+-]{0,199}")


REQUIRED = ("instance_id", "repo", "base_commit", "problem_statement")
"""Columns without which a row is no task."""


class SweTask(Record, frozen=True, kw_only=True):
    """A task: a repository at a commit and what is wrong with it.

    Attributes:
        instance_id: the task set's own name.
        repo: `OWNER/NAME`.
        base_commit: full commit id, SHA-1 or SHA-256.
        language: as the row says, lower case; `None` where it says nothing, and the tree decides.
        problem_statement: what the agent is told.
        interface: names that hidden tests rely on; told to the agent where the row has it.
        test_patch: the hidden tests, a diff; empty where the row has none.
        patch: the reference solution; used for judging alone, never shown.
    """

    instance_id: str
    repo: str
    base_commit: str
    language: str | None
    problem_statement: str
    interface: str | None
    test_patch: str
    patch: str


def task_of_row(row: dict[str, Any], where: str) -> SweTask:
    r"""Return the task of one row of SWE-rebench V2 or V2-PRs.

    Args:
        row: column → value.
        where: names the row in errors, such as `rows.jsonl, line 3`.

    A lone surrogate, which no UTF-8 can hold, becomes `\udNNN`.

    Raises:
        DataError: a column is missing, of another type or not what its name promises.
    """
    texts = {name: _text(row, name, where) for name in REQUIRED}
    for name, pattern, expected in (
        ("instance_id", _INSTANCE, "letters, digits, dots, dashes, underscores (at most 200)"),
        ("repo", _REPO, "OWNER/NAME"),
        ("base_commit", _COMMIT, "40 or 64 hexadecimal digits"),
    ):
        if not pattern.fullmatch(texts[name]):
            raise DataError(f"{where}: {name} {texts[name][:80]!r}: expected {expected}")
    if not texts["problem_statement"].strip():
        raise DataError(f"{where}: problem_statement is empty")
    language = _optional(row, "language", where)
    return SweTask(
        **texts,
        language=language.strip().lower() if language and language.strip().lower() != "unknown" else None,
        interface=(_optional(row, "interface", where) or "").strip() or None,
        test_patch=_optional(row, "test_patch", where) or "",
        patch=_optional(row, "patch", where) or "",
    )


def _text(row: dict[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise DataError(f"{where}: {name} is {'missing' if value is None else 'no text'}; expected a column of text")
    return value.encode("utf-8", "backslashreplace").decode("utf-8")  # half a surrogate pair, which JSON can hold


def _optional(row: dict[str, Any], name: str, where: str) -> str | None:
    value = row.get(name)
    return None if value is None else _text(row, name, where)
