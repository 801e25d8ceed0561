"""What was read from another format is published as that: format, file, digest and licence in card and rows."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from agenttrace.errors import DataError, UsageError
from agenttrace.formats.convert import convert
from agenttrace.formats.reading import traces
from agenttrace.publish.folder import PublishSettings, publish
from agenttrace.publish.imports import GATHERED, TITLE
from agenttrace.publish.release import release
from agenttrace.validate import Validation

SAMPLES = Path(__file__).parents[1] / "data" / "foreign"
MIT = PublishSettings(licence="mit", leaks="keep")


def card_of(folder):
    text = (folder / "README.md").read_text(encoding="utf-8")
    return text, yaml.safe_load(text.split("---")[1])


@pytest.mark.parametrize("path", sorted(SAMPLES.iterdir()), ids=lambda path: path.name)
def test_every_foreign_file_is_published_with_format_digest_and_licence(path, tmp_path):
    publish([path], tmp_path / "out", MIT)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    text, header = card_of(tmp_path / "out")
    assert (header["license"], header["pretty_name"], "telemetry" in header["tags"]) == ("mit", TITLE, False)
    assert "language" not in header
    body = json.loads((tmp_path / "out" / "croissant.json").read_bytes())
    assert "inLanguage" not in body
    assert not re.search("as they were collected|no person annotated|those of the machine", json.dumps(body))
    assert f"`{digest}`" in text
    assert "were not collected with this kit" in text
    runs = pq.read_table(tmp_path / "out" / "data" / "runs" / "train-00000-of-00001.parquet").to_pylist()
    records = [trace for _, trace in traces(tmp_path / "out" / "records" / GATHERED)]
    assert len(runs) == len(records) == len(list(traces(path)))
    for run, trace in zip(runs, records, strict=True):
        kept = trace.environment["imported"]
        assert (kept["file"], kept["sha256"], kept["license"]) == (path.name, digest, "mit")
        assert (run["imported_from"], run["imported_sha256"], run["license"]) == (kept["format"], digest, "mit")
        assert json.loads(run["environment_json"])["imported"]["license"] == "mit"
    assert [one for one in Validation(tmp_path / "out" / "records" / GATHERED) if one.rule != "leak"] == []


def test_without_a_licence_it_is_refused_and_a_row_may_have_its_own(tmp_path):
    row = json.loads((SAMPLES / "chat-rows.jsonl").read_text(encoding="utf-8").splitlines()[0])
    source = tmp_path / "rows.jsonl"
    source.write_text(json.dumps(row) + "\n")
    with pytest.raises(UsageError, match=r"rows\.jsonl was read from another format \(chat\).*--license ID"):
        publish([source], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    other = row | {"instance_id": "octo__repo-9", "license": "gpl-3.0"}
    source.write_text(json.dumps(row | {"license": "mit"}) + "\n" + json.dumps(other) + "\n")
    publish([source], tmp_path / "out")
    text, header = card_of(tmp_path / "out")
    assert header["license"] == ["gpl-3.0", "mit"]
    assert "Licences: gpl-3.0 (1), mit (1)." in text


def test_records_of_ours_beside_it_stay_as_they_are(rows, record_file, tmp_path):
    ours = record_file(rows)
    publish([ours, SAMPLES / "octo__repo-1.traj"], tmp_path / "out", PublishSettings(licence="mit", title="Both"))
    assert (tmp_path / "out" / "records" / ours.name).read_bytes() == ours.read_bytes()
    text, header = card_of(tmp_path / "out")
    assert "1 of the 5 records were not collected with this kit" in text
    assert "telemetry" in header["tags"]
    runs = pq.read_table(tmp_path / "out" / "data" / "runs" / "train-00000-of-00001.parquet").to_pylist()
    assert [run["license"] for run in runs] == [None] * 4 + ["mit"]


def test_what_was_converted_before_names_its_file_and_gets_a_licence(tmp_path):
    source = SAMPLES / "octo__repo-1.traj"
    convert([source], "agenttrace-1.0", tmp_path / "mine.jsonl")
    with pytest.raises(UsageError, match=r"octo__repo-1\.traj was read from another format \(swe-agent\)"):
        publish([tmp_path / "mine.jsonl"], tmp_path / "out")
    publish([tmp_path / "mine.jsonl"], tmp_path / "out", MIT)
    text, _ = card_of(tmp_path / "out")
    assert hashlib.sha256(source.read_bytes()).hexdigest() in text
    (run,) = pq.read_table(tmp_path / "out" / "data" / "runs" / "train-00000-of-00001.parquet").to_pylist()
    assert run["license"] == "mit"


def test_a_row_that_stands_in_two_files_is_named_with_its_file(tmp_path):
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_bytes((SAMPLES / "chat-rows.jsonl").read_bytes())
    with pytest.raises(DataError, match=r"b\.jsonl: trace .* is there twice; nothing was written"):
        publish([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], tmp_path / "out", MIT)


def test_a_value_that_is_no_trace_is_named_with_file_and_place(tmp_path):
    text = (SAMPLES / "chat-rows.jsonl").read_text(encoding="utf-8")
    (tmp_path / "a.jsonl").write_text(text + '{"a": 1}\n')
    with pytest.raises(DataError, match=r"a\.jsonl.*\n  .*line 3|a\.jsonl, line 3"):
        publish([tmp_path / "a.jsonl"], tmp_path / "out", MIT)
    assert not (tmp_path / "out").exists()


def test_rows_of_swe_zero_are_published_in_their_schema_again(tmp_path):
    lines = (SAMPLES / "swe-zero-1k-32k.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["exit_status"] != "errored"]
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    publish([tmp_path / "a.jsonl"], tmp_path / "out", PublishSettings(licence="mit", form="1k-32k"))
    assert pq.read_table(tmp_path / "out" / "data" / "train-00000-of-00001.parquet").to_pylist() == rows
    assert "Imported" in card_of(tmp_path / "out")[0]


def test_a_release_of_it_is_refused_with_the_reason(tmp_path):
    source = SAMPLES / "octo__repo-1.traj"
    with pytest.raises(UsageError, match="has neither run spec nor cassette"):
        release([source], tmp_path / "out")
    convert([source], "agenttrace-1.0", tmp_path / "mine.jsonl")
    with pytest.raises(DataError, match=r"mine\.run\.json: is missing.*has neither run spec nor cassette"):
        release([tmp_path / "mine.jsonl"], tmp_path / "out")


OPEN = """
import sys
import yaml
from datasets import load_dataset
folder = sys.argv[1]
header = yaml.safe_load(open(f"{folder}/README.md").read().split("---")[1])
for config in header["configs"]:
    print(config["config_name"], load_dataset(folder, config["config_name"], split="train").num_rows)
print(set(load_dataset(folder, "runs", split="train")["license"]))
"""


@pytest.mark.slow
def test_datasets_opens_every_configuration_of_a_folder_of_all_formats(tmp_path):
    again = {"swe-zero-12m.jsonl", "teich-rows.jsonl"}  # the traces of another sample in another form
    names = [path for path in sorted(SAMPLES.iterdir()) if path.name not in again]
    publish(names, tmp_path / "out", MIT)
    env = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    ended = subprocess.run([sys.executable, "-c", OPEN, tmp_path / "out"], capture_output=True, text=True, env=env)
    assert ended.returncode == 0, ended.stderr[-2000:]
    printed = dict(line.rsplit(" ", 1) for line in ended.stdout.splitlines()[:-1])
    assert {"runs", "steps", "spans", "agenttrace-0.3"} <= set(printed)
    assert ended.stdout.splitlines()[-1] == "{'mit'}"
