"""The check of a file of any readable format: of one of others, the check of what `convert` makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agenttrace.errors import DataError
from agenttrace.formats.reading import is_parquet, kind, record_lines
from agenttrace.validate import Validation

if TYPE_CHECKING:
    from pathlib import Path

    from agenttrace.formats.reading import FileKind


def validation(path: Path, **rules: Any) -> tuple[Validation, FileKind | None]:  # noqa: ANN401 - those of the class
    """Return the check of a file, and what the file is where it is not one of ours.

    Raises:
        UsageError: it can be read as nothing.
    """
    try:
        found = kind(path)
    except DataError:  # the check says what is wrong with it
        found = None
    if (found is None and not is_parquet(path)) or (found is not None and found.is_ours):
        return Validation(path, **rules), None
    return Validation(path, read=record_lines, **rules), found
