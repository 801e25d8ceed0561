"""A small task set of real repositories, and campaigns on real runners of this host with a scripted model server."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime

import msgspec
import pytest

from agenttrace.agents import agent_kind
from agenttrace.campaign.environment import replay_facts
from agenttrace.campaign.loop import Campaign, Display
from agenttrace.campaign.options import Options
from agenttrace.campaign.plan import make_plan, request_part, write_run_spec
from agenttrace.campaign.workers import WorkerPool
from agenttrace.serving.budget import Counters
from agenttrace.serving.cassette import CassetteLog, cassette_path
from agenttrace.serving.chat import ChatModel
from agenttrace.serving.tape import Recorder
from agenttrace.store.jsonl import RecordLog
from agenttrace.tasks import task_set
from agenttrace.tasks.own.loading import sidecar
from agenttrace.tasks.swe.prepare import PreparePlaces, prepare
from agenttrace.testing import ScriptedServer, says

SUBMIT = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
FIX = "sed -i 's/a - b/a + b/' calc.py"
MODEL = "scripted/model-1B"
NOW = datetime(2026, 11, 2, tzinfo=UTC)


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
        made = {
            "model": MODEL, "external": True, "sampler": "greedy", "dataset": "swe", "source": str(self.file),
            "output": "run.jsonl", **fields,
        }  # fmt: skip
        return Options(**made)

    def prepare(self, report=lambda _: None, **fields):
        places = PreparePlaces(trees=self.trees, cache=self.folder / "cache", repositories=str(self.mirror))
        return prepare(self.options(**fields).of_checkouts, places, report)


@pytest.fixture
def source(tmp_path):
    return Source(tmp_path)


@pytest.fixture(scope="session")
def make_source():
    return Source


def block(command):
    return f"THOUGHT: so\n```bash\n{command}\n```"


def fixer(messages):
    """Looks, fixes, submits."""
    return says(block(("cat calc.py", FIX, SUBMIT)[len(messages) // 2 - 1]))


@pytest.fixture
def server():
    with ScriptedServer(fixer) as running:
        yield running


def command(source, sandbox, base_url, *more, **fields):
    """Return the command line that a collector's container runs."""
    options = msgspec.json.encode((source.options(**fields),)).decode()
    return [
        sys.executable, "-m", "agenttrace.inside", "collect", "--options", options, "--trees", str(source.trees),
        "--folder", str(source.data), "--sockets", str(sandbox.sockets), "--base-url", base_url, *more,
    ]  # fmt: skip


@pytest.fixture
def argv():
    return command


@pytest.fixture
def collect(source, sandbox):
    """Run a session in a process of its own, as its container does; returns the ended process."""

    def run(base_url, *more, **fields):
        return subprocess.run(
            command(source, sandbox, base_url, *more, **fields), capture_output=True, text=True, timeout=120
        )

    return run


@pytest.fixture(scope="session")
def display():
    return Display()


@contextlib.contextmanager
def scripted_models(plan, server):
    """Models as a session makes them, without pauses between tries."""
    spec = plan.spec
    counters = Counters(server.base_url, model=spec.model.name) if agent_kind(spec.agent.kind).counts_tokens else None
    made = ChatModel(server.base_url, request_part(spec), counters=counters, sleep=lambda _: None)
    try:
        yield made
    finally:
        for one in (made, counters):
            if one is not None:
                one.close()


@pytest.fixture(scope="session")
def models_of():
    return scripted_models


@pytest.fixture(scope="session")
def record():
    """Return a function that runs a campaign in this process; it leaves records, run spec and cassette."""

    def made(options, folder, sandbox, script, *, trees=None, counts=None, workers=1):
        plan = make_plan(options, images={"sandbox": "b" * 64}, folder=folder, now=NOW, trees=trees)
        write_run_spec(plan.spec, plan.path)
        first = sandbox.connect()
        facts = replay_facts(first, plan.spec)
        first.close()
        with (
            ScriptedServer(script, counts=counts) as server,
            scripted_models(plan, server) as models,
            RecordLog(plan.path) as log,
            CassetteLog(cassette_path(plan.path), run_spec_sha256=plan.spec_sha256, recorded=log.ids) as cassette,
        ):
            cassette.note(facts)
            recorder = Recorder(models, request_part(plan.spec), cassette, log)
            tasks = task_set(options.dataset, trees=trees)
            if (packed := tasks.packed()) is not None:
                sidecar(plan.path).write_bytes(packed)
            # Tasks at a time need the pool, which gives each a worker of its own.
            connect = sandbox.connect if workers == 1 else WorkerPool(sandbox.sockets).connect
            summary = Campaign(plan, tasks, recorder, connect, {}, Display()).run(recorder, workers=workers)
        assert not summary.abandoned
        return plan.path

    return made
