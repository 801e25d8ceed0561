"""`crash-check`: campaigns killed at random instants, again and again, must end as if nothing had happened.

    ledger = crash_check.scripted(20, random.Random(1))

Two kinds. *Scripted*: the real collector and the real sandbox runner as processes of this machine, before a model
server that answers from a script; fast, so hundreds of kills. *Real*: whole campaigns in the containers, with the
bundled model; what dies is the collector's container or the process that started it all.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.campaign.options import Options
from agenttrace.errors import AgentTraceError, UsageError
from agenttrace.host import compose, engine
from agenttrace.records import derived_id
from agenttrace.show import say
from agenttrace.store.read import read_run_spec, run_spec_path
from agenttrace.tasks import set_name, task_set
from agenttrace.testing import ScriptedServer, says
from bench.campaigns.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = compose.ROOT
_PACKAGE = ROOT / "agenttrace"
_PATIENCE_S = 240.0
_EARLY = 0.2
"""Share of the kills that come while the collector is still starting."""
_TORN = 0.2
"""Share of the kills after which the beginning of a record is put at the end of the file, as a power cut may do."""
_TOLD = 20
"""So many kills of the scripted kind to a line of progress."""


class Runner:
    """A sandbox runner on this machine that is started anew whenever it ends, as the restart policy does.

    Args:
        base: an empty folder.
        number: of the runners of this process, each of which has a user of its own.
        sockets: folder that gets its socket; `None` is one of its own.
    """

    def __init__(self, base: Path, number: int = 0, sockets: Path | None = None) -> None:
        for name in ("work", "fixtures", "call", "sockets", "wiped"):
            (base / name).mkdir()
        self.sockets = sockets or base / "sockets"
        (base / "fixtures").chmod(0o700)
        build = [sys.executable, "-I", "-S", "-B", str(_PACKAGE / "fixture/build.py"), "demo"]
        engine.run([*build, str(base / "fixtures/demo")])
        uid = str(30_000 + (os.getpid() * 8 + number) % 30_000)
        flags = {
            "work": base / "work", "fixtures": base / "fixtures", "call-dir": base / "call", "wipe": base / "wiped",
            "socket-dir": self.sockets, "socket-gid": os.getgid(), "tool-uid": uid, "tool-gid": uid,
            "interpreter": _PACKAGE / "sandbox/tools/interpret.py", "helper": "python",
        }  # fmt: skip
        pairs = [str(part) for name, value in flags.items() for part in (f"--{name}", value)]
        self._argv = [sys.executable, "-I", "-S", "-B", str(_PACKAGE / "sandbox/runner"), *pairs]
        self._ending = threading.Event()
        self._process = engine.start(self._argv)
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        while not self._ending.is_set():
            self._process.wait()
            if not self._ending.is_set():
                self._process = engine.start(self._argv)

    def close(self) -> None:
        """End it for good."""
        self._ending.set()
        self._process.terminate()
        self._thread.join()


@contextlib.contextmanager
def runner(number: int = 0, sockets: Path | None = None) -> Iterator[Runner]:
    """Run a sandbox runner meanwhile, in a folder of its own; arguments are those of `Runner`.

    Raises:
        UsageError: this machine cannot.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        raise UsageError("the scripted kills need Linux and root, for a sandbox runner outside a container: --kills 0")
    with tempfile.TemporaryDirectory(prefix="agenttrace-crash-", dir="/var/tmp") as folder:
        base = Path(folder)
        base.chmod(0o755)
        running = Runner(base, number, sockets)
        try:
            yield running
        finally:
            running.close()


def script(dice: random.Random) -> Any:  # noqa: ANN401 - a script of agenttrace.testing
    """Return a model that calls one tool and answers, after pauses of its own."""

    def reply(messages: list[dict[str, Any]]) -> dict[str, Any]:
        time.sleep(dice.random() * 0.01)
        if messages[-1]["role"] == "tool":
            return says(calls=[("final_answer", json.dumps({"answer": "20"}))])
        return says(calls=[("bash", json.dumps({"command": "wc -l words.txt"}))], reasoning="I count.")

    return reply


def scripted(kills: int, dice: random.Random, *, rollouts: int = 4) -> Ledger:
    """Return the ledger of campaigns whose collector is killed `kills` times in all.

    Args:
        kills: how often.
        dice: chooses the moments.
        rollouts: runs of each of the 32 tasks in a file; a finished file is followed by another.

    Raises:
        UsageError: this machine cannot run the sandbox's runner outside a container.
    """
    ledger = Ledger()
    with runner() as running, ScriptedServer(script(dice), remember=False) as server:
        for number in range(kills + 1):
            path = running.sockets.parent / f"campaign-{number}.jsonl"
            while ledger.kills < kills and _session(path, running, server, rollouts, ledger, dice):
                if ledger.kills % _TOLD == 0:
                    say(f"{ledger.kills} of {kills} kills")
            with _collector(path, running, server, rollouts) as ended:
                _, said = ended.communicate(timeout=_PATIENCE_S)
            if ended.returncode:
                raise AgentTraceError(f"a session that was not killed ended with {ended.returncode}: {said.decode()}")
            ledger.finished(path, expected(path))
            if ledger.kills >= kills:
                return ledger
    return ledger


