"""A real runner for every test: started on this host as root, or in a container.

With AGENTTRACE_TEST_SANDBOX set to a command line (`docker run -i ... --stdio`), the tests that only talk to a worker
use that instead.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from agenttrace.sandbox.client import Worker

PACKAGE = Path(__file__).parents[2] / "agenttrace" / "sandbox"
CONTAINER = os.environ.get("AGENTTRACE_TEST_SANDBOX")


class Workplace:
    """Folders of one runner in a temporary place that the tools' user can reach, and how to start it."""

    def __init__(self, base: Path, helper: list[str]) -> None:
        self.base = base
        self.helper = helper
        self.work, self.fixtures, self.calls, self.wiped, self.sockets = (
            base / name for name in ("work", "fixtures", "call", "wiped", "sockets")
        )
        for folder in (self.work, self.fixtures, self.calls, self.wiped, self.sockets):
            folder.mkdir()
        self.wiped.chmod(0o1777)
        self.fixtures.chmod(0o700)
        self.interpreter = shutil.copy(PACKAGE / "tools" / "interpret.py", base)
        # A user id of its own: the runner kills everything of that user, and test sessions may run side by side.
        self.uid = 30000 + os.getpid() % 30000
        fixture = self.fixtures / "base"
        (fixture / "docs" / "deep").mkdir(parents=True)
        (fixture / "docs" / "read.me").write_text("hello\n")
        (fixture / "run.sh").write_text("echo run\n")
        (fixture / "run.sh").chmod(0o755)
        (fixture / "secret").write_text("s")
        (fixture / "secret").chmod(0o600)
        (fixture / "link").symlink_to("docs/read.me")
        (fixture / "dangling").symlink_to("/nowhere/at all")
        for path in (*fixture.rglob("*"), fixture):
            os.utime(path, ns=(10**18, 10**18 + 123), follow_symlinks=False)
        (self.fixtures / "empty").mkdir()

    def command(self, *more: str) -> list[str]:
        flags = {
            "work": self.work,
            "fixtures": self.fixtures,
            "call-dir": self.calls,
            "interpreter": self.interpreter,
            "tool-uid": self.uid,
            "tool-gid": self.uid,
            "wipe": self.wiped,
            "socket-dir": self.sockets,
            "socket-gid": 20999,
        }
        pairs = [text for name, value in flags.items() for text in (f"--{name}", str(value))]
        return [sys.executable, "-I", "-S", "-B", str(PACKAGE / "runner"), *pairs, *self.helper, *more]

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        """A runner in surroundings that it must not hand on to the tools: an odd umask, a group too many."""
        return subprocess.Popen(
            self.command(*more),
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            umask=0o077,
            extra_groups=[54321],
        )


@pytest.fixture(scope="session")
def compiled_helper(tmp_path_factory):
    """The call helper, compiled for this host as it is shipped."""
    compiler = os.environ.get("CC", "cc")
    if shutil.which(compiler) is None:
        pytest.skip(f"needs a C compiler: there is no `{compiler}`")
    path = tmp_path_factory.mktemp("helper") / "call-helper"
    subprocess.run(["sh", PACKAGE / "helper" / "build.sh", path], check=True)
    return path


@pytest.fixture
def helper(request):
    """Name of the helper, `python` unless a test is parametrized (indirectly) with another."""
    return getattr(request, "param", "python")


@pytest.fixture
def helper_flags(request, helper):
    """How a runner is told to use it."""
    if helper == "python" or CONTAINER:
        return ["--helper", helper]
    return ["--helper", helper, "--helper-path", str(request.getfixturevalue("compiled_helper"))]


@pytest.fixture
def workplace(helper_flags):
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs Linux and root: the runner switches to the tools' user")
    base = Path(tempfile.mkdtemp(prefix="agenttrace-sandbox-", dir="/var/tmp"))
    base.chmod(0o755)
    yield Workplace(base, helper_flags)
    shutil.rmtree(base)


@pytest.fixture
def process(request, helper_flags):
    """A runner over pipes: in a container when asked for, else on this host."""
    if CONTAINER:
        running = subprocess.Popen(
            [*shlex.split(CONTAINER), *helper_flags],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
    else:
        running = request.getfixturevalue("workplace").start("--stdio")
    with running:
        yield running
        running.stdin.close()
        try:
            running.wait(10)
        finally:
            running.kill()


@pytest.fixture
def worker(process):
    with Worker.over_pipes(process.stdout, process.stdin) as connected:
        connected.reset("base")
        yield connected


@pytest.fixture
def shell(worker):
    """Run bash code; returns the report."""
    return lambda code, limit_ms=10_000, **more: worker.call("bash", code, limit_ms=limit_ms, **more)
