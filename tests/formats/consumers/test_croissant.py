"""`croissant.json` of published folders in the format's own library, offline: it is valid, and every row is read."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest

pytest.importorskip("mlcroissant", reason="scripts/nox -s formats-check installs mlcroissant")

import mlcroissant as mlc

from agenttrace.publish.about import About, Creator
from agenttrace.publish.folder import PublishSettings, publish
from agenttrace.publish.release import release

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of what it stands on
ROOT = Path(__file__).parents[3]
RELEASED = ROOT / "datasets" / "agenttrace-demo"
ROLLOUTS = ROOT / "tests" / "data" / "records" / "1.1.0" / "every-stop.jsonl"
ABOUT = About(
    creators=(Creator(name="Ada Ångström", family="Ångström", orcid="0000-0002-1825-0097"), Creator(name="A lab")),
    citation="@misc{x, title={{X}}}",
    url="https://example.org/x",
    published="2026-11-29",
    use_cases="Tests.",
    biases='None "known" </script>',
    personal_information="None.",
    social_impact="Little.",
    limitations="Small.",
)
MINIMAL = (
    *("rai:dataLimitations", "rai:dataBiases", "rai:personalSensitiveInformation", "rai:dataUseCases"),
    *("rai:dataSocialImpact", "rai:hasSyntheticData", "prov:wasDerivedFrom", "prov:wasGeneratedBy"),
)
"""What NeurIPS asks for beside the core."""


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    def refuse(*_):
        raise AssertionError("a validator wants the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def checked(folder):
    """Validate a folder's file and read all its rows; return it, what is recommended and lacks, and rows by set."""
    found = mlc.Dataset(jsonld=str(folder / "croissant.json"))
    rows = {one.id: sum(1 for _ in found.records(one.id)) for one in found.metadata.record_sets}
    body = json.loads((folder / "croissant.json").read_bytes())
    assert "http://mlcommons.org/croissant/1.1" in body["conformsTo"]
    return body, found.metadata.ctx.issues.warnings, rows


def test_the_demo_release_is_valid_and_its_rows_are_read():
    body, lacking, rows = checked(RELEASED)
    assert all("datePublished" in one for one in lacking)  # it is not published anywhere
    assert (rows["runs"], rows["agenttrace-0.3"], rows["sessions"], rows["mini-swe-agent"]) == (32, 32, 32, 32)
    assert rows["spans"] == rows["steps"] == 68
    assert any("demonstration model" in one for one in body["rai:dataLimitations"])
    assert {one["name"] for one in body["distribution"]} >= {"README.md", "records/agenttrace-demo.cassette.zst"}


@pytest.mark.parametrize("form", ["1k-32k", "12m", "own", "traces"])
@pytest.mark.parametrize("rows_per_shard", [3, 1000])
def test_every_form_is_valid_and_says_what_conferences_ask_for(form, rows_per_shard, tmp_path):
    settings = PublishSettings(form=form, rows_per_shard=rows_per_shard, about=ABOUT)
    made = publish([ROLLOUTS], tmp_path / "out", settings)
    body, lacking, rows = checked(tmp_path / "out")
    assert lacking == set()
    assert sorted(rows.values()) == sorted(count for count in made.values() if count)
    assert all(body[name] for name in MINIMAL)
    assert body["rai:dataBiases"] == ABOUT.biases
    assert [one["@type"] for one in body["creator"]] == ["sc:Person", "sc:Organization"]


def test_a_release_with_a_hostile_name_and_title_is_valid(tmp_path):
    records = tmp_path / "in" / "a: b#c%20 é.jsonl"
    records.parent.mkdir()
    for end in (".jsonl", ".run.json", ".cassette.zst"):
        shutil.copyfile(RELEASED / "records" / f"agenttrace-demo{end}", records.with_suffix(end))
    release([records], tmp_path / "out", PublishSettings(title='"}</script>\n[x](y) @id', about=ABOUT))
    _, lacking, rows = checked(tmp_path / "out")
    assert (lacking, rows["runs"]) == (set(), 32)


def test_files_of_others_are_named_with_their_licence(tmp_path):
    samples = sorted((ROOT / "tests" / "data" / "foreign").glob("[a-g]*"))
    publish(samples, tmp_path / "out", PublishSettings(licence="cc-by-4.0", leaks="keep", about=ABOUT))
    body, _, rows = checked(tmp_path / "out")
    said = json.dumps(body["prov:wasDerivedFrom"])
    assert all(sample.name in said for sample in samples)
    assert "records under cc-by-4.0" in said
    assert body["license"] == ["https://spdx.org/licenses/CC-BY-4.0.html"]
    assert rows["runs"] > 0
