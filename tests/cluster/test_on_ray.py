"""Shards on a real Ray cluster of this machine: two nodes with real runners, killed, stopped and joined by others."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agenttrace.errors import EXIT_INTERRUPTED
from agenttrace.store.read import read_traces
from agenttrace.testing import ScriptedServer, says

ROOT = Path(__file__).parents[2]
SHARDS, RECORDS = 8, 40
AT_A_TIME = 4  # shards, with one of the sandbox workers each
HELD = "the largest file in data"
"""Of the third task, which is the first one of shard 2, a later one of 0, 3, 5 and 6, and not in 1, 4 and 7."""
HELD_S = 60.0


class Hold:
    """While it is on, requests of the task `HELD` are not answered."""

    def __init__(self):
        self.on = False
        self.waiting = 0
        self._lock = threading.Lock()

    def wait(self):
        with self._lock:
            self.waiting += 1
        deadline = time.monotonic() + HELD_S
        while self.on and time.monotonic() < deadline:
            time.sleep(0.05)
        with self._lock:
            self.waiting -= 1


HOLD = Hold()


class AtATime:
    """How many requests there are at a time, and were at most since it was set to 0."""

    def __init__(self):
        self.now = self.most = 0
        self._lock = threading.Lock()

    def __enter__(self):
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_):
        with self._lock:
            self.now -= 1


AT_ONCE = AtATime()


def script(messages):
    """Look at a file, and answer; slowly enough to be killed meanwhile."""
    with AT_ONCE:
        return slow(messages)


def slow(messages):
    time.sleep(0.15)
    if HELD in messages[1]["content"]:
        HOLD.wait()
    if len(messages) == 2:
        return says(calls=[("bash", json.dumps({"command": "ls"}))])
    return says(calls=[("final_answer", json.dumps({"answer": "20"}))])


@pytest.fixture(scope="module")
def server():
    with ScriptedServer(script, remember=False) as running:
        yield running


@pytest.fixture(scope="module")
def cluster(ray_here, make_sandbox):
    """Return a cluster of two nodes, each with two sandbox workers of its own."""
    from agenttrace.cluster import local_ray

    made = local_ray.prepared(2, 2)
    for number in range(2):
        sandbox = make_sandbox()
        sandbox.start(2)
        Path(made.sockets(number)).rmdir()
        Path(made.sockets(number)).symlink_to(sandbox.sockets)
    kept = [made]
    before = dict(os.environ)
    os.environ["AGENTTRACE_ANY_SANDBOX"] = "1"  # real runners, in no container
    try:
        local_ray.start(made, keep=kept.append)
        yield kept
    finally:
        local_ray.end(kept[-1])
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def driver(cluster, server, tmp_path):
    """Start `cluster run`, in a process of its own."""
    started = []

    def start(run_id="r1", *more, env=None, base_url=None):
        argv = [
            sys.executable, "-P", "-m", "agenttrace", "cluster", "run", "scripted/model-1B", "--dataset", "demo", "-n",
            "8", "--rollouts", "5", "--run-id", run_id, "--store", str(tmp_path / "store"), "--shard-rollouts", "5",
            "--base-url", base_url or server.base_url, "--ray", cluster[-1].address, "--json", *more,
        ]  # fmt: skip
        process = subprocess.Popen(
            argv, env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, cwd=tmp_path,  # Ray takes the folder of its driver to nodes
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def ended(process, status=0):
    out, said = process.communicate(timeout=240)
    assert process.returncode == status, said
    assert "Traceback" not in said
    return (json.loads(out) if out else None), said


def manifests(tmp_path, run_id="r1"):
    return sorted((tmp_path / "store" / run_id).glob("done/*/*.json"))


def until(condition, within_s=120):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def whole(agenttrace, tmp_path, run_id="r1"):
    """See that a run has every record once, as planned and in order; return the records."""
    file = tmp_path / f"{run_id}.jsonl"
    words = ["--store", tmp_path / "store", "--run-id", run_id]
    assert agenttrace("cluster", "merge", *words, "-o", file).returncode == 0
    traces = list(read_traces(file))
    assert [(one.metadata["rollout_index"], one.metadata["task_id"]) for one in traces] == [
        (rollout, task) for rollout in range(5) for task in range(8)
    ]
    assert len({one.trace_id for one in traces}) == RECORDS
    assert agenttrace("validate", file).returncode == 0
    return traces


def start_anew(cluster):
    """End a cluster and start another one with the same sandbox workers."""
    from agenttrace.cluster import local_ray

    old = cluster[-1]
    made = local_ray.prepared(old.size, old.workers)
    for number in range(old.size):
        Path(made.sockets(number)).rmdir()
        Path(made.sockets(number)).symlink_to(Path(old.sockets(number)).readlink())
    local_ray.end(old)
    cluster.append(made)
    local_ray.start(made, keep=cluster.append)


def replace(cluster, number):
    """Put a node in the place of one that is gone, and wait for it."""
    from agenttrace.cluster import local_ray

    nodes = [*cluster[-1].nodes]
    nodes[number] = local_ray.start_node(cluster[-1], number)
    import msgspec

    cluster.append(msgspec.structs.replace(cluster[-1], nodes=tuple(nodes)))


@pytest.mark.slow
def test_a_run_over_two_nodes_is_whole_and_goes_on_where_nothing_is_left(driver, agenttrace, tmp_path):
    figures, said = ended(driver("r1", "--progress-json", str(tmp_path / "live.json"), "--metrics-port", "0"))
    assert "figures for Prometheus: http://" in said
    live = json.loads((tmp_path / "live.json").read_bytes())
    assert (live["run_id"], live["done"], live["running"]) == ("r1", SHARDS, 0)
    assert live["endpoints"] == figures["endpoints"]
    assert figures["status"] == 0
    assert (figures["shards"], figures["done"], figures["before"], figures["records"]) == (SHARDS, SHARDS, 0, RECORDS)
    assert figures["attempts"] == {"committed": SHARDS}
    assert len(figures["nodes"]) == 2
    assert sum(figures["endpoints"].values()) == RECORDS
    assert "[8/8] shards" in said
    traces = whole(agenttrace, tmp_path)
    (endpoint,) = figures["endpoints"]
    assert {one.environment["endpoint"] for one in traces} == {endpoint}
    assert not any("127.0.0.1" in str(one.environment) for one in traces)
    again, said = ended(driver())
    assert (again["before"], again["attempts"]) == (SHARDS, {})
    assert "8 of 8 shards are done" in said


def gather(cluster, store, *more):
    argv = [
        sys.executable, "-P", "-m", "agenttrace", "cluster", "gather", "--run-id", "r1", "--store", str(store),
        "--rows-per-file", "5", "--json", *more,
    ]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(ROOT), "AGENTTRACE_TERMINAL": ""}
    return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=store)


def files(store):
    return {path.name: path.read_bytes() for path in (store / "r1" / "gathered").iterdir() if "#" not in path.name}


@pytest.mark.slow
def test_what_nodes_gather_is_what_one_process_does_also_where_a_node_and_the_driver_are_killed(
    driver, cluster, tmp_path
):
    ended(driver("r1"))
    one, calm, killed = tmp_path / "one", tmp_path / "calm", tmp_path / "killed"
    for store in (one, calm, killed):
        shutil.copytree(tmp_path / "store", store)
    alone, _ = ended(gather(cluster, one))
    assert (alone["records"], len(alone["files"])) == (RECORDS, SHARDS)
    listed, said = ended(gather(cluster, calm, "--ray", cluster[-1].address))
    assert "[8/8] files" in said
    assert "from 2 nodes" in said
    assert listed == alone
    assert files(calm) == files(one)
    running = gather(cluster, killed, "--ray", cluster[-1].address)
    try:
        until(lambda: list((killed / "r1").glob("gathered/*.json")))
        cluster[-1].nodes[1].send(signal.SIGKILL)
        running.kill()
        running.communicate()
        listed, said = ended(gather(cluster, killed, "--ray", cluster[-1].address))
    finally:
        running.kill()
        replace(cluster, 1)
    assert listed == alone
    assert files(killed) == files(one)
    again, said = ended(gather(cluster, killed, "--ray", cluster[-1].address))
    assert (again, "at work" in said) == (alone, False)


@pytest.mark.slow
def test_the_shards_of_all_nodes_together_have_no_more_requests_at_an_endpoint_than_said(driver):
    AT_ONCE.most = 0
    figures, _ = ended(driver("r1", "--workers", "2", "--in-flight", "2"))  # two shards at a time, of two workers each
    assert (figures["done"], AT_ONCE.most) == (SHARDS, 2)
    AT_ONCE.most = 0
    ended(driver("r2", "--workers", "2"))
    assert AT_ONCE.most > 2


@pytest.mark.slow
def test_a_node_that_is_killed_in_the_middle_loses_and_doubles_nothing(driver, cluster, agenttrace, tmp_path):
    HOLD.on = True
    try:
        running = driver()
        until(lambda: HOLD.waiting == AT_A_TIME)  # both nodes are at work, and no shard goes on any more
        cluster[-1].nodes[1].send(signal.SIGKILL)  # those that work, too: they live on for a moment else
        HOLD.on = False
        figures, said = ended(running)
    finally:
        HOLD.on = False
        replace(cluster, 1)
    assert figures["attempts"]["committed"] == SHARDS
    assert figures["given_up"] == {}
    assert figures["attempts"].get("lost"), said
    assert "its process is gone" in said
    whole(agenttrace, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_driver_that_is_ended_in_the_middle_is_run_again(driver, agenttrace, tmp_path, how):
    HOLD.on = True
    try:
        running = driver()
        until(lambda: HOLD.waiting == AT_A_TIME)  # no shard goes on any more
        running.send_signal(how)
        out, said = running.communicate(timeout=120)
    finally:
        HOLD.on = False
    done = {path.stem for path in manifests(tmp_path)}
    assert done <= {"00000001", "00000004", "00000007"}
    if how is not signal.SIGKILL:
        assert running.returncode == EXIT_INTERRUPTED, said
        assert "what is in the store is kept, the same command goes on" in said
        assert json.loads(out)["status"] == EXIT_INTERRUPTED
        parts = {path.parent.name for path in (tmp_path / "store" / "r1").rglob("parts/*/*/*.jsonl.zst")}
        assert len(parts - done) >= AT_A_TIME - 1  # what was finished of shards that were not is kept
    figures, _ = ended(driver())
    assert figures["before"] == len(done)
    whole(agenttrace, tmp_path)


@pytest.mark.slow
def test_a_head_that_is_killed_takes_its_driver_along_and_another_cluster_goes_on(
    driver, cluster, agenttrace, tmp_path
):
    HOLD.on = True
    try:
        running = driver()
        until(lambda: HOLD.waiting == AT_A_TIME)  # no shard goes on any more
        cluster[-1].head.send(signal.SIGKILL)
    finally:
        HOLD.on = False  # nodes live on for a while, and what they finish counts
    _, said = running.communicate(timeout=180)
    assert running.returncode not in {0, 2}, said
    start_anew(cluster)
    done = manifests(tmp_path)  # all of them, where its nodes outlived it for long enough
    figures, _ = ended(driver())
    assert figures["before"] == len(done)
    whole(agenttrace, tmp_path)


AT_WORK = """
import signal, sys, time
from agenttrace.cluster import on_ray

