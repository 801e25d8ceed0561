"""What a published folder says of others: licences of task texts, notices, what to cite, demonstration models."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import yaml

from agenttrace.formats.convert import convert
from agenttrace.publish.about import About, Creator, said_about
from agenttrace.publish.contents import Contents
from agenttrace.publish.described import crate
from agenttrace.publish.folder import PublishSettings, publish
from agenttrace.publish.origins import SETS, origin
from agenttrace.publish.release import release
from agenttrace.store.read import read_run_spec, read_traces, run_spec_path
from agenttrace.tasks import OWN, TASK_SETS

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "datasets" / "small-models" / "records"
DEMO = ROOT / "datasets" / "agenttrace-demo" / "records" / "agenttrace-demo.jsonl"
CAMPAIGNS = ("smollm2-nl2bash", "smollm2-mbpp", "demo-nl2bash", "demo-mbpp")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Publish two records of each released campaign of small models."""
    scratch = tmp_path_factory.mktemp("origins")
    files = []
    for name in CAMPAIGNS:
        source, file = RECORDS / f"{name}.jsonl", scratch / f"{name}.jsonl"
        with source.open("rb") as lines:
            file.write_bytes(next(lines) + next(lines))
        run_spec_path(file).write_bytes(run_spec_path(source).read_bytes())
        files.append(file)
    about = About(creators=(Creator(name="A lab"),))
    publish(files, scratch / "out", PublishSettings(title="Small", about=about))
    return scratch / "out"


def test_licences_of_task_texts_stand_in_every_description(folder):
    header = yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert header["license"] == ["apache-2.0", "cc-by-4.0", "mit"]
    croissant = json.loads((folder / "croissant.json").read_bytes())
    pages = [f"https://spdx.org/licenses/{name}.html" for name in ("Apache-2.0", "CC-BY-4.0", "MIT")]
    assert croissant["license"] == pages
    derived = json.dumps(croissant["prov:wasDerivedFrom"])
    assert "licence mit" in derived
    assert "licence cc-by-4.0" in derived


def test_the_card_has_attribution_and_notice_of_each_set(folder):
    page = (folder / "README.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| tasks |")]
    assert [row.rpartition("licence ")[2].partition(",")[0] for row in rows] == ["mit", "cc-by-4.0"] * 2
    assert "https://creativecommons.org/licenses/by/4.0/" in page
    assert SETS["nl2bash"].notice in page
    assert "Jacob Austin, Augustus Odena" in page
    assert [f"## How `{name}` was made" in page for name in CAMPAIGNS] == [True] * 4


def test_the_notice_of_the_repository_has_what_the_cards_have():
    found = " ".join((ROOT / "NOTICE").read_text(encoding="utf-8").split())
    for one in SETS.values():
        assert " ".join(one.notice.split()) in found
        assert all(work.arxiv in found for work in one.works)
    theirs = said_about(ROOT / "datasets" / "small-rollouts.toml", strict=False).of_others
    assert {one.licence for one in theirs} == {"apache-2.0", "bsd-3-clause", "mit"}
    texts = [" ".join(one.notice.partition("\n\n")[2].split()) for one in theirs if one.licence != "apache-2.0"]
    assert all(len(text) > 1_000 and text in found for text in texts)


def test_a_citation_names_no_licence_as_the_only_one_and_every_work(folder):
    said = yaml.safe_load((folder / "CITATION.cff").read_text(encoding="utf-8"))
    assert "license" not in said
    assert "mbpp (cc-by-4.0)" in said["abstract"]
    assert [one["url"].rpartition("/")[2] for one in said["references"]] == [
        "2108.07732", "2306.14898", "1802.08979", "2502.02737",
    ]  # fmt: skip
    assert said["references"][2]["authors"][3] == {"family-names": "Ernst", "given-names": "Michael D."}


def test_a_crate_names_works_of_others():
    contents = Contents("x", None, release=True)
    file = RECORDS / "smollm2-mbpp.jsonl"
    contents.files, contents.records = {file.name: read_run_spec(run_spec_path(file))}, 1
    graph = json.loads(crate(contents, {}))["@graph"]
    root = next(one for one in graph if one["@id"] == "./")
    assert root["citation"] == [{"@id": f"https://arxiv.org/abs/{name}"} for name in ("2108.07732", "2502.02737")]
    assert {"@id": "https://spdx.org/licenses/CC-BY-4.0.html"} in root["license"]
    assert {one["@id"] for one in graph} >= {one["@id"] for one in root["citation"]}


def test_a_set_of_ones_own_with_a_known_name_has_no_licence_of_others():
    spec = read_run_spec(run_spec_path(RECORDS / "demo-mbpp.jsonl"))
    assert origin(spec.dataset) is SETS["mbpp"]
    assert origin(msgspec.structs.replace(spec.dataset, source=OWN)) is None
    assert set(SETS) < set(TASK_SETS)


def test_a_demonstration_model_was_trained_on_the_tasks_of_the_kit_alone(folder, tmp_path):
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert "4 of the 8 records come from a demonstration model of under a million parameters." in page
    limits = json.loads((folder / "croissant.json").read_bytes())["rai:dataLimitations"]
    assert not any("trained on the very tasks" in one for one in limits)
    release([DEMO], tmp_path / "demo")
    page = (tmp_path / "demo" / "README.md").read_text(encoding="utf-8")
    assert "of under a million parameters, trained on the very tasks." in page
    assert "What is of others" not in page


def test_the_shared_store_is_told_the_same_of_a_demonstration_model(folder, tmp_path):
    convert([folder / "records" / "demo-mbpp.jsonl"], "every-eval-ever", tmp_path / "o")
    (summary,) = (json.loads(path.read_bytes()) for path in tmp_path.rglob("*.json"))
    note = summary["evaluation_results"][0]["score_details"]["details"]["note"]
    assert "under a million parameters" in note
    assert "trained on" not in note


def test_the_seed_of_a_range_is_said_as_its_records_have_it(folder):
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert page.count("seed 20260928, the same for every task, plus the rollout's number") == 4
    seeds = {(one.metadata["seed"], one.metadata["rollout_index"]) for one in read_traces(RECORDS / "demo-mbpp.jsonl")}
    assert seeds == {(20260928, 0)}


def test_the_release_of_small_models_has_all_tasks_that_the_kit_has_of_two_sets():
    counts = {path.stem: len(path.read_bytes().splitlines()) for path in sorted(RECORDS.glob("*.jsonl"))}
    assert counts == {"demo-mbpp": 500, "demo-nl2bash": 200, "smollm2-mbpp": 500, "smollm2-nl2bash": 200}
