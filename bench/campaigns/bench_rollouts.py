"""What rollouts cost beside the model: per rollout and at full width, beside the way of upstream's generator.

Upstream makes a full checkout for each rollout, starts `bash -c` for each command and removes the checkout. That is
done here as well, on this machine, with a local copy in place of its download; nothing of it is quoted.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.campaign.options import ROLLOUTS, Options
from agenttrace.errors import AgentTraceError, UsageError
from agenttrace.host import campaign, checkouts, compose, engine, guard
from agenttrace.store.compact import compact
from bench.tables import print_rows
from bench.verdict import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agenttrace.host.compose import Services

FILES = 2000
TURNS = 26
HARNESS_MS, RATE_MS, STORED_BYTES = 500.0, 1000 / 3, 6 * 1024.0
"""Targets: per rollout of 26 turns alone, per rollout at full width (3 a second), per stored rollout."""
_ALONE = 10
_TASK = "bench__checkout-1"
_MODEL = "scripted/bench-1B"
COMMANDS = (
    "ls -la pkg/d{a}", "cat pkg/d{a}/m{b}.py", "grep -rn 'def ' pkg/d{a} | head -40", "sed -n '1,60p' pkg/d{a}/m{b}.py",
    "find . -name 'm{b}.py' | head -20", "wc -l pkg/d{a}/*.py", "sed -i 's/return/return  /' pkg/d{a}/m{b}.py",
    "head -n 30 pkg/d{a}/m{b}.py",
)  # fmt: skip
_SERVER = """
import json, random, sys
from agenttrace.testing import ScriptedServer, says

commands, words, turns = json.loads(sys.argv[1])
dice = random.Random()

def reply(messages):
    turn = len(messages) // 2
    a, b = dice.randrange(4), dice.randrange(10)  # rollouts of a task look at the same part of a repository
    command = commands[turn % len(commands)].format(a=a, b=b)
    if turn == turns:
        command = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
    thought = " ".join(dice.choices(words, k=60))
    return says("THOUGHT: " + thought + chr(10) + "```bash" + chr(10) + command + chr(10) + "```")

with ScriptedServer(reply, address=("0.0.0.0", 8080), remember=False, counts="llama-server"):
    print("ready", flush=True)
    sys.stdin.read()
"""


def run(*, rollouts: int, at_a_time: int, json_file: Path | None = None) -> int:
    """Measure, print both sides and return 0 when every target is met, else 1.

    Args:
        rollouts: of the wide run.
        at_a_time: rollouts in flight in it, one sandbox each.
        json_file: gets the rows as well.

    Raises:
        AgentTraceError: a part did not come up, or a run ended with an error.
    """
    if not 1 <= at_a_time <= rollouts:
        raise UsageError(f"--at-a-time {at_a_time}: expected 1 to the number of rollouts ({rollouts})")
    with tempfile.TemporaryDirectory(prefix="agenttrace-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        checkout(folder)
        baseline = _upstream_like(folder)
        with guard.guarded(targets=(checkouts.SANDBOX, "rollouts")) as at:
            rows = list(_measure(at, folder, rollouts, at_a_time, baseline))
    print_rows("rollouts: everything but the model", rows)
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=2) + b"\n")
    return int(any(row.verdict == "missed" for row in rows))


def checkout(folder: Path) -> None:
    """Make a repository of `FILES` files of real code below a folder, and the row of a task on it."""
    source = [path.read_text(encoding="utf-8").splitlines() for path in sorted(compose.ROOT.glob("agenttrace/**/*.py"))]
    lines = [line for text in source for line in text]
    dice = random.Random(7)  # noqa: S311 - to be repeated
    repo = folder / "mirror" / "bench" / "checkout"
    for number in range(FILES):
        path = repo / f"pkg/d{number // 50}/m{number % 50}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        start = dice.randrange(len(lines) - 80)
        path.write_text("\n".join(lines[start : start + dice.randint(20, 80)]) + "\n", encoding="utf-8")
    git = ["git", "-C", str(repo), "-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "bench"]):
        engine.run([*git, *arguments])
    commit = engine.run([*git, "rev-parse", "HEAD"]).stdout.strip()
    row = {"instance_id": _TASK, "repo": "bench/checkout", "base_commit": commit, "problem_statement": "none"}
    (folder / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")


def _upstream_like(folder: Path) -> list[float]:
    """Milliseconds per rollout of a fresh copy, a `bash -c` per command and a removal, in this process's own loop."""
    samples = []
    dice = random.Random(7)  # noqa: S311 - to be repeated
    for number in range(_ALONE):
        started = time.perf_counter()
        place = folder / f"worktree-{number}"
        shutil.copytree(folder / "mirror" / "bench" / "checkout", place, symlinks=True)
        for turn in range(TURNS):
            command = COMMANDS[turn % len(COMMANDS)].format(a=dice.randrange(40), b=dice.randrange(50))
            subprocess.run(  # noqa: S603 - what is measured: upstream's own way
                ["/bin/bash", "-c", command], cwd=place, capture_output=True, timeout=30, check=False
            )
        shutil.rmtree(place)
        samples.append((time.perf_counter() - started) * 1000)
    return samples


