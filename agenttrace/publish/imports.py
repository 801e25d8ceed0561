"""What is published of records that were read from another format: where they are from, and under which licence."""

from __future__ import annotations

from collections import Counter
from itertools import chain, islice
from typing import TYPE_CHECKING

import msgspec

from agenttrace.analysis.render import escaped
from agenttrace.errors import DataError, UsageError
from agenttrace.formats import READERS
from agenttrace.formats.convert import read
from agenttrace.formats.entries import ImportSource
from agenttrace.formats.foreign import fitting
from agenttrace.formats.reading import kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from agenttrace.records import Trace

OWN_LICENCE = "apache-2.0"
"""Of records of ours, where none is named."""
GATHERED = "imported.jsonl"
"""The record file of all that is read from files of other formats."""
TAGS = ("llm-agents", "tool-use", "execution-traces", "imported", "agenttrace")
TITLE = "Agent traces read from other formats"
_LISTED = 50
"""Files that the card names; the records name all."""
_Source = tuple[str, str, str]
"""Format, file and digest."""


def source_of(trace: Trace) -> ImportSource | None:
    """Return what a record was read from; `None` where it is one of ours."""
    kept = trace.environment.get("imported")
    return None if kept is None else fitting(kept, ImportSource) or ImportSource()


class Imports:
    """Records from elsewhere, counted as they pass.

    Args:
        licence: of those that do not name their own.

    Attributes:
        records: how many passed.
        licences: name → records under it.
    """

    def __init__(self, licence: str | None) -> None:
        self.records = 0
        self.licences: Counter[str] = Counter()
        self._licence = licence
        self._sources: Counter[_Source] = Counter()

    def licensed(self, trace: Trace) -> Trace:
        """Count a record, and return it with its licence in `environment.imported`; one of ours is returned as it is.

        Raises:
            UsageError: it names no licence and there is none for it.
        """
        source = source_of(trace)
        if source is None:
            return trace
        licence = source.license or self._licence
        if licence is None:
            raise UsageError(
                f"{source.file or 'a record'} was read from another format ({source.format}) and does not say under "
                "which licence it may be published: name it (--license ID, as the Hub writes it)"
            )
        self.records += 1
        self.licences[licence] += 1
        self._sources[source.format or "unknown", source.file or "not recorded", source.sha256 or "not recorded"] += 1
        kept = trace.environment["imported"]
        if source.license is not None or not isinstance(kept, dict):
            return trace
        imported = {**kept, "license": licence}
        return msgspec.structs.replace(trace, environment={**trace.environment, "imported": imported})

    def page(self, whole: int) -> Iterator[str]:
        """Yield what the card says of them, as Markdown; nothing where there are none.

        Args:
            whole: how many records there are in all.
        """
        if not self.records:
            return
        few = f"{self.records} of the {whole}" if self.records < whole else "These"
        yield from ("## Imported", "", f"{few} records were not collected with this kit but read from files of others:")
        yield from ("what a file does not say is `null`, and `environment.imported` of a record names its file.", "")
        yield from ("| format | file | SHA-256 of the file | records |", "|---|---|---|---:|")
        for (form, name, digest), count in self.sources():
            yield f"| {escaped(_about(form))} | {escaped(name, 200)} | `{escaped(digest, 64)}` | {count} |"
        if (more := len(self._sources) - _LISTED) > 0:
            yield f"| | and {more} more files | | {self.records - sum(self._counts())} |"
        licences = ", ".join(f"{escaped(name, 60)} ({count})" for name, count in sorted(self.licences.items()))
        yield from ("", f"Licences: {licences}.", "")

    def sources(self) -> Iterator[tuple[_Source, int]]:
        """Yield the first of the files that were read (format, name, digest), each with its records."""
        return islice(sorted(self._sources.items()), _LISTED)

    def _counts(self) -> Iterator[int]:
        return (count for _, count in self.sources())


def _about(name: str) -> str:
    return READERS[name].about if name in READERS else name


def gathered(paths: Sequence[Path], folder: Path, licence: str | None) -> list[Path]:
    """Return record files of ours: those among the paths, and one, made in the folder, of all others together.

    Args:
        paths: files of any readable format.
        folder: where that one is made; its name is `GATHERED`.
        licence: as that of `Imports`.

    Raises:
        UsageError: a file cannot be read, or a record has no licence.
        DataError: a file is damaged, or a value in it is no trace.
    """
    kinds = {path: kind(path) for path in paths}
    others = [path for path, found in kinds.items() if found is not None and not found.is_ours]
    if not others:
        return list(paths)
    made, imports = folder / GATHERED, Imports(licence)
    with made.open("wb") as file:
        for record in chain.from_iterable(map(read, others)):
            try:
                file.write(msgspec.json.encode(imports.licensed(record.trace)) + b"\n")
            except (OverflowError, ValueError, RecursionError) as error:
                raise DataError(f"{record.source}: no record can hold it: {error}; nothing was written") from error
    return [*(path for path in paths if path not in others), made]
