"""`rollouts` through the real containers: trees, the real llama-server, workers without code execution."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from agenttrace.rollouts.files import read

from agenttrace.testing import ScriptedServer, says
from agenttrace.validate import Validation

pytestmark = pytest.mark.docker
ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 280
SUBMIT = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"


def _small_set():
    spec = importlib.util.spec_from_file_location("small_set", ROOT / "tests" / "rollouts" / "conftest.py")
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


def _rollouts(instance, source, *arguments):
    records = source.data / "run.jsonl"
    argv = [sys.executable, "-m", "agenttrace.host", "rollouts", *arguments, "--output", str(records)]
    argv += ["--source", str(source.file), "--repositories", str(source.mirror)]
    ended = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, env=instance.env, timeout=PATIENCE_S)
    return ended, records


def test_the_real_server_counts_every_prompt_as_we_do(instance, source):
    ended, records = _rollouts(instance, source, "--rollouts", "2", "--max-turns", "3", "--max-output-tokens", "64")
    assert ended.returncode == 0, ended.stderr
    assert "counted by: llama-server" in ended.stderr
    turns = [turn for rollout in read(records) for turn in rollout.turns]
    assert len(turns) >= 2
    assert all(turn.counted_tokens == turn.input_tokens for turn in turns)


def test_the_bundled_model_mends_the_bundled_repositories(instance, tmp_path):
    records = tmp_path / "run.jsonl"
    argv = [sys.executable, "-m", "agenttrace.host", "rollouts", "--output", str(records)]
    ended = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, env=instance.env, timeout=PATIENCE_S)
    assert ended.returncode == 0, ended.stderr
    validation = Validation(records)
    assert list(validation) == []
    assert validation.notes == []  # the bundled tasks are at hand: their prompts were compared, too
    made = list(read(records))
    assert len({rollout.rollout_id for rollout in made}) == len(made) == 16
    assert len({rollout.repo for rollout in made}) == 4
    good = [r for r in made if r.stop == "submitted" and r.patch and r.verdicts[0].verdict == "passed"]
    assert len(good) >= len(made) / 2
    assert all(turn.counted_tokens == turn.input_tokens for rollout in made for turn in rollout.turns)


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
    (rollout,) = read(records)
    assert rollout.stop == "submitted"
    seen = [turn.observation for turn in rollout.turns]
    assert "Could not read from remote repository" in seen[0]
    assert "remote-https' is not a git command" in seen[1]
    assert "Permission denied" in seen[2]
    for text in seen:
        assert "a + b" not in text.replace("-S'a + b'", "")
        assert "fix add" not in text
        assert "octo__cat-1" not in text
    assert "python3: command not found" in seen[4]
    assert rollout.patch == ""
    assert list(Validation(records)) == []
