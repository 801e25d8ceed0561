"""A table in numbered Parquet files, written as rows come: memory holds one row group, whatever the number of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from agenttrace.errors import UsageError
from agenttrace.formats.arrow import TableFile

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

ROWS = 10_000
"""Rows of a file, as in the published sets."""


class Shards:
    """A folder of `train-NNNNN-of-NNNNN.parquet`; their number is known, and the names are final, when it is closed.

    Args:
        folder: to be made.
        schema: of every file.
        rows_per_shard: rows of every file but the last.

    Attributes:
        rows: rows so far.

    Raises:
        UsageError: `rows_per_shard` is not positive.
    """

    def __init__(self, folder: Path, schema: pa.Schema, *, rows_per_shard: int = ROWS) -> None:
        if rows_per_shard < 1:
            raise UsageError(f"--rows-per-shard {rows_per_shard}: expected 1 or more")
        folder.mkdir(parents=True)
        self.schema = schema
        self.rows = 0
        self._folder = folder
        self._nested = any("<" in str(field.type) for field in schema)
        self._most = rows_per_shard
        self._files = [self._next(0)]

    def _next(self, number: int) -> TableFile:
        return TableFile(self._folder / f"{number:05}.part", self.schema)

    def add(self, row: dict[str, Any], size: int) -> None:
        """Take one row of a record of about `size` bytes; a table without nested columns counts its own texts.

        Raises:
            DataError: a value does not fit its column.
        """
        if self.rows and self.rows % self._most == 0:
            self._files[-1].close()
            self._files.append(self._next(len(self._files)))
        self._files[-1].add(row, size if self._nested else None)
        self.rows += 1

    @property
    def bytes(self) -> int:
        """Size of the rows as Arrow, bytes, once closed."""
        return sum(file.bytes for file in self._files)

    @property
    def file_bytes(self) -> int:
        """Size of the files on the disk, once closed."""
        return sum(path.stat().st_size for path in self._folder.iterdir())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Write what is left and give the files their names; a table without a row is one empty file."""
        self._files[-1].__exit__(kind)
        for number, path in enumerate(sorted(self._folder.iterdir())):
            path.replace(self._folder / f"train-{number:05}-of-{len(self._files):05}.parquet")
