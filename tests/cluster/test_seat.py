"""Shards made by the real loop with real runners and a scripted server, merged, and held against one machine's file."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time

import msgspec
import pytest

from agenttrace.campaign.options import Options
from agenttrace.campaign.session import Surroundings
from agenttrace.cluster.endpoints import read_addresses
from agenttrace.cluster.objects import Store
from agenttrace.cluster.seat import Seat
from agenttrace.errors import EXIT_INTERRUPTED
from agenttrace.records import Trace
from agenttrace.records.compare import record_differences
from agenttrace.sandbox.client import acquire
from agenttrace.store.read import read_traces
from agenttrace.testing import ScriptedServer, answers, fails, says

OPTIONS = Options(model="scripted/model-1B", external=True, dataset="demo", count=3, rollouts=4, run_id="r1")
SHARDS = 3  # of five records: 5, 5 and 2


def script(messages):
    """Look at a file, and answer."""
    if len(messages) == 2:
        return says(calls=[("bash", json.dumps({"command": "ls"}))])
    return says(calls=[("final_answer", json.dumps({"answer": "20"}))])


@pytest.fixture
def server():
    with ScriptedServer(script) as running:
        yield running


@pytest.fixture
def words(sandbox, tmp_path, monkeypatch):
    """Return the words of `cluster shard NUMBER`, for a process of its own."""
    monkeypatch.setenv("AGENTTRACE_ANY_SANDBOX", "1")  # real runners, in no container

    def made(number, base_url, *more):
        return [
            sys.executable, "-m", "agenttrace", "cluster", "shard", str(number), OPTIONS.model, "--dataset", "demo",
            "-n", "3", "--rollouts", "4", "--run-id", "r1", "--store", str(tmp_path / "store"), "--shard-rollouts",
            "5", "--sockets", str(sandbox.sockets), "--base-url", base_url, "--workers", "2", *more,
        ]  # fmt: skip

    sandbox.start(2)
    return made


@pytest.fixture
def shard(words):
    def run(number, base_url, *more):
        return subprocess.run(words(number, base_url, *more), capture_output=True, text=True, timeout=120)

    return run


def merged(agenttrace, tmp_path, name="merged.jsonl"):
    ended = agenttrace("cluster", "merge", "--store", tmp_path / "store", "--run-id", "r1", "-o", tmp_path / name)
    return ended, tmp_path / name


def on_one_machine(path, sandbox, server):
    """Run a session of the campaign in the usual way, to its end."""
    options = msgspec.json.encode((msgspec.structs.replace(OPTIONS, output=path.name),)).decode()
    argv = [
        sys.executable, "-m", "agenttrace.inside", "collect", "--folder", str(path.parent), "--sockets",
        str(sandbox.sockets), "--base-url", server.base_url, "--options", options,
    ]  # fmt: skip
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
def test_shards_of_several_machines_are_the_records_of_one(shard, server, sandbox, agenttrace, tmp_path):
    for number in (2, 0, 1):
        ended = shard(number, server.base_url)
        assert ended.returncode == 0, ended.stderr
    assert "nothing to do: shard 1 of 3 is done" in shard(1, server.base_url).stderr
    ended, file = merged(agenttrace, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "12 records of 3 shards" in ended.stdout
    (tmp_path / "one").mkdir()
    on_one_machine(tmp_path / "one" / "one.jsonl", sandbox, server)
    here = {trace.trace_id: trace for trace in read_traces(tmp_path / "one" / "one.jsonl")}
    there = list(read_traces(file))
    assert len(there) == len(here) == 12
    assert [(one.metadata["rollout_index"], one.metadata["task_id"]) for one in there] == [
        (rollout, task) for rollout in range(4) for task in range(3)
    ]
    for one, other in ((here[trace.trace_id], trace) for trace in there):
        assert record_differences(Trace, *map(msgspec.json.encode, (one, other))) == []
    run_specs = [path.read_bytes() for path in (tmp_path / "one" / "one.run.json", file.with_suffix(".run.json"))]
    assert run_specs[0] == run_specs[1]


@pytest.mark.slow
def test_what_was_merged_is_valid_and_replays(shard, server, sandbox, agenttrace, tmp_path):
    for number in range(SHARDS):
        assert shard(number, server.base_url).returncode == 0
    _, file = merged(agenttrace, tmp_path)
    assert agenttrace("validate", file).returncode == 0
    again = [sys.executable, "-m", "agenttrace.inside", "replay", str(file), "--sockets", str(sandbox.sockets)]
    ended = subprocess.run(again, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "12" in ended.stdout


@pytest.mark.slow
def test_what_was_gathered_is_valid_and_is_analysed_and_published(analysis_here, shard, server, agenttrace, tmp_path):
    for number in range(SHARDS):
        assert shard(number, server.base_url).returncode == 0
    file = tmp_path / "g.jsonl.zst"
    words = ["--store", tmp_path / "store", "--run-id", "r1", "--rows-per-file", "5", "-o", file]
    ended = agenttrace("cluster", "gather", *words)
    assert ended.returncode == 0, ended.stderr
    assert "12 records in 3 files" in ended.stdout
    assert agenttrace("validate", file).returncode == 0
    _, merged_file = merged(agenttrace, tmp_path)
    assert (tmp_path / "g.run.json").read_bytes() == merged_file.with_suffix(".run.json").read_bytes()
    assert sorted(map(str, read_traces(file))) == sorted(map(str, read_traces(merged_file)))
    ended = agenttrace("analyze", file)
    assert ended.returncode == 0, ended.stderr
    assert agenttrace("tables", file, "-o", tmp_path / "tables").returncode == 0
    ended = agenttrace("publish", file, "-o", tmp_path / "data", "--title", "Gathered")
    assert ended.returncode == 0, ended.stderr
    assert list((tmp_path / "data").rglob("*.parquet"))


@pytest.mark.slow
def test_a_run_that_is_not_whole_is_merged_and_one_machine_goes_on(shard, server, sandbox, agenttrace, tmp_path):
    shard(1, server.base_url)
    ended, file = merged(agenttrace, tmp_path)
    assert ended.returncode == 4
    assert "2 shards of 3 not done: 0, 2" in ended.stdout
    assert len(list(read_traces(file))) == 5
    on_one_machine(file, sandbox, server)
    assert len({trace.trace_id for trace in read_traces(file)}) == 12
    ended, _ = merged(agenttrace, tmp_path)
    assert ended.returncode == 2
    assert "is there already" in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_shard_that_is_stopped_goes_on_from_its_parts(words, shard, agenttrace, tmp_path, how):
    begun = threading.Event()

    def slow(messages):
        if len(messages) > 2:
            begun.set()
        time.sleep(0.2)
        return script(messages)

    with ScriptedServer(slow) as server:
        process = subprocess.Popen(words(0, server.base_url), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert begun.wait(60)
        time.sleep(0.5)  # a record or two
        process.send_signal(how)
        _, said = process.communicate(timeout=60)
        kept = list((tmp_path / "store").rglob("parts/**/*.jsonl.zst"))
        if how is signal.SIGTERM:  # what a machine gets that is taken away soon
            assert process.returncode == EXIT_INTERRUPTED
            assert "what is in the store is kept" in said
            assert len(kept) == 1
        assert [shard(number, server.base_url).returncode for number in range(SHARDS)] == [0, 0, 0]
    _, file = merged(agenttrace, tmp_path)
    assert len({trace.trace_id for trace in read_traces(file)}) == 12


@pytest.mark.slow
def test_a_task_that_cannot_be_run_leaves_its_shard_open_and_its_attempts_apart(shard, server, agenttrace, tmp_path):
    with ScriptedServer(lambda _: fails(500, "crashed")) as down:
        ended = shard(2, down.base_url, "--patience", "5")
    assert ended.returncode in {3, 4}
    assert "Traceback" not in ended.stderr
    assert list((tmp_path / "store" / "r1" / "spoilt").rglob("*.jsonl.zst"))
    assert not list((tmp_path / "store" / "r1").glob("done/*/*"))
    assert shard(2, server.base_url).returncode == 0
    ended, file = merged(agenttrace, tmp_path)
    failed = list(read_traces(file.with_suffix(".failures.jsonl")))
    assert {trace.outcome.ended for trace in failed} == {"model_error"}
    assert f"{len(failed)} attempts that the infrastructure spoilt" in ended.stdout


@pytest.mark.slow
def test_where_one_of_two_endpoints_goes_in_the_middle_the_other_makes_the_rest(shard, agenttrace, tmp_path):
    with ScriptedServer(script) as stays, ScriptedServer([]) as goes:
        goes.script = lambda messages: script(messages) if goes.count < 3 else goes.stop()
        words = ["--base-url", f"goes={goes.base_url}"]
        for number in range(SHARDS):
            ended = shard(number, f"stays={stays.base_url}", *words)
            assert ended.returncode == 0, ended.stderr
        assert goes.count >= 3
    _, file = merged(agenttrace, tmp_path)
    traces = list(read_traces(file))
    assert len({trace.trace_id for trace in traces}) == 12
    assert {trace.environment["endpoint"] for trace in traces} >= {"stays"}
    assert agenttrace("validate", file).returncode == 0


@pytest.mark.slow
def test_an_endpoint_with_another_model_is_refused_by_its_name_and_never_asked(shard, tmp_path):
    with (
        ScriptedServer(script, models=[{"id": OPTIONS.model}]) as right,
        ScriptedServer(script, models=[{"id": "other/model-7B"}]) as wrong,
    ):
        said = ""
        for number in range(SHARDS):
            ended = shard(number, f"rack-1={right.base_url}", "--base-url", f"rack-2={wrong.base_url}")
            assert ended.returncode == 0, ended.stderr
            said += ended.stderr
        assert f"rack-2 ({wrong.base_url}) is refused: this is not the server of the run spec: model" in said
        assert (wrong.count, right.count) == (0, 24)
        alone = shard(0, wrong.base_url, "--run-id", "r2")
    assert alone.returncode == 2
    assert "the server has 'other/model-7B', the run spec names 'scripted/model-1B'" in alone.stderr


@pytest.mark.slow
def test_an_endpoint_with_another_quantization_under_the_same_name_is_refused(shard):
    def row(ftype):
        return [{"id": OPTIONS.model, "meta": {"ftype": ftype, "size": 1000}}]

    with ScriptedServer(script, models=row("Q8_0")) as first, ScriptedServer(script, models=row("Q4_K")) as other:
        assert shard(0, first.base_url).returncode == 0
        ended = shard(1, f"rack-2={other.base_url}")
        assert ended.returncode == 2
        assert "quantization: 'Q4_K' / 'Q8_0'" in ended.stderr
        assert other.count == 0


@pytest.mark.slow
def test_rollouts_start_from_trees_that_a_machine_takes_from_the_store(sandbox, agenttrace, tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTTRACE_ANY_SANDBOX", "1")
    run = ["--store", str(tmp_path / "store"), "--run-id", "r1"]
    checkouts = ["--dataset", "swe", "--repos", "2", "--per-repo", "1"]
    ended = agenttrace("cluster", "prepare", *checkouts, *run)
    assert (ended.returncode, "2 tasks with a tree, 0 without" in ended.stdout) == (0, True), ended.stderr
    node = tmp_path / "node"
    node.mkdir()
    sandbox.start(policy="execution_free", trees=node)

    def fixer(messages):
        said = "ls" if len(messages) == 2 else "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
        return says(f"so\n```bash\n{said}\n```")

    with ScriptedServer(fixer) as server:
        for number in range(2):
            argv = [
                sys.executable, "-m", "agenttrace", "cluster", "shard", str(number), OPTIONS.model, *checkouts,
                "--rollouts", "2", *run, "--sockets", str(sandbox.sockets), "--base-url", server.base_url, "--trees",
                str(node), "--trees-max-bytes", "150000",
            ]  # fmt: skip
            ended = subprocess.run(argv, capture_output=True, text=True, timeout=120)
            assert ended.returncode == 0, ended.stderr
            assert len([path for path in node.iterdir() if path.is_dir()]) == 1  # there is room for one
    _, file = merged(agenttrace, tmp_path)
    traces = list(read_traces(file))
    assert len({trace.metadata["tree_digest"] for trace in traces}) == 2
    assert [trace.outcome.ended for trace in traces] == ["final_answer"] * 4
    assert all(trace.outcome.patch == "" for trace in traces)
    assert agenttrace("validate", file).returncode == 0


class AtATime:
    """A script that counts how many requests it has at a time, and sends away those beyond a limit."""

    def __init__(self, limit):
        self.limit, self.now, self.most, self.sent_away = limit, 0, 0, 0
        self._lock = threading.Lock()

    def __call__(self, messages):
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
            too_many = self.now > self.limit
            self.sent_away += too_many
        try:
            time.sleep(0.2)
            return answers(b"{}", status=429, headers={"Retry-After": "0"}) if too_many else script(messages)
        finally:
            with self._lock:
                self.now -= 1


@pytest.mark.slow
def test_a_shard_keeps_to_its_share_and_to_what_the_endpoint_takes(shard, agenttrace, tmp_path):
    held, busy = AtATime(10), AtATime(1)
    with ScriptedServer(held) as server:
        assert shard(0, server.base_url, "--in-flight", "1").returncode == 0
        assert held.most == 1
        assert shard(1, server.base_url).returncode == 0
        assert held.most == 2  # of two workers
    with ScriptedServer(busy) as server:
        ended = shard(2, server.base_url)
        assert ended.returncode == 0, ended.stderr
    assert busy.sent_away
    _, file = merged(agenttrace, tmp_path)
    traces = list(read_traces(file))
    assert len(traces) == 12
    assert any(trace.environment.get("requests_sent_away") for trace in traces)
    assert not file.with_suffix(".failures.jsonl").exists()
    assert agenttrace("validate", file).returncode == 0


@pytest.mark.slow
def test_all_endpoints_gone_end_a_shard_with_3(shard, tmp_path):
    ended = shard(0, "http://127.0.0.1:9/v1", "--base-url", "http://127.0.0.1:19/v1", "--patience", "1")
    assert ended.returncode == 3
    assert "no endpoint could be used for" in ended.stderr
    assert not list((tmp_path / "store" / "r1").rglob("*.zst"))


def test_what_is_there_is_counted_checked_and_named_where_it_is_damaged(agenttrace, run, url, work, tmp_path):
    def ask(what, *more):
        return agenttrace("cluster", what, "--store", url, "--run-id", "r1", *more)

    for shard in (1, 2):
        with work(shard) as attempt:
            attempt.make()
            attempt.log.commit()
    ended = ask("status", "--json")
    assert (ended.returncode, json.loads(ended.stdout)) == (4, {"shards": 3, "done": 2, "missing": [0]})
    assert "1 shard of 3 not done: 0" in ask("status").stdout
    ended = ask("check")
    assert (ended.returncode, ended.stdout) == (0, f"{url}/r1: no damaged shards of 2 that are done\n")
    with work(0) as attempt:
        attempt.make()
        attempt.log.commit()
    assert (ask("status").returncode, ask("status").stdout) == (0, f"{url}/r1: 3 of 3 shards done\n")
    name = next(name for name in run.store.names(run.parts(1)) if name.endswith(".cassette.zst"))
    pytest.importorskip("obstore").delete(run.store._store, name)
    ended = ask("check")
    assert ended.returncode == 1
    assert f"{name} is not there; restore it, or remove the manifest of shard 1" in ended.stdout
    assert ask("merge", "-o", tmp_path / "m.jsonl").returncode == 1
    assert not (tmp_path / "m.jsonl").exists()
    assert ask("merge").returncode == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["shard", "0"], "--store URL and --run-id ID are needed"),
        (["shard", "0", "--store", "s", "--run-id", "r"], "a shard needs its number and an endpoint"),
        (["shard", "x", "--store", "s", "--run-id", "r", "--base-url", "http://a/v1"], "a shard needs its number"),
        (["prepare", "m", "--store", "s", "--run-id", "r", "--dataset", "mbpp"], "trees are made of checkouts"),
        (["run", "--store", "s", "--run-id", "r"], "no endpoint is named: --base-url URL, once for each"),
        (["run", "m", "--store", "s", "--run-id", "r", "--in-flight", "0"], "--trees-max-bytes: expected 1 or more"),
        (["run", "m", "--store", "s", "--run-id", "r", "--base-url", "x"], "--base-url 'x': expected an address"),
        (["up", "--nodes", "0"], "--nodes: expected 1 to 16"),
        (["merge", "--store", "s", "--run-id", "r", "-o", "x.jsonl"], "there is no such folder"),
        (["status", "--store", ".", "--run-id", "r"], "has no such run"),
        (["check", "--store", ".", "--run-id", "../r"], "run id '../r': expected letters, digits"),
        (
            ["shard", "0", "m", "--dataset", "swe", "--store", ".", "--run-id", "../r", "--base-url", "http://a/v1"],
            "run id '../r': expected letters, digits",
        ),
    ],
)
def test_what_lacks_is_said(agenttrace, tmp_path, words, said):
    ended = agenttrace("cluster", *words, cwd=tmp_path)
    assert ended.returncode == 2
    assert said in ended.stderr


@pytest.mark.slow
def test_a_shard_of_which_only_the_manifest_is_missing_lets_its_workers_go(server, sandbox, tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTTRACE_ANY_SANDBOX", "1")
    sandbox.start(2)
    store = Store(str(tmp_path / "store"))
    around = Surroundings(folder=tmp_path, base_url="", sockets=sandbox.sockets, workers=2)
    with Seat(store, OPTIONS, around, read_addresses([server.base_url]), shard_rollouts=5) as seat:
        assert seat.make(2).made == 2
        store.remove([seat.run.manifest(2)])
        again = seat.make(2)
        assert (again.end, again.made) == ("committed", 0)
        for worker in acquire(sandbox.sockets, count=2, timeout_s=5):
            worker.close()
