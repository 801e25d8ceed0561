"""The released data set of this checkout: whole, replayed and reproduced in full, under another name and locale."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agenttrace.host.replay import released
from agenttrace.publish.sums import files
from agenttrace.store.read import read_traces

pytestmark = pytest.mark.docker

ROOT = Path(__file__).resolve().parents[2]
RELEASE = ROOT / "datasets" / "agenttrace-demo"
ELSEWHERE = {
    "LC_ALL": "tr_TR.UTF-8",
    "LANG": "tr_TR.UTF-8",
    "TZ": "Pacific/Kiritimati",
    "USER": "nobody-else",
    "HOME": "/",
}


@pytest.fixture(scope="module")
def records():
    (file,) = released(ROOT / "datasets")
    assert file.is_relative_to(RELEASE)
    return file


def host(env, *arguments, prefix=(), umask=-1, **more):
    return subprocess.run(
        [*prefix, sys.executable, "-m", "agenttrace.host", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**env, **more},
        timeout=280,
        umask=umask,
    )


def test_the_release_is_whole(instance):
    ended = host(instance.env, "release", "--verify", str(RELEASE))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "whole: files, records, run spec, cassette, verdicts" in ended.stdout
    assert "NOT" not in ended.stdout


def test_every_trace_of_the_release_replays_to_the_same_bytes(instance, records, tmp_path):
    count = sum(1 for _ in read_traces(records))
    found = tmp_path / "found.json"
    ended = host(instance.env, "replay", str(records), "--workers", "2", "--json", str(found))
    assert ended.returncode == 0, ended.stderr
    assert f"{count} of {count} traces replayed, {count} byte-identical" in ended.stderr
    assert json.loads(found.read_text())["findings"] == []


def test_the_release_is_reproduced_under_another_name_locale_time_zone_and_umask(instance, records):
    other_host = ("unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh") if os.geteuid() == 0 else ()
    before = dict(files(RELEASE))
    ended = host(instance.env, "reproduce", prefix=other_host, umask=0o077, **ELSEWHERE)
    assert ended.returncode == 0, ended.stderr
    count = sum(1 for _ in read_traces(records))
    assert f"metadata: {count} of {count} rows identical, sha256 " in ended.stderr
    assert "metadata digest as released" in ended.stderr
    assert dict(files(RELEASE)) == before


def test_nothing_is_released_from_an_unfinished_campaign(instance, tmp_path):
    ended = instance.collect("-n", "1")
    assert ended.returncode == 0, ended.stderr
    spec = instance.folder / "demo.run.json"
    spec.write_text(spec.read_text().replace('"count": 1', '"count": 2'))
    ended = host(instance.env, "release", str(instance.records), "-o", str(tmp_path / "out"))
    assert ended.returncode == 1
    assert "1 of 2 tasks of the run spec have no record (task 1 " in ended.stderr
    assert not (tmp_path / "out" / "manifest.json").exists()
