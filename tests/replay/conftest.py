"""A small campaign on a real runner of this host, with a scripted model, ready to be replayed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from agenttrace.collect import Campaign
from agenttrace.inputs import replay_facts
from agenttrace.plan import Options, make_plan, write_run_spec

from agenttrace.fixture.build import load, write_tree
from agenttrace.sandbox.client import acquire
from agenttrace.serving.cassette import cassette_path
from agenttrace.serving.cassette_log import CassetteLog
from agenttrace.serving.chat import ChatModel, spec_fixed_part
from agenttrace.serving.tape import Recorder
from agenttrace.store.jsonl import RecordLog
from agenttrace.testing import ScriptedServer, says

PACKAGE = Path(__file__).parents[2] / "agenttrace" / "sandbox"


class Silent:
    def event(self, event):
        pass

    def finished(self, task, trace):
        pass

    def failed(self, task, trace, attempt):
        pass


class Sandbox:
    """Runners of this host with their folders; `tools` comes first on the tools' PATH."""

    def __init__(self, base):
        self.base = base
        base.chmod(0o755)
        for name in ("work", "call", "sockets", "tools"):
            (base / name).mkdir()
        write_tree(load("demo"), base / "fixtures" / "demo")
        self.interpreter = shutil.copy(PACKAGE / "tools" / "interpret.py", base)
        self._running = []

    def connect(self):
        while True:
            for process in self._running:
                process.poll()
            if not any(process.returncode is None for process in self._running):
                self.start()
            (worker,) = acquire(self.base / "sockets", count=1, timeout_s=20)
            return worker

    def start(self):
        uid = str(30000 + os.getpid() % 30000)  # the runner kills everything of that user
        flags = {
            "work": self.base / "work", "fixtures": self.base / "fixtures", "call-dir": self.base / "call",
            "interpreter": self.interpreter, "tool-uid": uid, "tool-gid": uid, "socket-dir": self.base / "sockets",
            "path": f"{self.base / 'tools'}:/usr/bin:/bin",
        }  # fmt: skip
        argv = [sys.executable, "-I", "-S", "-B", str(PACKAGE / "runner"), "--helper", "python"]
        argv += [text for name, value in flags.items() for text in (f"--{name}", str(value))]
        self._running.append(subprocess.Popen(argv, stdout=subprocess.DEVNULL, start_new_session=True))

    def close(self):
        for process in self._running:
            process.kill()
            process.wait()


@contextlib.contextmanager
def sandbox_at(base):
    made = Sandbox(base)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def make_sandbox():
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs Linux and root: the runner switches to the tools' user")
    with contextlib.ExitStack() as stack:

        def make():
            base = Path(tempfile.mkdtemp(prefix="agenttrace-replay-", dir="/var/tmp"))
            stack.callback(shutil.rmtree, base)
            return stack.enter_context(sandbox_at(base))

        yield make


def script(messages):
    """Look twice, then answer: what a small model does on any task."""
    turn = sum(message["role"] == "assistant" for message in messages)
    commands = [
        "ls -1 | sort; cat notes/*.txt 2>/dev/null | head -5",
        "wc -c $(find . -type f | sort) | tail -1; uname",
    ]
    if turn < len(commands):
        return says(calls=[("bash", json.dumps({"command": commands[turn]}))], reasoning="hm")
    return says(calls=[("final_answer", json.dumps({"answer": "7"}))])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, make_sandbox):
    """Three traces with run spec and cassette; returns the record file."""
    folder, sandbox = tmp_path_factory.mktemp("recorded"), make_sandbox()
    first = sandbox.connect()
    plan = make_plan(
        Options(count=3, output="demo.jsonl"),
        images={"sandbox": "b" * 64},
        fixture_version=first.info.fixtures["demo"],
        folder=folder,
        now=datetime(2026, 11, 2, tzinfo=UTC),
    )
    write_run_spec(plan)
    spec = plan.spec
    with (
        ScriptedServer(script) as server,
        RecordLog(plan.path) as log,
        CassetteLog(cassette_path(plan.path), run_spec_sha256=spec.digest) as cassette,
    ):
        cassette.note(replay_facts(first, spec))
        first.close()
        model = ChatModel(
            server.base_url, model=spec.model.name, sampler=spec.sampler, tools=spec.agent.tools, sleep=lambda _: None
        )
        recorder = Recorder(model, spec_fixed_part(spec), cassette, log)
        summary = Campaign(plan, recorder, sandbox.connect, {}, Silent()).run(recorder)
    assert not summary.abandoned
    return plan.path


@pytest.fixture
def copy(recorded, tmp_path):
    """The files of the campaign, to be changed."""
    for path in recorded.parent.iterdir():
        shutil.copy(path, tmp_path)
    return tmp_path / recorded.name


@pytest.fixture
def display():
    return Silent()
