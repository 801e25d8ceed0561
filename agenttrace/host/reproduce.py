"""`reproduce`: makes a released data set again on this machine and compares it row by row."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.campaign.options import like
from agenttrace.campaign.replay.findings import located, show_findings
from agenttrace.campaign.replay.rows import metadata_digest
from agenttrace.errors import DataError, StorageError, UsageError
from agenttrace.host import campaign, compose, engine
from agenttrace.host.replay import check_workers, over_file
from agenttrace.records import Trace
from agenttrace.records.compare import record_differences
from agenttrace.store.opening import content, the_file
from agenttrace.store.read import RecordIndex, read_run_spec, read_traces, run_spec_path

if TYPE_CHECKING:
    from pathlib import Path

    from agenttrace.campaign.replay.findings import ReplayFinding
    from agenttrace.host.checkouts import Places

EXIT_DIFFERS = 1


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a person asks for.

    Attributes:
        file: a record file; `None` for those of the newest release.
        live: collect again with the model instead of replaying.
        anyway: go on although inputs here are not those of the run spec.
        workers: tasks replayed at a time.
        json: where the findings go.
        places: where rows and repositories of tasks over checkouts lie.
    """

    file: Path | None
    live: bool = False
    anyway: bool = False
    workers: int = 1
    json: Path | None = None
    places: Places | None = None


def reproduce(request: Request) -> int:
    """Make every file again and return the exit status: 0 when all rows are identical.

    Raises:
        AgentTraceError: a file, an input or a worker cannot be had, or an input is not that of the run spec.
    """
    check_workers(request.workers)
    files = [request.file] if request.file is not None else released(compose.ROOT / "datasets")
    status = 0
    found: list[Any] = []
    for file in files:
        engine.say(f"reproducing {file}")
        one, body = _one(request, the_file(file))
        found.append(body)
        status = status or one
    if request.json is not None:
        try:
            request.json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
        except OSError as error:
            raise StorageError(f"cannot write {request.json}: {error.strerror}") from error
    return status


def released(folder: Path) -> list[Path]:
    """Return the record files of the newest release: the folder with the youngest `manifest.json`.

    Raises:
        UsageError: there is no release, or it holds no record file with a run spec.
    """
    manifests = sorted(folder.glob("*/manifest.json"), key=lambda path: path.stat().st_mtime_ns)
    if not manifests:
        raise UsageError(f"no released data set in {folder} (a folder with a manifest.json): name a record file")
    newest = manifests[-1].parent
    found = [*sorted(newest.glob("records/*.jsonl")), *sorted(newest.glob("*.jsonl"))]
    files = [path for path in found if run_spec_path(path).is_file()]
    if not files:
        raise UsageError(f"{newest} holds no record file (.jsonl) with a run spec (.run.json) beside it")
    return files


def _one(request: Request, file: Path) -> tuple[int, Any]:
    """Compare one file with what its run spec makes here; return status and findings."""
    flags = [flag for flag, on in (("--rows-only", request.live), ("--anyway", request.anyway)) if on]
    words = ["--workers", str(request.workers), *flags]
    status, output = over_file(
        file, "reproduce", words, workers=request.workers, places=request.places, sandbox=not request.live
    )
    body = msgspec.json.decode(output) if output else {}
    if stored := _stored_digest(file):
        ours = metadata_digest(file)
        engine.say(f"metadata digest {'as released' if stored == ours else f'{ours}, released was {stored}'}")
        status = status or (EXIT_DIFFERS if stored != ours else 0)
    if request.live and (status == 0 or request.anyway):
        status, findings = _live(file, request.places)
        body["live"] = msgspec.to_builtins(findings)
    return status, body


def _stored_digest(file: Path) -> str | None:
    """Return the metadata digest that the release stored for a file, if there is a release around it.

    Raises:
        DataError: its manifest is not JSON.
    """
    around = file.resolve().parent
    places = [around, around.parent] if around.name == "records" else [around]
    manifest = next((path for folder in places if (path := folder / "manifest.json").is_file()), None)
    if manifest is None:
        return None
    try:
        body = msgspec.json.decode(content(manifest))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{manifest}: not JSON: {error}") from error
    found = body.get("metadata_sha256") if isinstance(body, dict) else None
    if isinstance(found, dict):
        found = found.get(file.name)
    return found if isinstance(found, str) else None


def _live(file: Path, places: Places | None) -> tuple[int, list[ReplayFinding]]:
    """Collect the campaign again with the model and compare every byte but the measured fields.

    Metadata is left to the comparison of rows, which plans with the run spec's own inputs.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = compose.ROOT / "datasets" / f"reproduce_{stamp}"
    folder.mkdir(parents=True)
    options = msgspec.structs.replace(like(read_run_spec(run_spec_path(file))), output=file.name)
    status = campaign.collect(campaign.Request(options=(options,), folder=folder, workers=1, places=places))
    if status:
        return status, []
    made = {trace.trace_id: trace for trace in read_traces(folder / file.name)}
    index, findings = RecordIndex(file), []
    identical = 0
    for trace_id in index.ids:
        trace = made.get(trace_id)
        lines = (index.line(trace_id), b"{}" if trace is None else msgspec.json.encode(trace))
        differ = [one for one in record_differences(Trace, *lines) if one.field.partition(".")[0] != "metadata"]
        found = [located(trace_id, None, one, trace) for one in differ]
        identical += not found
        findings += found
    show_findings(findings, engine.say)
    engine.say(f"live: {identical} of {len(index.ids)} traces byte-identical but for the measured fields; {folder}")
    return (EXIT_DIFFERS if findings else 0), findings
