"""Record files as three flat typed tables (runs, steps, spans): pandas frames or Parquet, streaming (docs/api.md)."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.errors import DataError, StorageError, UsageError
from agenttrace.formats.columns import TABLES, schema, tables
from agenttrace.formats.reading import record_lines
from agenttrace.formats.tables import write_batches
from agenttrace.store.coverage import Coverage, coverage
from agenttrace.store.energy import energy_joules
from agenttrace.store.ids import IdIndex
from agenttrace.store.opening import as_paths
from agenttrace.store.read import Problem, run_spec_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd
    import pyarrow as pa

    from agenttrace.formats.entries import TableEntry
    from agenttrace.formats.prices import Prices
    from agenttrace.store.opening import Paths

_BATCH_BYTES = 2 << 20
"""Of lines. Larger batches take no less time: what Python collects meanwhile grows with them."""
KEPT_PROBLEMS = 1_000
"""Problems that a `Source` keeps; every one is counted and handed to `on_problem`."""


class Source(msgspec.Struct):
    """What became of one file.

    Attributes:
        file: its path as given.
        rows: traces read.
        bad_lines: lines that are not in the result.
        damaged: the rest of the file could not be read, so how many traces are missing is not known.
        problems: the first of them (`KEPT_PROBLEMS`).
        coverage: how much of its campaign it has, once it was read; `None` where its run spec is not there.
        energy_j: what the machine consumed in its sessions; `None` where that was not measured.
    """

    file: str
    rows: int = 0
    bad_lines: int = 0
    damaged: bool = False
    problems: list[Problem] = []
    coverage: Coverage | None = None
    energy_j: float | None = None

    @property
    def partial(self) -> bool:
        """Whether something of the file is not in the result."""
        return self.damaged or self.bad_lines > 0

    @property
    def missing(self) -> str | None:
        """What is not in the result, in words."""
        lines = [f"{self.bad_lines} line{'s' if self.bad_lines > 1 else ''}"] if self.bad_lines else []
        return " and ".join([*lines, *(["the rest"] if self.damaged else [])]) or None

    def noting(self, on_problem: Callable[[Problem], object] | None) -> Callable[[Problem], None]:
        """Return a function that counts a problem and hands it on."""

        def note(problem: Problem) -> None:
            if problem.line is None:
                self.damaged = True
            else:
                self.bad_lines += 1
            if len(self.problems) < KEPT_PROBLEMS:
                self.problems.append(problem)
            if on_problem is not None:
                on_problem(problem)

        return note


class Tables(msgspec.Struct):
    """The three frames and what became of each file; the columns are described in `agenttrace.formats.columns`."""

    runs: pd.DataFrame
    steps: pd.DataFrame
    spans: pd.DataFrame
    sources: list[Source]

    @property
    def partial(self) -> bool:
        """Whether something of the files is not in the tables."""
        return any(source.partial for source in self.sources)


class Reading:
    """One pass over record files; iterate over it for batches, then look at `sources`.

    Attributes:
        sources: what became of each file so far.
    """

    def __init__(
        self, paths: Paths, on_problem: Callable[[Problem], object] | None = None, *,
        texts: bool = False, prices: Prices | None = None,
    ) -> None:  # fmt: skip
        """Remember what to read; nothing is opened yet.

        Args:
            paths: record files, or one.
            on_problem: called for every line that cannot be read.
            texts: with all columns, for Parquet; else with those of the frames.
            prices: by which traces are priced that do not say what they cost (`None`: those of the package).

        Raises:
            UsageError: no file, or the same file twice.
        """
        self._paths = as_paths(paths)
        if not self._paths:
            raise UsageError("no record file was given")
        seen = [os.path.realpath(path) for path in self._paths]  # `resolve` gives up on a loop of links
        for number, path in enumerate(self._paths):
            if seen[number] in seen[:number]:
                raise UsageError(f"{path} is given twice; every trace would count double")
        self._on_problem, self._texts, self._prices = on_problem, texts, prices
        self.sources: list[Source] = []

    def __iter__(self) -> Iterator[dict[str, pa.Table]]:
        """Yield Arrow tables of about 2 MiB of lines, or one longer line, by name.

        Raises:
            UsageError: a file cannot be opened or is of another kind.
        """
        batch: list[TableEntry] = []
        held = 0
        for one, size in self.entries():
            batch.append(one)
            held += size
            if held >= _BATCH_BYTES:
                yield tables(batch, texts=self._texts)
                batch, held = [], 0
        if batch:
            yield tables(batch, texts=self._texts)

    def entries(self, *, ids: bool = True) -> Iterator[tuple[TableEntry, int]]:
        """Yield records one by one, each with the size of its line, bytes; `ids` as `entry`, errors as above."""
        from agenttrace.analysis.rows import entry  # noqa: PLC0415 - derives structures

        run = 0
        for path in self._paths:
            source = Source(file=str(path).encode(errors="backslashreplace").decode(), problems=[])
            self.sources.append(source)
            note = source.noting(self._on_problem)
            seen = IdIndex() if run_spec_path(path).is_file() else None  # without a plan nobody asks for them
            for number, line in record_lines(path, note):
                try:
                    one = entry(run, source.file, number, line, texts=self._texts, ids=ids, prices=self._prices)
                except DataError as error:
                    note(Problem(source.file, number, str(error)))
                    continue
                source.rows += 1
                run += 1
                if seen is not None:
                    seen.add(one.trace.trace_id)
                yield one, len(line)
            source.coverage = None if seen is None else coverage(path, seen)
            source.energy_j = energy_joules(path)


def load(
    paths: Paths, *, on_problem: Callable[[Problem], object] | None = None, prices: Prices | None = None
) -> Tables:
    """Return the tables of record files as pandas frames.

    Integers with unknown values are `Int64`, truth values `boolean`, repeated names `category`: an unknown value is
    `pd.NA` (`NaN` in floats), never 0.

    Args:
        paths: a file or several, of any readable format, plain, gzip or Zstandard, mixed as they come.
        on_problem: called for every line that cannot be read, in order.
        prices: as those of `Reading`.

    Raises:
        UsageError: a file cannot be opened or is of another kind.
    """
    import pyarrow as pa  # noqa: PLC0415

    reading = Reading(paths, on_problem, prices=prices)
    parts = {name: [schema(name, texts=False).empty_table()] for name in TABLES}
    for batch in reading:
        for name, table in batch.items():
            parts[name].append(table)
    frames = {name: frame(pa.concat_tables(parts.pop(name))) for name in TABLES}
    return Tables(**frames, sources=reading.sources)


def frame(table: pa.Table) -> pd.DataFrame:
    """Return a table as a frame of the types above, freeing the table as it goes."""
    import pandas as pd  # noqa: PLC0415
    import pyarrow as pa  # noqa: PLC0415

    kinds: dict[Any, Any] = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    found: pd.DataFrame = table.unify_dictionaries().to_pandas(
        types_mapper=kinds.get, split_blocks=True, self_destruct=True
    )
    return found


def write_parquet(
    paths: Paths, outdir: Path, *, on_problem: Callable[[Problem], object] | None = None,
    prices: Prices | None = None,
) -> list[Source]:  # fmt: skip
    """Write `runs.parquet`, `steps.parquet`, `spans.parquet` batch by batch; returns what became of each file.

    Whether something is missing stands in each file's key-value metadata, too (`agenttrace.partial`: `true` or
    `false`). A file appears under its name when it is whole.

    Raises:
        UsageError: a record file cannot be opened or is of another kind; nothing is written then, nor where there is
            not one trace.
        StorageError: the tables cannot be written.
    """
    reading = Reading(paths, on_problem, texts=True, prices=prices)

    def facts() -> dict[str, str]:
        return {"agenttrace.partial": str(any(source.partial for source in reading.sources)).lower()}

    made = not outdir.exists()
    try:
        outdir.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", suffix=".part", dir=outdir, ignore_cleanup_errors=True) as folder:
            drafts = {name: Path(folder, f"{name}.parquet") for name in TABLES}
            write_batches(reading, drafts, facts)
            for draft in drafts.values() if any(source.rows for source in reading.sources) else ():
                draft.replace(outdir / draft.name)
    except OSError as error:
        raise StorageError(f"cannot write tables to {outdir}: {error.strerror or error}") from error
    finally:
        if made:
            with suppress(OSError):  # not empty: the tables are in it
                outdir.rmdir()
    return reading.sources
