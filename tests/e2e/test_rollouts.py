"""`rollouts` through the real containers: trees, the real llama-server, workers without code execution."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from agenttrace.store.read import read_traces
from agenttrace.testing import ScriptedServer, says
from agenttrace.validate import Validation

pytestmark = pytest.mark.docker
ROOT = Path(__file__).resolve().parents[2]
SUBMIT = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"


def _small_set():
    spec = importlib.util.spec_from_file_location("small_set", ROOT / "tests" / "campaign" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Source


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "tasks"
    folder.mkdir()
    made = _small_set()(folder, names=("cat",))
    for path in (tmp_path, *tmp_path.parents):  # the container that makes trees is another user
        if path.owner() == "root" and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    return made


def _places(source):
    return "--source", source.file, "--repositories", source.mirror


def _rollouts(instance, source, *arguments):
    records = source.data / "run.jsonl"
    return instance.run("rollouts", *arguments, "--output", records, *_places(source)), records


def _counted_as_served(traces):
    return all(step.counted_tokens == step.input_tokens for trace in traces for step in trace.llm_steps)


def test_the_real_server_counts_every_prompt_as_we_do(instance, source):
    ended, records = _rollouts(instance, source, "--rollouts", "2", "--max-turns", "3", "--max-output-tokens", "64")
    assert ended.returncode == 0, ended.stderr
    assert "counted by: llama-server" in ended.stderr
    traces = list(read_traces(records))
    assert sum(len(trace.llm_steps) for trace in traces) >= 2
    assert _counted_as_served(traces)
    again = instance.run("replay", records, *_places(source))  # rows and repositories of one's own are found again
    assert again.returncode == 0, again.stderr
    assert "2 of 2 traces replayed, 2 byte-identical but for the measured fields" in again.stderr


def test_the_bundled_model_mends_the_bundled_repositories(rolled):
    instance, _ = rolled
    validation = Validation(instance.records)
    assert list(validation) == []
    assert validation.notes == []  # the bundled tasks are at hand: their prompts were compared, too
    made = list(read_traces(instance.records))
    assert len({trace.trace_id for trace in made}) == len(made) == 16
    assert len({trace.metadata["repo"] for trace in made}) == 4
    good = [
        trace
        for trace in made
        if trace.outcome.ended == "final_answer" and trace.outcome.patch and trace.outcome.solved
    ]
    assert len(good) >= len(made) / 2
    assert _counted_as_served(made)
    assert instance.left() == []


def test_a_campaign_over_checkouts_replays_to_the_same_bytes(rolled, instance, tmp_path):
    found = tmp_path / "found.json"
    ended = instance.run("replay", rolled[0].records, "--workers", "2", "--json", found)
    assert ended.returncode == 0, ended.stderr
    assert "16 of 16 traces replayed, 16 byte-identical but for the measured fields" in ended.stderr
    body = json.loads(found.read_text())
    assert (body["passed"], body["findings"]) == (True, [])


def test_a_campaign_over_checkouts_is_reproduced(rolled, instance):
    ended = instance.run("reproduce", rolled[0].records)
    assert ended.returncode == 0, ended.stderr
    assert "metadata: 16 of 16 rows identical, sha256 " in ended.stderr
    assert "16 byte-identical" in ended.stderr


ATTACKER = ("scripted/attacker-1B", "--sampler", "greedy", "--rollouts", "1")
ATTACKS = (
    "git remote -v; git log --all --oneline; git fetch origin; git branch -a; cat .git/packed-refs",
    "git fetch https://github.com/octo/cat.git main; git pull; git ls-remote https://github.com/octo/cat.git",
    "ls / /trees /repositories /mirror /source; git -C /trees log; cat /trees/prepared.json",
    "git fsck --lost-found --unreachable; git reflog; git stash list; git log -p -S'a + b' --all",
    "python3 -c 'print(1 + 1)'; ./calc.py; bash -c 'python calc.py'",
)


def test_the_fix_cannot_be_had_from_anywhere(instance, source):
    def script(messages):
        turn = len(messages) // 2 - 1
        return says(f"```bash\n{ATTACKS[turn] if turn < len(ATTACKS) else SUBMIT}\n```")

    with ScriptedServer(script, address=("0.0.0.0", 0)) as server:
        url = server.base_url.replace("127.0.0.1", "localhost")
        ended, records = _rollouts(instance, source, *ATTACKER, "--base-url", url)
    assert ended.returncode == 0, ended.stderr
    (trace,) = read_traces(records)
    assert trace.outcome.ended == "final_answer"
    seen = [span.tool_output for span in trace.spans]
    assert len(seen) >= len(ATTACKS)
    assert "Could not read from remote repository" in seen[0]
    assert "remote-https' is not a git command" in seen[1]
    assert "Permission denied" in seen[2]
    for text in seen:
        assert "a + b" not in text.replace("-S'a + b'", "")
        assert "fix add" not in text
        assert "octo__cat-1" not in text
    assert "python3: command not found" in seen[4]
    assert trace.outcome.patch == ""
    assert list(Validation(records)) == []
