"""`replay` and `reproduce`: a record file run again from its cassette; a release made again and compared row by row."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from agenttrace.campaign.options import like
from agenttrace.campaign.replay.divergence import compare_runs
from agenttrace.campaign.replay.rows import metadata_digest
from agenttrace.errors import DataError, UsageError
from agenttrace.formats import READERS
from agenttrace.formats.reading import FileKind, kind
from agenttrace.host import campaign, checkouts, compose, guard, images, own, place
from agenttrace.host.determinism import partings
from agenttrace.serving.cassette import cassette_path
from agenttrace.show import say
from agenttrace.store.opening import text, the_file
from agenttrace.store.read import read_run_spec, run_spec_path
from agenttrace.tasks import SWE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agenttrace.campaign.replay.divergence import TaskVerdict
    from agenttrace.host.checkouts import Places

EXIT_DIFFERS = 1


def replay(file: Path, *, workers: int, repeats: int = 1, places: Places | None = None) -> tuple[int, bytes]:
    """Replay a record file.

    Args:
        file: the record file.
        workers: tasks replayed at a time.
        repeats: how often each trace is replayed.
        places: where rows and repositories of tasks over checkouts lie.

    Returns:
        the exit status, 0 when every trace is byte-identical but for measured fields, and what was found, as JSON.

    Raises:
        AgentTraceError: the file, its run spec, its cassette, its tasks or a worker cannot be had.
    """
    if repeats < 1:
        raise UsageError(f"--repeat {repeats}: expected 1 or more")
    words = ["--repeat", str(repeats)]
    return over_file(the_file(file), "replay", words, workers=workers, places=places)


def reproduce(
    file: Path | None,
    *,
    workers: int = 1,
    live: bool = False,
    anyway: bool = False,
    places: Places | None = None,
) -> tuple[int, bytes]:
    """Make a record file again, or those of a release.

    Args:
        file: a record file or a release; `None` for the newest release.
        workers: tasks replayed at a time.
        live: collect again with the model instead of replaying.
        anyway: go on although inputs here are not those of the run spec.
        places: where rows and repositories of tasks over checkouts lie.

    Returns:
        the exit status, 0 when all rows are identical, and what was found in each file, as JSON.

    Raises:
        AgentTraceError: a file, an input or a worker cannot be had, or an input is not that of the run spec.
    """
    words = [flag for flag, on in (("--rows-only", live), ("--anyway", anyway)) if on]
    statuses, bodies = [], []
    for one in record_files(file):
        say(f"reproducing {one}")
        records = the_file(one)
        found = over_file(records, "reproduce", words, workers=workers, places=places, sandbox=not live)
        status, body = max(found[0], _compare_metadata(records)), msgspec.json.decode(found[1] or b"{}")
        if live and (status == 0 or anyway):
            status, verdicts = _live(records, places)
            body["live"] = msgspec.to_builtins(verdicts)
        statuses.append(status)
        bodies.append(body)
    return next(filter(None, statuses), 0), msgspec.json.encode(bodies)


def over_file(
    file: Path, verb: str, words: Sequence[str], *, workers: int, places: Places | None = None, sandbox: bool = True
) -> tuple[int, bytes]:
    """Run a verb of the collector over a record file, beside sandboxes that fit it; return status and output.

    Args:
        file: the record file; run spec and cassette lie beside it.
        verb: of the command line inside the container.
        words: its arguments, but for file and workers.
        workers: sandboxes, and tasks at a time.
        places: where rows and repositories of tasks over checkouts lie.
        sandbox: whether sandboxes are needed at all.

    Raises:
        UsageError: so many workers cannot be started.
        AgentTraceError: the run spec cannot be read, or something cannot be started.
    """
    if not 1 <= workers <= campaign.MAX_WORKERS:
        raise UsageError(f"--workers {workers}: expected 1 to {campaign.MAX_WORKERS}")
    _check_kind(file, verb)
    options = like(read_run_spec(run_spec_path(file)))
    over_checkouts = options.dataset == SWE
    checkouts.check(places)
    sets = own.of_records(file, places)
    if options.source.startswith("file:") and (places is None or places.source is None):
        raise UsageError(f"{file.name}: its tasks are rows of {options.source.removeprefix('file:')}; name --source")
    if sandbox and verb != "judge":
        _check_cassette(file, verb)
    with guard.guarded(targets=checkouts.TARGETS if over_checkouts else images.TARGETS) as at:
        variables = campaign.collector_variables(file.parent, workers, at)
        services = compose.Services(at.project, {**variables, **checkouts.variables(places)})
        if over_checkouts:
            checkouts.prepare(services, options.of_checkouts, places)
        own.lay_out(services, sets)
        if sandbox:
            services.up(checkouts.SANDBOX if over_checkouts else "sandbox")
        name = f"{at.project}-collector-{os.getpid()}"
        asked = [verb, f"/data/{file.name}", "--workers", str(workers), *words]
        with tempfile.TemporaryFile() as written:
            process = services.start(name, "collector", *asked, output=written.fileno())
            status = guard.follow(process, at, name)
            written.seek(0)
            return status, written.read()


def _check_kind(file: Path, verb: str) -> None:
    """Refuse a file with nothing to work by, before images are built and trees are made.

    Raises:
        UsageError: another program wrote it, or an earlier version of this one.
    """
    found = kind(file)
    if found is not None and found != FileKind("agenttrace-1.0", "line"):
        raise UsageError(
            f"{file} holds {READERS[found.format].about}: {verb} needs a record file as `collect` writes it, its run "
            "spec beside it. What reads this one: show, report, analyze, convert, publish"
        )


def _check_cassette(file: Path, verb: str) -> None:
    cassette = cassette_path(file)
    if not cassette.is_file():
        raise UsageError(
            f"cannot read {cassette}: there is no such file, and {verb} takes the model's replies from it; `collect` "
            "writes it beside its records, and `reproduce` with --live asks the model again"
        )


def record_files(asked: Path | None) -> list[Path]:
    """Return a record file itself, or those of a release; where nothing is asked for, as `released` has it.

    Raises:
        UsageError: there is no release, or it holds no record file with a run spec.
    """
    if asked is None:
        return released(place.releases())
    return _of_release(asked) if asked.is_dir() else [asked]


def released(folder: Path) -> list[Path]:
    """Return the record files of the newest release that somebody made here, or of the demo that came along.

    Of some that were made here, the newest is the folder with the youngest `manifest.json`.

    Raises:
        UsageError: there is no release, or it holds no record file with a run spec.
    """
    found = sorted(folder.glob("*/manifest.json"), key=lambda path: path.stat().st_mtime_ns)
    came_along = [path for name in reversed(place.CAME_ALONG) if (path := folder / name / "manifest.json") in found]
    manifests = came_along + [path for path in found if path not in came_along]
    if not manifests:
        raise UsageError(f"no released data set in {folder} (a folder with a manifest.json): name a record file")
    return _of_release(manifests[-1].parent)


def _of_release(folder: Path) -> list[Path]:
    by_spec: dict[Path, Path] = {}
    for pattern in ("records/*.jsonl", "*.jsonl", "*.jsonl.zst"):
        for path in sorted(folder.glob(pattern)):
            by_spec.setdefault(run_spec_path(path), path)
    files = [path for spec, path in by_spec.items() if spec.is_file()]
    if not files:
        raise UsageError(f"{folder} holds no record file (.jsonl, .jsonl.zst) with a run spec (.run.json) beside it")
    return files


def _compare_metadata(file: Path) -> int:
    """Compare the metadata of a file with the digest that its release stored, if there is one around it."""
    stored = _stored_digest(file)
    if stored is None:
        return 0
    ours = metadata_digest(file)
    say(f"metadata digest {'as released' if stored == ours else f'{ours}, released was {stored}'}")
    return EXIT_DIFFERS if stored != ours else 0


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
        body = msgspec.json.decode(text(manifest))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{manifest}: not JSON: {error}") from error
    found = body.get("metadata_sha256") if isinstance(body, dict) else None
    if isinstance(found, dict):
        found = found.get(file.name)
    return found if isinstance(found, str) else None


def _live(file: Path, places: Places | None) -> tuple[int, list[TaskVerdict]]:
    """Collect the campaign again with the model and compare every byte but the measured fields.

    Metadata is left to the comparison of rows, which plans with the run spec's own inputs.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = place.datasets() / f"reproduce_{stamp}"
    folder.mkdir(parents=True)
    options = msgspec.structs.replace(like(read_run_spec(run_spec_path(file))), output=file.name)
    sets = own.of_records(file, places)
    status = campaign.collect(
        campaign.Request(options=(options,), folder=folder, workers=1, places=places, sets=sets)
    ).status
    if status:
        return status, []
    verdicts = compare_runs([file, folder / file.name])
    for line in partings(verdicts):
        say(line)
    equal = sum(one.verdict == "equal" for one in verdicts)
    say(f"live: {equal} of {len(verdicts)} traces byte-identical but for the measured fields; {folder}")
    return (0 if equal == len(verdicts) else EXIT_DIFFERS), verdicts
