"""Where what a verb found goes as JSON: `--json` alone on standard output, `--json FILE` in a file."""

from __future__ import annotations

import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agenttrace.errors import StorageError, UsageError

if TYPE_CHECKING:
    import argparse

STDOUT = "-"


_RECORDS = (".jsonl", ".zst", ".gz", ".parquet", ".traj")
"""Ends of the names of files that are read: no result goes there by `--json NAME`."""


def with_json_apart(words: list[str]) -> list[str]:
    """Return the words of a command line with `--json` standing for standard output where no file for it follows.

    What is read may follow instead: a file that is there (but an earlier result, `*.json`), a folder, a record file.
    """
    found = list(words)
    for number, (word, following) in enumerate(pairwise(words)):
        if word != "--json":
            continue
        path = Path(following)
        read = path.is_dir() or following.endswith(_RECORDS) or (path.is_file() and path.suffix != ".json")
        if read or any(char in following for char in "*?["):
            found[number] = f"--json={STDOUT}"
    return found


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`, by which what a verb found is JSON: alone on standard output, or in a file."""
    parser.add_argument(
        "--json",
        nargs="?",
        type=_place,
        const=STDOUT,
        metavar="FILE",
        help="what was found as JSON: in FILE, or alone on standard output",
    )


def _place(text: str) -> Path | str:
    return STDOUT if text == STDOUT else Path(text)


def add_about(parser: argparse.ArgumentParser) -> None:
    """Add `--about` and `--strict`, by which a person says what no program knows of a data set."""
    parser.add_argument("--about", type=Path, metavar="FILE", help="TOML: makers, citation, intended use, biases, ...")
    parser.add_argument(
        "--strict", action="store_true", help="refuse where something that --about should say is not said"
    )


def check_json(path: Path | str | None) -> None:
    """Refuse a place where the findings of a long run could not be written at its end.

    Raises:
        UsageError: says what is wrong with it.
    """
    if isinstance(path, Path) and (path.is_dir() or not os.access(path.parent, os.W_OK)):
        what = "a folder; name a file" if path.is_dir() else "its folder is not there, or not writable"
        raise UsageError(f"--json {path}: {what}")


def write_json(path: Path | str | None, found: Any) -> None:  # noqa: ANN401 - findings
    """Write what was found as JSON to where `--json` says, to be read; the path may be a pipe.

    Args:
        path: the value of `--json`; without one nothing is written.
        found: the findings, or JSON of them; nothing is written of empty bytes.

    Raises:
        StorageError: it cannot be written; an earlier file of that name is untouched.
    """
    import msgspec  # noqa: PLC0415

    from agenttrace.store.jsonl import write_whole  # noqa: PLC0415

    if path is None or found == b"":
        return
    encoded = found if isinstance(found, bytes) else msgspec.json.encode(found, enc_hook=str)
    text = msgspec.json.format(encoded, indent=2) + b"\n"
    if path == STDOUT:
        sys.stdout.write(text.decode())
        return
    path = Path(path)
    if not path.is_symlink() and (path.is_file() or not path.exists()):  # a link can be /dev/stdout
        write_whole(path, text)
        return
    try:
        path.write_bytes(text)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
