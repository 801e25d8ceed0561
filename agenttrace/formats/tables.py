"""Writes the three flat tables (`columns`) as Parquet, row group by row group, so that memory stays bounded."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import islice
from typing import TYPE_CHECKING

from agenttrace.formats.columns import TABLES, entry, kinds, schema, tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import pyarrow as pa

    from agenttrace.formats import Sourced
    from agenttrace.formats.arrow import TableFile

__all__ = ["TABLES", "kinds", "write", "write_batches", "write_to"]
_BATCH = 16
"""Whole records held at a time."""


def write(records: Iterable[Sourced], output: Path) -> dict[str, int]:
    """Write the three tables into a folder (`runs.parquet`, ...) and return the rows of each.

    Raises:
        DataError: a value does not fit its column.
    """
    files = write_to(records, {name: output / f"{name}.parquet" for name in TABLES})
    return {name: file.rows for name, file in files.items()}


def write_to(records: Iterable[Sourced], paths: dict[str, Path]) -> dict[str, TableFile]:
    """Write the three tables to the given paths and return the closed files, which know their rows and bytes."""
    return write_batches(_batches(records), paths)


def _batches(records: Iterable[Sourced]) -> Iterator[dict[str, pa.Table]]:
    entries = (entry(number, record.source, record.trace) for number, record in enumerate(records))
    while batch := list(islice(entries, _BATCH)):
        yield tables(batch)


def write_batches(
    batches: Iterable[dict[str, pa.Table]], paths: dict[str, Path], facts: Callable[[], dict[str, str]] = dict
) -> dict[str, TableFile]:
    """Write batches of the three tables, of all columns; returns the closed files.

    Args:
        batches: as `columns.tables` gives them.
        paths: of each table.
        facts: what is to stand in each file's own metadata, asked for at the end.
    """
    from agenttrace.formats.arrow import TableFile  # noqa: PLC0415 - pyarrow

    with ExitStack() as stack:
        files = {name: stack.enter_context(TableFile(path, schema(name))) for name, path in paths.items()}
        for batch in batches:
            for name, table in batch.items():
                files[name].add_table(table)
        for file in files.values():
            file.note(facts())
    return files
