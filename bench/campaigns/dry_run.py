"""A dry run of SWE-ZERO's plan over a cluster: hours, nodes, bytes, cost, from measured figures and a simulation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from agenttrace.errors import UsageError
from agenttrace.records import Record
from bench.campaigns.dry_events import Fleet, simulate
from bench.campaigns.dry_figures import MEASURED, TURNS, measure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.campaigns.dry_events import Course
    from bench.campaigns.dry_figures import Figures

REPOSITORIES, TASKS, ROLLOUTS = 3_222, 122_908, 100
"""Of the set of 12.29 million (its card)."""
ENDPOINTS, IN_FLIGHT = 130, 64
"""Workers of upstream's fleet, one model server each, and rollouts of each (its `pipeline_overhead.svg`)."""
RATE = 1980.0
"""Rollouts an hour of an endpoint: 64 in flight, 232.7 s of the model for 30 turns (the same), half of it for 15."""
SIGMA = 0.49
"""Spread of a rollout's time: mean 125.4 s, median 111.2 s in upstream's pilot (issue 4710), taken as log-normal."""
LIFE_HOURS = 1.0
"""A node that can be taken away lives so long: upstream reckons with a new start in every hour."""
_HARNESS_MS, _HARNESS_TURNS = 253.0, 26
"""docs/rollouts.md, `bench-rollouts`: a rollout alone."""
_CPU_S = 2 / 6.08
"""Core seconds of a rollout of 26 turns at most: 6.08 a second on two cores (the same)."""
_RUNNER_MIB = 14.5
"""docs/benchmarks.md, `bench-sandbox`: memory of a sandbox worker's runner."""
_LISTING_S, _LISTING_MIB = 2.8, 85
"""docs/cluster.md: listing 122,908 manifests."""
_GIB, _TB = 2**30, 1e12


class Row(NamedTuple):
    """A line of the table: what, how much, and where that is from."""

    what: str
    figure: str
    source: str


class Inputs(Record, frozen=True, kw_only=True):
    """What a user can say.

    Attributes:
        tasks: of the plan.
        rollouts: of each.
        endpoints: model servers.
        in_flight: rollouts in flight at each.
        rate: rollouts an hour of each with so many in flight, tool calls left out.
        sigma: spread of a rollout's time.
        slots: sandbox workers of a node.
        life_hours: until a node is killed, on average; 0 is never.
        gb_month: US dollars for a gigabyte in the store and month; the default is S3's in us-east-1, as is the next.
        thousand_puts: US dollars for a thousand objects made.
        seed: of the simulation.
    """

    tasks: int = TASKS
    rollouts: int = ROLLOUTS
    endpoints: int = ENDPOINTS
    in_flight: int = IN_FLIGHT
    rate: float = RATE
    sigma: float = SIGMA
    slots: int = 64
    life_hours: float = LIFE_HOURS
    gb_month: float = 0.023
    thousand_puts: float = 0.005
    seed: int = 1

    @property
    def planned(self) -> int:
        """How many rollouts there are."""
        return self.tasks * self.rollouts

    @property
    def nodes(self) -> int:
        """Nodes whose sandbox workers keep all endpoints busy."""
        return math.ceil(self.endpoints * self.in_flight / self.slots)

    @property
    def mean_s(self) -> float:
        """Seconds of a rollout, the harness among them."""
        return 3600 * self.in_flight / self.rate + _HARNESS_MS / 1000 * TURNS / _HARNESS_TURNS

    def fleet(self, workers: int, *, killed: bool = True) -> Fleet:
        """Return what the campaign is made by, where an attempt takes so many sandbox workers."""
        life_s = self.life_hours * 3600 if killed and self.life_hours else math.inf
        return Fleet(
            nodes=self.nodes, slots=self.slots, workers=workers, mean_s=self.mean_s, sigma=self.sigma, kill_s=life_s
        )


