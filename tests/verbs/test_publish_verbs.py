"""`publish` and `publish-rollouts` as commands, and on the host."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from agenttrace.verbs import publish, publish_rollouts

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(__file__).parents[1] / "data" / "records"
RUN = DATA / "1.0.0" / "rollouts.jsonl"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("publish", RUN), {"data", "rollouts", "trajectories", "sessions"}),
        (("publish-rollouts", RUN), {"data", "rollouts", "trajectories", "sessions"}),
        (("publish-rollouts", RUN, "--form", "own"), {"rollouts", "trajectories", "sessions"}),
        (("publish", DATA / "demo.jsonl"), {"data", "records", "sessions"}),
        (("publish", RUN, "--form", "traces"), {"data", "records", "sessions"}),
    ],
)
def test_a_folder_has_the_form_of_its_agent_or_the_one_that_was_named(agenttrace, tmp_path, arguments, parts):
    ended = agenttrace(*arguments, "-o", tmp_path / "out")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "rows" in ended.stdout
    found = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert found == parts | {"schema"}


@pytest.mark.parametrize("verb", ["publish", "publish-rollouts"])
@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("-o", "out"), 2, "name the run to publish"),
        (("empty.jsonl", "-o", "out", "--upload", "x"), 2, "expected OWNER/NAME"),
        (("empty.jsonl", "--form", "12m", "-o", "out"), 2, "a run spec lies beside its records"),
        (("none.jsonl", "--form", "traces", "-o", "out"), 2, "No such file"),
        ((DATA / "demo.jsonl", "--form", "1k-32k", "-o", "out"), 2, "a run spec lies beside its records"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_made(agenttrace, tmp_path, verb, arguments, status, message):
    (tmp_path / "empty.jsonl").touch()
    ended = agenttrace(verb, *arguments, cwd=tmp_path)
    assert ended.returncode == status
    assert message in ended.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("module", "option"), [(publish_rollouts, "--private"), (publish, "--private-repository")])
def test_the_host_gives_records_and_token_to_two_containers(tmp_path, monkeypatch, module, option):
    started = []

    def run(verb, argv, *, read, written, order=None):
        started.append((verb, argv, order))
        assert (read, written) == ([] if order else [RUN], [tmp_path / "out"])
        return 0

    monkeypatch.setattr("agenttrace.host.analysis.run", run)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    argv = [str(RUN), "-o", str(tmp_path / "out"), "--upload", "o/n", option]
    parser = argparse.ArgumentParser()
    module.add(parser)
    verb = module.__name__.rpartition(".")[2].replace("_", "-")
    assert module.on_host(verb, parser.parse_args(argv), argv) == 0
    (_, first, none), (uploading, second, order) = started
    private = [word for word in first if word.startswith("--private") and "=" in word]
    assert first == [*argv, *private, "--make-only"]
    assert any(word.endswith(f"={str(ROOT).lower()}") for word in private)
    module.add(reader := argparse.ArgumentParser())
    assert len(reader.parse_args(first).private) == len(private)
    assert none is None
    assert second == ["--output", str(tmp_path / "out"), "--upload", "o/n", "--from-host", "--private"]
    assert json.loads(order)["environment"]["HF_TOKEN"] == "hf_secret"
    assert "hf_secret" not in " ".join(second)
    parser = argparse.ArgumentParser()
    {"publish": publish, "publish-rollouts": publish_rollouts}[uploading].add(parser)
    read = parser.parse_args(second)
    assert (read.files, read.private_repository) == ([], True)
