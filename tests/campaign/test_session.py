"""Sessions in processes of their own. Killed at any instant, a campaign goes on to the same set of records."""

import random
import subprocess
import time

import pytest

from agenttrace.campaign.plan import Plan
from agenttrace.campaign.session import EXIT_INCOMPLETE
from agenttrace.store.read import read_run_spec, read_traces
from agenttrace.tasks import task_set
from agenttrace.testing import ScriptedServer, fails, says
from agenttrace.validate import Validation

KILLS = 8
ROLLOUTS = 8


@pytest.mark.slow
def test_killed_many_times_a_campaign_has_the_same_records(source, sandbox, server, argv):
    source.prepare()
    sandbox.start(2, policy="execution_free", trees=source.trees)
    words = argv(source, sandbox, server.base_url, "--workers", "2", rollouts=ROLLOUTS)
    records = source.data / "run.jsonl"
    dice = random.Random(20261121)
    killed = 0
    for _ in range(KILLS):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = _size(records)
        while process.poll() is None and _size(records) == before:  # it has begun and written something
            time.sleep(0.002)
        time.sleep(dice.uniform(0.0, 0.05))
        killed += process.poll() is None
        process.kill()
        process.wait()
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert killed >= 2
    spec = read_run_spec(source.data / "run.run.json")
    tasks = task_set("swe", trees=source.trees).tasks()
    plan = Plan(spec=spec, spec_sha256=spec.digest, path=records, tasks=tasks, resumes=True)
    made = [trace.trace_id for trace in read_traces(records)]
    assert sorted(made) == sorted(plan.trace_id(job) for job in plan.jobs())
    assert len(set(made)) == len(made) == 2 * ROLLOUTS


@pytest.mark.slow
def test_an_interrupted_run_says_that_its_records_are_kept(source, sandbox, server, argv):
    source.prepare()
    sandbox.start(policy="execution_free", trees=source.trees)
    words = argv(source, sandbox, server.base_url, rollouts=200)
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    # The first record is durable, that is finished, when the second one comes; before, an interrupt may take it back.
    while process.poll() is None and _lines(source.data / "run.jsonl") < 2:
        time.sleep(0.01)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; every finished record is kept" in said
    assert "Traceback" not in said
    assert list(read_traces(source.data / "run.jsonl"))


def _size(path):
    return path.stat().st_size if path.exists() else 0


def _lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.slow
def test_a_server_that_goes_away_stops_the_run_and_nothing_of_it_counts(source, sandbox, collect):
    source.prepare()
    sandbox.start(policy="execution_free", trees=source.trees)
    with ScriptedServer(lambda _: says("no block")) as gone:
        address = gone.base_url
    ended = collect(address, rollouts=4)
    assert ended.returncode == 3
    assert "not ready" in ended.stderr
    assert list(source.data.iterdir()) == []


@pytest.mark.slow
def test_runs_that_the_server_fails_are_kept_apart_and_made_by_the_next_session(source, sandbox, collect):
    source.prepare()
    sandbox.start(policy="execution_free", trees=source.trees)
    with ScriptedServer(lambda _: fails(400, "no")) as broken:
        ended = collect(broken.base_url)
    assert ended.returncode == EXIT_INCOMPLETE
    assert "no task has a record" in ended.stderr
    assert _size(source.data / "run.jsonl") == 0
    failed = list(read_traces(source.data / "run.failures.jsonl"))
    assert {trace.outcome.ended for trace in failed} == {"model_error"}
    assert len(failed) == 6
    assert [one.rule for one in Validation(source.data / "run.failures.jsonl")] == []  # their run spec is still there
    script = [says("```bash\necho COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT\n```")] * 2
    with ScriptedServer(script) as good:
        assert collect(good.base_url).returncode == 0
    assert {trace.outcome.ended for trace in read_traces(source.data / "run.jsonl")} == {"final_answer"}
