"""Replays and plans record files again inside the collector: the recorded replies, the real loop, the real tools.

Every trace runs again exactly as `collect` runs it, with a model that says what the cassette holds. Prompts, tools and
tasks are those of this version of the kit, so that a change of any of them shows; sampler and limits are the recorded
ones. What comes out is compared with the record, byte for byte, but for the fields the schema marks as measured.
"""

from __future__ import annotations

import functools
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from agenttrace import __version__
from agenttrace.agents import agent_kind
from agenttrace.campaign.environment import (
    RecordedFacts,
    as_replayed,
    changed_parts,
    changed_paths,
    image_digests,
    input_differences,
    refuse_other_inputs,
    replay_facts,
)
from agenttrace.campaign.loop import Campaign, Display
from agenttrace.campaign.options import check_size, like
from agenttrace.campaign.plan import Plan, make_plan, metadata, request_part
from agenttrace.campaign.replay import findings
from agenttrace.campaign.replay.costs import Costs
from agenttrace.campaign.replay.findings import ReplayFinding, ReplayReport, located
from agenttrace.campaign.replay.rows import compare_rows
from agenttrace.campaign.workers import WorkerPool
from agenttrace.errors import DataError, UsageError
from agenttrace.records import Trace
from agenttrace.records.compare import Difference, record_differences
from agenttrace.sandbox.policies import policies
from agenttrace.serving.cassette import Cassette, cassette_path
from agenttrace.serving.tape import ReplayingModel
from agenttrace.show import printable
from agenttrace.store.ids import IdIndex
from agenttrace.store.read import RecordIndex, read_run_spec, run_spec_path
from agenttrace.tasks import set_name, task_set

if TYPE_CHECKING:
    from collections.abc import Callable

    from agenttrace.records import RunSpec
    from agenttrace.sandbox.client import Worker
    from agenttrace.serving.model import Model
    from agenttrace.tasks import Task

EXIT_DIFFERS = 1


