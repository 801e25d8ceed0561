"""The pinned Qwen3-0.6B at its real size, from a Hub that cuts: fetched in parts, checked, served; random weights."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from agenttrace.host.compose import ROOT
from agenttrace.host.images import TARGETS
from agenttrace.models import pins
from agenttrace.models.fetch import sha256_of
from agenttrace.models.gguf import read_facts
from agenttrace.store.read import read_run_spec, read_traces, run_spec_path
from bench.random_weights import SHAPES, write

pytestmark = [pytest.mark.docker, pytest.mark.full_size, pytest.mark.timeout(1500)]

NAME = "Qwen/Qwen3-0.6B"
PIN = pins.model_pin(NAME)
TAG = "full-size"
THIRD = PIN.bytes // 3


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / PIN.artifact
    write(path, SHAPES[NAME], size=PIN.bytes)
    yield path
    path.unlink()


@pytest.fixture
def qwen_hub(instance, make_hub, weights, tmp_path):
    """Return a Hub that holds random weights where the pinned ones are; the instance's environment names it."""
    gateway = json.loads(instance.docker("network", "inspect", "bridge"))[0]["IPAM"]["Config"][0]["Gateway"]
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "AGENTTRACE_MODELS_MIRROR"):
        instance.env.pop(name, None)
    with make_hub("0.0.0.0", gateway) as hub:
        instance.env |= {"HF_ENDPOINT": hub.url, "HF_TOKEN_PATH": str(tmp_path / "none")}
        hub.repo, hub.commit, hub.file, hub.content = PIN.repo, PIN.revision, PIN.artifact, weights.read_bytes()
        yield hub


@pytest.fixture
def checkout(instance, weights, tmp_path):
    """Return a copy of this checkout in which the digests of the pin are those of the random weights."""
    copy = tmp_path / "checkout"
    left_out = shutil.ignore_patterns(".git", ".nox", "__pycache__", "tests", "bench", "site", "*.jsonl", "*.zst")
    shutil.copytree(ROOT, copy, ignore=left_out)
    table = copy / "agenttrace" / "models" / "models.toml"
    pinned = table.read_text()
    _, row, rest = pinned.partition(f'[model."{NAME}"]')
    mine = rest.replace(PIN.sha256, sha256_of(weights), 1)
    mine = mine.replace(PIN.chat_template_sha256, read_facts(weights).chat_template_sha256, 1)
    table.write_text(pinned.replace(row + rest, row + mine))
    assert sum(old != new for old, new in zip(pinned.splitlines(), table.read_text().splitlines(), strict=True)) == 2
    instance.env |= {"PYTHONPATH": str(copy), "AGENTTRACE_IMAGE_TAG": TAG}
    yield copy
    for target in TARGETS:
        instance.docker("image", "rm", "--force", f"agenttrace-{target}:{TAG}")


def collect(folder, instance, *arguments):
    argv = [sys.executable, "-m", "agenttrace.host", "collect", NAME, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, cwd=folder, env=instance.env, timeout=900)


def test_other_bytes_of_the_right_size_come_whole_and_are_never_served(instance, qwen_hub, weights):
    qwen_hub.digest = PIN.sha256
    qwen_hub.cuts = [PIN.bytes // 2]
    ended = collect(ROOT, instance, "--dataset", "demo", "-n", "1", "--output", str(instance.records))
    assert ended.returncode == 1, ended.stderr
    assert qwen_hub.ranges_asked() == [None, f"bytes={PIN.bytes // 2}-"]
    assert f"SHA-256 {sha256_of(weights)}, but {NAME} is pinned to {PIN.sha256}" in ended.stderr
    assert "other bytes and they are not served" in ended.stderr
    assert list(instance.folder.iterdir()) == []


def test_the_command_of_the_card_runs_at_the_real_weight(instance, qwen_hub, checkout, task_files):
    few = ("-n", "1", "--profile", "reproducible", "--max-tokens", "48", "--max-steps", "2")
    qwen_hub.cuts = [THIRD, *[0] * 4, THIRD]
    cut = collect(checkout, instance, *few)
    assert cut.returncode == 2, cut.stderr
    assert f"cut off at {THIRD:,} of {PIN.bytes:,} bytes" in cut.stderr
    ended = collect(checkout, instance, *few)
    assert ended.returncode == 0, ended.stderr
    asked = [None, *[f"bytes={THIRD}-"] * 5, f"bytes={2 * THIRD}-"]
    assert qwen_hub.ranges_asked() == asked, "each goes on where the one before was cut, over both commands"
    files = sorted((checkout / "datasets").glob("*.jsonl"))
    assert [file.name.partition("_0_6B_")[0] for file in files] == ["mbpp", "nl2bash"]
    for file in files:
        model = read_run_spec(run_spec_path(file)).model
        assert (model.name, model.bytes, model.digest_from) == (NAME, 639_446_688, "pinned")
        (trace,) = read_traces(file)
        assert trace.environment["server_reported"]["n_params"] == 596_049_920
        first, second = trace.llm_steps
        assert second.timings.cached_n >= 0.9 * first.input_tokens, "the conversation goes on from its own beginning"
