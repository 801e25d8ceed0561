"""`determinism`: the same campaign several times, with a new server each time; are the trajectories equal?"""

from __future__ import annotations

import contextlib
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.campaign.environment import input_differences
from agenttrace.campaign.options import like, sampler_of
from agenttrace.campaign.replay.divergence import Divergence, TaskVerdict, compare_runs
from agenttrace.campaign.replay.tax import RunTime, run_time, tax_lines
from agenttrace.errors import UsageError
from agenttrace.host import campaign, compose, engine, guard, own, place
from agenttrace.serving import profiles
from agenttrace.show import say
from agenttrace.store.read import read_run_spec, run_spec_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from agenttrace.campaign.options import Options

MAX_RUNS = 1000
_RUN_ID = "determinism"


class DeterminismRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a person asks for.

    Attributes:
        each: every run; folder, file, run id and workers are chosen here.
        repeats: runs per concurrency.
        concurrency: tasks run at a time, one group of runs each.
        against: a record file of another machine or another set-up: the first run.
        vary_seed: sample every run with another seed, to see a difference found.
        keep: keep the record files also when all runs are equal.
    """

    each: campaign.Request
    repeats: int = 3
    concurrency: tuple[int, ...] = (1,)
    against: Path | None = None
    vary_seed: bool = False
    keep: bool = False

    @property
    def options(self) -> Options:
        """The options of every run: where there is a file of another machine, its run spec says what is run."""
        return self.each.options[0] if self.against is None else like(read_run_spec(run_spec_path(self.against)))


class DeterminismReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found; `inputs` are differences between the run specs of the runs, `times` how long each took."""

    passed: bool
    runs: list[dict[str, Any]]
    inputs: list[str]
    tasks: list[TaskVerdict]
    times: list[RunTime] = []


def determinism(request: DeterminismRequest) -> DeterminismReport:
    """Run everything and return what was found.

    Raises:
        AgentTraceError: a run could not be made.
    """
    _check(request)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = place.datasets() / f"determinism_{stamp}"
    folder.mkdir(parents=True)
    try:
        files = _runs(request, folder)
    except BaseException:
        shutil.rmtree(folder)
        raise
    report = _report(request, folder, files)
    if report.passed and not request.keep:
        shutil.rmtree(folder)
    else:
        say(f"the records of all runs: {folder}")
    return report


def _check(request: DeterminismRequest) -> None:
    if not 1 <= request.repeats <= MAX_RUNS:
        raise UsageError(f"--repeat {request.repeats}: expected 1 to {MAX_RUNS}")
    if request.repeats * len(request.concurrency) + (request.against is not None) < 2:  # noqa: PLR2004
        raise UsageError("one run has nothing to be compared with: give --repeat 2 or more, or --against FILE")
    if any(not 1 <= one <= campaign.MAX_WORKERS for one in request.concurrency):
        raise UsageError(f"--concurrency: expected 1 to {campaign.MAX_WORKERS}")
    if request.against is None:
        campaign.check(msgspec.structs.replace(request.each, folder=place.datasets().parent))  # it is made later
    else:
        read_run_spec(run_spec_path(request.against))


def _runs(request: DeterminismRequest, folder: Path) -> list[Path]:
    """Make every run and return the record files, that of another machine first."""
    files = [] if request.against is None else [request.against]
    options = request.options
    sets = () if request.against is None else own.of_records(request.against)
    options = msgspec.structs.replace(options, run_id=options.run_id or _RUN_ID)
    slots = profiles.profile(options.profile).slots
    for workers in request.concurrency:
        if request.each.base_url is None and workers > slots:
            say(f"profile {options.profile} has {slots} slots: {workers} workers wait for each other")
        for number in range(1, request.repeats + 1):
            file = folder / f"workers-{workers}_run-{number:03d}.jsonl"
            say(f"run {number} of {request.repeats} with {workers} workers, server started anew")
            more = {"seed": sampler_of(options).seed + len(files)} if request.vary_seed else {}
            one = msgspec.structs.replace(options, output=file.name, **more)
            asked = msgspec.structs.replace(request.each, options=(one,), folder=folder, workers=workers, sets=sets)
            status = campaign.collect(asked).status
            if status not in {0, campaign.EXIT_INCOMPLETE}:  # a task without a record gets the verdict `missing`
                raise compose.EndedError(f"{file.name} did not come to its end", status)
            files.append(file)
    return files


