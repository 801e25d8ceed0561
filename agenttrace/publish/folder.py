"""Makes a folder as it is published: tables of a form, schemas, a card; `datasets.load_dataset` opens it."""

from __future__ import annotations

import shutil
from collections import deque
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

import msgspec

from agenttrace.errors import DataError, UsageError, command
from agenttrace.formats import FORMATS, columns, tables
from agenttrace.formats.checking import validation
from agenttrace.formats.convert import new_folder, read, write_file
from agenttrace.formats.entries import ImportSource
from agenttrace.formats.tables import ROWS, Shards
from agenttrace.publish.about import About
from agenttrace.publish.card import card
from agenttrace.publish.contents import Contents, Table
from agenttrace.publish.described import descriptions
from agenttrace.publish.forms import FORMS, MOST_SESSIONS, OF_AGENT, SESSIONS
from agenttrace.publish.imports import GATHERED, TITLE, gathered, source_of
from agenttrace.publish.sums import SUMS, file_of, files, sums
from agenttrace.records import Record, schema
from agenttrace.store.ids import IdIndex
from agenttrace.store.read import read_run_spec, run_spec_path
from agenttrace.tasks.own.loading import load, sidecar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from agenttrace.formats import Sourced
    from agenttrace.formats.tables import TableFile
    from agenttrace.publish.forms import Form, FormPart
    from agenttrace.validate.leaks import Word

_SHOWN = 5


class PublishSettings(Record, frozen=True, kw_only=True):
    """How a folder is made.

    Attributes:
        form: one of `FORMS`; `None` is that of the agent, and `traces` where records of several come together.
        rows_per_shard: rows of a Parquet file.
        title: heading of the card; `None` is the form's own.
        licence: identifier of the licence, as the Hub writes it; `None` is `OWN_LICENCE` of records of ours, and what
            their files say of records that were read from another format.
        leaks: `stop` at what looks private, or `keep` it, where it is known to be the repositories' own text.
        about: what a person says of it.
    """

    form: str | None = None
    rows_per_shard: int = ROWS
    title: str | None = None
    licence: str | None = None
    leaks: Literal["stop", "keep"] = "stop"
    about: About = About()


def publish(
    paths: Sequence[Path],
    output: Path,
    settings: PublishSettings | None = None,
    *,
    words: Sequence[Word] = (),
    noted: Callable[[str], None] = lambda _: None,
) -> dict[str, int]:
    """Write the folder, whole or not at all, and return how many rows each table has; one without rows is left out.

    Layout: `README.md` (the card), Parquet files in the folders of the form; `records/` (the record
    files and run specs, unchanged) and `sessions/` (of the first `MOST_SESSIONS` records, a file for the Hub's trace
    viewer each) or the run specs alone; `schema/`; `CITATION.cff`, `croissant.json`; `SHA256SUMS`. The same records
    give the same bytes.

    Args:
        paths: files of any readable format; of those of others, `records/` has what `convert` makes of them together.
        output: a new or empty folder.
        settings: form and heading.
        words: private texts, beside the patterns of the leak check.
        noted: is told what could not be checked in a record file of ours.

    Raises:
        DataError: a file does not validate or is written to meanwhile, or a record does not fit the form; nothing is
            written.
        UsageError: the output is there already, two files have one name, there is no record, no run spec where the
            form needs one, or no licence for what was read from another format.
        StorageError: the folder cannot be written.
    """
    settings = settings or PublishSettings()
    with TemporaryDirectory() as scratch, new_folder(output) as folder, unchanged(paths):
        for path in paths:
            _must_be_valid(path, words, leaks=settings.leaks, noted=noted)
        paths = gathered(paths, Path(scratch), settings.licence)
        check_names(paths)
        name = settings.form or _default_form(paths)
        if not FORMS[name].flat:
            for path in paths:
                if path.name != GATHERED:
                    read_run_spec(run_spec_path(path))
        contents, made = fill(folder, paths, msgspec.structs.replace(settings, form=name))
        copy(paths, folder, records=FORMS[name].flat)
        seal(folder, contents, made)
    return {table.folder: table.rows for table in made}


