"""Real campaigns on the real engine, each in an instance of its own so that they never meet a user's campaign."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from agenttrace.host.images import name as image_name
from agenttrace.tasks import sources

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 180
SESSION_S = 280
VOLUME = f"agenttrace-models-{uuid.uuid4().hex[:8]}"


def engine_answers():
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "version"], capture_output=True).returncode == 0


@pytest.fixture(scope="session", autouse=True)
def images():
    """Build what is out of date, once; without an engine nothing here can run, and that is a failure to say aloud."""
    if not engine_answers():
        pytest.skip("no Docker engine answers: start one (scripts/nox does it on Debian and Ubuntu as root)")
    ended = subprocess.run(
        [sys.executable, "-m", "agenttrace.host", "images"], capture_output=True, text=True, cwd=ROOT, env=environment()
    )
    assert ended.returncode == 0, ended.stderr
    docker("volume", "create", "--label", "org.agenttrace.project=agenttrace", VOLUME)
    yield
    subprocess.run(["docker", "volume", "rm", "--force", VOLUME], capture_output=True)


def environment(**more):
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


class Instance:
    """One compose project of the tests."""

    def __init__(self, folder):
        self.folder = folder
        self.name = uuid.uuid4().hex[:8]
        self.env = environment(AGENTTRACE_INSTANCE=self.name, AGENTTRACE_MODELS_VOLUME=VOLUME)

    @property
    def project(self):
        code = "from agenttrace.host.compose import project_name; print(project_name())"
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=self.env, check=True
        ).stdout.strip()

    @property
    def records(self):
        return self.folder / "demo.jsonl"

    @property
    def failures(self):
        return self.folder / "demo.failures.jsonl"

    def argv(self, *arguments):
        return [sys.executable, "-m", "agenttrace.host", "collect", "--output", str(self.records), *arguments]

    def run(self, *arguments, module="agenttrace.host", within_s=SESSION_S, **more):
        """Run a session to its end, with `more` in its environment."""
        return subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**self.env, **more},
            timeout=within_s,
        )

    def collect(self, *arguments):
        """Run a campaign to its end."""
        return subprocess.run(
            self.argv(*arguments), capture_output=True, text=True, cwd=ROOT, env=self.env, timeout=PATIENCE_S
        )

    def start(self, *arguments):
        """Start a campaign and leave it running."""
        return subprocess.Popen(
            self.argv(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=self.env
        )

    def wait_for_records(self, count, process):
        """Return as soon as the file has `count` whole lines."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if self.records.exists() and self.records.read_bytes().count(b"\n") >= count:
                return
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.005)
        raise AssertionError(f"no {count} records within {PATIENCE_S} s")

    def container(self, service):
        """Return the id of a running container of a service."""
        found = docker("ps", "-q", *filters(self.project, service)).split()
        return found[0] if found else None

    def docker(self, *arguments):
        return docker(*arguments)

    def left(self):
        """Return everything of this instance that is still on the engine."""
        labels = filters(self.project)
        return [
            *docker("ps", "-aq", *labels).split(),
            *docker("volume", "ls", "-q", *labels).split(),
            *docker("network", "ls", "-q", *labels).split(),
        ]


def filters(project, service=None):
    labels = [f"label=com.docker.compose.project={project}"]
    if service:
        labels.append(f"label=com.docker.compose.service={service}")
    return [part for label in labels for part in ("--filter", label)]


def docker(*arguments):
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="session")
def make_instance():
    return Instance


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """One whole campaign of the demo tasks, for all tests that only look at it."""
    instance = Instance(tmp_path_factory.mktemp("finished"))
    ended = instance.collect()
    assert ended.returncode == 0, ended.stderr
    return instance, ended


@pytest.fixture(scope="session")
def rolled(tmp_path_factory):
    """One whole campaign over the bundled repositories, likewise."""
    instance = Instance(tmp_path_factory.mktemp("rolled"))
    ended = instance.run("rollouts", "--output", instance.records)
    assert ended.returncode == 0, ended.stderr
    return instance, ended


@pytest.fixture
def wait():
    return eventually


@pytest.fixture
def volume_shell():
    """Run a shell command on the models volume."""

    def run(command):
        docker("run", "--rm", "-v", f"{VOLUME}:/models", "--entrypoint", "sh", "--user", "0:0",
               image_name("server"), "-c", command)  # fmt: skip

    return run


@pytest.fixture
def instance(tmp_path):
    made = Instance(tmp_path)
    yield made
    assert eventually(lambda: made.left() == []), made.left()


def eventually(condition, within_s=30.0):
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return condition()


@pytest.fixture
def mirror():
    """Return a folder with the task files of NL2Bash and MBPP."""
    named = os.environ.get(sources.MIRROR)
    for folder in [Path(named)] if named else [ROOT.parent / "shared" / "data", sources.folder()]:
        if all((folder / source.path).is_file() for source in (*sources.NL2BASH, sources.MBPP)):
            return str(folder)
    pytest.skip(f"needs the task files: name a folder that holds them in {sources.MIRROR} (see docs/tasks.md)")
