"""Makes a release: the published folder, and with it cassettes, verdicts and a manifest; and checks one."""

from __future__ import annotations

import shutil
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import AgentTraceError, DataError, UsageError
from agenttrace.formats.convert import new_folder
from agenttrace.publish.complete import MOST, flaws
from agenttrace.publish.folder import Settings, check_names, fill, write_sums
from agenttrace.publish.manifest import (
    FORMAT,
    NAME,
    RECORDS,
    VERDICTS,
    Manifest,
    encoded,
    files,
    manifest,
    verdict_lines,
)
from agenttrace.serving.cassette import cassette_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from agenttrace.validate.leaks import Word

_LARGEST_MANIFEST = 1 << 26


def release(
    paths: Sequence[Path], output: Path, settings: Settings | None = None, *, words: Sequence[Word] = ()
) -> Manifest:
    """Write the folder of a release and return its manifest.

    Layout: that of the form `traces` of `agenttrace.publish.folder`, and `records/NAME.cassette.zst`,
    `verdicts/NAME.jsonl`, `manifest.json`. The same files give the same bytes.

    Args:
        paths: record files of finished campaigns, run spec and cassette beside each.
        output: a new or empty folder.
        settings: heading and licence of the card.
        words: private texts, beside the patterns of the leak check.

    Raises:
        DataError: a campaign is not fit to be released; names every reason, nothing is written.
        UsageError: the output is there already, or two files have one name.
        StorageError: the folder cannot be written.
    """
    check_names(paths)
    if found := [flaw for path in paths for flaw in flaws(path, words)]:
        lines = "\n  ".join(found)
        raise DataError(f"not fit to be released:\n  {lines}\nNothing was written.")
    with new_folder(output) as folder:
        fill(folder, paths, msgspec.structs.replace(settings or Settings(), form="traces"), release=True)
        (folder / VERDICTS).mkdir()
        for path in paths:
            tape = cassette_path(path)
            shutil.copyfile(tape, folder / RECORDS / tape.name)
            (folder / VERDICTS / path.name).write_bytes(b"".join(verdict_lines(path)))
        write_sums(folder)
        made = manifest(folder, [path.name for path in paths])
        (folder / NAME).write_bytes(encoded(made))
    return made


def verify(folder: Path) -> Iterator[str]:
    """Yield everything that is wrong with a release, each as `PATH: what`; nothing when it is whole.

    Files are compared with the manifest, the manifest with what the files give, the records with run spec, cassette
    and verdicts. Nothing outside the folder is read, whatever the manifest names. What is private to this machine is
    not looked for: it is another one than the one that collected.

    Raises:
        UsageError: there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"cannot read {folder}: there is no such folder")
    read = _stated(folder)
    stated = read if isinstance(read, Manifest) else None
    if isinstance(read, str):
        yield f"{NAME}: {read}"
    if odd := list(_odd_files(folder)):
        yield from odd
        return  # what they point to is not looked at
    if stated is not None:
        yield from _file_differences(stated, folder)
    records = sorted((folder / RECORDS).glob("*.jsonl"))
    if not records:
        yield f"{RECORDS}: holds no record file"
    for path in records:
        yield from (f"{RECORDS}/{flaw}" for flaw in flaws(path))
        yield from _verdict_differences(path, folder / VERDICTS / path.name)
    if stated is not None and records:
        yield from _manifest_differences(stated, folder, [path.name for path in records])


def _stated(folder: Path) -> Manifest | str:
    """Return the manifest as it stands there, or why it cannot be read."""
    path = folder / NAME
    if path.is_symlink() or not path.is_file():
        return "is missing: no release, or one that lost it"
    if path.stat().st_size > _LARGEST_MANIFEST:
        return f"has more than {_LARGEST_MANIFEST} bytes: not read"
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return f"not a manifest of this version: {error}"
    return found if found.format == FORMAT else f"has format {found.format!r}, this version reads {FORMAT}"


def _odd_files(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            yield f"{path.relative_to(folder).as_posix()}: is neither a file nor a folder"


def _file_differences(stated: Manifest, folder: Path) -> Iterator[str]:
    there = dict(files(folder))
    for name in sorted({*stated.files, *there}):
        was, is_ = stated.files.get(name), there.get(name)
        if is_ is None:
            yield f"{name}: is missing"
        elif was is None:
            yield f"{name}: is not in the manifest"
        elif was.bytes != is_.bytes:
            yield f"{name}: has {is_.bytes} bytes, released were {was.bytes}"
        elif was.sha256 != is_.sha256:
            yield f"{name}: its SHA-256 is {is_.sha256}, released was {was.sha256}"


def _verdict_differences(records: Path, verdicts: Path) -> Iterator[str]:
    if not verdicts.is_file():
        yield f"{VERDICTS}/{verdicts.name}: is missing"
        return
    try:
        made = list(verdict_lines(records))
    except AgentTraceError:  # the records cannot be read: told already
        return
    whole = b"".join(made)
    if verdicts.stat().st_size != len(whole) or verdicts.read_bytes() != whole:
        yield f"{VERDICTS}/{verdicts.name}: is not what the records say"


def _manifest_differences(stated: Manifest, folder: Path, records: list[str]) -> Iterator[str]:
    """Yield what in the manifest is not what the files give."""
    names = [campaign.records_file.removeprefix(f"{RECORDS}/") for campaign in stated.campaigns]
    if sorted(names) != records:
        yield f"{NAME}: campaigns are of {names}, the record files are {records}"
        return
    try:
        made = manifest(folder, names)
    except AgentTraceError:  # a file that cannot be read is named already
        return
    for field in ("schema_version", "metadata_sha256"):
        if getattr(stated, field) != getattr(made, field):
            yield f"{NAME}: {field} is {getattr(stated, field)}, the files give {getattr(made, field)}"
    for was, is_ in zip(stated.campaigns, made.campaigns, strict=True):
        for field in was.__struct_fields__:
            if getattr(was, field) != getattr(is_, field):
                yield f"{NAME}: {was.run_id}: {field} is {getattr(was, field)}, the files give {getattr(is_, field)}"
    if (stated.files == made.files) and (folder / NAME).read_bytes() != encoded(made):
        yield f"{NAME}: is not what the files give, byte for byte"


def first(found: Iterator[str]) -> list[str]:
    """Return the first of what is wrong, and a last line when there is more."""
    told = list(islice(found, 2 * MOST + 1))
    return [*told[: 2 * MOST], "and more"] if len(told) > 2 * MOST else told
