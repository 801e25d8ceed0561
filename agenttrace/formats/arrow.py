"""Parquet files written row group by row group, so that memory stays bounded however many records come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from agenttrace.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

GROUP_ROWS = 1000
GROUP_BYTES = 16 << 20
"""A row group is written when it has that many rows or that much text."""


class TableFile:
    """One Parquet file (zstd) being written.

    Attributes:
        rows: rows so far.
        bytes: their size in memory as Arrow, bytes.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        import pyarrow.parquet as pq  # noqa: PLC0415 - heavy

        self.schema = schema
        self.rows = self.bytes = 0
        self._path = path
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", write_statistics=True)
        self._waiting: list[dict[str, Any]] = []
        self._size = 0
        self._tables: list[pa.Table] = []
        self._held = 0

    def add(self, row: dict[str, Any], size: int | None = None) -> None:
        """Take one row of about `size` bytes of text; without it, the texts of its columns are counted.

        Raises:
            DataError: a value does not fit its column.
        """
        self._waiting.append(row)
        self._size += sum(len(value) for value in row.values() if isinstance(value, str)) if size is None else size
        if len(self._waiting) >= GROUP_ROWS or self._size >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa  # noqa: PLC0415

        try:
            table = pa.Table.from_pylist(self._waiting, schema=self.schema)
        except (pa.ArrowException, OverflowError, UnicodeError, TypeError, ValueError) as error:
            raise DataError(f"{self._path.name}: a value does not fit its column: {error}") from error
        self._waiting, self._size = [], 0
        self._write(table)

    def add_table(self, table: pa.Table) -> None:
        """Take rows that are in columns already."""
        self._tables.append(table)
        self._held += table.num_rows
        self._size += table.nbytes
        if self._held >= GROUP_ROWS or self._size >= GROUP_BYTES:
            self._flush_tables()

    def _flush_tables(self) -> None:
        import pyarrow as pa  # noqa: PLC0415

        self._write(pa.concat_tables(self._tables).combine_chunks())
        self._tables, self._held, self._size = [], 0, 0

    def _write(self, table: pa.Table) -> None:
        self._writer.write_table(table)
        self.rows += table.num_rows
        self.bytes += table.nbytes

    def note(self, facts: dict[str, str]) -> None:
        """Put facts into the file's own metadata."""
        self._writer.add_key_value_metadata(facts)

    def close(self) -> None:
        """Write what is left and the file's end."""
        if self._waiting:
            self._flush()
        if self._tables:
            self._flush_tables()
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._writer.close()
