"""The published folder opens with `datasets` and says the truth about itself; nothing unfit is published."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agenttrace.errors import DataError, UsageError
from agenttrace.formats.convert import convert
from agenttrace.publish import folder as of_folder
from agenttrace.publish.card import card
from agenttrace.publish.contents import Contents
from agenttrace.publish.folder import PublishSettings, check_names, publish
from agenttrace.records import OtherAgentSpec
from agenttrace.store.read import read_run_spec, run_spec_path
from agenttrace.tasks import OWN

ROOT = Path(__file__).parents[2]

OPEN = """
import json, sys
from datasets import load_dataset
import yaml
folder = sys.argv[1]
header = yaml.safe_load(open(f"{folder}/README.md").read().split("---")[1])
assert load_dataset(folder)["train"][0]["spans_json"].startswith("[{")
runs = load_dataset(folder, "runs", split="train")
assert runs.num_rows == 4, runs
sessions = load_dataset(folder, "sessions", split="train")
assert [one["role"] for one in sessions[0]["messages"]][:3] == ["system", "user", "assistant"], sessions[0]["messages"]
assert sum(sessions["num_tool_calls"]) == 9
assert isinstance(sessions[0]["trace"], str)
for config in header["configs"]:
    found = load_dataset(folder, config["config_name"], split="train")
    assert found.num_rows in (4, 9), config["config_name"]
    assert "null" not in str(found.features), config["config_name"]
