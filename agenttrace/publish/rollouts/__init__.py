"""Makes a folder of rollouts as it is published, in the forms of SWE-ZERO, of mini-swe-agent and in our own."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal

import msgspec

from agenttrace.analysis.rollouts.statistics import Tally
from agenttrace.errors import DataError, UsageError
from agenttrace.formats import mini_swe_agent, rollout_rows, swe_zero
from agenttrace.formats.convert import new_folder
from agenttrace.publish.rollouts.card import Table, card
from agenttrace.publish.rollouts.shards import ROWS, Shards
from agenttrace.records import schema
from agenttrace.records.base import Record
from agenttrace.rollouts import derived
from agenttrace.rollouts.runs import counted, plain, spec_of
from agenttrace.store.read import run_spec_path
from agenttrace.validate.leaks import leaks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from agenttrace.records.rollout import Rollout, RolloutSpec
    from agenttrace.validate.leaks import Word

OWN = "rollouts"
"""The configuration with our own columns, and the folder of its files."""
SUMS = "SHA256SUMS"
Form = Literal["1k-32k", "12m", "own", "mini-swe-agent"]
FORMS: tuple[Form, ...] = ("1k-32k", "12m", "own", "mini-swe-agent")
_SHOWN = 5


class Settings(Record, frozen=True, kw_only=True):
    """How a folder is made.

    Attributes:
        form: of the first configuration; `own` has only our columns.
        rows_per_shard: rows of a Parquet file.
        title: heading of the card.
        licence: as the Hub writes it.
        leaks: `stop` at what looks private, or `keep` it, where it is known to be the repositories' own text.
    """

    form: Form = "1k-32k"
    rows_per_shard: int = ROWS
    title: str = "Execution-free coding rollouts"
    licence: str = "apache-2.0"
    leaks: Literal["stop", "keep"] = "stop"


def publish(run: Path, output: Path, settings: Settings, *, words: Sequence[Word] = ()) -> dict[str, int]:
    """Write the folder, whole or not at all, and return how many rows each of its parts has.

    Layout: `README.md`, `data/train-NNNNN-of-NNNNN.parquet` (a published form),
    `rollouts/` (our own columns, every field), or `trajectories/`; `NAME.run.json`; `schema/` (JSON Schemas of records
    and run spec); `SHA256SUMS`. One pass over the records; the same records give the same bytes.

    Raises:
        UsageError: the run cannot be read or has no rollout, or the output is there already.
        DataError: a record is none, is of another run than the card would say, is there twice, or holds what looks
            private.
        StorageError: the folder cannot be written.
    """
    spec = spec_of(run)
    if settings.leaks == "stop":
        _stop_at_leaks(f"the run spec of {run}", msgspec.json.encode(spec), words)
    with new_folder(output) as folder:
        tally = Tally()
        tables = _write(run, folder, spec, settings, tally, words)
        if not tally.rollouts:
            raise UsageError(f"{run}: no rollout in it; nothing was written")
        found = tally.statistics()
        (folder / run_spec_path(plain(run)).name).write_bytes(
            msgspec.json.format(msgspec.json.encode(spec), indent=2) + b"\n"
        )
        (folder / "schema").mkdir()
        for kind in schema.ROLLOUTS:
            (folder / "schema" / schema.name(kind)).write_bytes(schema.encoded(kind))
        text = card(spec, settings.title, settings.licence, tables, found)
        (folder / "README.md").write_text(text, encoding="utf-8")
        (folder / SUMS).write_text("".join(_sums(folder)), encoding="utf-8")
    return {table.folder: table.rows for table in tables}


def _write(
    run: Path, folder: Path, spec: RolloutSpec, settings: Settings, tally: Tally, words: Sequence[Word]
) -> list[Table]:
    """Write all rows in one pass and return what the tables hold."""
    form = settings.form
    if form == "mini-swe-agent":
        return [_trajectories(_checked(run, spec, settings, tally, words), folder / "trajectories", spec)]
    with ExitStack() as opened:
        own = opened.enter_context(Shards(folder / OWN, rollout_rows.schema(), rows_per_shard=settings.rows_per_shard))
        tables = [(OWN, OWN, own)]
        if form != "own":
            first = Shards(folder / "data", swe_zero.schema(form), rows_per_shard=settings.rows_per_shard)
            tables.insert(0, ("default", "data", opened.enter_context(first)))
        for rollout, size in _checked(run, spec, settings, tally, words):
            own.add(rollout_rows.row(rollout), size)
            if form != "own":
                first.add(swe_zero.row(rollout, spec, form), size)
    return [_table(*table) for table in tables]


def _table(name: str, folder: str, shards: Shards) -> Table:
    return Table(
        name=name,
        folder=folder,
        rows=shards.rows,
        bytes=shards.bytes,
        size=shards.file_bytes,
        columns={field.name: str(field.type) for field in shards.schema},
    )


def _trajectories(rollouts: Iterator[tuple[Rollout, int]], folder: Path, spec: RolloutSpec) -> Table:
    """Write one file a rollout, in a folder per task, as mini-swe-agent's batches do."""
    rows = size = 0
    folder.mkdir(parents=True)
    for rollout, _ in rollouts:
        name = mini_swe_agent.file_name(rollout)
        path = folder / name.rpartition("__")[0] / name
        path.parent.mkdir(exist_ok=True)
        if path.exists():
            raise DataError(f"two tasks would both be written as {name}; nothing was written")
        data = msgspec.json.format(msgspec.json.encode(mini_swe_agent.trajectory(rollout, spec)), indent=2)
        path.write_bytes(data + b"\n")
        rows, size = rows + 1, size + len(data) + 1
    return Table(name="trajectories", folder="trajectories", rows=rows, bytes=size, size=size, columns={})


def _checked(
    run: Path, spec: RolloutSpec, settings: Settings, tally: Tally, words: Sequence[Word]
) -> Iterator[tuple[Rollout, int]]:
    """Yield the rollouts that count and the size of each as JSON, counted in `tally`."""
    seen: set[bytes] = set()
    for rollout in counted(run):
        _must_be_of(spec, rollout, run)
        data = msgspec.json.encode(rollout)
        key = hashlib.sha256(rollout.rollout_id.encode()).digest()[:16]
        if key in seen:
            raise DataError(f"{run}: rollout {rollout.rollout_id} is there twice; nothing was written")
        seen.add(key)
        if settings.leaks == "stop":
            _stop_at_leaks(f"{run}, rollout {rollout.rollout_id}", data, words)
        tally.add(rollout)
        yield rollout, len(data)


def _must_be_of(spec: RolloutSpec, rollout: Rollout, run: Path) -> None:
    """Refuse a rollout of another run: the card describes one."""
    expected = derived.rollout_id(spec, rollout.instance_id, rollout.rollout_index)
    if (rollout.rollout_id, rollout.model) != (expected, spec.model.name):
        raise DataError(
            f"{run}: rollout {rollout.rollout_id} is not of the run spec beside the file ({spec.run_id}); nothing was "
            f"written. All findings: scripts/nox -s validate -- {run}"
        )


def _stop_at_leaks(what: str, data: bytes, words: Sequence[Word]) -> None:
    found = []
    for problem in leaks(msgspec.json.decode(data), words):
        found.append(f"{problem.where}: {problem.message}")
        if len(found) == _SHOWN:
            break
    if found:
        lines = "\n  ".join(found)
        raise DataError(
            f"{what} is not fit to be published; the first findings:\n  {lines}\n"
            "Nothing was written. --keep-findings publishes it, where this is the repositories' own text."
        )


def _sums(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                yield f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.relative_to(folder).as_posix()}\n"