@contextmanager
def unchanged(paths: Sequence[Path]) -> Iterator[None]:
    """Hold that files, and the run specs beside them, are at the end what they were: what was checked is what is read.

    Raises:
        DataError: one was written to.
    """
    before = {one: _state(one) for path in paths for one in (path, run_spec_path(path))}
    yield
    for path, state in before.items():
        if _state(path) != state:
            raise DataError(f"{path} was written to meanwhile; nothing was written: publish when it is whole")


def _state(path: Path) -> tuple[int, ...]:
    with suppress(OSError):
        found = path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns
    return ()


def _default_form(paths: Sequence[Path]) -> str:
    beside = [run_spec_path(path) for path in paths]
    forms = {OF_AGENT.get(read_run_spec(path).agent.kind, "traces") if path.is_file() else "traces" for path in beside}
    return forms.pop() if len(forms) == 1 else "traces"


def _of_one_name(paths: Iterable[Path]) -> tuple[Path, Path] | None:
    """Return the first two that one folder of a disk that ignores case cannot hold."""
    seen: dict[str, Path] = {}
    for path in paths:
        name = path.name.casefold()
        if name in seen:
            return seen[name], path
        seen[name] = path
    return None


def check_names(paths: Sequence[Path]) -> None:
    """Refuse files that cannot lie in one folder.

    Raises:
        UsageError: two, or what lies beside them, have the same name, be it in other letters of either case, or one
            that `SHA256SUMS` cannot hold.
    """
    if two := _of_one_name(paths):
        raise UsageError(f"{two[0]} and {two[1]} have the same name (a disk may ignore case): rename one")
    if two := _of_one_name(sorted({run_spec_path(path) for path in paths})):
        raise UsageError(f"{two[0]} and {two[1]} have the same name: rename one record file, and what lies beside it")
    for name in [path.name for path in paths]:
        if not name.isprintable() or "\\" in name:
            raise UsageError(f"{name!r}: a name with control characters or backslashes cannot be published; rename it")


def fill(
    folder: Path, paths: Sequence[Path], settings: PublishSettings, *, release: bool = False
) -> tuple[Contents, list[Table]]:
    """Write tables, schemas and card into an empty folder and return what is said of them, and what the tables hold.

    Args:
        folder: where it goes.
        paths: record files that were validated.
        settings: with a form.
        release: what the card says: cassettes, verdicts and a manifest will lie there, too.

    Raises:
        UsageError: there is no record.
        DataError: a record does not fit the form, or stands there twice.
    """
    form = FORMS[settings.form or "traces"]
    searched = settings.leaks == "stop"
    title = settings.title or form.title
    contents = Contents(title, settings.licence, release=release, searched=searched, about=settings.about)
    contents.with_tasks = frozenset(path.name for path in paths if sidecar(path).is_file())
    records = _counted(chain.from_iterable(read(path) for path in paths), contents)
    found = _tables(form, records, folder, settings.rows_per_shard)
    if contents.foreign and settings.title is None:
        contents.title = TITLE
    if not contents.records:
        raise UsageError("there is no record in these files")
    (folder / "schema").mkdir()
    for kind in schema.KINDS:
        shutil.copyfile(schema.FOLDER / schema.name(kind), folder / "schema" / schema.name(kind))
    (folder / "README.md").write_text(card(contents, found, records=form.flat), encoding="utf-8")
    return contents, found


def seal(folder: Path, contents: Contents, made: list[Table]) -> None:
    """Write the files that describe what lies in the folder, and then `SHA256SUMS` of all."""
    listed = files(folder)
    for name, data in descriptions(contents, made, listed).items():
        (folder / name).write_bytes(data)
        listed[name] = file_of(folder / name)
    (folder / SUMS).write_text(sums(listed), encoding="utf-8")


