"""`judge` on the records of a real campaign, and the references of the real task sets."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from agenttrace.store.read import run_spec_path

pytestmark = pytest.mark.docker
ROOT = Path(__file__).resolve().parents[2]
NEWLINE = b"\n"


def check_tasks(instance, name, report, mirror):
    return instance.run("tasks-check", name, "--json", report, module="bench", AGENTTRACE_MIRROR=mirror)


@pytest.mark.parametrize("campaign", ["finished", "rolled"])
def test_verdicts_are_computed_again_from_the_record_alone(instance, campaign, request):
    collected, _ = request.getfixturevalue(campaign)
    for path in (collected.records, run_spec_path(collected.records)):
        shutil.copy(path, instance.folder)
    released = instance.records.read_bytes()
    same = instance.run("judge", "--check", instance.records)
    assert same.returncode == 0, same.stderr
    assert f"{released.count(NEWLINE)} traces judged again, 0 differ" in same.stderr
    assert b'"verdict":"passed"' in released
    instance.records.write_bytes(released.replace(b'"verdict":"passed"', b'"verdict":"failed"', 1))
    if campaign == "finished":  # what follows is the same for every task set
        wrong = instance.run("judge", "--check", instance.records)
        assert wrong.returncode == 1
        assert "now passed" in wrong.stderr
    assert instance.run("judge", instance.records).returncode == 0
    assert instance.records.read_bytes() == released


def test_the_references_of_nl2bash_are_stable_and_pass(instance, mirror):
    report = instance.folder / "report.json"
    ended = check_tasks(instance, "nl2bash", report, mirror)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    ((found,)) = json.loads(report.read_text())
    tasks = found["tasks"]
    passed = [task for task in tasks if all(verdict["verdict"] == "passed" for verdict in task["verdicts"])]
    free = [task for task in tasks if not set(task["flags"]) & set("TPUNDGOL")]
    assert len(tasks) == 200
    assert len(free) == 102
    assert all(task in passed and not task["differs_pinned"] for task in free)
    assert sum("T" in task["flags"] for task in passed) >= 25
    assert not [v for task in tasks for v in task["verdicts"] if v["verdict"] == "failed"]
    assert all(v["reason"] for task in tasks for v in task["verdicts"] if v["verdict"] == "not_gradable")


def test_a_campaign_on_nl2bash_is_judged_under_the_pinned_clock(instance, mirror):
    ended = subprocess.run(
        instance.argv("--dataset", "nl2bash", "--offset", "41", "-n", "2", "--max-steps", "2"),
        capture_output=True, text=True, cwd=ROOT, env={**instance.env, "AGENTTRACE_MIRROR": mirror}, timeout=180,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    traces = [json.loads(text) for text in instance.records.read_text().splitlines()]
    for trace in traces:
        verdicts = trace["outcome"]["verdicts"]
        assert [verdict["aspect"] for verdict in verdicts] == ["exit_status", "stdout", "state"]
        assert 0.0 < trace["outcome"]["scores"]["intercode_reward_v2"] <= 1.0
        assert trace["metadata"]["sandbox_clock"] == "2024-05-05T12:30:00Z"
    again = instance.run("judge", "--check", instance.records, AGENTTRACE_MIRROR=mirror)
    assert again.returncode == 0, again.stderr


def test_the_references_of_mbpp_pass_and_pass_does_not(instance, mirror):
    report = instance.folder / "report.json"
    ended = check_tasks(instance, "mbpp", report, mirror)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    ((found,)) = json.loads(report.read_text())
    assert len(found["tasks"]) == 500
    assert all(v["verdict"] == "passed" for task in found["tasks"] for v in task["verdicts"])
    assert not [task for task in found["tasks"] if task["passed_without"] or task["differs"]]
