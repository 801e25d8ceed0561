"""`bench-collect`: does the kit keep a model server busy, what does it cost itself, how fast does it resume.

docs/benchmarks.md says how to read what it prints.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.campaign.options import Options, served
from agenttrace.errors import AgentTraceError, UsageError
from agenttrace.host import campaign, compose, engine, guard, weights
from agenttrace.models import pins
from agenttrace.serving.cassette import cassette_path
from agenttrace.show import say
from agenttrace.store.read import read_traces
from bench.campaigns import bare_load, resume
from bench.campaigns.container_cpu import ContainerCpu

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

PROFILE = "throughput"
TASKS_OF_THE_SET = 32
_LIMIT_S = 3600.0


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What one side did.

    Attributes:
        wall_s: from its first task (request) to its last.
        requests: generations.
        tokens: generated.
        slots_busy: share of slots and wall time in which a slot worked on a request, as the server reports it.
        ours: share of the machine's processor time that the kit's own processes used; `None` for the bare generator.
        server: share that the model server used.
        tools: share that tool calls used, from their telemetry.
    """

    wall_s: float
    requests: int
    tokens: int
    slots_busy: float
    ours: float | None = None
    server: float | None = None
    tools: float | None = None


class Bed:
    """The services of the benchmark: one project, one folder, one server for both sides."""

    def __init__(self, project: str, services: compose.Services, request: campaign.Request) -> None:
        self.project = project
        self.services = services
        self.request = request

    def python(self, name: str, code: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start Python code in a collector's container; its input and output are pipes."""
        return self.services.python(f"{self.project}-{name}", "collector", code, *arguments)


@contextlib.contextmanager
def bed(folder: Path, options: Options, workers: int | None) -> Iterator[Bed]:
    """Yield a benchmark's services, not started yet; removes all of it afterwards."""
    request = campaign.check(campaign.Request(options=(options,), folder=folder, workers=workers))
    with guard.guarded("collect") as at:
        variables = campaign.variables(request, at) | campaign.server_variables(request)
        yield Bed(at.project, compose.Services(at.project, variables), request)


def run(
    *,
    tasks: int,
    records: int,
    model: str = pins.DEFAULT_MODEL,
    dataset: str = "demo",
    workers: int | None = None,
    max_steps: int | None = None,
    max_tokens: int | None = None,
    json_file: Path | None = None,
) -> int:
    """Measure, print and return the exit status 0.

    Args:
        tasks: of the campaign; of the demo set rounded up to whole rollouts of it.
        model: as `collect` takes it.
        dataset: task set of the campaign.
        records: of the file that is resumed; 0 leaves that part out.
        workers: tasks run at a time; the profile's when `None`.
        max_steps: of a task; the agent's when `None`.
        max_tokens: of a reply; the sampler's when `None`.
        json_file: gets the figures.
    """
    if tasks < 1 or records < 0:
        raise UsageError("--tasks is at least 1, --records at least 0")
    document: dict[str, Any] = {"cpus": engine.check().cpus, "load_before": os.getloadavg()[0]}
    size: dict[str, Any] = {"rollouts": -(-tasks // TASKS_OF_THE_SET)} if dataset == "demo" else {"count": tasks}
    size |= {"max_steps": max_steps, "max_output_tokens": max_tokens}
    options = Options(model=model, dataset=dataset, profile=PROFILE, output="bench.jsonl", run_id="bench", **size)
    sides = busy(options, workers)
    document |= {name: msgspec.to_builtins(side) for name, side in sides.items()}
    _print_sides(sides, document)
    if records:
        document["resume"] = {**resume.measured(records), "load_after": os.getloadavg()[0]}
        _print_resume(document["resume"])
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
    return 0


def busy(options: Options, workers: int | None) -> dict[str, Figures]:
    """Return the figures of a campaign and of the bare generator that sends the same requests afterwards."""
    with tempfile.TemporaryDirectory(prefix="agenttrace-bench-") as name, bed(Path(name), options, workers) as found:
        weights.fetch(found.services, found.request.reference())
        found.services.up("server", "sandbox")
        say(f"a campaign of {options.rollouts * (options.count or TASKS_OF_THE_SET)} tasks")
        campaign_side = _campaign(found, Path(name), options)
        say("the same requests from a bare load generator, to a new server: the first has these prompts in its cache")
        found.services.up("server", anew=True)
        return {"campaign": campaign_side, "bare load generator": _bare(found, Path(name))}


def _campaign(found: Bed, folder: Path, options: Options) -> Figures:
    cpus = engine.check().cpus
    before = _own_cpu_s()
    with ContainerCpu(compose.client(), found.project) as used:
        process = campaign.start_collector(
            found.services, f"{found.project}-collector", found.request, options, "--report", "/data/report.json"
        )
        if process.wait(_LIMIT_S):
            raise AgentTraceError(f"the campaign ended with status {process.returncode}")
    report = json.loads((folder / "report.json").read_bytes())
    wall = report["elapsed_ns"] / 1e9
    machine = cpus * wall
    tools = report["tool_cpu_ns"] / 1e9
    sandbox = used.used_ns("sandbox") / 1e9 - tools
    ours = report["cpu_ns"] / 1e9 + max(0.0, sandbox) + _own_cpu_s() - before
    return Figures(
        wall_s=wall,
        requests=report["requests"],
        tokens=sum(
            step.output_tokens or 0 for trace in read_traces(folder / "bench.jsonl") for step in trace.llm_steps
        ),
        slots_busy=report["slot_ns"] / 1e9 / (report["slots"] * wall),
        ours=ours / machine,
        server=used.used_ns("server") / 1e9 / machine,
        tools=tools / machine,
    )


def _own_cpu_s() -> float:
    """Processor time of this process and of the commands that it waited for, such as `docker compose run`."""
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def _bare(found: Bed, folder: Path) -> Figures:
    _, serving = served(found.request.options[0])
    slots = serving.slots or 1
    clients = str(found.request.workers or found.request.profile.workers)
    records = folder / "bench.jsonl"
    code = Path(bare_load.__file__).read_text(encoding="utf-8")
    where = (f"/data/{cassette_path(records).name}", "server:8080", clients)
    with ContainerCpu(compose.client(), found.project) as used, found.python("bare", code, *where) as process:
        output, _ = process.communicate(timeout=_LIMIT_S)
    if process.returncode:
        raise AgentTraceError(f"the bare load generator ended with status {process.returncode}")
    told = json.loads(output)
    if told["other_prompts"]:
        raise AgentTraceError(f"{told['other_prompts']:.0f} requests had another prompt than those of the campaign")
    wall = told["elapsed_s"]
    return Figures(
        wall_s=wall,
        requests=round(told["requests"]),
        tokens=round(told["tokens"]),
        slots_busy=told["slot_ms"] / 1e3 / (slots * wall),
        server=used.used_ns("server") / 1e9 / (engine.check().cpus * wall),
    )


def _print_sides(sides: dict[str, Figures], document: dict[str, Any]) -> None:
    from rich.console import Console  # noqa: PLC0415 - heavy
    from rich.table import Table  # noqa: PLC0415

    title = f"{document['cpus']} cores, load average {document['load_before']:.1f} before"
    table = Table("", *sides, title=title, title_justify="left")
    rows: dict[str, Callable[[Figures], str]] = {
        "requests": lambda side: f"{side.requests:,}",
        "wall time": lambda side: f"{side.wall_s:.1f} s",
        "requests per second": lambda side: f"{side.requests / side.wall_s:.1f}",
        "tokens per second": lambda side: f"{side.tokens / side.wall_s:.1f}",
        "server's slots busy (target: 90 %)": lambda side: _percent(side.slots_busy),
        "machine's CPU: our processes (target: < 15 %)": lambda side: _percent(side.ours),
        "machine's CPU: model server": lambda side: _percent(side.server),
        "machine's CPU: tool calls": lambda side: _percent(side.tools),
    }
    for name, show in rows.items():
        table.add_row(name, *(show(side) for side in sides.values()))
    Console(width=None if os.isatty(1) else 120).print(table)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _print_resume(found: dict[str, float]) -> None:
    mib = {name: f"{found[name] / 2**20:.0f} MiB" for name in ("bytes", "rss_first", "rss_last", "rss_peak")}
    memory = (
        f"{mib['rss_first']} at record {found['first']:.0f}, {mib['rss_last']} at the last, {mib['rss_peak']} at most"
    )
    lines = [
        f"{found['records']:,.0f} records ({mib['bytes']}), then kill -9 and the same command again:",
        f"  first new request {found['first_request_s']:.2f} s after the collector's start (target: 1 s)",
        f"  load average {found['load_after']:.1f} on {os.cpu_count()} cores: waiting for a core is in these seconds",
        f"  collector's memory {memory} (target: 150 MiB)",
    ]
    for line in lines:
        print(line)  # noqa: T201 - the session's result