def scenarios(inputs: Inputs) -> Iterator[tuple[int, Course]]:
    """Yield how many workers an attempt takes, half of a node's and fewer, and the course; at first without kills."""
    parts = ((2, False), (8, False), (2, True), (4, True), (8, True), (16, True))
    for workers, killed in ((max(1, inputs.slots // part), killed) for part, killed in parts):
        fleet = inputs.fleet(workers, killed=killed)
        yield workers, simulate(fleet, tasks=inputs.tasks, rollouts=inputs.rollouts, seed=inputs.seed)


def plan_rows(inputs: Inputs, figures: Figures) -> list[Row]:
    """Return what follows from the plan without a simulation."""
    n, cores = inputs.planned, inputs.slots / inputs.mean_s * _CPU_S * TURNS / _HARNESS_TURNS
    return [
        Row("plan", f"{inputs.tasks:,} tasks x {inputs.rollouts} = {n:,} rollouts of {TURNS} turns", "upstream's card"),
        Row(
            "endpoints", f"{inputs.endpoints} x {inputs.in_flight} in flight, {inputs.rate:,.0f} rollouts an hour each",
            "upstream; `--endpoints --in-flight --rate`",
        ),
        Row("nodes", f"{inputs.nodes} x {inputs.slots} sandbox workers", "as many as rollouts in flight"),
        Row("hours at least", f"{n / inputs.rate / inputs.endpoints:.1f}", "endpoints busy all the time"),
        Row(
            "cores of a node for tool calls", f"{cores:.2f}",
            "`bench-rollouts`: 6.08 rollouts of 26 turns a second on two cores",
        ),
        Row(
            "bytes of a rollout in the store", f"{figures.record_bytes:,} record, {figures.cassette_bytes:,} cassette",
            f"`--measure`: in parts of 16; the record's line has {figures.line_bytes:,}",
        ),
        Row(
            "manifests", f"{inputs.tasks:,} x {figures.manifest_bytes:,} B = "
            f"{inputs.tasks * figures.manifest_bytes / 1e9:.2f} GB", "`--measure`",
        ),
        Row("merged record file", f"{n * figures.line_bytes / _TB:.2f} TB", "lines, as `cluster merge` writes them"),
        Row(
            "processor time of storing", f"{n * figures.log_cpu_ms / 3.6e6:,.0f} h over all nodes",
            f"`--measure`: {figures.log_cpu_ms} ms a rollout",
        ),
        Row(
            "processor time of `stats --no-diversity`", f"{n * figures.read_cpu_us / 3.6e9:.1f} h",
            f"`--measure`: {figures.read_cpu_us} µs a record",
        ),
        Row(
            "listing all manifests", f"{inputs.tasks / TASKS * _LISTING_S:.1f} s, {_LISTING_MIB} MiB",
            "table above, a stand-in for S3",
        ),
        Row(
            "trees", f"{inputs.tasks * figures.tree_cpu_s / 3600:,.0f} core hours, "
            f"{inputs.tasks * figures.tree_bytes / _TB:.1f} TB",
            f"`--measure`: {figures.tree_cpu_s} s, {figures.tree_bytes / 1e6:.1f} MB for 2,000 files, without fetching",
        ),
    ]  # fmt: skip


def course_cells(inputs: Inputs, figures: Figures, workers: int, course: Course) -> list[str]:
    """Return the cells of a simulated course."""
    size = course.kept * figures.rollout_bytes + course.parts * figures.part_bytes
    objects = 2 * course.parts + inputs.tasks
    again = course.lost + course.cut_off
    memory = inputs.slots // workers * figures.seat_bytes + inputs.slots * _RUNNER_MIB * 2**20
    costs = size / 1e9 * inputs.gb_month, objects / 1000 * inputs.thousand_puts
    return [
        str(workers),
        f"{course.kills:,}",
        f"{course.hours:.1f}",
        f"{course.busy:.1%}",
        f"{course.tail_hours:.1f}",
        f"{memory / _GIB:.1f}",
        f"{course.lost:,}",
        f"{again / course.kept:.2%}",
        f"{objects / 1e6:.2f} M",
        f"{size / 1e9:,.0f} GB",
        f"{costs[0]:,.1f} + {costs[1]:,.0f}",
    ]


_COLUMNS = (
    "workers of an attempt", "kills of nodes", "hours", "slots busy", "tail, hours", "GiB a node", "finished and lost",
    "begun and made again", "objects", "stored", "US dollars: a month + once",
)  # fmt: skip


def table(inputs: Inputs, figures: Figures) -> str:
    """Return both tables as Markdown."""
    lines = ["| what | figure | from |", "|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in plan_rows(inputs, figures)]
    lines += ["", f"| {' | '.join(_COLUMNS)} |", "|" + "---:|" * len(_COLUMNS)]
    for workers, course in scenarios(inputs):
        if course.kept != inputs.planned:
            raise AssertionError(f"{course.kept} of {inputs.planned} rollouts were kept")
        lines.append(f"| {' | '.join(course_cells(inputs, figures, workers, course))} |")
    return "\n".join(lines)


def run(*, measured: bool, json_file: Path | None = None, **said: float | None) -> int:
    """Print the tables and return 0.

    Args:
        measured: measure bytes, trees and memory here, in place of the figures that were.
        json_file: gets inputs and figures as well.
        said: fields of `Inputs`; `None` is the default.

    Raises:
        UsageError: an input is none.
    """
    try:
        inputs = msgspec.convert({name: value for name, value in said.items() if value is not None}, Inputs)
    except msgspec.ValidationError as error:
        raise UsageError(f"dry-run: {error}") from error
    if inputs.slots < 1 or min(inputs.tasks, inputs.rollouts, inputs.endpoints, inputs.in_flight, inputs.rate) <= 0:
        raise UsageError("dry-run: tasks, rollouts, endpoints, rollouts in flight, rate and slots must be more than 0")
    figures = measure() if measured else MEASURED
    print(table(inputs, figures))  # noqa: T201 - the result
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode({"inputs": inputs, "figures": figures})) + b"\n")
    return 0
