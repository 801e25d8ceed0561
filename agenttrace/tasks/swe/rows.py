"""Where the tasks come from: the bundled set, files, or a data set on the Hub at a fixed revision."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agenttrace.errors import DataError, UsageError
from agenttrace.models.hub import connection_errors
from agenttrace.records import Record
from agenttrace.tasks.swe.task import REQUIRED, SweTask, task_of_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

BUNDLED = "bundled"
BUNDLED_FOLDER = Path(__file__).parent / "bundled"
COLUMNS = ("instance_id", "repo", "base_commit", "problem_statement", "interface", "language", "test_patch", "patch")
MAX_LINE_BYTES = 64 * 2**20
_HUB = re.compile(r"(?:hub:)?([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_BATCH_ROWS = 256


class RowSource(Record, frozen=True, kw_only=True):
    """Where rows come from, in the words of the run spec; `sha256` is over the files of rows."""

    name: str
    split: str
    source: str
    sha256: str


def load(source: str, *, split: str = "train") -> tuple[RowSource, tuple[SweTask, ...]]:
    """Return the run spec's words for a source, and all of its tasks; see `open_source`."""
    found, tasks = open_source(source, split=split)
    return found, tuple(tasks(Counter()))


def open_source(source: str, *, split: str = "train") -> tuple[RowSource, Callable[[Counter[str]], Iterator[SweTask]]]:
    """Return the run spec's words for a source, and what reads its tasks, one at a time and as often as it is called.

    A task set can be larger than memory: the rows of SWE-rebench V2-PRs are gigabytes of patches. Rows in which a
    column is empty that every task needs are passed over and counted by that column, in what the reader is given.

    Args:
        source: `bundled`; a file (`.jsonl`, `.parquet`) or a folder of them; or `OWNER/NAME@REVISION` on the Hub, where
            without a revision the newest one is taken and recorded.
        split: name of the split, for the Hub and for the record.

    Raises:
        UsageError: there is no such source, or the Hub cannot be reached.
        DataError: when tasks are read: a row is none, or one stands there twice; the message names file and line.
    """
    if source == BUNDLED:
        files, shown = [BUNDLED_FOLDER / "rows.jsonl"], BUNDLED
    elif Path(source).exists():
        files, shown = _files(Path(source)), f"file:{Path(source).name}"
    else:
        files, shown = _from_hub(source, split)
    name = shown.partition(":")[2].partition("@")[0] or shown
    found = RowSource(name=name, split=split, source=shown, sha256=_digest(files))
    return found, lambda left_out: _unlike(source, files, left_out)


def _unlike(source: str, files: Iterable[Path], left_out: Counter[str]) -> Iterator[SweTask]:
    """Yield tasks; there must be one, and none twice."""
    seen: set[str] = set()
    for task in (task for file in files for task in _tasks(file, left_out)):
        if task.instance_id in seen:
            raise DataError(f"{source}: instance_id {task.instance_id} occurs twice; each row needs an id of its own")
        seen.add(task.instance_id)
        yield task
    if not seen:
        gaps = ", ".join(f"{count} without {column}" for column, count in left_out.items())
        raise DataError(f"{source}: no row in it{f' that is a task: {gaps}' if gaps else ''}")


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix in {".jsonl", ".parquet"} and p.is_file())
        if not found:
            raise UsageError(f"{path}: no .jsonl and no .parquet file in this folder")
        return found
    if path.suffix not in {".jsonl", ".parquet"} or not path.is_file():
        raise UsageError(f"{path}: expected a .jsonl or .parquet file, or a folder of them")
    return [path]


def _digest(files: Iterable[Path]) -> str:
    """SHA-256 over the SHA-256 of each file, in order: names do not count."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def _tasks(file: Path, left_out: Counter[str]) -> Iterator[SweTask]:
    rows = _json_rows(file) if file.suffix == ".jsonl" else _parquet_rows(file)
    for where, row in rows:
        empty = next((name for name in REQUIRED if _is_empty(row.get(name))), None)
        if empty is None:
            yield task_of_row(row, where)
        else:
            left_out[empty] += 1


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _json_rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with file.open("rb") as opened:
            for number, line in enumerate(iter(lambda: opened.readline(MAX_LINE_BYTES + 1), b""), 1):
                where = f"{file.name}, line {number}"
                if len(line) > MAX_LINE_BYTES:
                    raise DataError(f"{where}: longer than {MAX_LINE_BYTES >> 20} MiB")
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{where}: not JSON: {error}") from error
                if not isinstance(row, dict):
                    raise DataError(f"{where}: expected an object")
                yield where, row
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error


def _parquet_rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow as pa  # noqa: PLC0415 - heavy
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        with pq.ParquetFile(file) as opened:
            names = [name for name in COLUMNS if name in opened.schema_arrow.names]
            number = 0
            for batch in opened.iter_batches(batch_size=_BATCH_ROWS, columns=names):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{file.name}, row {number}", row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file.name}: not a Parquet file that can be read: {error}") from error


def _from_hub(source: str, split: str) -> tuple[list[Path], str]:
    match = _HUB.fullmatch(source)
    if match is None:
        raise UsageError(f"{source}: no such file or folder, and no OWNER/NAME@REVISION of the Hub")
    import huggingface_hub as hub  # noqa: PLC0415 - heavy
    from huggingface_hub.errors import HFValidationError  # noqa: PLC0415

    repo, revision = match[1], match[2]
    failures: tuple[type[Exception], ...] = (HFValidationError, *connection_errors())
    try:
        info = hub.HfApi().dataset_info(repo, revision=revision, timeout=20)
        names = sorted(
            item.rfilename
            for item in info.siblings or ()
            if item.rfilename.endswith((".parquet", ".jsonl")) and Path(item.rfilename).name.startswith(split)
        )
        if not names:
            raise UsageError(f"{repo} at {info.sha}: no Parquet or JSONL file of the split {split!r}")
        files = [Path(hub.hf_hub_download(repo, n, repo_type="dataset", revision=info.sha)) for n in names]
    except failures as error:
        said = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
        raise UsageError(
            f"{repo} cannot be had from the Hub: {said}. Set HF_TOKEN for a gated data set, or download its Parquet "
            "files elsewhere and name their folder instead"
        ) from error
    return files, f"hub:{repo}@{info.sha}"
