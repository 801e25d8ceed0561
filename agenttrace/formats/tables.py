"""Parquet files written row group by row group, so that memory stays bounded however many records come.

A table is one file, or numbered ones; the three flat tables (`columns`) are written together.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from agenttrace.errors import DataError, UsageError
from agenttrace.formats.columns import TABLES, schema, tables
from agenttrace.formats.entries import entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import pyarrow as pa

    from agenttrace.formats import Sourced

ROWS = 10_000
"""Rows of a file of `Shards`, as in the published sets."""
GROUP_ROWS = 1000
GROUP_BYTES = 16 << 20
"""A row group is written when it has that many rows or that much text."""
_BATCH = 16
"""Whole records held at a time."""
_FEATURES: dict[str, dict[str, Any]] = {
    "text": {"dtype": "string", "_type": "Value"},
    "count": {"dtype": "int64", "_type": "Value"},
    "json": {"_type": "Json"},
    "texts": {"feature": {"_type": "Json"}, "_type": "List"},
}
"""Kinds of columns of a table that holds JSON → what `datasets` is told of them."""


class TableFile:
    """One Parquet file (zstd) being written.

    Attributes:
        rows: rows so far.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        import pyarrow.parquet as pq  # noqa: PLC0415 - heavy

        self.schema = schema
        self.rows = 0
        self._stored = _stored(schema)
        self._path = path
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", write_statistics=True)
        self._waiting: list[dict[str, Any]] = []
        self._tables: list[pa.Table] = []
        self._held = self._size = 0

    def add(self, row: dict[str, Any], size: int | None = None) -> None:
        """Take one row of about `size` bytes of text; without it, the texts of its columns are counted.

        Raises:
            DataError: a value does not fit its column.
        """
        self._waiting.append(row)
        size = sum(len(value) for value in row.values() if isinstance(value, str)) if size is None else size
        self._hold(1, size)

    def add_table(self, table: pa.Table) -> None:
        """Take rows that are in columns already; a file takes either these or single rows."""
        self._tables.append(table)
        self._hold(table.num_rows, table.nbytes)

    def _hold(self, rows: int, size: int) -> None:
        self._held += rows
        self._size += size
        if self._held >= GROUP_ROWS or self._size >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa  # noqa: PLC0415

        if self._waiting:
            try:
                table = pa.Table.from_pylist(self._waiting, schema=self._stored)
                self._tables.append(table if self._stored is self.schema else table.cast(self.schema))
            except (pa.ArrowException, OverflowError, UnicodeError, TypeError, ValueError) as error:
                raise DataError(f"{self._path.name}: a value does not fit its column: {error}") from error
        if self._tables:
            table = pa.concat_tables(self._tables).combine_chunks()
            self._writer.write_table(table)
            self.rows += table.num_rows
        self._waiting, self._tables = [], []
        self._held = self._size = 0

    def note(self, facts: dict[str, str]) -> None:
        """Put facts into the file's own metadata."""
        self._writer.add_key_value_metadata(facts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Write what is left, where all went well, and the file's end."""
        if kind is None:
            self._flush()
        self._writer.close()


def json_schema(columns: dict[str, str]) -> pa.Schema:
    """Return the Arrow schema of a table some columns of which hold JSON.

    Args:
        columns: name → `text`, `count`, `json`, or `texts`, a list of JSON texts.
    """
    import pyarrow as pa  # noqa: PLC0415 - heavy

    types = {"texts": pa.list_(pa.json_()), "count": pa.int64(), "json": pa.json_()}
    said = json.dumps({"info": {"features": {name: _FEATURES[kind] for name, kind in columns.items()}}})
    found = [(name, types.get(kind, pa.string())) for name, kind in columns.items()]
    return pa.schema(found, metadata={"huggingface": said})


def _stored(schema: pa.Schema) -> pa.Schema:
    """Return a schema with the types that hold columns of JSON, as pyarrow makes no column of such from rows."""
    import pyarrow as pa  # noqa: PLC0415 - heavy

    one, texts = pa.json_(), pa.list_(pa.json_())
    if not {one, texts} & {*schema.types}:
        return schema
    kinds = {one: pa.string(), texts: pa.list_(pa.string())}
    return pa.schema([(field.name, kinds.get(field.type, field.type)) for field in schema])


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
            self._files[-1].__exit__(None)
            self._files.append(self._next(len(self._files)))
        self._files[-1].add(row, size if self._nested else None)
        self.rows += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Write what is left and give the files their names; a table without a row is one empty file."""
        self._files[-1].__exit__(kind)
        for number, path in enumerate(sorted(self._folder.iterdir())):
            path.replace(self._folder / f"train-{number:05}-of-{len(self._files):05}.parquet")


def write(records: Iterable[Sourced], output: Path) -> dict[str, int]:
    """Write the three tables into a folder (`runs.parquet`, ...) and return the rows of each.

    Raises:
        DataError: a value does not fit its column.
    """
    files = write_to(records, {name: output / f"{name}.parquet" for name in TABLES})
    return {name: file.rows for name, file in files.items()}


def write_to(records: Iterable[Sourced], paths: dict[str, Path]) -> dict[str, TableFile]:
    """Write the three tables to the given paths and return the closed files, which know their rows and bytes."""
    entries = (entry(number, record.source, record.trace) for number, record in enumerate(records))
    return write_batches(map(tables, iter(lambda: list(islice(entries, _BATCH)), [])), paths)


def write_batches(
    batches: Iterable[dict[str, pa.Table]], paths: dict[str, Path], facts: Callable[[], dict[str, str]] = dict
) -> dict[str, TableFile]:
    """Write batches of the three tables, of all columns; returns the closed files.

    Args:
        batches: as `columns.tables` gives them.
        paths: of each table.
        facts: what is to stand in each file's own metadata, asked for at the end.
    """
    with ExitStack() as stack:
        files = {name: stack.enter_context(TableFile(path, schema(name))) for name, path in paths.items()}
        for batch in batches:
            for name, table in batch.items():
                files[name].add_table(table)
        for file in files.values():
            file.note(facts())
    return files
