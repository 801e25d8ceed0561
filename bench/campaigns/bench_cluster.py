"""`bench-cluster`: what a run over several machines costs beside one machine, and how it grows; both sides in one run.

Real loop, real sandbox runners, real Ray nodes and drivers, on one machine; the model server answers from a script.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.campaign.options import Options
from agenttrace.campaign.plan import make_plan
from agenttrace.cluster.merge import merge
from agenttrace.cluster.objects import Store
from agenttrace.cluster.runs import open_run
from agenttrace.errors import AgentTraceError, UsageError
from agenttrace.records import Trace
from agenttrace.records.compare import record_differences
from agenttrace.sandbox import strength
from agenttrace.show import counted, say
from agenttrace.store.read import lines
from agenttrace.testing import ScriptedServer, says
from bench.campaigns import cluster_bed, cluster_plan
from bench.campaigns.crash_check import runner
from bench.tables import print_rows
from bench.verdict import Row, interleaved, row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZES = (1, 2, 4)
"""Nodes."""
LOST = {2: 5.0, 4: 10.0}
"""Targets: percent of the time that so many nodes may lose beside one."""
WORKERS, SHARD = 4, 8
"""Sandbox workers of a node; rollouts of a shard. A shard takes half of the workers."""
SLEEP_S = 2.0
BESIDE = 1.10
DRIVER_MIB, MORE_MIB = 250.0, 10.0
_FEW, _MANY = 32, 192
_QUEUED = {"10,000": 313, "1,000,000": 31_250}
"""Rollouts queued → of each of the 32 tasks."""
PLANNED_MIB, PASS_MB = 150.0, 300.0
_PLANNED = {"1,024": 32, "1,000,000": 31_250}
"""Rollouts planned on one machine → of each of the 32 tasks."""
_AT_WORK_S = 20.0
_PATIENCE_S = 600.0
_MIB = 2**20


def script(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Look at a file, and answer."""
    if messages[-1]["role"] == "tool":
        return says(calls=[("final_answer", json.dumps({"answer": "20"}))])
    return says(calls=[("bash", json.dumps({"command": "wc -l words.txt"}))], reasoning="I count.")


class _Sleeper:
    """A model that answers after a while.

    Attributes:
        slept: when requests began and ended to sleep.
    """

    def __init__(self) -> None:
        self._dice, self._lock = random.Random(1), threading.Lock()  # noqa: S311 - to be repeated
        self.slept: list[tuple[float, float]] = []

    def __call__(self, messages: list[dict[str, Any]]) -> dict[str, Any]:
        """Sleep, and answer at once: nothing is left to be done on this machine."""
        with self._lock:
            sleep_s = SLEEP_S * (0.5 + self._dice.random())
        begun = time.monotonic()
        time.sleep(sleep_s)
        with self._lock:
            self.slept.append((begun, time.monotonic()))
        return says(calls=[("final_answer", json.dumps({"answer": str(len(messages))}))])