class Replay:
    """One record file with its run spec and its cassette, ready to run again."""

    def __init__(self, path: Path, *, trees: Path | None = None) -> None:
        """Read everything that lies beside the record file; `trees` has prepared tasks over checkouts.

        Raises:
            UsageError: record file, run spec or cassette cannot be opened.
            DataError: one of them is not what it must be.
        """
        self.path = path
        self.spec = read_run_spec(run_spec_path(path))
        self.index = RecordIndex(path)
        self.cassette = Cassette(cassette_path(path))
        self.findings: dict[ReplayFinding, None] = {}
        self.reordered: set[str] = set()
        self.notes: list[str] = []
        self._costs: Costs | None = None
        self._set = task_set(set_name(self.spec.dataset), trees=trees)
        kind = agent_kind(self.spec.agent.kind)
        self._agent = kind.spec(
            kind.options(self.spec.agent),
            policy=policies()[self.spec.sandbox.policy],
            context_length=self.spec.model.context_length,
            checkout=self.spec.dataset.sampling is not UNSET,
        )
        self._asked: dict[str, list[tuple[ReplayFinding, bool]]] = {}
        self._lock = threading.Lock()
        self._check_cassette()

    def _check_cassette(self) -> None:
        for one in self.cassette.damage:
            self._find("cassette", self.cassette.path.name, "whole", str(one))
        if self.cassette.run_spec_sha256 not in {None, self.spec.digest}:
            self._find("cassette", "run_spec_sha256", str(self.cassette.run_spec_sha256), self.spec.digest)

    def check_inputs(self, worker: Worker) -> None:
        """Name every input that is another one here than in the run spec.

        Another fixture or task file is a finding, since it is what the traces are made of. Another image is a note: a
        replay is there to show whether the traces are the same in spite of it.
        """
        facts = replay_facts(worker, self.spec)
        try:
            recorded = msgspec.convert(self.cassette.facts, RecordedFacts)
        except msgspec.ValidationError as error:
            self._find("cassette", "facts", "fixture and sandbox", str(error))
            recorded = RecordedFacts()
        for one in input_differences(self.spec, self._here(worker)):
            if "fixture" in one.field or one.field.startswith(("dataset", "the task file")):
                self._find("inputs", one.field, one.recorded, one.found)
            else:
                self.notes.append(str(one))
        fixture, sandbox = recorded.fixture or facts["fixture"], recorded.sandbox or []
        for path, change in changed_paths(fixture, facts["fixture"]).items():
            self._find("inputs", f"fixture file {path}", "", change)
        self.notes += [f"sandbox, {one}" for one in changed_parts(sandbox, facts["sandbox"])]

    def _here(self, worker: Worker) -> RunSpec:
        spec = self.spec
        chosen = self._set.spec(offset=spec.dataset.offset, count=spec.dataset.count)
        images = {**spec.images, **image_digests()}
        if worker.info.environment_digest is not None:
            images["sandbox"] = worker.info.environment_digest
        fixture = worker.info.fixtures.get(spec.sandbox.fixture, "none")
        if self._set.brings_trees:  # the digest of a task's own is in its metadata
            fixture = self._set.fixture_version()
        return msgspec.structs.replace(
            spec,
            images={name: images[name] for name in spec.images},
            dataset=msgspec.structs.replace(spec.dataset, sha256=chosen.sha256),
            agent=self._agent,
            sandbox=msgspec.structs.replace(spec.sandbox, fixture_version=fixture),
            collector_version=__version__,
        )

    def run(self, connect: Callable[[], Worker], display: Display, *, workers: int, repeats: int) -> ReplayReport:
        """Replay every trace that can be replayed and return what was found.

        Raises:
            UsageError: the run spec asks for more records than a campaign can have.
            WorkerLostError: no sandbox worker can be had any more.
        """
        first = connect()
        self.check_inputs(first)
        spec = self._here(first)
        first.close()
        self._costs = Costs() if repeats > 1 else None
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="agenttrace-") as folder:
            plan = self._plan(spec, Path(folder, "replay.jsonl"))
            chosen = self._chosen(plan)
            replayed = set(chosen)
            for _ in range(repeats):
                log = _Comparison(self, plan, chosen)
                summary = Campaign(plan, self._set, self, connect, {}, display).run(log, workers=workers)
                for task in summary.abandoned:
                    replayed.discard(plan.trace_id(task))
                    self._lost(plan.trace_id(task), task, "the replay did not come to an end")
        different = {finding.trace_id for finding in self.findings}
        return ReplayReport(
            file=self.path.name,
            traces=len(self.index.ids),
            replayed=len(replayed),
            identical=len(replayed - different - self.reordered),
            reordered=len(replayed & self.reordered - different),
            repeats=repeats,
            workers=workers,
            elapsed_s=round(time.monotonic() - started, 3),
            notes=tuple(self.notes),
            findings=tuple(self.findings),
            costs=() if self._costs is None else self._costs.spreads(),
        )

    def _plan(self, spec: RunSpec, path: Path) -> Plan:
        tasks = self._set.tasks(offset=spec.dataset.offset, count=spec.dataset.count)
        check_size(len(tasks), spec.dataset.rollouts)
        return Plan(spec=spec, spec_sha256=self.spec.digest, path=path, tasks=tasks, resumes=False)

    def _chosen(self, plan: Plan) -> dict[str, Task]:
        """Return the jobs, by trace id, whose traces are in file and cassette; the others become findings."""
        jobs = {plan.trace_id(task): task for task in plan.jobs()}
        for trace_id in self.index.ids:
            if trace_id not in jobs:
                self._lost(trace_id, None, "no task of the run spec has this trace id")
                continue
            try:
                self.cassette.turns(trace_id)
            except DataError as error:
                self._lost(trace_id, jobs.pop(trace_id), str(error))
        there = set(self.index.ids)
        return {trace_id: task for trace_id, task in jobs.items() if trace_id in there}

    def for_trace(self, trace_id: str, *, seed: int) -> Model:
        """Return the model that says what was recorded of a trace."""
        fixed = {**request_part(msgspec.structs.replace(self.spec, agent=self._agent)), "seed": seed}
        turns = self.cassette.turns(trace_id)
        asked = self._asked[trace_id] = []

        def differs(step: int, found: list[Difference]) -> None:
            messages = turns[step - 1].messages if step <= len(turns) else ()
            answers = {"tool", "user"}
            outputs = {f"messages[{at}]" for at, one in enumerate(messages) if at > 1 and one.get("role") in answers}
            for one in found:
                finding = ReplayFinding(trace_id=trace_id, where=f"step {step}", **msgspec.structs.asdict(one))
                asked.append((finding, one.field.split(".")[1] in outputs if "." in one.field else False))

        return ReplayingModel(turns, fixed, differs)

    def compare(self, trace_id: str, trace: Trace, task: Task) -> None:
        """Compare a replayed trace with its record.

        That a request carries another tool output is told by the span that made it; it is told again only where no
        span says so.
        """
        if self._costs is not None:
            with self._lock:
                self._costs.add(trace)
        replayed = msgspec.structs.replace(trace, metadata=metadata(self.spec, task, spec_sha256=self.spec.digest))
        found = record_differences(Trace, self.index.line(trace_id), msgspec.json.encode(replayed))
        told = any(one.field.startswith("spans[") for one in found)
        for finding, is_output in self._asked.pop(trace_id, []):
            if not (is_output and told):
                self._keep(msgspec.structs.replace(finding, task_id=task.task_id))
        for one in found:
            if findings.is_order_alone(one, trace):
                with self._lock:
                    self.reordered.add(trace_id)
            else:
                self._keep(located(trace_id, task, one, trace))

    def _lost(self, trace_id: str, task: Task | None, why: str) -> None:
        task_id = None if task is None else task.task_id
        self._find("trace", "", "a record", why, trace_id=trace_id, task_id=task_id)

    def _find(self, where: str, field: str, recorded: str, found: str, **of: Any) -> None:  # noqa: ANN401
        self._keep(ReplayFinding(where=where, field=field, recorded=recorded, found=found, **of))

    def _keep(self, finding: ReplayFinding) -> None:
        with self._lock:
            self.findings[finding] = None


