"""Sizes and digests of the files of a folder: what `SHA256SUMS` and a manifest list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agenttrace.errors import DataError, UsageError
from agenttrace.models.fetch import sha256_of
from agenttrace.records.base import Record

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SUMS = "SHA256SUMS"
MANIFEST = "manifest.json"
SIGNATURE = f"{MANIFEST}.sigstore.json"
"""A Sigstore bundle over the manifest, under the name that `sigstore` and `cosign` give it."""
CROISSANT = "croissant.json"
CITATION = "CITATION.cff"
CRATE = "ro-crate-metadata.json"
DESCRIPTIONS = frozenset({CITATION, CROISSANT, CRATE, SUMS, MANIFEST})
"""Files that say what the others are."""


class File(Record, frozen=True, kw_only=True):
    """A file: size, and digest of its bytes."""

    bytes: int
    sha256: str


def file_of(path: Path) -> File:
    """Return size and digest of a file."""
    return File(bytes=path.stat().st_size, sha256=sha256_of(path))


def files(folder: Path) -> dict[str, File]:
    """Return path → size and digest of every plain file but the manifest and its signature, by path."""
    return {
        path.relative_to(folder).as_posix(): file_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path not in {folder / MANIFEST, folder / SIGNATURE}
    }


def sums(listed: Mapping[str, File]) -> str:
    """Return what `SHA256SUMS` says of files by path, in the order of `files`, itself left out."""
    names = sorted(listed, key=lambda name: name.split("/"))
    return "".join(f"{listed[name].sha256}  {name}\n" for name in names if name != SUMS)


def verified(folder: Path) -> list[str]:
    """Return the files that `SHA256SUMS` lists, after a look at every byte.

    Raises:
        UsageError: the folder has no such list.
        DataError: a file is missing, is another, or lies outside.
    """
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{folder}: cannot read its {SUMS}; make the folder with nox -s publish-rollouts") from error
    root, names = folder.resolve(), []
    for line in lines:
        digest, _, name = line.partition("  ")
        path = (folder / name).resolve()
        if not name or not path.is_relative_to(root) or not path.is_file():
            raise DataError(f"{folder / SUMS} lists {name!r}, which is no file of the folder; make the folder again")
        if sha256_of(path) != digest:
            raise DataError(f"{folder / name} is not what {SUMS} says; make the folder again")
        names.append(name)
    return names