def _collector(path: Path, running: Runner, server: ScriptedServer, rollouts: int) -> subprocess.Popen[bytes]:
    options = msgspec.json.encode((Options(output=path.name, rollouts=rollouts),)).decode()
    words = ["collect", "--options", options, "--folder", str(path.parent), "--base-url", server.base_url]
    argv = [sys.executable, "-P", "-m", "agenttrace.inside", *words, "--sockets", str(running.sockets)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "AGENTTRACE_TERMINAL": ""}
    return engine.start(argv, env=env, output=subprocess.DEVNULL, errors=subprocess.PIPE)


def _session(
    path: Path, running: Runner, server: ScriptedServer, rollouts: int, ledger: Ledger, dice: random.Random
) -> bool:
    """Start a session and kill it at some moment; return false when it had come to its end before."""
    before = server.count
    process = _collector(path, running, server, rollouts)
    lines: list[bytes] = []
    reading = threading.Thread(target=lambda: lines.extend(process.stderr or ()), daemon=True)
    reading.start()
    if dice.random() < _EARLY:
        time.sleep(dice.random())
    else:
        deadline = time.monotonic() + _PATIENCE_S
        while server.count == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(dice.random() * 0.8)
    ended = process.poll()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    reading.join()
    if process.stderr is not None:
        process.stderr.close()
    said = b"".join(lines).decode(errors="replace")
    if ended is not None:
        if ended:
            raise AgentTraceError(f"a session ended with {ended} before it was killed: {said}")
        return False
    if path.exists() and dice.random() < _TORN:
        with path.open("ab") as file:
            file.write(b'{"trace_id":"5d0c'[: dice.randint(1, 17)])
    ledger.killed(path, said)
    return True


def expected(path: Path) -> list[str]:
    """Return the trace ids that a finished record file must hold, from the run spec beside it."""
    spec = read_run_spec(run_spec_path(path))
    tasks = task_set(set_name(spec.dataset)).tasks(offset=spec.dataset.offset, count=spec.dataset.count)
    return [
        derived_id("trace", spec.run_id, spec.dataset.name, task.task_id, rollout)
        for rollout in range(spec.dataset.rollouts)
        for task in tasks
    ]


def real(kills: int, dice: random.Random, *, rollouts: int = 8) -> Ledger:
    """Return the ledger of campaigns in the containers, killed `kills` times: the collector, or what started it."""
    ledger = Ledger()
    instance = f"crash-{os.getpid()}"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "AGENTTRACE_INSTANCE": instance}
    with tempfile.TemporaryDirectory(prefix="agenttrace-crash-") as folder:
        for number in range(kills + 1):
            path = Path(folder, f"real-{number}.jsonl")
            words = ["collect", "--output", str(path), "--rollouts", str(rollouts)]
            argv = [sys.executable, "-P", "-m", "agenttrace.host", *words]
            while ledger.kills < kills and _real_session(argv, env, path, ledger, dice):
                pass
            engine.run(argv, env=env, timeout_s=_PATIENCE_S)
            ledger.finished(path, expected(path))
            if ledger.kills >= kills:
                break
    return ledger


def _real_session(argv: list[str], env: dict[str, str], path: Path, ledger: Ledger, dice: random.Random) -> bool:
    size = path.stat().st_size if path.exists() else 0
    with tempfile.TemporaryFile() as output:
        process = engine.start(argv, env=env, output=output.fileno(), errors=output)
        deadline = time.monotonic() + _PATIENCE_S
        while process.poll() is None and not (path.exists() and path.stat().st_size > size):
            time.sleep(0.01)
            if time.monotonic() > deadline:
                process.kill()
        time.sleep(dice.random() * 3)
        if process.poll() is None and dice.random() < 0.5:  # noqa: PLR2004 - half of them
            process.kill()
        elif process.poll() is None:
            _kill_collector(env["AGENTTRACE_INSTANCE"])
        process.wait()
        output.seek(0)
        said = output.read().decode(errors="replace")
    if process.returncode == 0:
        return False
    _wait_for_the_end_of_writing(path)
    ledger.killed(path, said)
    records = path.read_bytes().count(b"\n")
    say(f"kill {ledger.kills}: {records} records")
    return True


def _kill_collector(instance: str) -> None:
    listed = engine.run(["docker", "ps", "--format", "{{.Names}}", "--filter", "name=-collector-"]).stdout.split()
    project = compose.project_name(instance=instance)
    for name in listed:
        if name.startswith(f"{project}-collector-"):
            engine.run(["docker", "kill", "--signal", "KILL", name], check=False)


def _wait_for_the_end_of_writing(path: Path) -> None:
    """Return when nobody holds the file's lock: the collector may outlive what started it by a moment."""
    import fcntl  # noqa: PLC0415

    deadline = time.monotonic() + _PATIENCE_S
    with path.open("rb") as file:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.05)
            else:
                return


def check(*, kills: int, real_kills: int, seed: int | None = None) -> int:
    """Kill campaigns, print what became of their records and return the exit status: 1 when anything is missing."""
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    say(f"seed {seed}")
    clean = True
    for name, count, run in (("scripted server", kills, scripted), ("real server", real_kills, real)):
        if count:
            ledger = run(count, random.Random(seed))  # noqa: S311 - moments, not secrets
            print(f"{name}: {ledger}")  # noqa: T201 - the session's result
            clean = clean and ledger.clean and ledger.kills == count
    return 0 if clean else 1
