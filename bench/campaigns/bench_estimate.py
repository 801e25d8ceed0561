"""`bench-estimate`: how long 700 tasks take on this machine with a model of the released data set.

Rates, memory, start and reuse are measured on the server that a campaign starts, with conversations as long as
upstream's; how many requests a task has, and of how many tokens, is upstream's record. docs/collect.md says how to
read it.
"""

from __future__ import annotations

import json
import math
import os
import re
import statistics
import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.campaign.options import Options
from agenttrace.errors import AgentTraceError, UsageError
from agenttrace.host import campaign, compose, guard, weights
from agenttrace.models.reference import find
from agenttrace.serving.profiles import threads_for
from agenttrace.show import say
from bench.campaigns import bare_conversation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agenttrace.records import ModelPin

PROFILES = ("stateless", "reproducible")
TASKS = 700
"""Of one model in the released data set: 500 of MBPP, 200 of NL2Bash."""
REPLIES = {"0_6B": 1.76, "1_7B": 4.0}
"""Mean generations of a task, by size of the model: 4,039 in the 1,400 released traces, of which those of 1.7B have 4.3
on NL2Bash and 3.9 on MBPP."""
FIRST, GROWTH, REPLY = 1495, 125, 1072
"""Tokens of the first prompt, by which each later one is longer, and of a reply: means of the released NL2Bash trace of
1.7B with ten generations (1,495 to 2,623 tokens in, 10,722 out)."""
_SHORT, _SHORT_REPLY = 512, 64
_SEED = 20261129
_LIMIT_S = 3600.0


class Reading(msgspec.Struct, kw_only=True):
    """What one conversation showed.

    Attributes:
        replies: the server's `timings` of each.
        ready_s: from the start of the server's container until the model was loaded; `None` where its log does not say.
        peak_bytes: largest resident memory of the server, weights included.
    """

    replies: list[dict[str, float]]
    ready_s: float | None
    peak_bytes: int | None


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Medians over the rounds: seconds of each prompt, tokens per second, share of prompt tokens that were reused."""

    prompt_s: list[float]
    prompt: float
    generation: float
    reused: float

    def task_s(self, replies: float) -> float:
        """Return the seconds of a task with so many replies; 1.76 are one, and 0.76 of a second one."""
        shares = [min(1.0, replies - number) for number in range(math.ceil(replies))]
        each = zip(shares, self.prompt_s, strict=True)
        return sum(share * (seconds + REPLY / self.generation) for share, seconds in each)


def run(
    *, model: str, rounds: int, reply: int, cores: list[int], only: list[str], json_file: Path | None = None
) -> int:
    """Measure, print and return 0.

    Args:
        model: as `collect` takes it; a file of its shape costs what it costs.
        rounds: turns of each side.
        reply: tokens that each measured reply has.
        cores: numbers of processors to which the rates are carried over by the gain that more threads gave here.
        only: profiles; both when empty.
        json_file: gets the figures.
    """
    if unknown := {*only} - {*PROFILES}:
        raise UsageError(f"--only {' '.join(sorted(unknown))}: known are {', '.join(PROFILES)}")
    load = os.getloadavg()[0]
    chosen = [name for name in PROFILES if not only or name in only]
    with guard.guarded("collect") as at, tempfile.TemporaryDirectory(prefix="agenttrace-bench-") as name:
        server = _Server(model, Path(name), at)
        if server.pin.size not in REPLIES:
            raise UsageError(f"{model}: its file says size {server.pin.size}, upstream has {', '.join(REPLIES)}")
        replies = REPLIES[server.pin.size]
        lengths = [FIRST + GROWTH * number for number in range(math.ceil(replies))]
        found: dict[str, list[Reading]] = {profile: [] for profile in chosen}
        gains: list[tuple[Rates, Rates]] = []
        for number in range(rounds):
            for profile in chosen:
                say(f"round {number + 1} of {rounds}, {profile}")
                found[profile].append(server.read(profile, None, lengths, reply))
            if cores:
                every = (1, 1), (at.info.cpus, at.info.cpus)
                one, all_ = (server.read(PROFILES[0], count, [_SHORT], _SHORT_REPLY) for count in every)
                gains.append((_rates([one]), _rates([all_])))
    rows = [
        _row(
            profile,
            [_carried(rates, gains, at.info.cpus, count) for rates in (_rates(each), *map(_of_one, each))],
            replies,
            count,
            scaled=count != at.info.cpus,
        )
        for count in (at.info.cpus, *cores)
        for profile, each in found.items()
    ]
    readings = [reading for each in found.values() for reading in each]
    document = {
        "model": server.pin.name,
        "sha256": server.pin.sha256,
        "cpus": at.info.cpus,
        "load": [load, os.getloadavg()[0]],
        "ready_s": _median(one.ready_s for one in readings),
        "peak_bytes": _median(one.peak_bytes for one in readings),
        "gains": [[msgspec.to_builtins(rates) for rates in pair] for pair in gains],
        "rows": rows,
        "readings": msgspec.to_builtins(found),
    }
    _print(document)
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
    return 0


class _Server:
    """The model's server on this machine's engine, started anew for every reading."""

    def __init__(self, model: str, folder: Path, at: guard.Engine) -> None:
        self._at = at
        self._started = 0
        request = campaign.Request(options=(Options(model=model, cpus=at.info.cpus or None),), folder=folder)
        self._request, self._known = request, campaign.variables(request, at)
        self.pin: ModelPin = weights.fetch(compose.Services(at.project, self._known), find(model))

    def read(self, profile: str, threads: tuple[int, int] | None, lengths: list[int], reply: int) -> Reading:
        """Start the server, hold one conversation with it, and take it away again."""
        self._started += 1
        options = msgspec.structs.replace(self._request.options[0], profile=profile, threads=threads)
        request = msgspec.structs.replace(self._request, options=(options,))
        services = compose.Services(self._at.project, self._known | campaign.server_variables(request, self.pin))
        services.up("server")
        plan = {
            "lengths": lengths,
            "reply": reply,
            "reuse": profile == "reproducible",
            "seed": _SEED,
            "tokens": 150_000,
        }
        code = Path(bare_conversation.__file__).read_text(encoding="utf-8")
        name = f"{self._at.project}-estimate-{self._started}"
        with services.python(name, "collector", code, "server:8080", json.dumps(plan)) as process:
            output, _ = process.communicate(timeout=_LIMIT_S)
        if process.returncode:
            raise AgentTraceError(f"the requests ended with status {process.returncode}")
        labels = {"label": [f"com.docker.compose.project={self._at.project}", "com.docker.compose.service=server"]}
        (container,) = self._at.sdk.containers.list(filters=labels)
        found = Reading(replies=json.loads(output), ready_s=_ready_s(container), peak_bytes=_peak_bytes(container))
        container.remove(force=True)
        return found


def _ready_s(container: Any) -> float | None:  # noqa: ANN401 - docker.models.containers.Container
    """Return the seconds from the container's start to the line of the log that says that the model is loaded."""
    log = container.logs(timestamps=True).decode(errors="replace")
    loaded = re.search(r"^(\S+) .*model loaded", log, re.MULTILINE)
    return loaded and _clock(loaded[1]) - _clock(container.attrs["State"]["StartedAt"])


