"""A small task set of real repositories, real runners on this host, and a scripted model server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest
from agenttrace.rollouts.options import RolloutOptions
from agenttrace.rollouts.prepare import Places, prepare

from agenttrace.testing import ScriptedServer, says

PACKAGE = Path(__file__).parents[2] / "agenttrace" / "sandbox"
SUBMIT = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
FIX = "sed -i 's/a - b/a + b/' calc.py"
MODEL = "scripted/model-1B"


def git(folder, *arguments):
    env = {
        **os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_AUTHOR_DATE": "2024-01-01T00:00:00Z",
        "GIT_COMMITTER_DATE": "2024-01-01T00:00:00Z",
        "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
    }  # fmt: skip
    argv = ["git", "-C", str(folder), *arguments]
    return subprocess.run(argv, env=env, check=True, capture_output=True, text=True).stdout.strip()


def repository(folder, name):
    """A repository with a bug and, in its next commit, the fix; returns the row of its task."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    (folder / "calc.py").write_text("def add(a, b):\n    return a - b\n")
    (folder / "README.md").write_text(f"# {name}\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    base = git(folder, "rev-parse", "HEAD")
    (folder / "calc.py").write_text("def add(a, b):\n    return a + b\n")
    git(folder, "commit", "-q", "-a", "-m", "fix add")
    patch = git(folder, "diff", "--full-index", base, "HEAD") + "\n"
    return {
        "instance_id": f"octo__{name}-1", "repo": f"octo/{name}", "base_commit": base, "patch": patch,
        "problem_statement": "add() subtracts {braces stay}", "interface": "add(a, b)", "language": None,
        "test_patch": "",
    }  # fmt: skip


class Source:
    """A task set in files, and where what is made of it goes."""

    def __init__(self, folder, names=("cat", "dog")):
        self.folder = folder
        self.mirror = folder / "mirror"
        self.rows = [repository(self.mirror / "octo" / name, name) for name in names]
        self.file = folder / "tasks.jsonl"
        self.trees, self.data = folder / "trees", folder / "data"
        self.trees.mkdir()
        self.data.mkdir()
        self.write(self.rows)

    def write(self, rows):
        self.file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def options(self, **fields):
        return RolloutOptions(
            **{"model": MODEL, "external": True, "sampler": "greedy", "rollouts": 1, "source": str(self.file), **fields}
        )

    def prepare(self, report=lambda _: None, **fields):
        places = Places(trees=self.trees, cache=self.folder / "cache", repositories=str(self.mirror))
        return prepare(self.options(**fields), places, report)


@pytest.fixture
def source(tmp_path):
    return Source(tmp_path)


@pytest.fixture
def make_source():
    return Source


class Runners:
    """Real sandbox workers on this host that listen where a collector looks for them, and come back when they exit."""

    def __init__(self, base):
        self.base = base
        self.sockets = base / "sockets"
        self.sockets.mkdir()
        self.processes = []

    def start(self, trees, count=1):
        for number in range(len(self.processes), len(self.processes) + count):
            place = self.base / f"worker-{number}"
            for name in ("work", "call", "fixtures"):
                (place / name).mkdir(parents=True)
            uid = str(20000 + (os.getpid() * 64 + number) % 40000)  # the runner kills everything of that user
            flags = {
                "work": place / "work", "fixtures": place / "fixtures", "call-dir": place / "call", "trees": trees,
                "interpreter": shutil.copy(PACKAGE / "tools" / "interpret.py", place), "tool-uid": uid,
                "tool-gid": uid, "socket-dir": self.sockets, "socket-gid": os.getgid(),
            }  # fmt: skip
            argv = [sys.executable, "-I", "-S", "-B", str(PACKAGE / "runner"), "--policy", "execution_free"]
            argv += [text for name, value in flags.items() for text in (f"--{name}", str(value))]
            loop = 'while true; do "$@" || exit; done'
            self.processes.append(subprocess.Popen(["sh", "-c", loop, "sh", *argv], start_new_session=True))
        return self.sockets

    def stop(self):
        for process in self.processes:
            os.killpg(process.pid, 9)
            process.wait()


@pytest.fixture
def runners():
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs Linux and root: the runner switches to the tools' user")
    base = Path(tempfile.mkdtemp(prefix="agenttrace-rollouts-", dir="/var/tmp"))
    base.chmod(0o755)
    made = Runners(base)
    yield made
    made.stop()
    shutil.rmtree(base, ignore_errors=True)


def block(command):
    return f"THOUGHT: so\n```bash\n{command}\n```"


def fixer(messages):
    """Looks, fixes, submits."""
    return says(block(("cat calc.py", FIX, SUBMIT)[len(messages) // 2 - 1]))


@pytest.fixture
def server():
    with ScriptedServer(fixer) as running:
        yield running


@pytest.fixture
def sit(source, runners):
    """Run the verb in a process of its own, as its container does; returns the ended process."""

    def run(base_url, *more, **fields):
        return subprocess.run(
            command(source, runners, base_url, *more, **fields), capture_output=True, text=True, timeout=120
        )

    return run


def command(source, runners, base_url, *more, **fields):
    options = msgspec.json.encode(source.options(**{"output": "run.jsonl", **fields})).decode()
    return [
        sys.executable, "-m", "agenttrace", "rollouts", "--options", options, "--trees", str(source.trees), "--folder",
        str(source.data), "--sockets", str(runners.sockets), "--base-url", base_url, *more,
    ]  # fmt: skip


@pytest.fixture
def argv():
    return command