class _Comparison:
    """Takes replayed traces as a record file takes collected ones, and compares them; all others are there."""

    def __init__(self, replay: Replay, plan: Plan, chosen: dict[str, Task]) -> None:
        self.ids = IdIndex()
        self._replay = replay
        self._chosen = chosen
        for trace_id in map(plan.trace_id, plan.jobs()):
            if trace_id not in chosen:
                self.ids.add(trace_id)

    def append(self, trace_id: str, trace: Trace) -> None:
        self._replay.compare(trace_id, trace, self._chosen[trace_id])
        self.ids.add(trace_id)

    def give_up(self, trace_id: str) -> None:
        pass


def reproduce(
    file: Path, *, sockets: Path, workers: int, rows_only: bool, anyway: bool, trees: Path | None = None
) -> int:
    """Plan a released campaign again here, compare its rows, replay it, and return the exit status.

    A replay needs no model, so other images, weights or another server are noted and no more; the rows are planned with
    those of the run spec. Without one, every input must be that of the run spec.

    Args:
        file: the record file; run spec and cassette lie beside it.
        sockets: where sandbox workers listen.
        workers: tasks replayed at a time.
        rows_only: no replay; a live campaign follows.
        anyway: go on although inputs here are not those of the run spec.
        trees: prepared tasks over checkouts.

    Raises:
        UsageError: an input that counts is not that of the run spec.
    """
    from agenttrace.campaign.display import console  # noqa: PLC0415 - rich

    say = functools.partial(console().print, markup=False)
    spec = read_run_spec(run_spec_path(file))
    plan = _planned(spec, trees)
    expected = as_replayed(spec, plan.spec)
    try:
        refuse_other_inputs(spec, plan.spec if rows_only else expected, what=file.name)
    except UsageError as error:
        if not anyway:
            raise
        say(printable(str(error)))
    counted = input_differences(spec, expected)
    notes = [str(one) for one in input_differences(spec, plan.spec) if one not in counted]
    rows = compare_rows(file, msgspec.structs.replace(plan, spec=expected, spec_sha256=spec.digest))
    findings.show_findings(rows.findings, say)
    body: dict[str, Any] = {"file": file.name, "rows": msgspec.to_builtins(rows), "notes": notes}
    passed = not rows.findings
    if not rows_only:
        found = Replay(file, trees=trees).run(WorkerPool(sockets).connect, Display(), workers=workers, repeats=1)
        findings.show(msgspec.structs.replace(found, notes=tuple(dict.fromkeys([*notes, *found.notes]))), say)
        body["replay"] = msgspec.to_builtins(found)
        passed = passed and found.passed
    say(rows.line)
    sys.stdout.buffer.write(msgspec.json.encode(body))
    return 0 if passed else EXIT_DIFFERS


def _planned(spec: RunSpec, trees: Path | None) -> Plan:
    """Return the plan that the options of a run spec give here, in an empty folder: nothing is resumed."""
    with tempfile.TemporaryDirectory(prefix="agenttrace-") as folder:
        now = datetime.now(UTC)
        return make_plan(like(spec), images=image_digests(), folder=Path(folder), now=now, trees=trees)


def replay(file: Path, *, sockets: Path, workers: int, repeats: int, trees: Path | None = None) -> int:
    """Replay a record file, print what was found (JSON to standard output) and return the exit status.

    Raises:
        AgentTraceError: the file, its run spec, its cassette, its tasks or a worker cannot be had.
    """
    from agenttrace.campaign.display import console  # noqa: PLC0415 - rich

    if workers < 1 or repeats < 1:
        raise UsageError("--workers and --repeat: expected 1 or more")
    pool = WorkerPool(sockets)
    found = Replay(file, trees=trees).run(pool.connect, Display(), workers=workers, repeats=repeats)
    findings.show(found, functools.partial(console().print, markup=False))
    sys.stdout.buffer.write(findings.as_json(found))
    return 0 if found.passed else EXIT_DIFFERS