told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
with on_ray._at_work_for("d") as folder:
    (folder / "scratch").touch()
    print("ready", flush=True)
    while not told:
        time.sleep(0.01)
    time.sleep(1)
print(len(told))
"""


def test_a_process_is_told_to_end_once_and_nothing_of_a_driver_stays(tmp_path, monkeypatch):
    from agenttrace.cluster import on_ray

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    of_another = AT_WORK.replace("while not told", "signal.raise_signal(9)\n    while 0").replace('("d")', '("c")')
    killed = subprocess.run([sys.executable, "-c", of_another], env=env)
    assert killed.returncode == -9
    assert [*tmp_path.glob("*/*/scratch")]  # it left something
    os.utime(tmp_path / f"{on_ray._SEATS_OF}c", (1, 1))
    with subprocess.Popen([sys.executable, "-c", AT_WORK], env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        assert [path.parent.name.split("-")[1] for path in tmp_path.glob("*/*/scratch")] == [str(process.pid)]
        both = [threading.Thread(target=on_ray.terminate, args=("d",)) for _ in range(2)]
        for one in both:
            one.start()
        for one in both:
            one.join()
        assert process.stdout.read() == "1\n"
    assert not [*tmp_path.iterdir()]


def test_what_begins_while_others_end_is_told_too(tmp_path, monkeypatch):
    from agenttrace.cluster import on_ray

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    slow = AT_WORK.replace("time.sleep(1)", 'while not [*folder.parent.glob("*/told")][1:]:\n        time.sleep(0.01)')
    late = AT_WORK.replace("with on_ray", "sys.stdin.readline()\nwith on_ray")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": env}
    with (
        subprocess.Popen([sys.executable, "-c", slow], **pipes) as first,
        subprocess.Popen([sys.executable, "-c", late], **pipes) as second,
    ):
        assert first.stdout.readline() == "ready\n"
        ending = threading.Thread(target=on_ray.terminate, args=("d",))
        ending.start()
        until(lambda: [*tmp_path.glob("*/*/told")])
        second.stdin.write("\n")
        second.stdin.flush()
        ending.join()
        assert (first.stdout.read(), second.stdout.read()) == ("1\n", "ready\n1\n")
    assert not [*tmp_path.iterdir()]


def test_leftovers_have_any_name_and_a_driver_has_none_of_its_own(tmp_path, monkeypatch):
    from agenttrace.cluster import on_ray

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("foo", ".1", "\u00b2", f"{os.getpid()}", f"{on_ray._processes()}{os.getpid()}-x"):
        (tmp_path / f"{on_ray._SEATS_OF}x" / name).mkdir(parents=True)
    (tmp_path / f"{on_ray._SEATS_OF}x" / "file").touch()
    with on_ray._at_work_for("z"):  # those of a driver that has just begun have no lock yet
        assert len([*(tmp_path / f"{on_ray._SEATS_OF}x").iterdir()]) == 6
    shutil.rmtree(tmp_path / f"{on_ray._SEATS_OF}z")
    os.utime(tmp_path / f"{on_ray._SEATS_OF}x", (1, 1))
    with on_ray._at_work_for("y") as living, on_ray._at_work_for("d"):
        assert {path.name for path in tmp_path.iterdir()} == {f"{on_ray._SEATS_OF}{name}" for name in "yd"}
        assert living.is_dir()


def test_a_process_of_another_container_that_shares_the_folder_is_neither_told_nor_taken_for_gone(
    tmp_path, monkeypatch
):
    from agenttrace.cluster import on_ray

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    told = []
    monkeypatch.setattr(os, "kill", lambda pid, _: told.append(pid))
    here = on_ray._processes()
    monkeypatch.setattr(on_ray, "_processes", lambda: "4026530000-")  # of another kernel's table of processes
    with on_ray._at_work_for("d") as there:
        (there / "scratch").touch()
        monkeypatch.setattr(on_ray, "_processes", lambda: here)
        monkeypatch.setattr(on_ray, "_HELD", {})  # with the same id
        with on_ray._at_work_for("d") as folder:
            assert folder != there
        on_ray.terminate("d")
        assert told == []
        assert not folder.exists()
        assert sorted(path.name for path in there.iterdir()) == ["busy", "scratch"]
        with on_ray._at_work_for("e"):  # removes what is left by others
            assert (there / "scratch").exists()


@pytest.mark.slow
def test_all_endpoints_gone_end_a_run_with_3_and_nothing_becomes_a_record(driver, tmp_path):
    with ScriptedServer(script, remember=False) as away:
        running = driver("r1", "--patience", "4", base_url=away.base_url)
        until(lambda: away.count > 10)
        threading.Thread(target=away.stop).start()
        figures, said = ended(running, 3)
    assert "no endpoint could be used for" in said
    assert figures["status"] == 3
    assert figures["given_up"] == {}


@pytest.mark.slow
def test_a_node_with_another_version_of_the_kit_is_refused(driver, cluster, tmp_path):
    from agenttrace.cluster import local_ray

    other = tmp_path / "other"
    shutil.copytree(ROOT / "agenttrace", other / "agenttrace", ignore=shutil.ignore_patterns("__pycache__"))
    with (other / "agenttrace" / "api.py").open("a", encoding="utf-8") as file:
        file.write("\n# another\n")
    node = local_ray.start_node(cluster[-1], 0, package=other)
    try:
        deadline = time.monotonic() + 90
        while True:
            figures, said = ended_either(driver("r9"))
            if figures is None or time.monotonic() > deadline:
                break
            shutil.rmtree(tmp_path / "store")
        assert "has agenttrace-kit" in said
        assert "install the same on every node" in said
    finally:
        os.killpg(node.pid, signal.SIGKILL)


def test_a_node_with_another_zstd_is_refused_since_it_would_make_other_bytes():
    import zstandard

    from agenttrace.cluster import on_ray

    known = {*sys.modules}
    here = on_ray.versions()
    assert "ray" in known or "ray" not in sys.modules  # it would look for its token, and keep what it finds
    said = {"node": "n", "RAY_AUTH_MODE": "token", **here, "zstandard": "0.22.0 (zstd 1.5.5)"}
    assert on_ray._unlike(said, here).startswith("node n has zstandard 0.22.0 (zstd 1.5.5), the driver ")
    assert f"(zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))})" in here["zstandard"]


def ended_either(process):
    out, said = process.communicate(timeout=240)
    return (None if process.returncode == 2 else out), said


@pytest.mark.slow
def test_a_cluster_without_a_token_is_refused(driver):
    for env in ({"RAY_AUTH_MODE": "disabled"},):
        out, said = driver("r1", env=env).communicate(timeout=60)
        assert out == ""
        assert "RAY_AUTH_MODE is 'disabled': without a token" in said


def test_without_ray_one_line_says_what_to_install(agenttrace, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    words = ["--store", tmp_path / "s", "--run-id", "r", "--base-url", "http://localhost:1/v1", "--ray", "auto"]
    ended = agenttrace("cluster", "run", "m", *words)
    assert ended.returncode == 2
    assert "Ray, which is not installed" in ended.stderr
    assert "in the checkout, pip install '.[cluster]'" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_where_no_ray_runs_one_line_says_so(agenttrace, tmp_path):
    words = ["--store", str(tmp_path / "s"), "--run-id", "r", "--base-url", "http://localhost:1/v1"]
    argv = [sys.executable, "-P", "-m", "agenttrace", "cluster", "run", "m", *words, "--ray", "127.0.0.2:9"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64}
    said = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120)
    assert said.returncode == 2
    assert "--ray 127.0.0.2:9: nothing listens there" in said.stderr
    assert "Traceback" not in said.stderr
