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
_SHORT, _SHORT_REPLY, _BURSTS = 128, 8, 12
_SEED = 20261129
_LIMIT_S = 3600.0


class Reading(msgspec.Struct, kw_only=True):
    """What one conversation showed.

    Attributes:
        replies: the server's `timings` of each.
        prompt: tokens per second of the fastest short prompt after it.
        generation: likewise of the fastest short reply, at the end of the conversation's context.
        ready_s: from the start of the server's container until the model was loaded; `None` where its log does not say.
        peak_bytes: largest resident memory of the server, weights included.
    """

    replies: list[dict[str, float]]
    prompt: float
    generation: float
    ready_s: float | None = None
    peak_bytes: int | None = None

    def rate(self, what: str) -> float:
        """Return the tokens per second of all prompts (`prompt`) or replies (`predicted`) of the conversation."""
        seconds = sum(reply[f"{what}_ms"] for reply in self.replies) / 1e3
        return sum(reply[f"{what}_n"] for reply in self.replies) / seconds


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Prompt tokens that are computed for each reply, and tokens per second of prompts and of replies."""

    evaluated: list[int]
    prompt: float
    generation: float

    def hours(self, replies: float) -> float:
        """Return what all tasks take with so many replies each; 1.76 are one, and 0.76 of a second one."""
        shares = [min(1.0, replies - number) for number in range(math.ceil(replies))]
        each = zip(shares, self.evaluated, strict=True)
        seconds = sum(share * (tokens / self.prompt + REPLY / self.generation) for share, tokens in each)
        return seconds * TASKS / 3600


def run(
    *, model: str, rounds: int, reply: int, cores: list[int], only: list[str], json_file: Path | None = None
) -> int:
    """Measure, print and return 0.

    Args:
        model: as `collect` takes it; a file of its shape costs what it costs.
        rounds: turns of each side.
        reply: tokens that each measured reply has.
        cores: numbers of processors to which the rates are carried over, by the gain that more threads gave here.
        only: profiles; both when empty.
        json_file: gets the figures.
    """
    if unknown := {*only} - {*PROFILES}:
        raise UsageError(f"--only {' '.join(sorted(unknown))}: known are {', '.join(PROFILES)}")
    if min(rounds, reply, *cores, 1) < 1:
        raise UsageError("--rounds, --reply and --cores are at least 1")
    load = os.getloadavg()[0]
    chosen = [name for name in PROFILES if not only or name in only]
    with guard.guarded("collect") as at, tempfile.TemporaryDirectory(prefix="agenttrace-bench-") as name:
        server = _Server(model, Path(name), at)
        if server.pin.size not in REPLIES:
            raise UsageError(f"{model}: its file says size {server.pin.size}, upstream has {', '.join(REPLIES)}")
        if cores and at.info.cpus < 2:  # noqa: PLR2004 - one of them shows no gain
            raise UsageError("the engine has one processor: give --cores alone, and measure on the other machine")
        replies = REPLIES[server.pin.size]
        lengths = [FIRST + GROWTH * number for number in range(math.ceil(replies))]
        found: dict[str, list[Reading]] = {profile: [] for profile in chosen}
        gains: list[tuple[Reading, Reading]] = []
        for number in range(rounds):
            for profile in chosen:
                say(f"round {number + 1} of {rounds}, {profile}")
                found[profile].append(server.read(profile, None, lengths, reply))
            if cores:
                say(f"round {number + 1} of {rounds}, one thread and all")
                every = (1, 1), (at.info.cpus, at.info.cpus)
                one, all_ = (server.read(PROFILES[0], count, [_SHORT], _SHORT_REPLY) for count in every)
                gains.append((one, all_))
    rows = [_row(profile, each, replies, at.info.cpus) for profile, each in found.items()]
    rows += [
        _row(profile, each, replies, count, carried=_carried(_fastest(each), gains, at.info.cpus, count))
        for count in cores
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
        "rows": rows,
        "readings": msgspec.to_builtins(found),
        "one_thread_and_all": msgspec.to_builtins(gains),
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
            "bursts": _BURSTS,
        }
        code = Path(bare_conversation.__file__).read_text(encoding="utf-8")
        name = f"{self._at.project}-estimate-{self._started}"
        with services.python(name, "collector", code, "server:8080", json.dumps(plan)) as process:
            output, _ = process.communicate(timeout=_LIMIT_S)
        if process.returncode:
            raise AgentTraceError(f"the requests ended with status {process.returncode}")
        labels = {"label": [f"com.docker.compose.project={self._at.project}", "com.docker.compose.service=server"]}
        (container,) = self._at.sdk.containers.list(filters=labels)
        found = msgspec.convert(json.loads(output), Reading)
        found.ready_s, found.peak_bytes = _ready_s(container), _peak_bytes(container)
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


def _medians(readings: list[Reading]) -> Rates:
    return Rates(
        evaluated=[int(reply["prompt_n"]) for reply in readings[0].replies],
        prompt=statistics.median(reading.rate("prompt") for reading in readings),
        generation=statistics.median(reading.rate("predicted") for reading in readings),
    )


def _fastest(readings: list[Reading]) -> Rates:
    """Return the rates of the requests, short ones among them, that met the least other work, as on a quiet machine."""
    replies = [reply for reading in readings for reply in reading.replies]
    return msgspec.structs.replace(
        _medians(readings),
        prompt=max(*(one.prompt for one in readings), *(one["prompt_n"] / one["prompt_ms"] * 1e3 for one in replies)),
        generation=max(
            *(one.generation for one in readings), *(one["predicted_n"] / one["predicted_ms"] * 1e3 for one in replies)
        ),
    )


def _carried(rates: Rates, gains: list[tuple[Reading, Reading]], cpus: int, cores: int) -> Rates:
    """Return rates on other processors, as a power of their number: that which one and all threads show here.

    Prompts are read by a thread on every processor, replies are generated by one fewer; see `threads_for`.
    """
    one, every = (_fastest([pair[side] for pair in gains]) for side in (0, 1))
    (had, had_batch), (gets, gets_batch) = threads_for(cpus), threads_for(cores)
    return Rates(
        evaluated=rates.evaluated,
        prompt=rates.prompt * (gets_batch / had_batch) ** _power(one.prompt, every.prompt, cpus),
        generation=rates.generation * (gets / had) ** _power(one.generation, every.generation, cpus),
    )


def _power(one: float, every: float, cpus: int) -> float:
    return math.log(every / one) / math.log(cpus)


def _row(
    profile: str, readings: list[Reading], replies: float, cores: int, *, carried: Rates | None = None
) -> dict[str, Any]:
    """Return a row of the table; rates that are carried over have no medians."""
    medians, fastest = _medians(readings), carried or _fastest(readings)
    prompts = sum(int(reply["prompt_n"] + reply.get("cache_n", 0)) for reply in readings[0].replies)
    return {
        "cores": cores,
        "profile": profile,
        "reused": 1 - sum(medians.evaluated) / prompts,
        "medians": None if carried else msgspec.to_builtins(medians) | {"hours": medians.hours(replies)},
        "fastest": msgspec.to_builtins(fastest) | {"hours": fastest.hours(replies)},
    }


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _print(document: dict[str, Any]) -> None:
    from rich.console import Console  # noqa: PLC0415 - heavy
    from rich.table import Table  # noqa: PLC0415

    table = Table("cores", "profile", "reused", "rates", "prompt tok/s", "generation tok/s", f"h for {TASKS} tasks")
    for row in document["rows"]:
        for name in ("medians", "fastest"):
            if (rates := row[name]) is None:
                continue
            kind = name if row["medians"] else "fastest, carried over"
            figures = (f"{rates['prompt']:,.0f}", f"{rates['generation']:.1f}", f"{rates['hours']:,.0f}")
            table.add_row(str(row["cores"]), row["profile"], f"{row['reused']:.0%}", kind, *figures)
    Console(width=None if os.isatty(1) else 120).print(table)
    ready, peak = document["ready_s"], document["peak_bytes"]
    say(
        f"{document['model']}: ready after {'? s' if ready is None else f'{ready:.1f} s'}, "
        f"{'?' if peak is None else f'{peak / 2**30:.2f}'} GiB at most, load average "
        f"{document['load'][0]:.1f} to {document['load'][1]:.1f}"
    )