def _measure(at: guard.Engine, folder: Path, rollouts: int, at_a_time: int, baseline: list[float]) -> Iterator[Row]:
    data = folder / "data"
    data.mkdir()
    places = checkouts.Places(source=folder / "rows.jsonl", repositories=str(folder / "mirror"))
    options = msgspec.structs.replace(
        ROLLOUTS, model=_MODEL, external=True, rollouts=_ALONE, max_steps=TURNS, output="alone.jsonl", run_id="alone"
    )
    many = msgspec.structs.replace(options, rollouts=rollouts, output="wide.jsonl", run_id="wide")
    variables = campaign.collector_variables(data, at_a_time, at) | checkouts.variables(places)
    services = compose.Services(at.project, variables)
    with _scripted(services, at.project) as url:
        checkouts.prepare(services, options.of_checkouts, places)
        services.up(checkouts.SANDBOX)
        alone = _session(services, at.project, options, data, url, 1)
        wide = _session(services, at.project, many, data, url, at_a_time)
    harness = (alone["elapsed_ns"] - alone["model_ns"]) / alone["appended"] / 1e6
    upstream = statistics.median(baseline)
    yield Row(
        group="alone", name=f"harness per rollout ({TURNS} turns, {FILES:,} files)", unit="ms", median=harness,
        count=alone["appended"], target=HARNESS_MS, ratio=upstream / harness, note="copy + bash -c + removal",
    )  # fmt: skip
    yield Row(
        group="alone", name="  of it: tree resets", unit="ms", count=alone["appended"],
        median=alone["prepare_ns"] / alone["appended"] / 1e6,
    )  # fmt: skip
    yield Row(
        group="alone", name="  of it: commands", unit="ms", count=alone["appended"],
        median=alone["tools_ns"] / alone["appended"] / 1e6,
    )  # fmt: skip
    yield Row(
        group="alone", name="upstream's way, here", unit="ms", median=upstream, largest=max(baseline),
        count=len(baseline),
    )  # fmt: skip
    per_rollout = wide["elapsed_ns"] / wide["appended"] / 1e6
    yield Row(
        group="wide", name=f"wall time per rollout, {at_a_time} at a time ({1000 / per_rollout:.2f}/s)", unit="ms",
        median=per_rollout, count=wide["appended"], target=RATE_MS,
    )  # fmt: skip
    stored, plain = _stored(data)
    yield Row(
        group="stored", name="bytes per rollout, compacted", unit="B", median=stored / wide["appended"],
        count=wide["appended"], target=STORED_BYTES, ratio=plain / stored, note="JSON Lines",
    )  # fmt: skip


@contextlib.contextmanager
def _scripted(services: Services, project: str) -> Iterator[str]:
    """Yield the address of an instant model server in a container of its own."""
    name = f"{project}-scripted"
    words = sorted(set((compose.ROOT / "README.md").read_text(encoding="utf-8").split()))
    argument = json.dumps([COMMANDS, words, TURNS])
    process = services.python(name, "collector", _SERVER, argument)
    try:
        if process.stdout is None or not process.stdout.readline().startswith(b"ready"):
            raise AgentTraceError("the scripted model server did not start")
        yield f"http://{name}:8080/v1"
    finally:
        process.kill()
        process.wait()


def _session(services: Services, project: str, options: Options, data: Path, url: str, workers: int) -> dict[str, Any]:
    """Run a campaign to its end and return the session's report."""
    name = options.run_id or "report"
    request = campaign.Request(options=(options,), folder=data, workers=workers)
    more = ("--base-url", url, "--report", f"/data/{name}.json")
    process = campaign.start_collector(services, f"{project}-{name}", request, options, *more)
    if process.wait():
        raise AgentTraceError(f"the run {name} ended with status {process.returncode}")
    found: dict[str, Any] = json.loads((data / f"{name}.json").read_bytes())
    return found


def _stored(data: Path) -> tuple[int, int]:
    """Bytes of the wide run's file, compacted and plain."""
    plain, target = data / "wide.jsonl", data / "wide.jsonl.zst"
    compact(plain, target)
    return target.stat().st_size, plain.stat().st_size
