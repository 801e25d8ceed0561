"""Holds tables, schemas and card of a release against what its records give: they are made again and compared.

The same version of the kit gives the same bytes, and a file with others is refused. Parquet files of another writer may
have other bytes for the same rows, and another version of the kit other columns and other words: then rows are
compared column by column, and what cannot be compared is named.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import UNSET

from agenttrace import __version__
from agenttrace.errors import AgentTraceError
from agenttrace.formats import columns
from agenttrace.formats.agenttrace_0_3 import NAME as RELEASED_FORMAT
from agenttrace.publish.described import descriptions
from agenttrace.publish.folder import PublishSettings, fill
from agenttrace.publish.manifest import RECORDS, VERDICTS
from agenttrace.publish.sums import MANIFEST, SUMS, files
from agenttrace.records import schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agenttrace.publish.manifest import Manifest


_OF_OURS = tuple(f"data/{name}/" for name in (*columns.TABLES, RELEASED_FORMAT))
"""Tables whose columns mean the same in every version; the others are in forms of others, which change."""


def differences(stated: Manifest, folder: Path, names: list[str], unseen: Callable[[str], None]) -> Iterator[str]:
    """Yield what is not as the records give it, each as `PATH: what`.

    Args:
        stated: the manifest.
        folder: the release.
        names: of its record files, in the order in which they were published.
        unseen: gets what could not be compared, likewise.
    """
    here = f"schema/{schema.name('trace')}"  # which the kit of another schema, under whatever version, does not write
    same = stated.agenttrace_version == __version__ and here in stated.files
    said = {name: value for name in ("title", "licence", "about") if (value := getattr(stated, name)) is not UNSET}
    settings = PublishSettings(form="traces", **said)
    unnamed = stated.agenttrace_version in {UNSET, __version__}
    version = "another agenttrace" if unnamed else f"agenttrace {stated.agenttrace_version}"
    with tempfile.TemporaryDirectory() as made:
        try:
            contents, tables = fill(Path(made), [folder / RECORDS / name for name in names], settings, release=True)
        except AgentTraceError:  # records that cannot be read are named already
            unseen("tables, schemas and README.md: the records do not give any")
            return
        there = files(folder)
        for name, data in descriptions(contents, tables, there).items():
            (Path(made) / name).write_bytes(data)
        theirs = {name: file for name, file in there.items() if name.partition("/")[0] not in {RECORDS, VERDICTS}}
        ours = files(Path(made))
        for name in sorted((theirs | ours).keys() - {SUMS, MANIFEST}):
            if theirs.get(name) == ours.get(name):
                continue
            if name.endswith(".parquet") and name in theirs and name in ours and (same or name.startswith(_OF_OURS)):
                yield from _rows(name, folder / name, Path(made) / name, unseen if not same else None)
            elif same:
                yield f"{name}: is {'missing' if name not in theirs else 'not what the records give'}"
            else:
                unseen(f"{name}: {'made' if name in theirs else 'not made'} by {version}, this is {__version__}")


def _rows(name: str, theirs: Path, ours: Path, unseen: Callable[[str], None] | None) -> Iterator[str]:
    """Yield how the rows of a table differ; columns that only one has go to `unseen`, where other columns may be."""
    import pyarrow as pa  # noqa: PLC0415 - heavy
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        with pq.ParquetFile(theirs) as there, pq.ParquetFile(ours) as made:
            old, new = there.schema_arrow, made.schema_arrow
            if unseen is None and there.metadata.created_by == made.metadata.created_by:
                yield f"{name}: is not what the records give"
                return
            shared = [field.name for field in new if field.name in old.names and old.field(field.name) == field]
            alone = [one for one in old.names if one not in shared]
            if not old.equals(new, check_metadata=True):
                what = f"columns {', '.join(alone)}" if alone else "what it says of its columns"
                if unseen is None:
                    yield f"{name}: {what}: not as the records give them"
                    return
                unseen(f"{name}: {what}")
            if there.metadata.num_rows != made.metadata.num_rows:
                yield f"{name}: has {there.metadata.num_rows} rows, the records give {made.metadata.num_rows}"
                return
            for column in shared:
                if not there.read(columns=[column]).equals(made.read(columns=[column])):
                    yield f"{name}: column {column} is not what the records give"
    except (pa.ArrowException, OSError, ValueError) as error:
        yield f"{name}: cannot be read: {str(error).splitlines()[0][:200]}"
