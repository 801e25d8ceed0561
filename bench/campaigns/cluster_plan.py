"""How a run of 12.29 million rollouts is planned, and how one that is done is taken up: a real driver, a local S3.

The tasks are made up, as many rollouts and shards as those of the largest such set known: tasks of a user's own, each
run very often; and 122,908 tasks over checkouts, each as long as there, which lie in the store as `cluster prepare`
leaves them, or all in one file of the machine, as they do on one.
"""

from __future__ import annotations

import hashlib
import itertools
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import zstandard

from agenttrace.cluster.objects import Store
from agenttrace.cluster.prepare import KeptRepository, PreparedRun
from agenttrace.cluster.runs import open_run
from agenttrace.errors import AgentTraceError
from agenttrace.records import DatasetSpec, SamplingPlan
from agenttrace.tasks import OWN as OWN_SET
from agenttrace.tasks.own.loading import load
from agenttrace.tasks.own.task_set import lay_out
from agenttrace.tasks.swe import prepare, trees
from agenttrace.tasks.swe.rows import SweTask
from bench.campaigns import cluster_bed, s3
from bench.verdict import Row, row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agenttrace.cluster.local_ray import LocalCluster

OWN, CHECKOUTS = (400, 30_727), (122_908, 100)
"""Tasks, and rollouts of each: 122,908 shards both."""
_REPOSITORIES = 3_222
"""Of the tasks over checkouts."""
SECONDS, MEBIBYTES = 60.0, 500.0
_STATEMENT = "The parser reads a line twice when it ends in a backslash. " * 60
"""3.5 kB: with the patches, as much as a row takes in the mean."""
_PATCH = "--- a/src/reader.py\n+++ b/src/reader.py\n@@ -1 +1 @@\n-old\n+new\n" * 8
_NOWHERE = "http://127.0.0.1:9/v1"
_BUCKET, _RUN = "runs", "planned"
_STORE = f"s3://bucket/{_BUCKET}"
_PATIENCE_S = 600.0
_MIB = 2**20


def own(folder: Path, _: dict[str, bytes], count: int) -> list[str]:
    """Write a task set of a user's own, and return how a run of it is asked for."""
    tasks = (
        f'[[task]]\nid = "task-{number}"\nprompt = "Write {number} to answer.txt."\n'
        f'gold = "echo {number} > answer.txt"\n[[task.check]]\nkind = "file"\npath = "answer.txt"\nexists = true\n'
        for number in range(count)
    )
    path = Path(folder, "tasks.toml")
    path.write_text("\n".join(tasks), encoding="utf-8")
    laid_out = lay_out(load(path).packed(), folder)
    return ["--dataset", f"{OWN_SET}:{laid_out.sha256}", "--trees", str(folder)]


def stored(folder: Path, objects: dict[str, bytes], count: int) -> list[str]:
    """Put made-up prepared tasks, whose trees are not there, into a store; return how a run of them is asked for."""
    dataset, kept, root = _drawn(count), [], f"{_BUCKET}/{_RUN}"
    for repo, numbers in itertools.groupby(range(count), key=lambda number: _repo(number, count)):
        tasks = tuple(_ready(number, repo) for number in numbers)
        data = _compressed(prepare.OfRepository(tasks=tasks))
        objects[f"{root}/prepared/{repo}.json.zst"] = data
        kept.append(KeptRepository(name=repo, drawn=len(tasks), sha256=hashlib.sha256(data).hexdigest()))
    known = PreparedRun(dataset=dataset, tasks=(), repositories=tuple(kept))
    objects[f"{root}/{prepare.FILE}.zst"] = _compressed(known)
    return ["--dataset", "swe", "--trees", str(folder)]


def in_one_file(folder: Path, _: dict[str, bytes], count: int) -> list[str]:
    """Write the same tasks as a machine has them that prepared them by itself."""
    ready = tuple(_ready(number, _repo(number, count)) for number in range(count))
    written = prepare.Prepared(dataset=_drawn(count), tasks=ready)
    Path(folder, prepare.FILE).write_bytes(msgspec.json.encode(written))
    return ["--dataset", "swe", "--trees", str(folder)]


