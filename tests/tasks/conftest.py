"""The task files are somebody else's data: the tests that need them use a mirror or the cache, or skip and say so."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from agenttrace.fixture.build import load, write_tree
from agenttrace.records import SandboxSpec
from agenttrace.sandbox.client import Worker
from agenttrace.tasks.bench import Bench

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "agenttrace" / "sandbox"


@contextlib.contextmanager
def runner():
    """Yield what a real runner on this host is reached by, with the fixtures `empty` and `demo`."""
    base = Path(tempfile.mkdtemp(prefix="agenttrace-tasks-", dir="/var/tmp"))
    base.chmod(0o755)
    for name in ("work", "call", "sockets"):
        (base / name).mkdir()
    for name in ("empty", "demo"):
        write_tree(load(name), base / "fixtures" / name)
    interpreter = shutil.copy(PACKAGE / "tools" / "interpret.py", base)
    uid = str(30000 + os.getpid() % 30000)  # the runner kills everything of that user
    flags = {
        "work": base / "work", "fixtures": base / "fixtures", "call-dir": base / "call", "interpreter": interpreter,
        "tool-uid": uid, "tool-gid": uid, "socket-dir": base / "sockets", "max-tasks": 10_000,
    }  # fmt: skip
    argv = [sys.executable, "-I", "-S", "-B", str(PACKAGE / "runner"), "--stdio"]
    argv += [text for name, value in flags.items() for text in (f"--{name}", str(value))]
    with subprocess.Popen(argv, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        with Worker.over_pipes(running.stdout, running.stdin) as connected:
            yield connected
        running.wait(10)
    shutil.rmtree(base)


@pytest.fixture(scope="module")
def runners():
    """Return what gives a worker: that of the test before, as a campaign does, unless it is gone."""
    if sys.platform != "linux":
        pytest.skip("needs Linux: a runner of its own")
    with contextlib.ExitStack() as stack:
        given = []

        def give():
            if not given or given[-1].closed:
                stack.close()
                given.append(stack.enter_context(runner()))
            return given[-1]

        yield give


@pytest.fixture
def worker(runners):
    """A real worker of this host, in no particular state: whoever takes it resets it."""
    return runners()


@pytest.fixture
def make_bench(worker):
    """A bench over a fixture of that worker; `digest` is what the run spec says of it."""

    def make(name, digest=None):
        spec = SandboxSpec(
            policy="shell", fixture=name, fixture_version=digest or worker.info.fixtures[name], memory_bytes=2**31,
            pids=256, cpus=1.0,
        )  # fmt: skip
        return Bench(worker, spec)

    return make