def _clock(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def _peak_bytes(container: Any) -> int | None:  # noqa: ANN401 - docker.models.containers.Container
    """Return the largest resident set of the container's processes (`VmHWM`, in KiB), with files that are mapped."""
    told = container.exec_run(["sh", "-c", "cat /proc/[0-9]*/status"]).output.decode(errors="replace")
    found = [int(kib) * 1024 for kib in re.findall(r"^VmHWM:\s+(\d+) kB", told, re.MULTILINE)]
    return max(found, default=None)


def _rates(readings: list[Reading]) -> Rates:
    """Return the medians over conversations with the same prompts."""
    each = list(zip(*(reading.replies for reading in readings), strict=True))
    replies = [reply for reading in readings for reply in reading.replies]
    cached = sum(reply.get("cache_n", 0) for reply in replies)
    return Rates(
        prompt_s=[statistics.median(reply["prompt_ms"] for reply in same) / 1e3 for same in each],
        prompt=statistics.median(reply["prompt_per_second"] for reply in replies),
        generation=statistics.median(reply["predicted_per_second"] for reply in replies),
        reused=cached / (cached + sum(reply["prompt_n"] for reply in replies)),
    )


def _of_one(reading: Reading) -> Rates:
    return _rates([reading])


def _carried(rates: Rates, gains: list[tuple[Rates, Rates]], cpus: int, cores: int) -> Rates:
    """Return rates on other processors, as a power of their number: that which one and all processors show here.

    Prompts are read by a thread on every processor, replies are generated by one fewer; see `threads_for`.
    """
    if cores == cpus:
        return rates
    prompt = _power([(one.prompt, every.prompt) for one, every in gains], cpus)
    generation = _power([(one.generation, every.generation) for one, every in gains], cpus)
    (had, had_batch), (gets, gets_batch) = threads_for(cpus), threads_for(cores)
    faster = (gets_batch / had_batch) ** prompt
    return Rates(
        prompt_s=[seconds / faster for seconds in rates.prompt_s],
        prompt=rates.prompt * faster,
        generation=rates.generation * (gets / had) ** generation,
        reused=rates.reused,
    )


def _power(pairs: list[tuple[float, float]], cpus: int) -> float:
    return math.log(statistics.median(every / one for one, every in pairs)) / math.log(cpus)


def _row(profile: str, every: list[Rates], replies: float, cores: int, *, scaled: bool) -> dict[str, Any]:
    """Return a row of the table: the medians, which come first in `every`, and hours by the rates of each round."""
    hours = [rates.task_s(replies) * TASKS / 3600 for rates in every]
    return {
        "cores": cores, "scaled": scaled, "profile": profile, **msgspec.to_builtins(every[0]), "hours": hours[0],
        "hours_of_rounds": sorted(hours[1:]),
    }  # fmt: skip


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _print(document: dict[str, Any]) -> None:
    from rich.console import Console  # noqa: PLC0415 - heavy
    from rich.table import Table  # noqa: PLC0415

    table = Table(
        "cores", "profile", "prompt tok/s", "generation tok/s", "reused", "s a task", f"h for {TASKS} tasks (by round)"
    )
    for row in document["rows"]:
        cores = f"{row['cores']}{' (carried over)' if row['scaled'] else ''}"
        rates = (f"{row['prompt']:,.0f}", f"{row['generation']:.1f}", f"{row['reused']:.0%}")
        seconds, rounds = row["hours"] * 3600 / TASKS, row["hours_of_rounds"]
        hours = f"{row['hours']:,.0f} ({rounds[0]:,.0f} to {rounds[-1]:,.0f})"
        table.add_row(cores, row["profile"], *rates, f"{seconds:,.0f}", hours)
    Console(width=None if os.isatty(1) else 120).print(table)
    ready, peak = document["ready_s"], document["peak_bytes"]
    say(
        f"{document['model']}: ready after {'? s' if ready is None else f'{ready:.1f} s'}, "
        f"{'?' if peak is None else f'{peak / 2**30:.2f}'} GiB at most, load average "
        f"{document['load'][0]:.1f} to {document['load'][1]:.1f}"
    )