def _report(request: DeterminismRequest, folder: Path, files: list[Path]) -> DeterminismReport:
    tasks = compare_runs(files)
    if any(one.divergence is not None for one in tasks) and request.each.base_url is None:
        # The verdicts stand without a server; only their tokens would be missing.
        with contextlib.suppress(engine.CommandError, compose.EndedError):
            tasks = _with_tokens(request, folder, files)
    specs = [read_run_spec(run_spec_path(file)) for file in files]
    inputs = [
        f"run {number}: {line}"
        for number, spec in enumerate(specs[1:], start=2)
        for line in input_differences(specs[0], spec)
    ]
    return DeterminismReport(
        passed=all(one.verdict == "equal" for one in tasks) and bool(tasks),
        runs=[{"run": number, "file": file.name} for number, file in enumerate(files, start=1)],
        inputs=inputs,
        tasks=tasks,
        times=[run_time(file, workers) for file, workers in zip(files, _widths(request), strict=True)],
    )


def _widths(request: DeterminismRequest) -> list[int | None]:
    """Return the tasks at a time of every run, in the order of `_runs`."""
    made: list[int | None] = [workers for workers in request.concurrency for _ in range(request.repeats)]
    return made if request.against is None else [None, *made]


def _with_tokens(request: DeterminismRequest, folder: Path, files: list[Path]) -> list[TaskVerdict]:
    """Compare again beside a model server, which says where the tokens are."""
    own = [file if file.parent == folder else folder / f"against_{file.name}" for file in files]
    for file, beside in zip(files, own, strict=True):
        if file != beside:
            shutil.copyfile(file, beside)
    asked = msgspec.structs.replace(request.each, options=(request.options,), folder=folder, workers=1)
    pin = read_run_spec(run_spec_path(files[-1])).model
    with guard.guarded() as at:
        variables = campaign.variables(asked, at) | campaign.server_variables(asked, pin)
        services = compose.Services(at.project, variables)
        services.up("server")
        names = [f"/data/{file.name}" for file in own]
        text = services.ask("collector", "compare-runs", *names, "--base-url", "http://server:8080/v1")
    return msgspec.json.decode(text, type=list[TaskVerdict])


def show(report: DeterminismReport) -> None:
    """Print a verdict per task, and where runs part."""
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from agenttrace.show import printable  # noqa: PLC0415

    table = Table(title=f"{len(report.runs)} runs", title_justify="left")
    for column in ("task", "verdict", "equal runs", "first difference"):
        table.add_column(column)
    for one in report.tasks:
        table.add_row(
            Text(printable(f"{one.task_id} {one.name}")),
            one.verdict,
            f"{one.equal_runs} of {one.runs}",
            Text(printable(_place(one))),
        )
    out = Console(highlight=False, soft_wrap=True)
    out.print(table)
    for line in report.inputs[:20]:
        out.print(f"another input (first run / this run): {printable(line)}", markup=False)
    for text in partings(report.tasks):
        out.print(printable(text), markup=False)
    for text in tax_lines(report.times):
        out.print(text, markup=False)
    equal = sum(one.verdict == "equal" for one in report.tasks)
    out.print(f"{equal} of {len(report.tasks)} tasks equal in all {len(report.runs)} runs")


def partings(tasks: Sequence[TaskVerdict]) -> Iterator[str]:
    """Yield for each task whose runs part where they do, and both texts around that place."""
    for one in tasks:
        if one.divergence is not None:
            texts = f"    run 1: {one.divergence.first}\n    run {one.divergence.run}: {one.divergence.other}"
            yield f"task {one.task_id}, {_place(one)}{_margins(one.divergence)}\n{texts}"


def _margins(found: Divergence) -> str:
    """Return how close it was where replies part, where log-probabilities were asked for."""
    if found.margins is None:
        return ""
    first, other = ("unknown" if one is None else f"{one:.6f}" for one in found.margins)
    return f" (log-probability over the next candidate: {first} in run 1, {other} in run {found.run})"


def _place(one: TaskVerdict) -> str:
    if one.divergence is None:
        return ""
    token = "" if one.divergence.token is None else f"token {one.divergence.token}, "
    return f"{one.divergence.where}, {one.divergence.field}, {token}character {one.divergence.character}"
