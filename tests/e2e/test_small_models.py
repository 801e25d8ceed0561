"""The release of small models on NL2Bash and MBPP: whole, and a sample of every campaign replays and is reproduced."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agenttrace.serving.cassette import cassette_path
from agenttrace.store.read import run_spec_path

pytestmark = pytest.mark.docker

ROOT = Path(__file__).resolve().parents[2]
RELEASE = ROOT / "datasets" / "small-models"
FILES = sorted(RELEASE.glob("records/*.jsonl"))
EVERY = 20
"""Of the traces, one in so many is run again here."""


def test_the_release_is_whole(instance):
    ended = instance.run("release", "--verify", RELEASE)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "whole: files, records, run spec, cassette, verdicts" in ended.stdout


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_a_sample_of_each_campaign_replays_and_is_planned_as_released(instance, mirror, tmp_path, file):
    sample = tmp_path / file.name
    lines = file.read_bytes().splitlines(keepends=True)[::EVERY]
    sample.write_bytes(b"".join(lines))
    shutil.copyfile(run_spec_path(file), run_spec_path(sample))
    shutil.copyfile(cassette_path(file), cassette_path(sample))
    ended = instance.run("replay", sample, "--workers", "2", AGENTTRACE_MIRROR=mirror)
    assert ended.returncode == 0, ended.stderr  # each is identical, but maybe for the order in which a pipeline wrote
    assert f"{len(lines)} of {len(lines)} traces replayed" in ended.stderr
    ended = instance.run("reproduce", sample, "--workers", "2", AGENTTRACE_MIRROR=mirror)
    assert f"metadata: {len(lines)} of {len(lines)} rows identical" in ended.stderr, ended.stderr
