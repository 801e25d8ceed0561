"""Faults of a worker in the middle of a call: a real sandbox container, a scripted model."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime

import pytest

from agenttrace.campaign import loop
from agenttrace.campaign.loop import ATTEMPTS, Campaign, Display
from agenttrace.campaign.options import Options
from agenttrace.campaign.plan import make_plan, request_part
from agenttrace.host import compose
from agenttrace.host.workers import SandboxContainer
from agenttrace.serving.chat import ChatModel
from agenttrace.store.jsonl import RecordLog
from agenttrace.store.read import read_traces
from agenttrace.tasks import task_set
from agenttrace.testing import ScriptedServer, says
from tests.e2e.test_hostile_tasks import SWARM

pytestmark = pytest.mark.docker


class Remembering(Display):
    """A display that only remembers."""

    def __init__(self):
        self.failures = []

    def failed(self, task, trace, attempt):
        self.failures.append((task.task_id, attempt, trace.outcome.ended))


class Sandboxes:
    """Sandbox containers of one test."""

    def __init__(self, instance):
        self._instance = instance
        self.flags = ()
        self._containers = []

    @property
    def names(self):
        return [container.name for container in self._containers]

    def connect(self):
        self._containers.append(SandboxContainer(self._instance.project, self._instance.env, *self.flags))
        return self._containers[-1].worker

    def close(self):
        for container in self._containers:
            container.close()
        compose.sweep(compose.client(), self._instance.project)


@pytest.fixture
def sandboxes(instance):
    made = Sandboxes(instance)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(loop, "BACKOFF_S", (0.0, 0.0))


@pytest.fixture
def plan(tmp_path):
    return make_plan(
        Options(count=2, output="demo.jsonl"),
        images={},
        folder=tmp_path,
        now=datetime(2026, 11, 2, tzinfo=UTC),
    )


def bash(command):
    return says(calls=[("bash", json.dumps({"command": command}))])


def answer(text):
    return says(calls=[("final_answer", json.dumps({"answer": text}))])


def run(plan, script, connect, display=None):
    with ScriptedServer(script) as server, RecordLog(plan.path) as log:
        model = ChatModel(server.base_url, request_part(plan.spec), sleep=lambda _: None)
        return Campaign(plan, task_set("demo"), model, connect, {}, display or Remembering()).run(log)


def test_a_call_whose_worker_is_killed_is_recorded_as_lost_and_the_campaign_goes_on(instance, plan, sandboxes):
    killed, under_way = threading.Event(), threading.Event()

    def script(messages):
        if messages[-1]["role"] == "tool":
            return answer("20")
        under_way.set()
        return bash("true" if killed.is_set() else "sleep 60")

    def kill_the_first():
        under_way.wait(60)
        time.sleep(0.5)  # the call lasts a minute
        killed.set()
        instance.docker("kill", sandboxes.names[0])

    killer = threading.Thread(target=kill_the_first, daemon=True)
    killer.start()
    display = Remembering()
    summary = run(plan, script, sandboxes.connect, display)
    killer.join(60)
    assert display.failures == [(0, 1, "sandbox_error")]
    assert [trace.metadata["task_id"] for trace in read_traces(plan.path)] == [0, 1]
    assert not summary.abandoned
    (lost,) = read_traces(plan.path.with_suffix(".failures.jsonl"))
    assert lost.outcome.ended == "sandbox_error"
    assert [span.status for span in lost.spans] == ["lost"]
    assert lost.spans[0].tool_input == '{"command":"sleep 60"}'


def test_a_task_that_loses_every_worker_is_given_up_without_a_record(plan):
    class Dead:
        closed = False

        def begin_reset(self, _, clock=None):
            from agenttrace.errors import WorkerLostError

            raise WorkerLostError("gone")

        def close(self):
            pass

    display = Remembering()
    summary = run(plan, [], Dead, display)
    assert [task.task_id for task in summary.abandoned] == [0, 1]
    assert len(display.failures) == 2 * ATTEMPTS
    assert plan.path.read_bytes() == b""


@pytest.mark.timeout(300)
def test_where_the_kernel_takes_the_runner_the_task_has_its_record_and_the_next_one_runs(plan, sandboxes):
    """The helper in Python leaves a call its own OOM score, as every kernel without Landlock does."""
    sandboxes.flags = ("--helper", "python")
    first = plan.tasks[0].prompt

    def script(messages):
        if messages[1]["content"] != first:
            return answer("20")
        return says(calls=[("python_interpreter", json.dumps({"code": SWARM}))])

    summary = run(plan, script, sandboxes.connect)
    assert not summary.abandoned
    swarm, after = read_traces(plan.path)
    assert (swarm.outcome.ended, swarm.outcome.solved) == ("sandbox_lost", False)
    assert swarm.outcome.detail == "call_1_1 (python_interpreter) took the worker with it in each of 3 attempts"
    assert after.outcome.ended == "final_answer"


def test_what_a_task_leaves_behind_is_gone_for_the_next_one(plan, sandboxes):
    seen = []

    def script(messages):
        if messages[-1]["role"] == "tool":
            seen.append(messages[-1]["content"])
            return answer("x")
        return bash("ls -A . /tmp /dev/shm | md5sum; touch mine /tmp/mine /dev/shm/mine; rm words.txt")

    run(plan, script, sandboxes.connect)
    assert len(seen) == 2
    assert seen[0] == seen[1]
    first, second = read_traces(plan.path)
    assert first.outcome.verdicts[1].verdict == "failed"
    assert "mine" in second.outcome.verdicts[1].reason


DENIED = "ls: cannot open directory '{}': Permission denied"
HIDDEN = ("/opt/agenttrace/runner", "/opt/agenttrace/fixtures", "/run/agenttrace")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        pytest.param("id -u; id -G", "20000\n20000", id="user"),
        pytest.param("grep -h CapEff /proc/self/status | cut -f 2", "0" * 16, id="capabilities"),
        pytest.param("grep -h NoNewPrivs /proc/self/status | cut -f 2", "1", id="no new privileges"),
        pytest.param("grep -h Seccomp: /proc/self/status | cut -f 2", "2", id="system call filter"),
        pytest.param("ls /sys/class/net", "lo", id="network"),
        pytest.param(
            f"for f in {' '.join(HIDDEN)}; do ls $f 2>&1; done; true",
            "\n".join(map(DENIED.format, HIDDEN)),
            id="our files",
        ),
        pytest.param("touch /etc/x /usr/x /opt/x 2>&1 | wc -l", "3", id="read-only root"),
        pytest.param("find / -xdev -perm /6000 -type f 2>/dev/null | wc -l", "0", id="setuid files"),
        pytest.param("find / -name docker.sock 2>/dev/null | wc -l", "0", id="engine socket"),
    ],
)
def test_the_container_holds_what_the_design_promises(plan, sandboxes, command, expected):
    seen = []

    def script(messages):
        if messages[-1]["role"] == "tool":
            seen.append(messages[-1]["content"])
            return answer("x")
        return bash(command)

    run(plan, script, sandboxes.connect)
    assert seen[0] == f"exit_code: 0\nstdout:\n{expected}"
