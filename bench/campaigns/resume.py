"""How fast a long record file is resumed, and how large the collector is meanwhile.

Real containers but for the model server, which answers from a script: the time of the kit is what is measured.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agenttrace.campaign.options import Options
from agenttrace.errors import AgentTraceError
from agenttrace.host import campaign, compose
from agenttrace.show import say

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from bench.campaigns.bench_collect import Bed

TASKS_OF_THE_SET = 32
_MORE = 10
"""Rollouts of each task beyond what is measured: two seconds of work, so that it is killed before it is through."""
_LIMIT_S = 3600.0
_KIB = 1024
_NANOSECONDS = re.compile(r"(\.\d{6})\d+")
# After each line of input, the time of the next request is printed.
_SERVER = """
import json, sys, threading, time
from agenttrace.testing import ScriptedServer, says

armed = threading.Event()

def reply(messages):
    if armed.is_set():
        armed.clear()
        print(time.time(), flush=True)
    if messages[-1]["role"] == "tool":
        return says(calls=[("final_answer", json.dumps({"answer": "20"}))])
    command = json.dumps({"command": "wc -l words.txt"})
    return says(calls=[("bash", command)], reasoning="I count the lines of the file, one after the other. " * 4)

with ScriptedServer(reply, address=("0.0.0.0", 8080), remember=False):
    print("ready", flush=True)
    for line in sys.stdin:
        armed.set()
"""


class _Growing:
    """The number of lines of a file that grows; reads each byte once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = self._lines = 0

    def lines(self) -> int:
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
            self._offset += len(data)
            self._lines += data.count(b"\n")
        return self._lines


def measured(records: int) -> dict[str, float]:
    """Return the figures of a file with `records` records: seconds and bytes.

    Raises:
        AgentTraceError: a part did not come up, or a campaign ended with an error.
    """
    from bench.campaigns.bench_collect import bed  # noqa: PLC0415 - that module starts this one

    options = Options(
        profile="throughput", rollouts=-(-records // TASKS_OF_THE_SET) + _MORE, output="long.jsonl", run_id="long"
    )
    with tempfile.TemporaryDirectory(prefix="agenttrace-bench-") as name, bed(Path(name), options, 4) as found:
        found.services.up("sandbox")
        server = found.python("scripted", _SERVER)
        try:
            _expect(server, b"ready")
            return _measured(found, options, server, Path(name) / "long.jsonl", records)
        finally:
            server.kill()
            server.wait()


def _measured(
    found: Bed, options: Options, server: subprocess.Popen[bytes], path: Path, records: int
) -> dict[str, float]:
    say(f"{records:,} records from a scripted model server")
    growing = _Growing(path)
    first = _Collector(found, options, "first")
    first.follow(lambda: growing.lines() >= 1)
    at, rss_first = growing.lines(), first.rss()
    first.follow(lambda: growing.lines() >= records)
    size, rss_grown = path.stat().st_size, first.rss()
    first.kill()
    if server.stdin is not None:
        server.stdin.write(b"mark\n")
        server.stdin.flush()
    again = _Collector(found, options, "again")
    told = float(_expect(server, b""))
    started = again.started()
    again.follow(lambda: again.process.poll() is not None)
    if again.process.returncode:
        raise AgentTraceError(f"the resumed campaign ended with status {again.process.returncode}")
    return {
        "records": records, "bytes": size, "first_request_s": told - started, "first": at, "rss_first": rss_first,
        "rss_last": rss_grown, "rss_peak": max(first.peak, again.peak),
    }  # fmt: skip


def _expect(server: subprocess.Popen[bytes], wanted: bytes) -> bytes:
    line = b"" if server.stdout is None else server.stdout.readline()
    if not line or not line.startswith(wanted):
        raise AgentTraceError("the scripted model server ended before its time")
    return line


class _Collector:
    """One collector container and the largest resident set seen of its process.

    Attributes:
        process: the client that follows it.
        peak: that, in bytes.
    """

    def __init__(self, found: Bed, options: Options, name: str) -> None:
        self._sdk = compose.client()
        self._name = f"{found.project}-{name}"
        self.peak = 0
        url = f"http://{found.project}-scripted:8080/v1"
        self.process = campaign.start_collector(found.services, self._name, found.request, options, "--base-url", url)

    def rss(self) -> int:
        """Return the resident set of the collector's process now; 0 when it is not there."""
        with contextlib.suppress(Exception):  # not there yet, or gone
            rows: list[list[str]] = self._sdk.containers.get(self._name).top(ps_args="-o pid,rss,args")["Processes"]
            found = max(int(row[1]) * _KIB for row in rows)
            self.peak = max(self.peak, found)
            return found
        return 0

    def follow(self, condition: Callable[[], bool]) -> None:
        """Sample the memory until a condition holds."""
        deadline = time.monotonic() + _LIMIT_S
        while not condition():
            if self.process.poll() is not None and not condition():
                raise AgentTraceError(f"the collector ended with status {self.process.returncode}")
            if time.monotonic() > deadline:
                raise AgentTraceError(f"the collector was not through after {_LIMIT_S:.0f} s")
            self.rss()
            time.sleep(0.5)

    def kill(self) -> None:
        """End the container as kill -9 does, and wait for its end."""
        self._sdk.containers.get(self._name).kill(signal="SIGKILL")
        self.process.wait()

    def started(self) -> float:
        """Return the wall-clock time at which the engine started the container."""
        details: dict[str, Any] = self._sdk.containers.get(self._name).attrs
        text = str(details["State"]["StartedAt"])
        return datetime.fromisoformat(_NANOSECONDS.sub(r"\1", text)).timestamp()
