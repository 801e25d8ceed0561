"""A campaign whose files somebody changes while it runs: it stops, and the next session has every finished task."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest

from agenttrace.campaign.plan import Plan
from agenttrace.serving.cassette import Cassette
from agenttrace.store.read import read_run_spec, read_traces
from agenttrace.tasks import task_set
from agenttrace.testing import ScriptedServer, fails, says

DONE = says("```bash\necho COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT\n```")
ROLLOUTS = 6


def replaced(path):
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def cut(path):
    path.write_bytes(b"")


def removed(path):
    path.unlink()


LINE = b"a line of somebody\n"


def written_to(path):
    with path.open("ab") as file:
        file.write(LINE)


class Meddling:
    """Answers every request; before the answer to the one with this number, a file is changed."""

    def __init__(self, change, path, at):
        self._change, self._path, self._left = change, path, at
        self._lock = threading.Lock()

    def __call__(self, _):
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self._change(self._path)
        return DONE


@pytest.fixture
def ready(source, sandbox):
    """Sandbox workers and trees; returns the folder of the campaign's files."""
    source.prepare()
    sandbox.start(2, policy="execution_free", trees=source.trees)
    return source.data


def whole(folder, source):
    """Whether the campaign has every record once, with its replies, and nothing lies beside it."""
    spec = read_run_spec(folder / "run.run.json")
    tasks = task_set("swe", trees=source.trees).tasks()
    plan = Plan(spec=spec, spec_sha256=spec.digest, path=folder / "run.jsonl", tasks=tasks, resumes=True)
    made = sorted(trace.trace_id for trace in read_traces(plan.path))
    cassette = Cassette(folder / "run.cassette.zst")
    assert made == sorted(plan.trace_id(job) for job in plan.jobs())
    assert cassette.damage == []
    assert all(cassette.turns(name) for name in made)
    assert not list(folder.glob("*.rescued.*"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run.jsonl", "run.cassette.zst"])
@pytest.mark.parametrize("change", [replaced, cut, removed, written_to])
def test_a_campaign_stops_at_a_changed_file_and_the_next_session_has_it_whole(source, ready, collect, change, name):
    path = ready / name
    with ScriptedServer(Meddling(change, path, at=6)) as server:
        ended = collect(server.base_url, "--workers", "2", rollouts=ROLLOUTS)
        after = path.read_bytes() if path.exists() else None
        assert ended.returncode == 5, ended.stderr
        assert f"{name} " in ended.stderr
        assert "so the campaign stops" in ended.stderr
        assert "Traceback" not in ended.stderr
        records = [path for path in (ready / "run.jsonl", ready / "run.rescued.jsonl") if path.exists()]
        finished = {trace.trace_id for one in records for trace in readable(one)}
        assert 5 <= len(finished) < 2 * ROLLOUTS or change is cut  # finished before, and what still ran
        again = collect(server.base_url, "--workers", "2", rollouts=ROLLOUTS)
        if change is written_to:  # nobody else's bytes are thrown away
            assert again.returncode in {1, 2}, again.stderr
            assert path.read_bytes() == after
            path.write_bytes(after.replace(LINE, b""))  # it may have come right before what was being appended
            again = collect(server.base_url, "--workers", "2", rollouts=ROLLOUTS)
        if change is cut and name != "run.jsonl" and again.returncode:
            assert "lacks the replies of" in again.stderr
            return
    assert again.returncode == 0, again.stderr
    assert "took in" in again.stderr
    whole(ready, source)
    kept = {trace.trace_id for trace in read_traces(ready / "run.jsonl")}
    assert finished <= kept


@pytest.mark.slow
def test_an_interrupt_right_after_the_records_were_removed_leaves_what_the_next_session_needs(
    source, ready, argv, sandbox, collect
):
    def script(_):
        answered.append(1)
        if len(answered) == 4:
            (ready / "run.jsonl").unlink()
            os.kill(running.pid, signal.SIGINT)
            time.sleep(1)  # so that no record is appended between
        return DONE

    answered = []
    with ScriptedServer(script) as server:
        running = subprocess.Popen(
            argv(source, sandbox, server.base_url, rollouts=3), stderr=subprocess.PIPE, text=True
        )
        said = running.communicate(timeout=60)[1]
        again = collect(server.base_url, rollouts=3)
    assert (running.returncode, "run.jsonl was removed" in said) == (5, True), said
    assert again.returncode == 0, again.stderr
    assert re.search(r"took in [23] records of run.rescued.jsonl", again.stderr)  # the third may be on its way
    whole(ready, source)


def readable(path):
    return list(read_traces(path, lambda _: None))


@pytest.mark.slow
def test_attempts_that_failed_are_rescued_likewise(source, ready, collect):
    failures = ready / "run.failures.jsonl"
    answered = []

    def script(_):
        answered.append(1)
        if len(answered) == 5:
            failures.unlink()
        return fails(400, "no")

    with ScriptedServer(script) as server:
        ended = collect(server.base_url, rollouts=2)
    assert ended.returncode == 5
    assert "run.failures.jsonl was removed" in ended.stderr
    rescue = ready / "run.rescued.failures.jsonl"
    before = len(readable(rescue))
    assert before >= 5
    with ScriptedServer(lambda _: DONE) as server:
        again = collect(server.base_url, rollouts=2)
    assert again.returncode == 0, again.stderr
    assert f"took in {before} records of run.rescued.failures.jsonl" in again.stderr
    assert len(readable(failures)) == before
    whole(ready, source)


@pytest.mark.slow
@pytest.mark.parametrize("text", [b"{}\n", b'{"trace_id": "x", "metadata": {"run_spec_sha256": "y"}}\n'])
def test_a_rescue_of_something_else_is_named_and_left_alone(source, ready, collect, text):
    with ScriptedServer(lambda _: DONE) as server:
        assert collect(server.base_url).returncode == 0
        rescue = ready / "run.rescued.jsonl"
        rescue.write_bytes(text)
        before = (ready / "run.jsonl").read_bytes()
        ended = collect(server.base_url)
    assert ended.returncode == 1
    assert "run.rescued.jsonl, line 1: " in ended.stderr
    assert "move the file away" in ended.stderr
    assert (rescue.read_bytes(), (ready / "run.jsonl").read_bytes()) == (text, before)


@pytest.mark.slow
@pytest.mark.parametrize("begun", [0, 9])
def test_a_campaign_that_is_already_whole_takes_in_what_lies_beside_it(source, ready, collect, begun):
    with ScriptedServer(lambda _: DONE) as server:
        assert collect(server.base_url).returncode == 0
        path = ready / "run.jsonl"
        first, second = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(first)
        (ready / "run.rescued.jsonl").write_bytes(first + second + b'{"torn')
        (ready / "run.rescued.cassette.zst").write_bytes((ready / "run.cassette.zst").read_bytes()[:begun])
        ended = collect(server.base_url)
    assert ended.returncode == 0, ended.stderr
    assert "took in 1 records of run.rescued.jsonl" in ended.stderr
    whole(ready, source)
    assert "nothing to do" in ended.stderr
    assert path.read_bytes() == first + second
    whole(ready, source)
