"""Where the tasks come from: the bundled set, files, or a data set on the Hub at a fixed revision.

A row is one of SWE-rebench V2 or its relatives; a task is what the kit uses of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agenttrace.errors import DataError, UsageError
from agenttrace.models.hub import connection_errors
from agenttrace.records import DatasetSpec, Record
from agenttrace.store.opening import numbered_lines, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

BUNDLED = "bundled"
BUNDLED_FOLDER = Path(__file__).parent / "bundled"
COLUMNS = ("instance_id", "repo", "base_commit", "problem_statement", "interface", "language", "test_patch", "patch")
REQUIRED = ("instance_id", "repo", "base_commit", "problem_statement")
"""Columns without which a row is no task."""
_HUB = re.compile(r"(?:hub:)?([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,99}/[A-Za-z0-9_][\w.-]{0,99}")
_INSTANCE = re.compile(r"[\w.-][\w.+-]{0,199}")
_BATCH_ROWS = 256


class SweTask(Record, frozen=True, kw_only=True):
    """A task: a repository at a commit and what is wrong with it.

    Attributes:
        instance_id: the task set's own name.
        repo: `OWNER/NAME`.
        base_commit: full commit id, SHA-1 or SHA-256.
        language: as the row says, lower case; `None` where it says nothing, and the tree decides.
        problem_statement: what the agent is told.
        interface: names that hidden tests rely on; told to the agent where the row has it.
        test_patch: the hidden tests, a diff; empty where the row has none.
        patch: the reference solution; used for judging alone, never shown.
    """

    instance_id: str
    repo: str
    base_commit: str
    language: str | None
    problem_statement: str
    interface: str | None
    test_patch: str
    patch: str


def load(source: str, *, split: str = "train") -> tuple[DatasetSpec, tuple[SweTask, ...]]:
    """Return the run spec's words for a source, and all of its tasks; see `open_source`."""
    found, tasks = open_source(source, split=split)
    return found, tuple(tasks(Counter()))


def open_source(
    source: str, *, split: str = "train"
) -> tuple[DatasetSpec, Callable[[Counter[str]], Iterator[SweTask]]]:
    """Return the run spec's words for a source, and what reads its tasks, one at a time and as often as it is called.

    How many tasks that are is not counted yet: a task set can be larger than memory, the rows of SWE-rebench V2-PRs are
    gigabytes of patches. Rows in which a column is empty that every task needs are passed over and counted by that
    column, in what the reader is given.

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
        files, shown = row_files(Path(source)), f"file:{Path(source).name}"
    else:
        files, shown = _from_hub(source, split)
    name = shown.partition(":")[2].partition("@")[0] or shown
    found = DatasetSpec(name=name, split=split, source=shown, sha256=_digest(files), offset=0, count=0)
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


def row_files(path: Path) -> list[Path]:
    """Return the files of rows that a path stands for: itself, or those of a folder, in order of their names.

    Raises:
        UsageError: it is no such file, or a folder without any, or may not be read.
    """
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        raise UsageError(f"cannot read {path}: Permission denied")
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
    with opened(file) as lines:
        for number, line in numbered_lines(lines, file):
            where = f"{file.name}, line {number}"
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where}: not JSON: {error}") from error
            if not isinstance(row, dict):
                raise DataError(f"{where}: expected an object")
            yield where, row


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


def hub_name(source: str) -> re.Match[str]:
    """Return the parts of the name of a data set on the Hub.

    Raises:
        UsageError: it is none.
    """
    match = _HUB.fullmatch(source)
    if match is None:
        raise UsageError(f"{source}: no such file or folder, and no OWNER/NAME@REVISION of the Hub")
    return match


def _from_hub(source: str, split: str) -> tuple[list[Path], str]:
    match = hub_name(source)
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


def task_of_row(row: dict[str, Any], where: str) -> SweTask:
    r"""Return the task of one row of SWE-rebench V2 or V2-PRs.

    Args:
        row: column → value.
        where: names the row in errors, such as `rows.jsonl, line 3`.

    A lone surrogate, which no UTF-8 can hold, becomes `\udNNN`.

    Raises:
        DataError: a column is missing, of another type or not what its name promises.
    """
    texts = {name: _text(row, name, where) for name in REQUIRED}
    for name, pattern, expected in (
        ("instance_id", _INSTANCE, "letters, digits, dots, dashes, underscores (at most 200)"),
        ("repo", _REPO, "OWNER/NAME"),
        ("base_commit", _COMMIT, "40 or 64 hexadecimal digits"),
    ):
        if not pattern.fullmatch(texts[name]):
            raise DataError(f"{where}: {name} {texts[name][:80]!r}: expected {expected}")
    if not texts["problem_statement"].strip():
        raise DataError(f"{where}: problem_statement is empty")
    language = _optional(row, "language", where)
    return SweTask(
        **texts,
        language=language.strip().lower() if language and language.strip().lower() != "unknown" else None,
        interface=(_optional(row, "interface", where) or "").strip() or None,
        test_patch=_optional(row, "test_patch", where) or "",
        patch=_optional(row, "patch", where) or "",
    )


def _text(row: dict[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise DataError(f"{where}: {name} is {'missing' if value is None else 'no text'}; expected a column of text")
    return value.encode("utf-8", "backslashreplace").decode("utf-8")  # half a surrogate pair, which JSON can hold


def _optional(row: dict[str, Any], name: str, where: str) -> str | None:
    value = row.get(name)
    return None if value is None else _text(row, name, where)
