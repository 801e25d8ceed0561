"""The random conversations of `budget-check`, and the text that a container runs."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from agenttrace.testing import ScriptedServer, says
from bench.campaigns import budget_fuzz
from bench.campaigns.budget_fuzz import SCRIPTS, conversation, text

ROOT = Path(__file__).resolve().parents[2]


def fuzz(folder, base_url, *arguments):
    """Run it as `budget-check` does: as text, where the package can be imported and `bench` cannot."""
    (folder / "agenttrace").symlink_to(ROOT / "agenttrace")
    code = Path(budget_fuzz.__file__).read_text(encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-P", "-c", code, "--base-url", base_url, "--model", "m", *arguments],
        capture_output=True, text=True, timeout=60, cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)},
    )  # fmt: skip


def counted(messages):
    return len(" ".join(message["content"] for message in messages).split())


@pytest.mark.slow
def test_a_server_that_counts_as_it_says_passes(tmp_path):
    def reply(messages):
        usage = {"prompt_tokens": counted(messages), "completion_tokens": 1}
        return {**says("x"), "usage": usage}

    with ScriptedServer(reply, counts="llama-server") as server:
        ended = fuzz(tmp_path, server.base_url, "--requests", "4", "--context", "100")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("counted by llama-server: 4 requests, largest prompt ")
    assert ended.stdout.endswith(", 4 counted exactly, 0 over budget, 0 refused for length\n")


@pytest.mark.slow
def test_a_server_that_counts_otherwise_fails(tmp_path):
    with ScriptedServer(lambda _: says("x"), counts="llama-server") as server:
        ended = fuzz(tmp_path, server.base_url, "--requests", "2", "--context", "100")
    assert ended.returncode == 1, ended.stderr
    assert ", 2 counted exactly" not in ended.stdout


@pytest.mark.slow
def test_a_server_that_counts_no_prompt_is_one_message(tmp_path):
    with ScriptedServer(lambda _: says("x"), counts="llama-server") as server:
        ended = fuzz(tmp_path, server.base_url.replace("/v1", "/none"), "--requests", "1")
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr


def test_the_fuzz_has_texts_in_twenty_scripts_and_the_same_ones_again():
    assert len(SCRIPTS) == 20
    found = conversation(random.Random(3), 400)
    assert found == conversation(random.Random(3), 400)
    assert [message["role"] for message in found][:2] == ["system", "user"]
    assert found[-1]["role"] == "user"
    joined = "".join(text(random.Random(seed), 2000) for seed in range(60))
    for first, last in SCRIPTS.values():
        assert any(first <= ord(char) <= last for char in joined)
    for part in ("<|im_start|>", "👩‍👩‍👧‍👦", "\x00", "\\x"):
        assert part in joined
