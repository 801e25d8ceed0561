"""The manifest of a release: what it holds, computed from its other files alone, so that anyone computes it again."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from agenttrace.campaign.replay.rows import metadata_digest
from agenttrace.errors import DataError
from agenttrace.publish.about import About
from agenttrace.publish.contents import SOLVED
from agenttrace.publish.sums import MANIFEST, File, files
from agenttrace.records.base import Record
from agenttrace.store.opening import text
from agenttrace.store.read import DECODE_ERRORS, read_run_spec, read_traces, run_spec_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

FORMAT = "agenttrace-release-1"
RECORDS = "records"
VERDICTS = "verdicts"


class ReleasedCampaign(Record, frozen=True, kw_only=True):
    """What one record file of a release holds.

    Attributes:
        records_file: path in the release.
        run_id: name of the campaign.
        run_spec_sha256: digest of its run spec.
        dataset: task set.
        model: name of the model.
        model_sha256: digest of its weights.
        demo: the model is a test fixture; its records are no result.
        commits: commits of the checkouts that collected.
        tasks: tasks of the run spec.
        rollouts: how often each was run.
        records: records in the file.
        spans: tool calls in them.
        llm_steps: generations in them.
        solved: records by `solved`, `not solved` and `unknown`.
    """

    records_file: str
    run_id: str
    run_spec_sha256: str
    dataset: str
    model: str
    model_sha256: str
    demo: bool
    commits: tuple[str, ...]
    tasks: int
    rollouts: int
    records: int
    spans: int
    llm_steps: int
    solved: dict[str, int]


class Manifest(Record, frozen=True, kw_only=True):
    """What a release holds.

    Attributes:
        format: version of this format.
        schema_version: of the records.
        campaigns: one per record file.
        metadata_sha256: name of a record file → digest over the metadata of its rows (`reproduce` compares it).
        files: path → every file of the release but the manifest itself.
        agenttrace_version: version of the kit that made tables and card; earlier ones did not say.
        title: heading of the card.
        licence: in the card.
        about: what a person says of it; earlier ones did not say.
    """

    format: str
    schema_version: str
    campaigns: tuple[ReleasedCampaign, ...]
    metadata_sha256: dict[str, str]
    files: dict[str, File]
    agenttrace_version: str | UnsetType = UNSET
    title: str | UnsetType = UNSET
    licence: str | UnsetType = UNSET
    about: About | UnsetType = UNSET


def manifest(folder: Path, names: Sequence[str], **made: Any) -> Manifest:  # noqa: ANN401 - fields of `Manifest`
    """Return the manifest of a release folder.

    Args:
        folder: the release.
        names: names of its record files, in order.
        made: version, title, licence and what a person says, which the other files do not say.

    Raises:
        UsageError: a record file or run spec is not there.
        DataError: a record or run spec cannot be read.
    """
    records = [folder / RECORDS / name for name in names]
    return Manifest(
        format=FORMAT,
        schema_version=read_run_spec(run_spec_path(records[0])).schema_version,
        campaigns=tuple(map(_campaign, records)),
        metadata_sha256={path.name: metadata_digest(path) for path in records},
        files=files(folder),
        **made,
    )


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a release as it stands there.

    Raises:
        DataError: why it cannot be read.
    """
    path = folder / MANIFEST
    if path.is_symlink() or not path.is_file():
        raise DataError("is missing: no release, or one that lost it")
    try:
        found = msgspec.json.decode(text(path), type=Manifest)
    except DECODE_ERRORS as error:
        raise DataError(f"not a manifest of this version: {error}") from error
    if found.format != FORMAT:
        raise DataError(f"has format {found.format!r}, this version reads {FORMAT}")
    return found


def encoded(value: Manifest) -> bytes:
    """Return a manifest as it stands on disk."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def verdict_lines(records: Path) -> Iterator[bytes]:
    """Yield the lines of a verdicts file: id, task, end, verdicts and scores of every record, in file order."""
    for trace in read_traces(records):
        known = trace.metadata
        line: dict[str, Any] = {
            "trace_id": trace.trace_id,
            **{key: known.get(key) for key in ("dataset_name", "task_id", "task_name", "rollout_index")},
            "ended": trace.outcome.ended,
            "solved": trace.outcome.solved,
            "verdicts": trace.outcome.verdicts,
            "scores": trace.outcome.scores,
        }
        yield msgspec.json.encode(line) + b"\n"


def _campaign(path: Path) -> ReleasedCampaign:
    spec = read_run_spec(run_spec_path(path))
    counts: Counter[str] = Counter()
    solved = dict.fromkeys(SOLVED.values(), 0)
    commits: dict[str, None] = {}
    for trace in read_traces(path):
        counts.update(records=1, spans=len(trace.spans), llm_steps=len(trace.llm_steps))
        solved[SOLVED[trace.outcome.solved]] += 1
        host = trace.environment.get("host")
        if isinstance(host, dict) and isinstance(host.get("git_commit"), str):
            commits[host["git_commit"]] = None
    return ReleasedCampaign(
        records_file=f"{RECORDS}/{path.name}",
        run_id=spec.run_id,
        run_spec_sha256=spec.digest,
        dataset=spec.dataset.name,
        model=spec.model.name,
        model_sha256=spec.model.sha256,
        demo=spec.model.demo,
        commits=tuple(commits),
        tasks=spec.dataset.count,
        rollouts=spec.dataset.rollouts,
        records=counts["records"],
        spans=counts["spans"],
        llm_steps=counts["llm_steps"],
        solved=solved,
    )
