"""Packs a release into one file, and writes what an archive such as Zenodo asks of it beside."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.errors import DataError, UsageError
from agenttrace.publish.about import About
from agenttrace.publish.contents import Contents
from agenttrace.publish.described import given_name
from agenttrace.publish.manifest import read_manifest
from agenttrace.publish.release import first, verify
from agenttrace.publish.sums import MANIFEST, SIGNATURE, files
from agenttrace.store.jsonl import replacing, write_whole
from agenttrace.store.read import read_run_spec, run_spec_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agenttrace.publish.about import Creator
    from agenttrace.publish.manifest import Manifest

END = ".zip"
DEPOSIT = ".zenodo.json"
_CHUNK = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that the format has."""
_MODE = 0o100644 << 16


def pack(folder: Path, archive: Path, unseen: Callable[[str], None] = lambda _: None) -> list[Path]:
    """Write a release as one `.zip`, and `NAME.zenodo.json` where its makers are known; return what was written.

    The same release and name give the same bytes anywhere: entries in order, one time, nothing compressed (what is
    large in a release is compressed already, and another zlib has other bytes).

    Args:
        folder: a release that is whole.
        archive: a new `.zip`, outside the release.
        unseen: see `verify`.

    Raises:
        UsageError: there is no such folder, or the archive cannot lie there.
        DataError: the release is not whole; names what is wrong.
        StorageError: it cannot be written.
    """
    if archive.suffix != END or not archive.stem.strip("."):
        raise UsageError(f"-o {archive}: expected the name of a {END} file")
    if archive.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"-o {archive}: it would be a part of the release itself; name a file outside")
    if found := first(verify(folder, unseen)):
        raise DataError(f"{folder}: not whole, so it was not packed:\n  " + "\n  ".join(found))
    stated = read_manifest(folder)
    with replacing(archive) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, strict_timestamps=True) as packed:
        names = [*files(folder), *(name for name in (MANIFEST, SIGNATURE) if (folder / name).is_file())]
        for name in sorted(names):
            entry = zipfile.ZipInfo(f"{archive.stem}/{name}", _EPOCH)
            entry.external_attr, entry.create_system = _MODE, 3
            with (folder / name).open("rb") as source, packed.open(entry, "w", force_zip64=True) as target:
                while chunk := source.read(_CHUNK):
                    target.write(chunk)
    written = [archive]
    about = stated.about if isinstance(stated.about, About) else About()
    if about.creators:
        beside = archive.with_suffix(DEPOSIT)
        write_whole(beside, msgspec.json.format(msgspec.json.encode(_deposit(folder, stated, about)), indent=2) + b"\n")
        written.append(beside)
    return written


def _deposit(folder: Path, stated: Manifest, about: About) -> dict[str, Any]:
    """Return the metadata of a deposit, as Zenodo's interface takes it (https://developers.zenodo.org/#representation)."""
    campaigns, contents = stated.campaigns, Contents("", None)
    contents.files = {one.records_file: read_run_spec(run_spec_path(folder / one.records_file)) for one in campaigns}
    told = f"{sum(one.records for one in campaigns)} traces of {', '.join(sorted({one.model for one in campaigns}))}"
    known = {
        "title": stated.title,
        "upload_type": "dataset",
        "description": about.description or f"{told}, with what every tool call cost. croissant.json has the details.",
        "creators": [_creator(one) for one in about.creators],
        "license": stated.licence,
        "version": about.version,
        "publication_date": about.published,
        "doi": about.doi,
        "notes": contents.texts,
        "references": [work.line for work in contents.works],
        "keywords": ["agent traces", "tool use", "large language models"],
    }
    return {"metadata": {name: value for name, value in known.items() if value and isinstance(value, str | list)}}


def _creator(creator: Creator) -> dict[str, str]:
    name = ", ".join(filter(None, (creator.family, given_name(creator)))) if creator.family else creator.name
    more = {"affiliation": creator.affiliation, "orcid": creator.orcid}
    return {"name": name, **{key: value for key, value in more.items() if value}}