def _must_be_valid(
    path: Path, words: Sequence[Word], *, leaks: Literal["stop", "keep"], noted: Callable[[str], None]
) -> None:
    check, foreign = validation(path, words=words)
    findings = (one for one in check if leaks == "stop" or one.rule != "leak")
    if found := list(islice(findings, _SHOWN)):
        parts = [(f"line {one.line}", one.rule, one.where, one.message) for one in found]
        lines = "\n  ".join(": ".join(filter(None, part)) for part in parts)
        kept = "--keep-findings publishes what looks private, where it is the repositories' own text.\n"
        raise DataError(
            f"{path} is not fit to be published; the first findings:\n  {lines}\n"
            f"{kept if any(one.rule == 'leak' for one in found) else ''}"
            f"All of them: {command('validate', str(path))}. Nothing was written."
        )
    for note in check.notes if foreign is None else ():
        noted(f"{path.name}: {note}")


def _counted(records: Iterator[Sourced], contents: Contents) -> Iterator[Sourced]:
    """Yield records, each of which no other file has."""
    seen = IdIndex()
    for record in records:
        if seen.add(record.trace.trace_id) is not None:
            file = (source_of(record.trace) or ImportSource()).file or record.source
            raise DataError(f"{file}: trace {record.trace.trace_id} is there twice; nothing was written")
        yield contents.counted(record)


def _tables(form: Form, records: Iterator[Sourced], folder: Path, rows_per_shard: int) -> list[Table]:
    """Write all tables in one pass over the records."""
    with ExitStack() as stack:
        shards = {
            part: stack.enter_context(Shards(folder / part.folder, part.schema, rows_per_shard=rows_per_shard))
            for part in form.parts
        }
        passing = _added(_written(records, folder / SESSIONS) if form.flat else records, shards)
        flat = _flat(passing, folder) if form.flat else []
        deque(passing, maxlen=0)
    return [_table(part.config, part.folder, one) for part, one in shards.items()] + flat


def _flat(records: Iterator[Sourced], folder: Path) -> list[Table]:
    """Write our flat tables, one file each; there is none of a table without rows, which `datasets` cannot open."""
    paths = {name: folder / "data" / name / "train-00000-of-00001.parquet" for name in columns.TABLES}
    for path in paths.values():
        path.parent.mkdir(parents=True)
    files = tables.write_to(records, paths)
    for path in (paths[name] for name, file in files.items() if not file.rows):
        path.unlink()
        path.parent.rmdir()
    return [_table(name, f"data/{name}", file) for name, file in files.items()]


def _written(records: Iterator[Sourced], folder: Path) -> Iterator[Sourced]:
    """Yield records; the first of them are written as session files."""
    folder.mkdir()
    found = FORMATS["session-traces"]
    for number, record in enumerate(records):
        if number < MOST_SESSIONS:
            write_file(found, record, folder)
        yield record


def _added(records: Iterator[Sourced], shards: dict[FormPart, Shards]) -> Iterator[Sourced]:
    """Yield records whose rows were added to the shards of their configurations."""
    for record in records:
        size = len(msgspec.json.encode(record.trace))
        for part, one in shards.items():
            one.add(part.row(record), size)
        yield record


def _table(name: str, folder: str, written: Shards | TableFile) -> Table:
    return Table(name=name, folder=folder, rows=written.rows, schema=written.schema)


def copy(paths: Sequence[Path], folder: Path, *, records: bool) -> None:
    """Copy record files and what lies beside them into `records/`, or all but the records into the folder itself."""
    if records:
        folder /= "records"
        folder.mkdir()
    for path in paths:
        if records:
            shutil.copyfile(path, folder / path.name)
        beside = run_spec_path(path)
        if beside.is_file():
            shutil.copyfile(beside, folder / beside.name)
        if (own := sidecar(path)).is_file():  # packed anew: what else stands in that file was not searched
            (folder / own.name).write_bytes(load(own).packed())
