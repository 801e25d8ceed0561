"""A task set of the user's own through the real containers, from the example to its release in strange hands."""

from __future__ import annotations

import json
import shutil

import pytest

from agenttrace.store.read import read_run_spec, read_traces, run_spec_path
from agenttrace.tasks.own.loading import load
from agenttrace.testing import ScriptedServer, says

pytestmark = pytest.mark.docker

MODEL = ("scripted/model-1B", "--sampler", "greedy", "--base-url")
ROUTES = {
    "ERROR": ("grep -c ERROR logs/app.log", "3"),
    "sorted.txt": ("sort -u words.txt > sorted.txt", "done"),
    ".tmp": ("rm cache.tmp; echo more >> words.txt", "done"),
    "mode 755": ("chmod 755 bin/hello.sh", "done"),
    "total": ("cat /trees/* checks/total.sh; ls -R /trees /opt /run | grep own-; echo 302 > data/total.txt", "done"),
    "regular files": ("find . -type f | wc -l", "2"),
}
"""What the scripted model does and answers where the prompt holds the word; it harms a file, and looks for checks."""
SOLVED = {
    "count-errors": True, "sort-words": True, "tidy-up": False, "make-executable": True, "write-total": True,
    "count-files": True,
}  # fmt: skip


def script(messages):
    command, answer = next(found for word, found in ROUTES.items() if word in messages[1]["content"])
    if "one bash block" in messages[0]["content"]:
        said = command if len(messages) == 2 else f"echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT; echo {answer}"
        return says(f"```bash\n{said}\n```")
    if messages[-1]["role"] == "tool":
        return says(calls=[("final_answer", json.dumps({"answer": answer}))])
    return says(calls=[("bash", json.dumps({"command": command}))])


def done(ended):
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def campaign(make_instance, tmp_path_factory):
    """The example, its gold commands tried, collected from a scripted endpoint."""
    instance = make_instance(tmp_path_factory.mktemp("own"))
    done(instance.run("tasks", "new", instance.folder / "chores"))
    assert done(instance.run("tasks", "check", instance.folder / "chores")).count("\nok    ") == 6
    with ScriptedServer(script, address=("0.0.0.0", 0)) as server:
        url = server.base_url.replace("127.0.0.1", "localhost")
        done(
            instance.run(
                "collect", *MODEL, url, "--dataset", instance.folder / "chores", "--output", instance.records,
                "--workers", "2",
            )
        )  # fmt: skip
    assert instance.left() == []
    return instance


def test_every_kind_of_check_is_judged_and_none_was_to_be_seen(campaign):
    traces = {trace.metadata["task_id"]: trace for trace in read_traces(campaign.records)}
    assert {name: trace.outcome.solved for name, trace in traces.items()} == SOLVED
    methods = {one.method for trace in traces.values() for one in trace.outcome.verdicts}
    assert methods == {
        "exact-answer-v1", "answer-pattern-v1", "file-state-v1", "command-stdout-v1", "script-exit-status-v1",
        "reference-state-v1",
    }  # fmt: skip
    (look,) = (span for span in traces["write-total"].spans if span.tool_name == "bash")
    assert look.stdout.text == ""
    spec = read_run_spec(run_spec_path(campaign.records))
    assert (spec.dataset.name, spec.dataset.count) == ("chores", 6)
    assert spec.dataset.sha256 == load(campaign.folder / "chores").sha256
    assert str(campaign.folder) not in run_spec_path(campaign.records).read_text() + campaign.records.read_text()


def test_it_is_complete_judged_again_and_replayed(campaign):
    chores, records = campaign.folder / "chores", campaign.records
    again = campaign.run("collect", *MODEL, "http://localhost:9/v1", "--dataset", chores, "--output", records)
    assert "nothing to do: all 6 tasks have a record" in done(again)
    assert "6 traces judged again, 0 differ" in done(campaign.run("judge", campaign.records, "--check"))
    assert "6 of 6 traces replayed, 6 byte-identical" in done(campaign.run("replay", campaign.records))


def test_it_is_read_checked_and_published(campaign, tmp_path):
    assert "6 lines, no findings" in done(campaign.run("validate", campaign.records))
    assert "6 traces" in done(campaign.run("report", campaign.records, "-o", tmp_path / "r.html"))
    groups = json.loads(campaign.run("analyze", campaign.records, "--format", "json").stdout)["groups"]
    assert [group["traces"] for group in groups] == [6]
    from datasets import load_dataset

    done(campaign.run("publish", campaign.records, "-o", tmp_path / "data"))
    rows = load_dataset(str(tmp_path / "data"), "runs", split="train", cache_dir=str(tmp_path / "cache"))
    assert dict(zip(rows["task_id"], rows["solved"], strict=True)) == SOLVED
    assert load(tmp_path / "data" / "records" / "demo.tasks.tar").sha256 == load(campaign.folder / "chores").sha256


def test_a_stranger_reproduces_the_release_and_collects_the_same_tasks(campaign, instance, tmp_path):
    release = tmp_path / "release"
    done(campaign.run("release", campaign.records, "-o", release))
    assert "whole: files, records" in done(instance.run("release", "--verify", release))
    records, beside = release / "records" / "demo.jsonl", release / "records" / "demo.tasks.tar"
    assert "metadata: 6 of 6 rows identical" in done(instance.run("reproduce", records))
    elsewhere = shutil.move(beside, tmp_path / "set.tar")
    ended = instance.run("judge", records, "--check")
    assert ended.returncode == 2
    assert "and demo.tasks.tar does not lie beside it; put it there, or name the set: --tasks PATH" in ended.stderr
    assert "6 traces judged again, 0 differ" in done(instance.run("judge", records, "--check", "--tasks", elsewhere))
    done(instance.run("tasks", "new", tmp_path / "other"))
    ended = instance.run("replay", records, "--tasks", tmp_path / "other")
    assert ended.returncode == 2
    assert "another task set (SHA-256 " in ended.stderr
    assert "demo.tasks.tar: is missing" in instance.run("release", "--verify", release).stdout


def test_the_bash_block_agent_works_on_it_too(campaign, instance):
    asked = ("--agent", "bash_block", "--dataset", campaign.folder / "chores", "-n", "2", "--output", instance.records)
    with ScriptedServer(script, address=("0.0.0.0", 0), counts="llama-server") as server:
        done(instance.run("collect", *MODEL, server.base_url.replace("127.0.0.1", "localhost"), *asked))
    assert [trace.outcome.solved for trace in read_traces(instance.records)] == [True, True]


def test_a_mistake_is_told_before_anything_starts(instance, tmp_path):
    (tmp_path / "tasks.toml").write_text('[[task]]\nid = "a"\nprompt = "x"\n')
    ended = instance.run("collect", "--dataset", tmp_path)
    assert ended.returncode == 2
    assert ended.stderr == (
        f"agenttrace: {tmp_path}/tasks.toml:1: task 'a': check is missing: without one, nothing says whether it was "
        "solved\n"
    )
