"""What a benchmark looks at from inside a worker's container, as root: its processes, its fixtures, a plain reset."""

from __future__ import annotations

import msgspec

from agenttrace.host import engine

FIXTURES = "/run/agenttrace/fixtures"
"""Folder for generated fixtures: on the same volume driver as a work tree, and out of the tools' reach."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The runner and what is around it.

    Attributes:
        rss_kib: resident memory of the runner.
        peak_kib: the most it ever had.
        descriptors: that the runner has open.
        processes: in the container, this look left out.
        zombies: among them.
    """

    rss_kib: int
    peak_kib: int
    descriptors: int
    processes: int
    zombies: int


_STATE = """
import json, os
fields, runner, zombies, others = {}, None, 0, 0
for pid in (name for name in os.listdir("/proc") if name.isdecimal() and int(name) != os.getpid()):
    try:
        line = open(f"/proc/{pid}/cmdline", "rb").read()
        status = dict(l.split(":", 1) for l in open(f"/proc/{pid}/status").read().splitlines())
    except OSError:
        continue
    others += 1
    zombies += status["State"].strip().startswith("Z")
    if b"/opt/agenttrace/runner" in line and int(pid) != 1:
        if runner is None or int(pid) < runner:
            runner, fields = int(pid), status
print(json.dumps({
    "rss_kib": int(fields["VmRSS"].split()[0]), "peak_kib": int(fields["VmHWM"].split()[0]),
    "descriptors": len(os.listdir(f"/proc/{runner}/fd")), "processes": others, "zombies": zombies,
}))
"""
_GENERATE = """
import os, random, sys
folder, files, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
random.seed(files)
for number in range(files):
    parent = f"{folder}/d{number // 20:03}"
    os.makedirs(parent, exist_ok=True)
    with open(f"{parent}/f{number:04}.txt", "wb") as file:
        file.write(random.randbytes(random.randrange(size // 2, size * 3 // 2)))
"""
_PLAIN = """
import subprocess, sys, time
fixture, work, emptied = sys.argv[1:]
if emptied == "True":
    subprocess.run(f"find {work} -mindepth 1 -delete", shell=True, check=True)
start = time.perf_counter_ns()
subprocess.run(f"rm -rf {work}/* && cp -a {fixture}/. {work}/", shell=True, check=True)
print(time.perf_counter_ns() - start)
"""


def _python(container: str, code: str, *arguments: str) -> str:
    argv = ["docker", "exec", "--user", "0:0", container, "python3", "-I", "-S", "-c", code, *arguments]
    return engine.run(argv).stdout


def state(container: str) -> State:
    """How the runner of a container is."""
    return msgspec.json.decode(_python(container, _STATE), type=State)


def generate(container: str, name: str, *, files: int, file_bytes: int) -> None:
    """Make a fixture of `files` files, `file_bytes` each on average, 20 to a folder; always the same ones."""
    _python(container, _GENERATE, f"{FIXTURES}/{name}", str(files), str(file_bytes))


def plain_reset_ms(container: str, fixture: str, work: str, *, emptied: bool) -> float:
    """How long `rm -rf` and `cp -a` take to make the work tree anew, or one that has just been emptied.

    The start of the container's Python is left out.
    """
    return int(_python(container, _PLAIN, f"{FIXTURES}/{fixture}", work, str(emptied))) / 1e6
