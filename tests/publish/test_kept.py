"""Releases of every schema version, made by the kit of their time: whatever reads records still reads them."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import msgspec
import pytest
import yaml

from agenttrace.campaign.replay.rows import metadata_digest
from agenttrace.formats import FORMATS
from agenttrace.formats.convert import convert
from agenttrace.publish.folder import publish
from agenttrace.publish.release import release, verify
from agenttrace.publish.sums import files
from agenttrace.records.schema import VERSIONS
from agenttrace.serving.cassette import Cassette, cassette_path
from agenttrace.store.compact import compact, unpack
from agenttrace.store.read import read_run_spec, read_traces, run_spec_path
from agenttrace.validate import Validation
from tests.publish.test_release import campaign, folder, made, plan  # noqa: F401 - fixtures

KEPT = Path(__file__).parents[1] / "data" / "releases"
MANIFESTS = {
    "1.0.0": "e12ec193a52cf410abefc0cf88146be28230c1a9070964ae26221f8bf809f468",
    "1.1.0": "cc48b9376ac652505afddab2c45c14689ad1cc029eb2200d808c31276830530a",
    "1.2.0": "519584e08f0f0b931ba66aac537920352b11bfb5696167b379e5becaf94d7463",
}
"""SHA-256 of each manifest, and so of every file: what is kept is never made anew."""
DERIVED = ("README.md", "data/", "schema/", "sessions/", "croissant.json", "CITATION.cff", "ro-crate-metadata.json")
"""What another version of the kit writes otherwise."""


@pytest.fixture(params=MANIFESTS)
def kept(request):
    return KEPT / request.param


@pytest.fixture
def records(kept):
    return kept / "records" / "demo.jsonl"


def test_there_is_one_of_every_version_of_the_schema(folder):  # noqa: F811 - the fixture
    there = {path.name for path in KEPT.iterdir() if path.is_dir()}
    assert there == set(MANIFESTS) == set(VERSIONS), f"copy {folder} there under the version's name"


def test_it_is_what_was_kept(kept):
    data = (kept / "manifest.json").read_bytes()
    assert hashlib.sha256(data).hexdigest() == MANIFESTS[kept.name]
    stated = json.loads(data)["files"]
    assert {name: (file.bytes, file.sha256) for name, file in files(kept).items()} == {
        name: (file["bytes"], file["sha256"]) for name, file in stated.items()
    }


def test_records_run_spec_and_cassette_are_those_of_their_time(kept, records):
    spec, lines = read_run_spec(run_spec_path(records)), records.read_bytes().splitlines()
    assert spec.schema_version == kept.name
    (trace,) = read_traces(records)
    assert json.loads(msgspec.json.encode(trace)) == json.loads(lines[0])
    assert trace.metadata["run_spec_sha256"] == spec.digest
    assert (
        metadata_digest(records) == json.loads((kept / "manifest.json").read_bytes())["metadata_sha256"][records.name]
    )
    assert list(Validation(records)) == []
    cassette = Cassette(cassette_path(records))
    assert (cassette.damage, cassette.run_spec_sha256) == ([], spec.digest)
    assert len(cassette.turns(trace.trace_id)) == len(trace.llm_steps)


def test_nothing_is_wrong_with_it_but_what_this_version_writes_otherwise(kept):
    unseen = []
    found = list(verify(kept, unseen.append))
    assert [line for line in (*found, *unseen) if not line.startswith(DERIVED)] == []
    if kept.name != VERSIONS[-1]:
        assert (found, bool(unseen)) == ([], True)


def test_every_configuration_of_its_card_is_loaded(kept, tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    header = yaml.safe_load((kept / "README.md").read_text(encoding="utf-8").split("---")[1])
    names = [one["config_name"] for one in header["configs"]]
    rows = {
        name: datasets.load_dataset(str(kept), name, split="train", cache_dir=str(tmp_path / "cache")).num_rows
        for name in names
    }
    assert len(rows) >= 4
    assert rows["runs"] == rows["agenttrace-0.3"] == 1


def test_it_is_published_released_compacted_and_converted_again(records, tmp_path):
    assert publish([records], tmp_path / "published")["data/runs"] == 1
    release([records], tmp_path / "released")
    assert list(verify(tmp_path / "released")) == []
    for name in ("demo.jsonl", "demo.run.json"):
        shutil.copyfile(records.parent / name, tmp_path / name)
    compact(tmp_path / "demo.jsonl", tmp_path / "small.jsonl.zst")
    unpack(tmp_path / "small.jsonl.zst", tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == records.read_bytes()
    (tmp_path / "converted").mkdir()
    written = [name for name in FORMATS if not name.startswith("swe-zero")]  # of the other agent
    for name in written:
        found = FORMATS[name]
        end = found.suffix if found.suffix and found.layout != "files" else ""
        assert convert([records], name, tmp_path / "converted" / f"{name}{end}"), name
    assert len(written) > 10


@pytest.mark.parametrize("words", [("stats",), ("show",), ("validate",), ("analyze",), ("report", "-o")])
def test_the_verbs_read_it(records, words, tmp_path, agenttrace):
    ended = agenttrace(words[0], records, *words[1:], *([tmp_path / "out.html"] if words[1:] else []))
    assert (ended.returncode, "Traceback" in ended.stderr) == (0, False), ended.stderr