spans = load_dataset(folder, "spans", split="train")
assert spans.features["max_rss_bytes"].dtype == "int64"
assert set(spans["trace_id"]) == set(runs["trace_id"])
old = load_dataset(folder, "agenttrace-0.3", split="train")
assert len(old.features) == 14
print(json.dumps(load_dataset(folder, "mini-swe-agent", split="train").to_list()))
"""


@pytest.fixture
def folder(rows, record_file, tmp_path):
    publish([record_file(rows)], tmp_path / "out", PublishSettings(title="Demo: *traces*"))
    return tmp_path / "out"


def rounded(text):
    """JSON without the last digits of its fractions, which `datasets` reads a little off."""
    return json.loads(text, parse_float=lambda one: round(float(one), 9))


@pytest.mark.slow
def test_datasets_opens_every_configuration_offline_with_one_type_per_column(folder, tmp_path):
    env = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    ended = subprocess.run([sys.executable, "-c", OPEN, folder], capture_output=True, text=True, env=env)
    assert ended.returncode == 0, ended.stderr[-2000:]
    (records,) = (folder / "records").glob("*.jsonl")
    convert([records], "mini-swe-agent-1.1", tmp_path / "files")
    files = {path.name.removesuffix(".traj.json"): rounded(path.read_text()) for path in (tmp_path / "files").iterdir()}
    rows = rounded(ended.stdout)
    assert {one["info"]["agenttrace"]["trace_id"]: one for one in rows} == files


def test_the_folder_holds_records_schemas_digests_and_a_card(folder, tmp_path):
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "SHA256SUMS", "croissant.json", "data", "records", "schema", "sessions",
    ]  # fmt: skip
    assert (folder / "records" / "demo.jsonl").read_bytes() == (tmp_path / "demo.jsonl").read_bytes()
    assert (folder / "records" / "demo.run.json").is_file()
    ended = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, capture_output=True)
    assert ended.returncode == 0
    card = (folder / "README.md").read_text(encoding="utf-8")
    header = yaml.safe_load(card.split("---")[1])
    assert (header["pretty_name"], header["license"]) == ("Demo: *traces*", "apache-2.0")
    assert header["size_categories"] == ["n<1K"]
    assert header["language"] == ["en"]
    assert "| 4 | 3 | 1 | 0 |" in card
    assert "4 of the 4 records come from a demonstration model" in card


@pytest.mark.parametrize(
    ("given", "written"),
    [("MIT", "mit"), ("GPL-3.0-only", "gpl-3.0"), ("cc-by-4.0", "cc-by-4.0"), ("My own", "My own")],
)
def test_a_licence_is_written_as_the_hub_writes_it(rows, record_file, tmp_path, agenttrace, given, written):
    path = record_file(rows)
    assert agenttrace("publish", path, "-o", tmp_path / "out", "--license", given).returncode == 0
    header = yaml.safe_load((tmp_path / "out" / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert header["license"] == written


def test_what_could_not_be_checked_is_said(rows, record_file, tmp_path):
    path, notes = record_file(rows), []
    publish([path], tmp_path / "with", noted=notes.append)
    assert not any("no run spec" in note for note in notes)
    run_spec_path(path).unlink()
    publish([path], tmp_path / "without", noted=notes.append)
    assert f"{path.name}: no run spec ({run_spec_path(path).name}) beside it" in "".join(notes)


def test_a_language_is_said_of_sets_that_the_kit_knows(rows, record_file, tmp_path):
    path = record_file(rows)
    spec, contents = read_run_spec(run_spec_path(path)), Contents("x", None)
    own = msgspec.structs.replace(spec, dataset=msgspec.structs.replace(spec.dataset, source=OWN))
    for beside, language in ((spec, "en"), (own, None), (None, None)):
        contents.files = {path.name: spec, "other.jsonl": beside}
        assert contents.language == language
    run_spec_path(path).unlink()
    publish([path], tmp_path / "out")
    assert "inLanguage" not in json.loads((tmp_path / "out" / "croissant.json").read_bytes())


def test_the_same_files_give_the_same_bytes(folder, tmp_path):
    publish([tmp_path / "demo.jsonl"], tmp_path / "again", PublishSettings(title="Demo: *traces*"))
    assert (tmp_path / "again" / "SHA256SUMS").read_bytes() == (folder / "SHA256SUMS").read_bytes()


def test_a_file_that_does_not_validate_is_not_published(rows, record_file, tmp_path):
    rows[1]["spans"][0]["tool_output"] = "hf_" + "aB3dE" * 7
    with pytest.raises(DataError, match=r"line 2: leak: spans\[0\].tool_output"):
        publish([record_file(rows)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_of_one_name_and_files_without_records_are_refused(rows, record_file, tmp_path):
    path = record_file(rows)
    with pytest.raises(UsageError, match="same name"):
        publish([path, path], tmp_path / "out")
    with pytest.raises(UsageError, match="no record"):
        publish([record_file([], "empty.jsonl")], tmp_path / "out")


LOAD = """
import sys, yaml
from datasets import load_dataset
folder = sys.argv[1]
names = [one["config_name"] for one in yaml.safe_load(open(f"{folder}/README.md").read().split("---")[1])["configs"]]
whole = [(name, load_dataset(folder, name)["train"].num_rows) for name in names]
print([(name, rows, load_dataset(folder, name, split="train").num_rows) for name, rows in whole])
"""


@pytest.mark.slow
def test_a_table_without_rows_is_no_configuration_and_that_is_said(tmp_path, agenttrace):
    source = tmp_path / "chat.json"
    source.write_text(
        json.dumps(
            {
                "schema_version": "ATIF-v1.6", "trajectory_id": "33333333-3333-5333-8333-333333333333",
                "agent": {"name": "a", "version": "1"},
                "steps": [
                    {"step_id": 1, "source": "user", "message": "hi"},
                    {"step_id": 2, "source": "agent", "message": "hello"},
                ],
            }
        )
    )  # fmt: skip
    records, folder = tmp_path / "out.jsonl", tmp_path / "out"
    assert agenttrace("convert", source, "--to", "agenttrace-1.0", "-o", records).returncode == 0
    ended = agenttrace("publish", records, "-o", folder, "--license", "mit")
    assert ended.returncode == 0, ended.stderr
    assert f"{folder}/data/spans: no rows, so no such configuration" in ended.stdout
    assert not (folder / "data" / "spans").exists()
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "No record has a tool call, so there is no configuration `spans`." in text
    assert 'load_dataset("PATH_OR_REPOSITORY", "spans"' not in text
    env = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run([sys.executable, "-c", LOAD, folder], capture_output=True, text=True, env=env)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert ended.stdout.strip() == str(
        [(name, 1, 1) for name in ("agenttrace-0.3", "sessions", "mini-swe-agent", "runs", "steps")]
    )


@pytest.mark.slow
def test_the_readme_line_of_the_documentation_works(folder, tmp_path):
    text = (ROOT / "docs" / "publish.md").read_text(encoding="utf-8")
    command = next(
        line for line in text.splitlines() if line.startswith('python -c "from datasets import load_dataset')
    )
    code = command.removeprefix('python -c "').removesuffix('"').replace("my-dataset", str(folder))
    env = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "num_rows: 4" in ended.stdout


def test_the_card_says_how_many_planned_runs_have_no_record(rows, record_file, tmp_path):
    file = record_file(rows[:-1])
    planned = json.loads(file.with_suffix(".run.json").read_text())["dataset"]["count"]
    publish([file], tmp_path / "out", PublishSettings(title="Demo"))
    line = next(line for line in (tmp_path / "out" / "README.md").read_text().splitlines() if "| 3 |" in line)
    assert line.endswith(f"| {planned - 3} of {planned} |")


@given(title=st.text(max_size=40), licence=st.text(max_size=20))
def test_the_header_says_what_it_was_given(title, licence):
    contents = Contents(title, licence)
    found = yaml.safe_load(card(contents, [], records=True).removeprefix("---\n").partition("\n---\n")[0])
    assert found.get("pretty_name", "") == " ".join(title.split())
    assert found.get("license", "") == " ".join(licence.split())


def test_names_in_a_card_are_shown_and_do_nothing():
    text = card(Contents("[x](e)\n<script>|`", "mit"), [], records=True)
    assert "\n# \\[x\\](e)\\\\n&lt;script&gt;\\|\\`\n" in text


@pytest.mark.parametrize("name", ["a\nb.jsonl", "a\\b.jsonl", "a\x1b.jsonl"])
def test_a_name_that_the_sums_cannot_hold_is_refused(rows, record_file, tmp_path, name):
    with pytest.raises(UsageError, match="cannot be published"):
        publish([record_file(rows).rename(tmp_path / name)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_written_to_while_it_is_published_is_refused(rows, record_file, tmp_path, monkeypatch):
    path, fill = record_file(rows), of_folder.fill

    def filled(*given, **more):
        found = fill(*given, **more)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]))
        return found

    monkeypatch.setattr(of_folder, "fill", filled)
    with pytest.raises(DataError, match=r"\.jsonl was written to meanwhile; nothing was written"):
        publish([path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_that_are_one_on_some_disks_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"x/Straße\.jsonl and .*y/STRASSE\.jsonl have the same name"):
        check_names([tmp_path / "x/Straße.jsonl", tmp_path / "y/STRASSE.jsonl"])
    check_names([tmp_path / "a.jsonl", tmp_path / "a.jsonl.gz"])  # of one run, as far as their names say
    with pytest.raises(UsageError, match=r"x/a\.run\.json and .*y/a\.run\.json have the same name: rename one record"):
        check_names([tmp_path / "x/a.jsonl", tmp_path / "y/a.jsonl.gz"])


def test_records_of_an_agent_that_is_not_here_are_published_as_traces(rows, record_file, plan, tmp_path):
    path = record_file(rows)
    other = msgspec.structs.replace(plan.spec, agent=OtherAgentSpec(name="elsewhere", version=1, settings={}))
    run_spec_path(path).write_bytes(msgspec.json.encode(other))
    assert publish([path], tmp_path / "out")["data/runs"] == len(rows)