def _compressed(value: msgspec.Struct) -> bytes:
    return zstandard.compress(msgspec.json.encode(value))


def _drawn(count: int) -> DatasetSpec:
    names = tuple(_name(number) for number in range(count))
    sampling = SamplingPlan(seed=7, repos=None, per_repo=None, languages=(), hidden_tests=False, task_ids=names)
    return DatasetSpec(
        name="swe", split="train", source="made up", sha256="0" * 64, offset=0, count=count, sampling=sampling
    )


def _name(number: int) -> str:
    return f"owner__project-{number:06}"


def _repo(number: int, count: int) -> str:
    return f"owner/project-{number * _REPOSITORIES // count:04}"


def _ready(number: int, repo: str) -> prepare.ReadyTask:
    name = _name(number)
    task = SweTask(
        instance_id=name, repo=repo, base_commit="0" * 40, language="python", problem_statement=_STATEMENT,
        interface=None, test_patch=_PATCH, patch=_PATCH,
    )  # fmt: skip
    tree = trees.PristineTree(
        name=name, digest=hashlib.sha256(name.encode()).hexdigest(), language="python",
        hidden_tests=trees.HiddenTests(asked=False, applied=False), files=1000, bytes=10_000_000,
    )  # fmt: skip
    return prepare.ReadyTask(task=task, tree=tree)


def planned() -> Iterator[Row]:
    """Measure the driver of a run of 12.29 million rollouts, of either kind of tasks."""
    kinds = (
        ("own tasks", own, OWN, True),
        ("checkouts in the store", stored, CHECKOUTS, True),
        ("checkouts in one file", in_one_file, CHECKOUTS, False),
    )
    with cluster_bed.cluster(1, 2) as at:
        for what, make, (tasks, rollouts), aimed in kinds:
            with tempfile.TemporaryDirectory(prefix="agenttrace-bench-") as folder, s3.running() as store:
                words = [*make(Path(folder), store.objects, tasks), "--rollouts", str(rollouts)]
                yield from measured(at, store, f"{tasks * rollouts:,} rollouts of {tasks:,} {what}", words, aimed=aimed)


def measured(at: LocalCluster, store: s3.S3, what: str, words: list[str], *, aimed: bool) -> Iterator[Row]:
    """Measure a driver until its run is in the store, one that finds that every shard is done, and a seat at one."""
    seconds, mebibytes = (SECONDS, MEBIBYTES) if aimed else (None, None)
    with cluster_bed.variables(store.variables):
        begun = time.monotonic()
        with cluster_bed.driver(at, _RUN, _STORE, _NOWHERE, *words) as driver:
            while not any(name.endswith("/run.json") for name in [*store.objects]):
                if time.monotonic() - begun > _PATIENCE_S:
                    raise AgentTraceError("the run is not in the store")
                driver.peak_bytes()  # it runs
                time.sleep(0.05)
            yield row("plan", f"plan {what}", "s", [time.monotonic() - begun], target=seconds)
            yield row("plan", "  memory", "MiB", [driver.peak_bytes() / _MIB], target=mebibytes)
        run = open_run(Store(_STORE), _RUN)
        store.objects |= {f"{_BUCKET}/{run.manifest(shard)}": b"{}" for shard in range(run.shards.count)}
        with cluster_bed.driver(at, _RUN, _STORE, _NOWHERE, *words) as driver:
            used = driver.wait()
        alone = ["--run-id", _RUN, "--store", _STORE, "--base-url", _NOWHERE, *words]
        shard = str(run.shards.count // 2)
        with cluster_bed.Program("agenttrace", "cluster", "shard", shard, cluster_bed.MODEL, *alone) as seat:
            one = seat.wait()
    yield row("plan", f"resume, {run.shards.count:,} shards done", "s", [used.wall_s], target=seconds)
    yield row("plan", "  memory", "MiB", [used.peak_bytes / _MIB], target=mebibytes)
    yield row("plan", "a shard, until it is known what it is", "s", [one.wall_s])
    yield row("plan", "  memory", "MiB", [one.peak_bytes / _MIB])