def busy(slept: list[tuple[float, float]], slots: int) -> float:
    """Return the share of the slots in which a request slept, between the first and the last tenth of all ends.

    Before and after that processes start, and shards that are done leave slots empty.
    """
    ends = sorted(end for _, end in slept)
    start, stop = ends[len(ends) // 10], ends[-len(ends) // 10]
    within = sum(max(0.0, min(end, stop) - max(begun, start)) for begun, end in slept)
    return within / (stop - start) / slots


def scaling(per_node: int) -> Iterator[Row]:
    """Measure how busy 1, 2 and 4 nodes keep a server that only sleeps, each with as many rollouts for every node."""
    shares: dict[int, float] = {}
    for nodes in SIZES:
        sleeper = _Sleeper()
        count = max(1, per_node * nodes // 32)
        more = ("--dataset", "demo", "--rollouts", str(count), "--shard-rollouts", str(SHARD))
        with (
            cluster_bed.cluster(nodes, WORKERS) as at,
            ScriptedServer(sleeper, remember=False) as server,
            tempfile.TemporaryDirectory(prefix="agenttrace-bench-") as store,
            cluster_bed.driver(at, f"nodes-{nodes}", store, server.base_url, *more) as driver,
        ):
            used = driver.wait()
        shares[nodes] = busy(sleeper.slept, nodes * WORKERS)
        told = f"{shares[nodes]:.3f} of the slots busy"
        say(f"{counted(nodes, 'node')}: {count * 32} rollouts in {used.wall_s:.0f} s, {told}")
        if nodes > 1:
            efficiency = shares[nodes] / shares[1]
            name = f"{nodes} nodes beside 1: efficiency {efficiency:.3f}, lost"
            yield row("scaling", name, "%", [100 * (1 - efficiency)], target=LOST[nodes])


def harness(rounds: int) -> Iterator[Row]:
    """Measure what a rollout costs through a seat, and on one machine; a server that answers at once, one worker."""
    with (
        cluster_bed.variables({strength.ANY: "1"}),
        runner() as running,
        ScriptedServer(script, remember=False) as server,
        tempfile.TemporaryDirectory(prefix="agenttrace-bench-") as folder,
    ):
        sockets = str(running.sockets)
        numbers = iter(range(1_000_000))

        def seat(rollouts: int) -> cluster_bed.Program:
            run_id = f"seat-{next(numbers)}"
            words = ["--run-id", run_id, "--store", f"{folder}/store", "--shard-rollouts", str(rollouts)]
            words += ["--dataset", "demo", "--rollouts", str(rollouts // 32), "--base-url", server.base_url]
            return cluster_bed.Program(
                "agenttrace", "cluster", "shard", "0", cluster_bed.MODEL, *words, "--sockets", sockets
            )

        def alone(rollouts: int) -> cluster_bed.Program:
            options = Options(
                model=cluster_bed.MODEL, external=True, rollouts=rollouts // 32, output=f"{next(numbers)}.jsonl"
            )
            return cluster_bed.Program("agenttrace.inside", *_collect(options, folder, sockets, server))

        samples = interleaved({"seat": lambda: _each(seat), "collect": lambda: _each(alone)}, rounds)
    for what, at in (("wall time", 0), ("processor time", 1)):
        mine, theirs = samples["seat"][at::2], samples["collect"][at::2]
        yield row("harness", f"{what} of a rollout through a seat", "ms", mine)
        yield row("harness", f"{what} of a rollout of `collect`", "ms", theirs)
        beside = statistics.median(mine) / statistics.median(theirs)
        yield row("harness", f"{what}, a seat beside `collect`", "x", [beside], target=BESIDE)


def _collect(options: Options, folder: str, sockets: str, server: ScriptedServer) -> list[str]:
    said = msgspec.json.encode((options,)).decode()
    return ["collect", "--options", said, "--folder", folder, "--base-url", server.base_url, "--sockets", sockets]


def _each(start: Callable[[int], cluster_bed.Program]) -> list[float]:
    """Return milliseconds of wall and processor time of a rollout: those that many take longer than few."""
    with start(_FEW) as few:
        little = few.wait()
    with start(_MANY) as many:
        much = many.wait()
    more = _MANY - _FEW
    return [1000 * (much.wall_s - little.wall_s) / more, 1000 * (much.cpu_s - little.cpu_s) / more]


def queued() -> Iterator[Row]:
    """Measure how large a driver is, Ray in it, with ten thousand and with a million rollouts before it."""
    peaks: dict[str, float] = {}
    with (
        cluster_bed.cluster(1, 2) as at,
        ScriptedServer(_slow, remember=False) as server,
        tempfile.TemporaryDirectory(prefix="agenttrace-bench-") as store,
    ):
        for name, rollouts in _QUEUED.items():
            before = server.count
            more = ("--dataset", "demo", "--rollouts", str(rollouts))
            with cluster_bed.driver(at, f"queued-{rollouts}", store, server.base_url, *more) as driver:
                _until(lambda before=before: server.count > before)  # type: ignore[misc]
                time.sleep(_AT_WORK_S)
                peaks[name] = driver.peak_bytes() / _MIB
            yield row("driver", f"memory of a driver, {name} rollouts queued", "MiB", [peaks[name]], target=DRIVER_MIB)
    few, many = peaks.values()
    yield row("driver", "  what a million takes more than ten thousand", "MiB", [many - few], target=MORE_MIB)


def single() -> Iterator[Row]:
    """Measure a campaign on one machine: with a thousand and with a million rollouts before it, and behind it."""
    peaks, took, sizes = [], [], []
    with (
        cluster_bed.variables({strength.ANY: "1"}),
        runner() as running,
        ScriptedServer(_slow, remember=False) as server,
        tempfile.TemporaryDirectory(prefix="agenttrace-bench-") as folder,
    ):
        for name, rollouts in _PLANNED.items():
            options = Options(
                model=cluster_bed.MODEL, external=True, rollouts=rollouts, output=f"{rollouts}.jsonl",
                run_id=f"planned-{rollouts}",
            )  # fmt: skip
            words = _collect(options, folder, str(running.sockets), server)
            before = server.count
            with cluster_bed.Program("agenttrace.inside", *words) as campaign:
                _until(lambda before=before: campaign.peak_bytes() > 0 and server.count > before)  # type: ignore[misc]
                time.sleep(_AT_WORK_S)
                peaks.append(campaign.peak_bytes() / _MIB)
            yield row("single", f"memory of a campaign, {name} rollouts planned", "MiB", [peaks[-1]])
            sizes.append(_complete(options, Path(folder)))
            with cluster_bed.Program("agenttrace.inside", *words) as again:
                used = again.wait()
            took.append(used.wall_s)
            yield row("single", f"  found to be done, {sizes[-1] / 1e6:,.0f} MB of records", "s", [used.wall_s])
            yield row("single", "  memory", "MiB", [used.peak_bytes / _MIB])
    yield row("single", "what a million takes more than a thousand", "MiB", [peaks[1] - peaks[0]], target=PLANNED_MIB)
    a_pass = PASS_MB * 1e6 * (took[1] - took[0]) / (sizes[1] - sizes[0])
    yield row("single", f"a pass over {PASS_MB:.0f} MB of records", "s", [a_pass], target=1.0)


def _complete(options: Options, folder: Path) -> int:
    """Give every rollout that is planned the first record of its file, under its own id; return the bytes of all."""
    plan = make_plan(options, images={}, folder=folder, now=datetime.now(UTC))
    with plan.path.open("rb") as file:
        line = file.readline()
    own = _id(line).encode()
    with plan.path.open("wb") as file:
        file.writelines(line.replace(own, plan.trace_id(job).encode()) for job in plan.jobs())
    return plan.path.stat().st_size


def _slow(messages: list[dict[str, Any]]) -> dict[str, Any]:
    time.sleep(0.5)
    return script(messages)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AgentTraceError(f"a run has not begun for {_PATIENCE_S:.0f} s")
        time.sleep(0.1)


def records(rollouts: int) -> Iterator[Row]:
    """Hold the records of a run over three nodes against those of one machine, field by field."""
    options = Options(model=cluster_bed.MODEL, external=True, rollouts=rollouts, output="one.jsonl", run_id="same")
    more = ("--dataset", "demo", "--rollouts", str(rollouts), "--shard-rollouts", str(SHARD))
    with (
        cluster_bed.cluster(3, 2) as at,
        ScriptedServer(script, remember=False) as server,
        tempfile.TemporaryDirectory(prefix="agenttrace-bench-") as folder,
    ):
        with cluster_bed.driver(at, "same", f"{folder}/store", server.base_url, *more) as driver:
            driver.wait()
        sockets = at.sockets(0)
        with cluster_bed.Program("agenttrace.inside", *_collect(options, folder, sockets, server)) as alone:
            alone.wait()
        there, here = Path(folder, "three.jsonl"), Path(folder, "one.jsonl")
        merge(open_run(Store(f"{folder}/store"), "same"), there)
        yield from compared(here, there)


def compared(here: Path, there: Path) -> Iterator[Row]:
    """Return how many records two files have, and what differs in them that was not measured or observed."""
    left, right = ({_id(line): line for line in map(bytes, _lines(path))} for path in (here, there))
    differing = {one: record_differences(Trace, left[one], right[one]) for one in left.keys() & right.keys()}
    for one, found in differing.items():
        for difference in found:
            say(f"{one}: {difference}")
    yield row("records", "records of three nodes that one machine has, too", "", [len(differing)])
    yield row("records", "  records that only one side has", "", [len(left.keys() ^ right.keys())], target=0)
    yield row("records", "  records that differ", "", [sum(map(bool, differing.values()))], target=0)
    specs = [path.with_suffix(".run.json").read_bytes() for path in (here, there)]
    yield row("records", "  run specs that differ", "", [int(specs[0] != specs[1])], target=0)


def _lines(path: Path) -> Iterator[bytes]:
    yield from (line for _, line in lines(path) if line is not None)


def _id(line: bytes) -> str:
    return msgspec.json.decode(line, type=Trace).trace_id


def run(*, only: list[str], rounds: int, per_node: int, json_file: Path | None = None) -> int:
    """Measure, print both sides and return 0 when every target is met, else 1.

    Args:
        only: parts; all where there is none.
        rounds: turns of each side of `harness`.
        per_node: rollouts of each node in `scaling`.
        json_file: gets the rows as well.

    Raises:
        UsageError: there is no such part, or this machine cannot run a part of it.
        AgentTraceError: something did not come up, or ended with an error.
    """
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "scaling": lambda: scaling(per_node),
        "harness": lambda: harness(rounds),
        "driver": queued,
        "plan": cluster_plan.planned,
        "single": single,
        "records": lambda: records(4),
    }
    if unknown := [name for name in only if name not in parts]:
        raise UsageError(f"--only {unknown[0]}: expected one of {', '.join(parts)}")
    rows: list[Row] = []
    for name, part in parts.items():
        if not only or name in only:
            say(name)
            rows += part()
    print_rows("runs over several machines", rows)
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=2) + b"\n")
    return int(any(one.verdict == "missed" for one in rows))
