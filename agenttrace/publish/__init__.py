"""Makes a folder as it is published: tables, records, schemas, a card; `datasets.load_dataset(FOLDER)` opens it."""

from __future__ import annotations

import hashlib
import shutil
from itertools import chain, islice
from typing import TYPE_CHECKING

from agenttrace.errors import DataError, UsageError
from agenttrace.formats import agenttrace_0_3_view, tables
from agenttrace.formats.agenttrace_0_3 import from_trace
from agenttrace.formats.arrow import TableFile
from agenttrace.formats.convert import new_folder, read
from agenttrace.publish.card import Config, Facts, card
from agenttrace.records import schema
from agenttrace.store.read import run_spec_path
from agenttrace.validate import Validation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from agenttrace.formats import Sourced
    from agenttrace.validate.leaks import Word

VIEW = "agenttrace-0.3"
_FILE = "train-00000-of-00001.parquet"
_SHOWN = 5


def publish(
    paths: Sequence[Path], output: Path, *, title: str, licence: str = "apache-2.0", words: Sequence[Word] = ()
) -> dict[str, int]:
    """Write the folder and return the rows of each of its configurations.

    Layout: `README.md` (the card), `data/CONFIG/*.parquet`, `records/` (the record files and run specs, unchanged),
    `schema/`, `SHA256SUMS`. The same files give the same bytes.

    Args:
        paths: record files.
        output: a new or empty folder.
        title: heading of the card.
        licence: identifier of the licence, as the Hub writes it.
        words: private texts, beside the patterns of the leak check.

    Raises:
        DataError: a file does not validate; nothing is written.
        UsageError: the output is there already, two files have one name, or there is no record.
        StorageError: the folder cannot be written.
    """
    check_names(paths)
    for path in paths:
        _must_be_valid(path, words)
    with new_folder(output) as folder:
        configs = fill(folder, paths, Facts(title=title, licence=licence))
        write_sums(folder)
    return {config.name: config.rows for config in configs}


def check_names(paths: Sequence[Path]) -> None:
    """Refuse files that cannot lie in one folder.

    Raises:
        UsageError: two have the same name, be it in other letters of either case, or one that `SHA256SUMS` cannot hold.
    """
    names = [path.name for path in paths]
    if len({name.casefold() for name in names}) < len(names):
        raise UsageError("two of the files have the same name (a disk may ignore case): rename one")
    for name in names:
        if not name.isprintable() or "\\" in name:
            raise UsageError(f"{name!r}: a name with control characters or backslashes cannot be published; rename it")


def fill(folder: Path, paths: Sequence[Path], facts: Facts) -> list[Config]:
    """Write everything but the digests into an empty folder and return the configurations.

    Args:
        folder: where it goes.
        paths: record files that were validated.
        facts: heading and licence of the card; the records are counted in it.

    Raises:
        UsageError: there is no record.
    """
    configs = _tables(chain.from_iterable(read(path) for path in paths), folder / "data", facts)
    if not facts.records:
        raise UsageError("there is no record in these files")
    _copy(paths, folder / "records")
    (folder / "schema").mkdir()
    for kind in schema.KINDS:
        (folder / "schema" / schema.name(kind)).write_bytes(schema.encoded(kind))
    (folder / "README.md").write_text(card(facts, configs), encoding="utf-8")
    return configs


def write_sums(folder: Path) -> None:
    """Write `SHA256SUMS` over all files that are in a folder by now."""
    (folder / "SHA256SUMS").write_text("".join(_sums(folder)), encoding="utf-8")


def _must_be_valid(path: Path, words: Sequence[Word]) -> None:
    found = list(islice(Validation(path, words=words), _SHOWN))
    if found:
        lines = "\n  ".join(f"line {one.line}: {one.rule}: {one.where}: {one.message}" for one in found)
        raise DataError(
            f"{path} is not fit to be published; the first findings:\n  {lines}\n"
            f"All of them: scripts/nox -s validate -- {path}. Nothing was written."
        )


def _tables(records: Iterable[Sourced], data: Path, facts: Facts) -> list[Config]:
    """Write all tables in one pass over the records."""
    paths = {name: data / name / _FILE for name in (*tables.TABLES, VIEW)}
    for path in paths.values():
        path.parent.mkdir(parents=True)
    with TableFile(paths[VIEW], agenttrace_0_3_view.schema()) as view:
        files = tables.write_to(_seen(records, facts, view), {name: paths[name] for name in tables.TABLES})
    kinds = {**{name: tables.kinds(name) for name in tables.TABLES}, VIEW: agenttrace_0_3_view.COLUMNS}
    return [
        Config(name=name, kinds=kinds[name], rows=file.rows, bytes=file.bytes, size=paths[name].stat().st_size)
        for name, file in {**files, VIEW: view}.items()
    ]


def _seen(records: Iterable[Sourced], facts: Facts, view: TableFile) -> Iterator[Sourced]:
    for record in records:
        facts.count(record)
        view.add(agenttrace_0_3_view.view(from_trace(record.trace, record.spec), f"records/{record.source}"))
        yield record


def _copy(paths: Sequence[Path], folder: Path) -> None:
    folder.mkdir()
    for path in paths:
        shutil.copyfile(path, folder / path.name)
        beside = run_spec_path(path)
        if beside.is_file():
            shutil.copyfile(beside, folder / beside.name)


def _sums(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                yield f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.relative_to(folder).as_posix()}\n"
