"""`bench-serving`: what prompt reuse inside a conversation saves, and what threads of the server do beside other work.

docs/benchmarks.md says how to read what it prints.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.campaign.options import Options
from agenttrace.campaign.replay.divergence import compare_runs
from agenttrace.errors import AgentTraceError, UsageError
from agenttrace.host import campaign, compose, engine, guard, weights
from agenttrace.models.reference import find
from agenttrace.serving.profiles import profile
from agenttrace.show import say
from agenttrace.store.read import read_traces
from bench.campaigns import bare_speed

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTS = ("prompts", "threads")
PROFILES = ("stateless", "reproducible")
"""Compared unless others are named, each as NAME or NAME@VERSION."""
_LIMIT_S = 600.0


class Reading(msgspec.Struct, kw_only=True):
    """What the campaigns of one profile did: sums over their records."""

    records: int = 0
    requests: int = 0
    evaluated: int = 0
    cached: int = 0
    generated: int = 0
    prompt_s: float = 0.0
    task_s: list[float] = []


def run(
    *,
    model: str,
    dataset: str,
    tasks: int,
    rounds: int,
    only: list[str],
    profiles: list[str] | None = None,
    json_file: Path | None = None,
) -> int:
    """Measure, print and return the exit status: 1 where runs of a profile that is reproducible differ.

    Args:
        model: as `collect` takes it.
        dataset: task set of the part `prompts`.
        tasks: so many of its first ones.
        rounds: turns of each side.
        only: parts; all when empty.
        profiles: of the part `prompts`, each as NAME or NAME@VERSION.
        json_file: gets the figures.
    """
    if unknown := {*only} - {*PARTS}:
        raise UsageError(f"--only {' '.join(sorted(unknown))}: known are {', '.join(PARTS)}")
    if profiles and (len({*profiles}) < len(profiles) or (only and "prompts" not in only)):
        raise UsageError("--profiles: expected different ones, for the part prompts")
    document: dict[str, Any] = {"cpus": engine.check().cpus, "load_before": os.getloadavg()[0]}
    status = 0
    if not only or "prompts" in only:
        document["prompts"], status = prompts(model, dataset, tasks, rounds, profiles or [*PROFILES])
    if not only or "threads" in only:
        document["threads"] = threads(model, rounds)
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
    return status


def prompts(model: str, dataset: str, tasks: int, rounds: int, profiles: list[str]) -> tuple[dict[str, Any], int]:
    """Return what the same tasks cost under each profile, in turns, and 1 where runs of a reproducible one differ."""
    sides = {text: _profile(text) for text in profiles}
    found = {text: Reading() for text in sides}
    with tempfile.TemporaryDirectory(prefix="agenttrace-bench-") as name:
        folder, files = Path(name), defaultdict(list)
        for number in range(rounds):
            for side, (kind, version) in sides.items():
                output = f"{side}-{number}.jsonl"
                say(f"round {number + 1} of {rounds}, {side}")
                options = Options(
                    model=model,
                    dataset=dataset,
                    count=tasks,
                    profile=kind,
                    profile_version=version,
                    output=output,
                    run_id="bench",
                )
                ended = campaign.collect(campaign.Request(options=(options,), folder=folder))
                if ended.status:
                    raise AgentTraceError(f"the campaign ended with status {ended.status}")
                files[side].append(folder / output)
                _read(found[side], folder / output)
        equal = {name: _equal(paths) for name, paths in files.items()}
        between = _equal([paths[0] for paths in files.values()])
    _print_prompts(found, equal, between)
    document = {name: msgspec.to_builtins(one) | {"equal": equal[name]} for name, one in found.items()}
    differ = [name for name, one in equal.items() if len({*one}) > 1 and profile(*sides[name]).reproducible]
    return {**document, "equal_between": between}, int(bool(differ))


def _profile(text: str) -> tuple[str, int | None]:
    """Return name and version of a profile, as a user writes them.

    Raises:
        UsageError: there is none such.
    """
    name, at, version = text.partition("@")
    if at and not version.isdecimal():
        raise UsageError(f"--profiles {text}: expected NAME or NAME@VERSION")
    asked = name, int(version) if at else None
    profile(*asked)
    return asked


def _read(reading: Reading, file: Path) -> None:
    seconds = 0.0
    for trace in read_traces(file):
        reading.records += 1
        seconds += (trace.total_duration_ms or 0.0) / 1e3
        for step in trace.llm_steps:
            reading.requests += 1
            reading.generated += step.output_tokens or 0
            if step.timings is not None:
                reading.evaluated += step.timings.prompt_n or 0
                reading.cached += step.timings.cached_n or 0
                reading.prompt_s += (step.timings.prompt_ms or 0.0) / 1e3
    reading.task_s.append(seconds)


def _equal(files: list[Path]) -> tuple[int, int]:
    """Return how many tasks are equal in all files, and how many there are."""
    if len(files) < 2:  # noqa: PLR2004 - nothing to compare with
        return 0, 0
    verdicts = compare_runs(files)
    return sum(one.verdict == "equal" for one in verdicts), len(verdicts)


def _print_prompts(found: dict[str, Reading], equal: dict[str, tuple[int, int]], between: tuple[int, int]) -> None:
    rows = {
        "records": lambda name: f"{found[name].records:,}",
        "requests": lambda name: f"{found[name].requests:,}",
        "prompt tokens evaluated": lambda name: f"{found[name].evaluated:,}",
        "prompt tokens reused": lambda name: f"{found[name].cached:,}",
        "seconds on prompts": lambda name: f"{found[name].prompt_s:.1f}",
        "tokens generated": lambda name: f"{found[name].generated:,}",
        "seconds a round": lambda name: ", ".join(f"{one:.1f}" for one in found[name].task_s),
        "tasks equal in all rounds": lambda name: "{} of {}".format(*equal[name]),
    }
    _print(["", *found], [[row, *map(show, found)] for row, show in rows.items()])
    say(f"equal between the profiles: {between[0]} of {between[1]} tasks")


def threads(model: str, rounds: int) -> list[dict[str, Any]]:
    """Return prompt and generation rates for threads and polling, with and without a busy neighbour, in turns."""
    cpus = engine.check().cpus
    fewer = max(1, cpus - 1)
    settings = [((cpus, cpus), 1), ((cpus, cpus), None), ((fewer, cpus), None), ((1, 1), None)]
    rates: dict[tuple[int, bool], list[dict[str, float]]] = defaultdict(list)
    with guard.guarded("collect") as at, tempfile.TemporaryDirectory(prefix="agenttrace-bench-") as name:
        services, pin = None, None
        for number in range(rounds):
            for index, (count, version) in enumerate(settings):
                options = Options(model=model, profile="reproducible", threads=count, profile_version=version)
                request = campaign.Request(options=(options,), folder=Path(name))
                known = campaign.variables(request, at)
                pin = pin or weights.fetch(compose.Services(at.project, known), find(model))
                services = compose.Services(at.project, known | campaign.server_variables(request, pin))
                services.up("server")
                for busy in (False, True):
                    say(f"round {number + 1} of {rounds}: {_setting(count, version)}, {'busy' if busy else 'quiet'}")
                    with _neighbour(max(1, cpus // 2) if busy else 0):
                        rates[index, busy].append(_rates(services, f"{at.project}-speed-{number}-{index}-{busy}"))
    rows = []
    for index, (count, version) in enumerate(settings):
        row: dict[str, Any] = {"setting": _setting(count, version)}
        for busy, word in ((False, "quiet"), (True, "busy")):
            for figure in ("prompt", "generation"):
                row[f"{word}_{figure}"] = statistics.median(one[figure] for one in rates[index, busy])
        rows.append(row)
    shown = [[row["setting"], *(f"{row[name]:,.0f}" for name in row if name != "setting")] for row in rows]
    _print(["threads", "quiet: prompt", "generation", "busy neighbour: prompt", "generation"], shown)
    return rows


def _setting(count: tuple[int, int], version: int | None) -> str:
    return f"-t {count[0]} -tb {count[1]}" + (" --poll 0" if version is None else " --poll 50")


def _rates(services: compose.Services, name: str) -> dict[str, float]:
    code = Path(bare_speed.__file__).read_text(encoding="utf-8")
    with services.python(name, "collector", code, "server:8080") as process:
        output, _ = process.communicate(timeout=_LIMIT_S)
    if process.returncode:
        raise AgentTraceError(f"the requests ended with status {process.returncode}")
    rates: dict[str, float] = json.loads(output)
    return rates


@contextlib.contextmanager
def _neighbour(processes: int) -> Iterator[None]:
    """Keep so many cores busy."""
    spinning = [multiprocessing.Process(target=_spin) for _ in range(processes)]
    try:
        for one in spinning:
            one.start()
        yield
    finally:
        for one in spinning:
            one.kill()
            one.join()


def _spin() -> None:
    while True:
        pass


def _print(columns: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - heavy
    from rich.table import Table  # noqa: PLC0415

    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    Console(width=None if os.isatty(1) else 120).print(table)
