"""What the reproducibility sessions refuse before they start anything."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from agenttrace.campaign.options import Options, like, sampler_of
from agenttrace.campaign.plan import write_run_spec
from agenttrace.cli import main
from agenttrace.errors import AgentTraceError, DataError, UsageError
from agenttrace.host import campaign, place, replay
from agenttrace.host.checkouts import Places
from agenttrace.host.determinism import DeterminismRequest, determinism
from agenttrace.host.replay import _stored_digest, record_files, released
from agenttrace.serving import profiles
from agenttrace.store.read import read_run_spec, run_spec_path

ROOT = Path(__file__).resolve().parents[2]
EACH = campaign.Request(options=(Options(),), folder=ROOT)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"repeats": 1}, "nothing to be compared with"),
        ({"repeats": 0}, "--repeat 0: expected 1 to"),
        ({"concurrency": (1, 0)}, "--concurrency: expected 1 to"),
    ],
)
def test_determinism_refuses_what_it_cannot_do(asked, message):
    with pytest.raises(UsageError, match=message):
        determinism(DeterminismRequest(each=EACH, **asked))


def test_a_file_to_compare_with_needs_its_run_spec(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}\n")
    with pytest.raises(UsageError, match=r"a\.run\.json"):
        determinism(DeterminismRequest(each=EACH, against=tmp_path / "a.jsonl"))


@pytest.mark.parametrize("argv", [["replay", "none.jsonl"], ["reproduce", "none.jsonl"]])
def test_a_missing_file_is_one_message(argv, capsys):
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2
    assert "No such file" in capsys.readouterr().err


def test_what_is_replayed_without_a_file_is_the_newest_release(tmp_path, monkeypatch):
    records = tmp_path / "datasets/one/records"
    records.mkdir(parents=True)
    for name in ("../manifest.json", "a.jsonl", "a.run.json", "b.jsonl", "b.run.json"):
        (records / name).touch()
    seen = []
    monkeypatch.setattr(place, "ROOT", tmp_path)
    monkeypatch.setattr(replay, "replay", lambda file, **_: (seen.append(file.name) or len(seen) - 1, b"{}"))
    with pytest.raises(SystemExit) as end:
        main(["replay"])
    assert end.value.code == 1
    assert seen == ["a.jsonl", "b.jsonl"]
    with pytest.raises(SystemExit):
        main(["replay", "--json", str(tmp_path / "x.json")])
    assert len(seen) == 2


@pytest.mark.parametrize("flags", [["--workers", "0"], ["--workers", "257"], ["--repeat", "0"]])
def test_replay_refuses_impossible_numbers(tmp_path, flags, capsys):
    file = tmp_path / "a.jsonl"
    file.touch()
    with pytest.raises(SystemExit) as end:
        main(["replay", str(file), *flags])
    assert end.value.code == 2
    assert flags[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ({"metadata_sha256": "a" * 64}, "a" * 64),
        ({"metadata_sha256": {"x.jsonl": "b" * 64, "y.jsonl": "c" * 64}}, "b" * 64),
        ({}, None),
        ([], None),
    ],
)
def test_the_digest_of_a_release_is_found_in_its_manifest(tmp_path, manifest, expected):
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert _stored_digest(tmp_path / "x.jsonl") == expected


@pytest.mark.parametrize("verb", ["judge", "replay", "reproduce"])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("records/1.0.0/rollouts.jsonl", "holds rollouts of ours of schema 1.0.0: {} needs a record file as `collect`"),
        ("foreign/swe-zero-1k-32k.jsonl", "holds rows of SWE-ZERO: {} needs a record file as `collect` writes it"),
    ],
)
def test_what_can_only_be_read_is_refused_by_what_it_is(verb, name, expected, capsys):
    with pytest.raises(SystemExit) as ended:
        main([verb, str(ROOT / "tests/data" / name)])
    assert ended.value.code == 2
    assert expected.format(verb) in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["replay", "reproduce"])
def test_a_cassette_is_missed_before_anything_is_built(verb, tmp_path, capsys):
    for suffix in (".jsonl", ".run.json"):
        shutil.copy(ROOT / f"datasets/agenttrace-demo/records/agenttrace-demo{suffix}", tmp_path / f"demo{suffix}")
    with pytest.raises(SystemExit) as ended:
        main([verb, str(tmp_path / "demo.jsonl")])
    assert ended.value.code == 2
    assert f"{tmp_path / 'demo.cassette.zst'}: there is no such file, and {verb} takes" in capsys.readouterr().err


def test_the_digest_is_found_beside_the_folder_of_records(tmp_path):
    (tmp_path / "records").mkdir()
    (tmp_path / "manifest.json").write_text(json.dumps({"metadata_sha256": {"x.jsonl": "a" * 64}}))
    assert _stored_digest(tmp_path / "records" / "x.jsonl") == "a" * 64
    assert _stored_digest(tmp_path / "records" / "y.jsonl") is None


def test_the_records_of_a_release_are_found_and_nothing_else_of_it(tmp_path):
    with pytest.raises(UsageError, match="no released data set"):
        released(tmp_path)
    for name in ("manifest.json", "records/a.jsonl", "records/a.run.json", "verdicts/a.jsonl", "records/b.jsonl"):
        path = tmp_path / "one" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    its = [tmp_path / "one" / "records" / "a.jsonl"]
    assert released(tmp_path) == its
    assert record_files(tmp_path / "one") == its
    assert record_files(its[0]) == its
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match=r"none holds no record file \(.jsonl, .jsonl.zst\) with a run spec"):
        record_files(tmp_path / "none")


def test_compacted_files_of_a_folder_are_found_once_each(tmp_path):
    for name in ("a.jsonl", "a.jsonl.zst", "a.run.json", "b.jsonl.zst", "b.run.json", "b.cassette.zst", "c.jsonl.zst"):
        (tmp_path / name).touch()
    assert record_files(tmp_path) == [tmp_path / "a.jsonl", tmp_path / "b.jsonl.zst"]


def test_without_a_name_ones_own_newest_release_is_taken_or_the_demo_whatever_the_age_of_what_came_along(
    tmp_path, monkeypatch
):
    def release(name, age):
        for path in ("manifest.json", "records/a.jsonl", "records/a.run.json"):
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).touch()
        os.utime(tmp_path / name / "manifest.json", (2e9 - age, 2e9 - age))
        return [tmp_path / name / "records" / "a.jsonl"]

    monkeypatch.setattr(place, "CAME_ALONG", (place.CAME_ALONG[0], "another"))
    other = release("another", 10)
    assert released(tmp_path) == other
    demo = release(place.CAME_ALONG[0], 20)
    assert released(tmp_path) == demo
    release("older", 40)
    newer = release("newer", 30)
    assert released(tmp_path) == newer


def test_no_campaign_resumes_the_release_of_this_checkout():
    """What a campaign looks for lies in the folder itself, never below it, and Git tracks the release alone."""
    folder = ROOT / "datasets"
    assert [path for path in released(folder) if path.parent == folder] == []
    ignored = subprocess.run(
        ["git", "-C", str(ROOT), "check-ignore", "datasets/x.jsonl", "datasets/x.run.json", "datasets/x.cassette.zst"]
        + [str(path) for path in released(folder)],
        capture_output=True, text=True,
    )  # fmt: skip
    if ignored.returncode == 128:  # an unpacked archive is no checkout
        pytest.skip("not a git checkout")
    assert ignored.stdout.split() == ["datasets/x.jsonl", "datasets/x.run.json", "datasets/x.cassette.zst"]


def test_a_manifest_that_is_no_json_is_named(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(DataError, match=r"manifest\.json: not JSON"):
        _stored_digest(tmp_path / "x.jsonl")


KEPT = ROOT / "tests/data/records/1.0.0/rollouts.jsonl"


@pytest.mark.parametrize(("sampled", "drawn"), [(20260928, 20260928), (20260928, 7), (5, 5)])
def test_a_campaign_over_checkouts_is_planned_again_with_both_seeds(sampled, drawn):
    spec = read_run_spec(run_spec_path(KEPT))
    sampling = msgspec.structs.replace(spec.dataset.sampling, seed=drawn)
    other = msgspec.structs.replace(
        spec,
        sampler=msgspec.structs.replace(profiles.sampler("greedy", model=spec.model.name), seed=sampled),
        dataset=msgspec.structs.replace(spec.dataset, sampling=sampling),
    )
    options = like(other)
    assert (sampler_of(options).seed, options.of_checkouts.seed) == (sampled, drawn)


def test_rows_of_a_file_of_ones_own_are_asked_for_before_anything_is_built(tmp_path):
    records = tmp_path / "x.jsonl"
    records.touch()
    spec = read_run_spec(run_spec_path(KEPT))
    dataset = msgspec.structs.replace(spec.dataset, name="mine.jsonl", source="file:mine.jsonl")
    write_run_spec(msgspec.structs.replace(spec, dataset=dataset), records)
    with pytest.raises(UsageError, match=r"x\.jsonl: its tasks are rows of mine\.jsonl; name --source"):
        replay.replay(records, workers=1)


def test_runs_are_those_of_the_file_that_is_compared_with_and_asked_for_as_collect_would(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(place, "ROOT", tmp_path)
    monkeypatch.setattr(campaign, "collect", lambda request: seen.append(request) or campaign.CampaignsEnd(3, ()))
    places = Places(repositories="https://example.org/{repo}")
    each = campaign.Request(options=(Options(count=2),), folder=tmp_path, size=1, sha256="a" * 64, places=places)
    asked = DeterminismRequest(each=each, against=KEPT)
    with pytest.raises(AgentTraceError, match="did not come to its end") as ended:
        determinism(asked)
    assert ended.value.exit_code == 3
    (request,) = seen
    (options,) = request.options
    assert (options.dataset, options.agent, options.rollouts) == ("swe", "bash_block", 2)
    assert (request.size, request.sha256, request.places) == (1, "a" * 64, places)
    assert not list(tmp_path.glob("datasets/*"))
